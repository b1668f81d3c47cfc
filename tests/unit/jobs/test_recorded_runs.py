"""What earlier runs recorded, read by this version: their recipes, and folders without results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli_w

from jobs.cli.results import EXIT_ALL_MATCH, EXIT_UNCHECKED
from jobs.estimate.seconds import Basis
from jobs.results.recipe_runs import recipe_runs
from manifests.errors import RecipeError
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, write
from tests.support.output_folders import clean_here

TELEA = Recipe.load("telea")


def manifest_of(folder: Path, photo: Path) -> str:
    return write(folder / "m.csv", f'id,image,boxes\n1,{photo},"[100, 100, 50, 40]"\n')


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """One photo, done."""
    photo = DEMO / "photos" / "coffee-stray-coins.jpg"
    clean_here(manifest_of(tmp_path, photo), tmp_path / "out", TELEA)
    return tmp_path / "out"


def change_record(output: Path, section: str, **options: object) -> None:
    """Change a section of the recorded recipe, as another version would have written it."""
    (path,) = (output / "runs").glob("*/run.json")
    facts = json.loads(path.read_text())
    facts["recipe"].setdefault(section, {}).update(options)
    path.write_text(json.dumps(facts))


def test_a_recorded_recipe_is_read_without_the_options_that_no_longer_exist(
    output: Path, invoke: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_record(output, "mask", smooth_px=2)
    change_record(output, "remove", passes=3)
    change_record(output, "watermark", text="shop")
    (run,) = recipe_runs(str(output))
    assert run.recipe == TELEA
    (message,) = caplog.messages
    assert message.startswith(f"note: Recipe run {run.record.run_id} of another version, read")
    for option in ("mask.smooth_px", "remove.passes", "watermark"):
        assert f"{option} is not an option" in message
    assert Basis.read(str(output), 12.0).recipe == TELEA
    for call in (
        ("verify", output),
        ("report", output),
        ("estimate", tmp_path / "m.csv", "--from", output),
    ):
        caplog.clear()
        done = invoke(*call)
        assert (done.returncode, done.stderr) == (0, ""), call
        assert len(caplog.messages) == 1, call
    assert "1 unchanged outside the mask" in invoke("verify", output).stdout
    theirs = {"name": "mine", "remove": {"method": "telea", "passes": 3}}
    with pytest.raises(RecipeError, match=r"remove\.passes is not an option"):
        Recipe.load(write(tmp_path / "mine.toml", tomli_w.dumps(theirs)))


def test_a_recorded_recipe_with_a_method_that_no_longer_exists_is_refused_where_it_is_needed(
    output: Path, invoke: Command
) -> None:
    change_record(output, "remove", method="magic")
    refused = invoke("verify", output)
    assert refused.returncode == 1
    assert "recipe.invalid: Recipe run 000001-" in refused.stderr
    assert "remove.method = 'magic' is none of" in refused.stderr
    assert invoke("status", output).returncode == 0
    assert "there are telea-" in invoke("report", output, "--recipe", "lama").stderr


def test_verifying_a_folder_without_results_is_no_success(
    output: Path, invoke: Command, tmp_path: Path
) -> None:
    done = invoke("verify", output)
    assert done.returncode == EXIT_ALL_MATCH
    assert done.stdout.startswith("ok   1: coefficients of ")
    failed = tmp_path / "failed"
    clean_here(manifest_of(tmp_path, tmp_path / "absent.png"), failed, TELEA)
    done = invoke("verify", failed)
    assert done.returncode == EXIT_UNCHECKED
    assert done.stdout == f"Nothing was checked: {failed} has no results of the last recipe.\n"
