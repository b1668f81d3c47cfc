"""The command as a user types it, in a process of its own, where it starts or joins Ray."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from manifests.errors import describe
from tests.conftest import Command
from tests.support import DEMO, PROGRAM, last_run, lineage, wait_until, write

PHOTO = DEMO / "photos" / "bird-mobile-price-sticker.png"


MASK = DEMO / "masks" / "bird-mobile-price-sticker.png"

#: Photos of a megapixel, of a run that is ended early.
MANY = 60


def test_an_interrupt_ends_a_run_with_1(tmp_path: Path, ray_address: str) -> None:
    arguments = ["run", many_photos(tmp_path), "--output", "out", "--address", ray_address]
    with subprocess.Popen(
        [PROGRAM, *arguments, "--recipe", "telea"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        await_files(tmp_path / "out" / "lineage")
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "photos have no result" in told
    assert "The same command resumes." in told
    assert last_run(tmp_path / "out")["status"] == "stopped"
    assert 0 < len(lineage(tmp_path / "out")) < MANY


def many_photos(folder: Path) -> str:
    """A manifest of :data:`MANY` rows, which are not done when the first ones are recorded."""
    name = "fig-bowl-sticker-date"
    row = f"{DEMO}/photos/{name}.jpg,{DEMO}/masks/{name}.png"
    return write(
        folder / "many.csv", "\n".join(["id,image,mask", *(f"{n},{row}" for n in range(MANY))])
    )


def await_files(folder: Path) -> None:
    wait_until(lambda: list(folder.rglob("*.parquet")))


def test_a_run_prints_plain_lines_when_piped_and_ends_with_3(
    command: Command, ray_address: str, tmp_path: Path
) -> None:
    rows = [f"good,{PHOTO},{MASK}", "gone,gone.png,gone.png", "../bad,a,b", f"half,{PHOTO},"]
    (tmp_path / "m.csv").write_text("\n".join(["id,image,mask", *rows]))
    done = command("run", "m.csv", "--output", "out", "--recipe", "telea", "--address", ray_address)
    assert done.returncode == 3, done.stderr
    assert "\x1b" not in done.stdout
    assert f"{tmp_path}/m.csv, line 4: id.unsafe (id '../bad')." in done.stdout
    assert "4 photos in" in done.stdout
    assert "1 ok, 3 failed, 0 crashed" in done.stdout
    for code, name in {
        "image.not_found": "gone",
        "id.unsafe": "../bad",
        "mask.no_uri": "half",
    }.items():
        assert f"1  {code} (e.g. {name}): {describe(code)}" in done.stdout
    assert re.search(
        r"filled: median (\d+\.\d %), largest \1 of the photo \(id good\)", done.stdout
    )
    assert done.stdout.endswith(
        "Which rows and why: catalog-cleanup failures out\nLook: catalog-cleanup report out\n"
    )
    again = command("run", "m.csv", "--output", "out", "--recipe", "telea")
    assert again.returncode == 3
    assert "0 of 4 photos are left to do." in again.stdout


def test_the_demo_on_a_private_ray_ends_by_naming_the_page(
    command: Command, tmp_path: Path
) -> None:
    """Where temp and home do not serve, as for a foreign user's id in a container."""
    too_long = tmp_path / ("ü" * 60)  # two bytes a letter: what counts is bytes
    places = {"TMPDIR": str(too_long), "RAY_TMPDIR": "", "HOME": "/proc"}  # not even for root
    for number in range(2):  # the second has nothing left to do
        done = command("demo", "--recipe", "telea", **places)
        assert done.returncode == 0, done.stderr
        if number == 0:
            (note,) = done.stderr.splitlines()
            assert note.startswith("note: Ray's files go to /")
            assert note.endswith(f"{too_long}/ray is too long a path for Ray's sockets.")
        assert "8 photos in" in done.stdout
        page = Path(done.stdout.splitlines()[-1])
        assert page == tmp_path / "catalog-cleanup-demo" / "report" / "index.html"
        assert page.exists()
        assert len(list(page.parent.glob("pictures/*/after.webp"))) == 8
    assert "0 of 8 photos are left to do." in done.stdout
