"""libjpeg through ctypes: what goes wrong in it ends as an exception, and costs nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg import libjpeg
from stages.codecs.jpeg.libjpeg import Coefficients
from tests.support import DEMO, encoded, upright_rgb
from tests.support.files.coefficients import coefficients_of, header_of, reencoded

PHOTO = (DEMO / "photos" / "fig-bowl-sticker-date.jpg").read_bytes()


def damaged(jpeg: bytes) -> bytes:
    middle = len(jpeg) // 2
    return jpeg[:middle] + bytes(100) + jpeg[middle:]


def test_it_is_the_library_of_the_wheel_and_no_other() -> None:
    """In a process of its own, since others load what they like."""
    code = (
        "import sys; from pathlib import Path;"
        "from tests.support.files.coefficients import coefficients_of;"
        "coefficients_of(Path(sys.argv[1]).read_bytes());"
        "print(Path('/proc/self/maps').read_text())"
    )
    command = [sys.executable, "-c", code, str(DEMO / "photos" / "coffee-stray-coins.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mapped = {Path(line.split()[-1]) for line in done.stdout.splitlines() if ".so" in line}
    assert not [path for path in mapped if "turbojpeg" in path.name]
    assert [path for path in mapped if path.parent.name == "imagecodecs.libs"]


def test_damage_ends_in_an_exception_and_leaves_nothing_behind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    cases = [damaged(PHOTO), PHOTO[:30_000] + b"\xff\xd9", PHOTO[:-3000] + b"\xff\xd9"]
    for case in cases * 20:
        with pytest.raises(DamagedError, match=r"Corrupt JPEG data|Premature end"):
            header_of(case)
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_written_is_refused_and_leaves_nothing_behind() -> None:
    code = """
import json, resource, sys
from pathlib import Path
from stages.codecs.errors import UnsupportedError
from tests.support.files.coefficients import reencoded
jpeg, peaks, messages = Path(sys.argv[1]).read_bytes(), [], set()
def spoil(component, coefficients):
    if component == 2:
        coefficients[:, 5] = 30_000
for number in range(100):
    try:
        reencoded(jpeg, spoil, progressive=True)
    except UnsupportedError as error:
        messages.add(str(error))
    if number in (30, 99):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps([peaks, sorted(messages)]))
"""
    command = [sys.executable, "-c", code, str(DEMO / "photos" / "fig-bowl-sticker-date.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (early, late), messages = json.loads(done.stdout)
    assert len(messages) == 1
    assert messages[0].startswith("DCT coefficient")
    assert late - early < 8_000, "KiB: of 70 results that were begun, 100 KiB to 400 KiB each"
    assert done.stderr == ""


def test_a_structure_that_does_not_fit_is_noticed_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = libjpeg.library()
    assert found is not None
    assert libjpeg._is_compatible(found)
    monkeypatch.setattr(libjpeg, "_VERSION", 62)
    assert not libjpeg._is_compatible(found)


def test_without_the_library_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libjpeg, "library", lambda: None)
    with pytest.raises(UnsupportedError, match="no libjpeg"):
        header_of(PHOTO)


def test_the_file_is_of_the_kind_that_its_header_says() -> None:
    picture = Image.fromarray(upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")[:120, :200])
    source = encoded(picture, format="JPEG", quality=80)
    for progressive in (False, True):
        for restart_interval in (0, 7):
            made = reencoded(source, progressive=progressive, restart_interval=restart_interval)
            header = header_of(source)
            header.progressive, header.restart_interval = progressive, restart_interval
            assert header_of(made) == header


def test_coefficients_are_written_as_they_were_left() -> None:
    rng, written = np.random.default_rng(0), list[Coefficients]()

    def change(_: int, coefficients: Coefficients) -> None:
        coefficients[:] = rng.integers(-1000, 1000, coefficients.shape)
        written.append(coefficients.copy())

    made = coefficients_of(reencoded(PHOTO, change))
    rows = [row for plane in made for row in plane]
    assert len(rows) == len(written)
    assert all(map(np.array_equal, rows, written))


def test_what_takes_too_much_memory_fails_and_the_process_goes_on(tmp_path: Path) -> None:
    """Wherever it runs short: reading 4.6 megapixels takes 14 MB, and writing them some more."""
    code = """
import resource, sys
from pathlib import Path
from stages.codecs.jpeg.libjpeg import open_coefficients
small, large = (Path(path).read_bytes() for path in sys.argv[1:])
def work(jpeg):
    with open_coefficients(jpeg) as found:
        return len(found.write())
expected = work(small)
status = Path("/proc/self/status").read_text()
used = int(status.partition("VmData:")[2].split()[0]) * 1024
for room_mib in range(8, 36, 3):
    resource.setrlimit(resource.RLIMIT_DATA, (used + (room_mib << 20), resource.RLIM_INFINITY))
    try:
        work(large)
        print("done")
    except MemoryError as error:
        print(error)
    assert work(small) == expected
"""
    photo = upright_rgb(DEMO / "photos" / "fig-bowl-sticker-date.jpg")
    tiles = Image.fromarray(np.tile(photo, (2, 2, 1)))
    small, large = tmp_path / "small.jpg", tmp_path / "large.jpg"
    small.write_bytes(encoded(Image.fromarray(photo[:64, :64]), format="JPEG"))
    large.write_bytes(encoded(tiles, format="JPEG", quality=90))
    command = [sys.executable, "-c", code, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    endings = done.stdout.splitlines()
    assert set(endings) == {
        "Insufficient memory (case 4)",  # of coefficients
        "Insufficient memory (case 10)",  # of the result
        "done",
    }
    assert endings[-1] == "done"
