"""The command as a user types it: texts and exit codes; ``tests/ray/test_cli_runs.py`` has runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from manifests.errors import describe, error_codes
from manifests.planning.plan import load_plan
from stages.recipe import Recipe, preset_names
from tests.conftest import Command
from tests.support import DEMO
from tests.support.output_folders import clean_here

PHOTO = DEMO / "photos" / "bird-mobile-price-sticker.png"
MASK = DEMO / "masks" / "bird-mobile-price-sticker.png"


def test_help_explains_every_command(invoke: Command) -> None:
    overview = invoke("--help")
    assert overview.returncode == 0
    commands = typer.main.get_group(app).commands
    assert len(commands) > 15
    for name in commands:
        assert f" {name} " in overview.stdout
        shown = CliRunner().invoke(app, [name, "-h"])
        assert shown.exit_code == 0
        assert f"Example: catalog-cleanup {name}" in shown.output
        for sub_command in getattr(commands[name], "commands", ()):
            shown = CliRunner().invoke(app, [name, sub_command, "--help"])
            assert f"Example: catalog-cleanup {name} {sub_command}" in shown.output
    text = " ".join(invoke("run", "--help").stdout.split())
    assert "Exit codes: 0 all ok; 3 finished, but some rows failed" in text


def test_a_mistyped_call_ends_with_2(invoke: Command) -> None:
    for call in (["run"], ["run", "m.csv", "-o", "out", "--speed", "9"], ["clean"]):
        assert invoke(*call).returncode == 2


def test_a_dry_run_reports_what_a_run_would_do_and_leaves_nothing(
    invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text(f"id,image,mask\n1,{PHOTO},{MASK}\n2,{PHOTO},{MASK}\n/,a,b\n")
    call = ("run", "m.csv", "-o", "out", "-r", "telea", "--dry-run")
    done = invoke(*call)
    assert (done.returncode, done.stderr) == (0, "")
    assert "manifest: 3 rows in 1 shard" in done.stdout
    assert "1  id.unsafe" in done.stdout
    assert "would be cleaned by recipe telea: 2" in done.stdout
    assert "not checked" not in done.stdout
    assert "would be cleaned by recipe telea: 1" in invoke(*call, "--limit", "1").stdout
    assert not (tmp_path / "out").exists()
    assert invoke(*call[:2], "--output", "m.csv", "--dry-run").returncode == 1
    clean_here(tmp_path / "m.csv", tmp_path / "out", Recipe.load("telea"))
    done = invoke(*call)
    assert "already done: 3 of 3\nwould be cleaned by recipe telea: 0\nnot checked: " in done.stdout
    assert "not checked" not in invoke(*call, "--no-check-inputs").stdout


def test_an_address_where_nobody_listens_is_told_at_once(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"id,image,mask\n1,{PHOTO},{MASK}\n")
    done = invoke("run", "m.csv", "--output", "out", "--address", "127.0.0.1:9")
    assert done.returncode == 1
    assert "error cluster.unreachable: Ray at 127.0.0.1:9: " in done.stderr


def test_a_retry_of_what_another_recipe_did_is_said_to_retry_nothing(
    invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text(f"id,image,mask\n1,{PHOTO},gone.png\n")
    clean_here(tmp_path / "m.csv", tmp_path / "out", Recipe.load("telea"))
    call = ("run", "m.csv", "-o", "out", "--retry", "failed", "--address", "127.0.0.1:9", "-r")
    assert "--retry" not in invoke(*call, "telea").stdout
    assert "--retry has no effect" in " ".join(invoke(*call, "navier-stokes").stdout.split())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "--output '': the path is empty"),
        ("gs://shop/out", "is neither a local path nor file:// nor s3://"),
        ("m.csv", "m.csv is a file"),
    ],
)
def test_an_output_that_cannot_be_is_told(
    invoke: Command, tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "m.csv").write_text(f"id,image,mask\n1,{PHOTO},{MASK}\n")
    done = invoke("run", "m.csv", "--output", output)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_checks_a_manifest_and_run_takes_its_shards(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,mask\n1,a,b\n2,a,b\n2,a,b\n/,a,b\n")
    refused = invoke("plan", "m.csv", "--output", "out", "--strict")
    assert refused.returncode == 1
    assert "error manifest.invalid_rows: " in refused.stderr
    done = invoke("plan", "m.csv", "--output", "out", "--rows-per-shard", "2")
    assert done.returncode == 3
    assert f"note: {tmp_path}/m.csv, lines 3, 4: id.duplicate (id '2')." in done.stdout
    assert "3 rows (2 invalid) in 2 shards of up to 2 rows\n" in done.stdout
    remedy = error_codes()["id.unsafe"].remedy
    assert (
        f"1  id.unsafe (e.g. /): The id cannot be a path below the output. {remedy}" in done.stdout
    )
    assert invoke("plan", "m.csv", "--output", "out").stdout == done.stdout
    plan = load_plan(str(tmp_path / "out"))
    assert plan
    assert (plan.rows, plan.shards) == (3, 2)
    (tmp_path / "good.csv").write_text("id,image,mask\n1,a,b\n")
    assert invoke("plan", "good.csv", "--output", "good").returncode == 0
    assert "is a file" in invoke("plan", "good.csv", "--output", "good.csv").stderr


def test_the_command_line_loads_no_heavy_library() -> None:
    heavy = "ray cv2 numpy pyarrow boto3 pydantic torch PIL"
    check = f"import sys, jobs.cli; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_try_cleans_one_photo_without_ray(invoke: Command, tmp_path: Path) -> None:
    done = invoke("try", PHOTO, MASK, "-o", "out/bird.png", "--recipe", "telea")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out/bird.png: 1 place, " in done.stdout
    before, after = np.asarray(Image.open(PHOTO)), np.asarray(Image.open(tmp_path / "out/bird.png"))
    assert np.array_equal(before[..., 3], after[..., 3]), "alpha stays"
    assert 0 < (before != after).any(axis=2).mean() < 0.05


def test_try_takes_boxes_and_several_masks(invoke: Command, tmp_path: Path) -> None:
    options = ("--recipe", "telea", "--set", "mask.dilate_px=0", "--set", "mask.feather_px=0")
    boxes = ("--box", "40,30,20,10", "--box", "200,300,9.5,7")
    done = invoke("try", PHOTO, "-o", "boxes.png", *boxes, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "boxes.png: 2 places, " in done.stdout
    with Image.open(PHOTO) as picture:
        masks = [Image.new("L", picture.size), Image.new("L", picture.size)]
    masks[0].paste(255, (40, 30, 60, 40))
    masks[1].paste(255, (200, 300, 210, 307))
    for number, mask in enumerate(masks):
        mask.save(tmp_path / f"{number}.png")
    assert invoke("try", PHOTO, "0.png", "1.png", "-o", "masks.png", *options).returncode == 0
    assert (tmp_path / "boxes.png").read_bytes() == (tmp_path / "masks.png").read_bytes()


def test_try_overwrites_no_file_that_is_not_named_as_its_output(
    invoke: Command, tmp_path: Path
) -> None:
    second = tmp_path / "second.png"
    second.write_bytes(MASK.read_bytes())
    call = ("try", PHOTO, MASK, "second.png", "-r", "telea")
    done = invoke(*call)
    name = f"{PHOTO.stem}-clean.png"
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{name}: 1 place, 1." in done.stdout
    assert second.read_bytes() == MASK.read_bytes()
    made = (tmp_path / name).read_bytes()
    again = invoke(*call, "--set", "mask.dilate_px=9")
    assert (again.returncode, f"{name} exists; name the file" in again.stderr) == (2, True)
    assert (tmp_path / name).read_bytes() == made
    assert invoke(*call, "--set", "output.format=jpeg").returncode == 0
    assert (tmp_path / f"{PHOTO.stem}-clean.jpg").exists()
    (tmp_path / "nameless").write_bytes(PHOTO.read_bytes())
    assert invoke("try", "nameless", *call[2:]).returncode == 0
    assert (tmp_path / "nameless-clean.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PHOTO,), "name a MASK after PHOTO, a --box, or a recipe"),
        ((PHOTO, "--box", "1,2,x,4"), "1,2,x,4 is not X,Y,WIDTH,HEIGHT"),
    ],
)
def test_try_without_marks_ends_with_2(
    invoke: Command, arguments: tuple[object, ...], message: str
) -> None:
    done = invoke("try", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PHOTO, "--box", "1,2,3"), "error mask.bad_shape: The photo"),
        ((PHOTO, "--box", ".1,.2,.3,.4"), "boxes[0] has only numbers from 0 to 1: shares"),
        ((PHOTO, MASK, "gone.png"), "error mask.not_found: There is no mask gone.png."),
        (("nowhere.png", MASK), "error image.not_found: There is no image nowhere.png."),
        (
            (PHOTO, PHOTO, "-o", "o.jpg"),
            "error output.other_format: o.jpg ends in jpg, but the result",
        ),
        (
            (PHOTO, MASK, "-o", PHOTO, "--recipe", "telea"),
            "error output.is_input: The result would",
        ),
        ((PHOTO, MASK, "--recipe", "telia"), "no recipe 'telia' (did you mean telea?)"),
        ((PHOTO, MASK, "--set", "crop.contxt=1"), "did you mean crop.context?"),
        (
            (PHOTO, MASK, "-o", "/proc/o.png", "--recipe", "telea"),
            "error output.not_writable: Cannot",
        ),
    ],
)
def test_try_tells_what_is_wrong_in_one_line(
    invoke: Command, arguments: tuple[object, ...], message: str
) -> None:
    done = invoke("try", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_cannot_start_ends_with_1(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image\n1,a.jpg\n")
    done = invoke("run", "m.csv", "--output", "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error manifest.missing_column" in done.stderr
    assert not (tmp_path / "out").exists()
    wrong = invoke("run", "m.csv", "--output", "out", "--retry", "faild")
    assert wrong.returncode == 2
    assert "unknown status faild" in wrong.stderr
    assert invoke("run", "m.csv", "--outptu", "out").returncode == 2
    assert invoke("run").returncode == 2


def test_what_a_job_would_fail_of_is_reported_before_it_is_submitted(invoke: Command) -> None:
    call = ("submit", "m.csv", "--output", "out", "--address", "http://127.0.0.1:9")
    assert "recipe.not_found" in invoke(*call, "--recipe", "no-such").stderr
    assert "--env" in invoke(*call, "--env", "NOT_SET_ANYWHERE").stderr
    assert "unknown status" in invoke(*call, "--retry", "bad").stderr
    assert "cluster.bad_pools" in invoke(*call, "--pools", "no-such.toml").stderr
    for wrong in (call[:1] + call[2:], (*call, "--outptu", "x"), (*call, "one-more")):
        done = invoke(*wrong)
        assert done.returncode == 2
        assert "catalog-cleanup submit [OPTIONS]" in done.stderr
    assert "output.not_found" in invoke("stop", "out").stderr


def test_a_cluster_that_is_not_there_takes_no_job(invoke: Command) -> None:
    for address in ("http://127.0.0.1:9", "127.0.0.1:8265"):
        done = invoke("submit", "m.csv", "-o", "out", "--address", address)
        assert done.returncode == 1
        assert "cluster.unreachable" in done.stderr


def test_recipes_are_listed_and_shown_as_toml(invoke: Command, tmp_path: Path) -> None:
    listed = invoke("recipes").stdout
    assert all(name in listed for name in preset_names())
    assert "patchmatch (default)" in listed
    shown = invoke("recipes", "telea", "--set", "mask.dilate_px=7").stdout
    (tmp_path / "mine.toml").write_text(shown)
    assert "dilate_px = 7" in invoke("recipes", "mine.toml").stdout


def test_errors_lists_every_code(invoke: Command) -> None:
    listed = invoke("errors").stdout.splitlines()
    assert [line for line in listed if not line.startswith(" ")] == [*error_codes()]
    named = invoke("errors", "mask.bad_shape", "id.unsafe").stdout
    meanings = [f"{code}\n    {describe(code)}\n" for code in ("mask.bad_shape", "id.unsafe")]
    assert named == "".join(meanings)
    wrong = invoke("errors", "mask.badshape")
    assert (wrong.returncode, "(did you mean mask.bad_shape?)" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.jpg", "b.jpg"], "Unexpected extra arguments: b.jpg. If a pattern expanded"),
        (["a.jpg", "--masks", "1.png", "2.png"], "to them, quote it: 'photos/*.jpg'."),
        (["a.jpg", "--masks", "m", "--mask", "m.png"], "--masks cannot be combined with --mask"),
        (
            ["a.jpg", "--unmatched", "pass", "--mask", "m.png"],
            "--unmatched cannot be combined with",
        ),
        (["a.jpg", "--unmatched", "skip"], "'skip' is not one of 'fail', 'pass', 'detect'"),
        (["a.jpg", "--unmatched", "detect"], "patchmatch does not detect anything; add --set"),
    ],
)
def test_photos_and_masks_that_cannot_be_meant_are_wrong_usage(
    invoke: Command, words: list[str], message: str
) -> None:
    for call in (["run"], ["plan"], ["submit", "--address", "http://nowhere:1"]):
        done = invoke(*call, *words, "-o", "out")
        assert done.returncode == 2, done.stderr
        assert message in " ".join(done.stderr.split()), call


def test_one_mask_for_all_is_scaled_unless_the_recipe_places_it(
    invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "red").mkdir(parents=True)
    (tmp_path / "photos" / "red" / "1.png").write_bytes(PHOTO.read_bytes())
    call = ("run", "photos", "--mask", MASK, "-o", "photos/out", "-r", "telea", "--dry-run")
    done = invoke(*call)
    assert "note: with --mask, mask.scale_to_photo=true is set" in done.stdout
    assert f"note: 1 photo: 1 with the mask {MASK}." in done.stdout
    label = Recipe.load("telea", ["mask.scale_to_photo=true"]).label
    assert f"/photos/out/images/{label}/" in done.stdout
    for option in ("mask.scale_to_photo=false", "mask.anchor=top"):
        assert "scale_to_photo" not in invoke(*call, "--set", option).stdout
    detects = ("plan", "photos", "-o", "o", "-r", "declutter")
    refused = invoke(*detects, "--unmatched", "fail")
    assert (refused.returncode, "Nothing marks the pictures" in refused.stderr) == (1, True)
    done = invoke(*detects[:3], "p", *detects[4:])
    assert "1 photo: 1 without marks, to be searched: red/1." in done.stdout
    assert done.returncode == 0
