"""What earlier runs recorded, read by this version: their recipes, and folders without results."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w

from jobs.cli.results import EXIT_ALL_MATCH, EXIT_UNCHECKED
from jobs.estimate.seconds import Basis
from jobs.results.recipe_results import results_by_recipe
from jobs.results.status import recipe_statuses
from jobs.results.verify import verify
from manifests.errors import RecipeError
from manifests.planning.plan import Plan
from manifests.runs import claim, release
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, write
from tests.support.output_folders import clean_here, record

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
    content = json.loads(path.read_text())
    content["recipe"].setdefault(section, {}).update(options)
    path.write_text(json.dumps(content))


def test_a_recorded_recipe_is_read_without_the_options_that_no_longer_exist(
    output: Path, invoke: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_record(output, "mask", smooth_px=2)
    change_record(output, "remove", passes=3)
    change_record(output, "watermark", text="shop")
    (results,) = results_by_recipe(str(output))
    assert results.recipe == TELEA
    (message,) = caplog.messages
    assert message.startswith(f"note: Recipe run {results.record.run_id} of another version, read")
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


def test_status_names_how_much_was_masked_and_a_row_of_each_error(
    invoke: Command, tmp_path: Path
) -> None:
    write(tmp_path / "m.csv", "\n".join(["id,image,mask", *(f"{n},a,b" for n in range(100, 130))]))

    def tell(rows: pa.Table) -> dict[str, Any]:
        ids = [int(name) for name in rows["id"].to_pylist()]
        crashed = dict.fromkeys((107, 120), "row.crashed")
        status = ["crashed" if name in crashed else "ok" for name in ids]
        return {
            "status": status,
            "error_code": [crashed.get(name) for name in ids],
            "masked_px": [{107: None, 120: None, 115: 790}.get(name, 30) for name in ids],
            "width": pa.array([100] * len(ids), pa.int32()),
            "height": pa.array([10] * len(ids), pa.int32()),
        }

    record(str(tmp_path / "m.csv"), tmp_path / "out", TELEA, tell, rows_per_shard=10)
    told = invoke("status", "out").stdout
    assert "  filled: median 3.0 %, largest 79.0 % of the photo (id 115)\n" in told
    assert "         2  row.crashed (e.g. 107): " in told


def recorded(folder: Path, failed: str = "") -> Plan:
    """200 rows of four shards that a run recorded, one of them as failed; their photos are gone."""
    lines = "".join(f"{n},gone/{n}.png,gone/{n}-mask.png\n" for n in range(200))
    manifest = write(folder / "m.csv", f"id,image,mask\n{lines}")

    def statuses(rows: pa.Table) -> dict[str, Any]:
        status = ["failed" if name == failed else "ok" for name in rows["id"].to_pylist()]
        return {"status": status}

    return record(manifest, folder / "out", TELEA, statuses)


def test_a_sample_to_verify_is_even_over_all_shards_and_always_the_same(tmp_path: Path) -> None:
    plan = recorded(tmp_path, failed="7")
    assert plan.shards == 4
    first, second = ([row.id for row in verify(plan.output, 60)] for _ in range(2))
    assert first == second
    assert len(set(first)) == 60
    of_shard = Counter(int(name) // 64 for name in first)
    assert all(of_shard[shard] >= 10 for shard in range(3))
    assert len([*verify(plan.output, 1000)]) == 199, "failed rows have no result"


@pytest.mark.parametrize("target", ["m.csv", "gs://shop/out", " ", "nothing"])
def test_what_cannot_be_an_output_is_reported_in_one_line(
    invoke: Command, tmp_path: Path, target: str
) -> None:
    write(tmp_path / "m.csv", "id,image,mask\n")
    for call in ("status", "report", "verify", "failures"):
        done = invoke(call, target)
        assert done.returncode == 1, call
        assert done.stderr.startswith(f"error output.not_found: There is no run at {target}"), call
        assert len(done.stderr.splitlines()) == 1, call


def test_failed_shapes_that_are_deleted_do_not_make_the_photo_pass(
    invoke: Command, tmp_path: Path
) -> None:
    photo = DEMO / "photos" / "coffee-stray-coins.jpg"
    rows = [f'1,{photo},"{{}}"', f'2,{photo},"[]"']
    write(tmp_path / "m.csv", "\n".join(["id,image,boxes", *rows]))
    clean_here(tmp_path / "m.csv", tmp_path / "out", TELEA)
    refused = invoke("failures", "out", "--to", "again.csv")
    assert (refused.returncode, "again.csv does not end in .jsonl" in refused.stderr) == (2, True)
    assert invoke("failures", "out", "--to", "again.jsonl").stdout == "again.jsonl: 1 photo\n"
    again = json.loads((tmp_path / "again.jsonl").read_text())
    assert (again["id"], again["mask"], again.pop("boxes")) == ("1", None, {})
    assert again["failure"]["error_code"] == "mask.bad_shape"
    write(tmp_path / "again.jsonl", json.dumps(again))
    done = invoke("plan", "again.jsonl", "-o", "again")
    assert (done.returncode, "mask.no_uri" in done.stdout) == (3, True)
    assert "note: The manifest's column" not in done.stdout


def test_failures_are_not_written_to_a_storage_that_is_not_known(
    output: Path, invoke: Command
) -> None:
    done = invoke("failures", output, "--to", "gs://shop/again.jsonl")
    text = "gs://shop/again.jsonl is neither a local path nor file:// nor s3://."
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error output.not_writable: {text}")


def test_status_adds_up_the_runs_at_work_and_what_they_redo(tmp_path: Path) -> None:
    plan = recorded(tmp_path, failed="7")
    (before,) = recipe_statuses(plan.output)
    assert (before.total.pending_count, before.is_running, before.seconds_left) == (0, False, None)
    content = {"recipe": TELEA.model_dump(mode="json"), "recipe_hash": TELEA.hash}
    here = claim(plan.output, content | {"only_shards": [0], "retry": ["failed"]})
    other = claim(plan.output, content | {"only_shards": [1, 2], "retry": ["ok"]})
    ended = claim(plan.output, content | {"only_shards": [3], "retry": ["ok"]})
    try:
        for run, rate in ((here, 1.0), (other, 2.5), (ended, 100.0)):
            run.beat(rows_per_s=rate)
        ended.write(status="finished")
        (now,) = recipe_statuses(plan.output)
        assert now.is_running
        left = {shard: tally.pending_count for shard, tally in now.shards.items()}
        assert left == {0: 1, 1: 64, 2: 64, 3: 0}
        assert now.seconds_left == pytest.approx(129 / 3.5)
    finally:
        for run in (here, other, ended):
            release(run)
