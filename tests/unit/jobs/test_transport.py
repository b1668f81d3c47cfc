"""Photos, and an error that is no row's, on their way from one actor to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.pipeline.actor import StageActor
from jobs.pipeline.pending import extra_schema
from jobs.pipeline.prompts import SharedPrompts
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.transport import from_table, to_table
from manifests import runs
from manifests.errors import WeightsError
from manifests.ledger import Ledger, RetryPolicy
from manifests.planning.plan import make_plan
from manifests.schema import LineageRow
from stages.models.refiners.prompts import Prompt, hash_of
from stages.photo import Patch, Photo
from stages.pixels.boxes import Box
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction, Step
from tests.support import boxed_catalog

RUN_ERROR = WeightsError("weights.missing", "There are no weights at /nowhere.")

TELEA = Recipe.load("telea")


def note(name: str) -> PhotoFunction:
    def work(photo: Photo) -> None:
        photo.lineage.fidelity_note = name

    return work


def three_pools(_: Recipe, __: str) -> Sequence[Step]:
    return [
        Step("first", "cpu", lambda: note("first")),
        Step("middle", "small_gpu", lambda: note("middle"), photos_per_call=4),
        Step("last", "cpu", lambda: note("last")),
    ]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[RunSpec]:
    output = str(tmp_path / "out")
    plan = make_plan(boxed_catalog(tmp_path, 3), output, rows_per_shard=3)
    content = {"recipe": TELEA.model_dump(mode="json"), "recipe_hash": TELEA.hash}
    run = runs.claim(output, content)
    extra = extra_schema(plan.shard_file(0).read_table().schema)
    yield RunSpec(plan, extra, TELEA, RetryPolicy(run.run_id), three_pools, has_gpus=True)
    runs.release(run)


def block_with_a_run_error(job: RunSpec) -> pa.Table:
    """Two photos, the error of another actor, and a photo behind it."""
    planned = job.plan.read_shard(0).to_pylist()
    photos = []
    for name, row in zip("abc", planned, strict=True):
        digest = hashlib.sha256(Path(row["image_uri"]).read_bytes()).hexdigest()
        record = LineageRow(id=name, image_uri=row["image_uri"], image_sha256=digest)
        photos.append(Photo(record))
    return to_table([*photos[:2], RUN_ERROR, photos[2]], SharedPrompts(job.plan.output))


def test_a_problem_arrives_as_it_left_and_between_photos(job: RunSpec) -> None:
    first, second, error, third = from_table(
        block_with_a_run_error(job), SharedPrompts(job.plan.output)
    )
    assert repr(error) == repr(RUN_ERROR)
    names = [each.lineage.id for each in (first, second, third) if isinstance(each, Photo)]
    assert names == ["a", "b", "c"]


def test_an_actor_finishes_the_photos_before_a_problem_and_passes_it_on(job: RunSpec) -> None:
    tables = list(StageActor(job, 1)(block_with_a_run_error(job)))
    *photos, error = [
        each for table in tables for each in from_table(table, SharedPrompts(job.plan.output))
    ]
    assert repr(error) == repr(RUN_ERROR)
    notes = [each.lineage.fidelity_note for each in photos if isinstance(each, Photo)]
    assert notes == ["middle", "middle"]


def test_the_last_actor_records_the_photos_before_a_problem_and_reports_it(job: RunSpec) -> None:
    tables = list(StageActor(job, 2)(block_with_a_run_error(job)))
    told = pa.concat_tables(tables).to_pylist()
    assert sum(row["ok"] or 0 for row in told) == 2
    assert (told[-1]["run_error_code"], told[-1]["run_error"]) == (
        RUN_ERROR.code,
        RUN_ERROR.message,
    )
    recorded = Ledger(job.plan.output, TELEA.hash).latest(0, ["id", "fidelity_note"]).to_pylist()
    assert sorted((row["id"], row["fidelity_note"]) for row in recorded) == [
        ("a", "last"),
        ("b", "last"),
    ]


def test_a_photo_that_was_replaced_meanwhile_fails(job: RunSpec) -> None:
    """The patches were made from the earlier file."""
    block = block_with_a_run_error(job)
    first, second, _ = (Path(row["image_uri"]) for row in job.plan.read_shard(0).to_pylist())
    first.write_bytes(second.read_bytes() + b"\n")
    progress = pa.concat_tables(StageActor(job, 2)(block)).to_pylist()
    assert sum(row["ok"] or 0 for row in progress) == 1
    failed = job.ledger.latest(0, ["id", "error_code", "error_stage"]).to_pylist()
    assert {"id": "a", "error_code": "image.changed", "error_stage": "fetch_again"} in failed


def test_a_prompt_is_sent_once_and_its_name_from_then_on(tmp_path: Path) -> None:
    sender, receiver = SharedPrompts(str(tmp_path)), SharedPrompts(str(tmp_path))
    embeds = np.random.default_rng(0).standard_normal((512, 4096), np.float32)
    prompt = Prompt(embeds, np.ones(8, np.float32), hash_of("empty"))
    photos = [Photo(LineageRow(id=str(index)), prompt=prompt) for index in range(4)]
    tables = [to_table([photo], sender) for photo in photos]
    first, *rest = [table.nbytes for table in tables]
    assert first > embeds.nbytes > 1000 * max(rest)
    arrived = [each for table in tables for each in from_table(table, receiver)]
    prompts = [photo.prompt for photo in arrived if isinstance(photo, Photo) and photo.prompt]
    assert len(prompts) == len(photos)
    for each in prompts:
        assert np.array_equal(each.embeds, prompt.embeds)
        assert each.text_hash == prompt.text_hash
    assert prompts[1] is prompts[3], "it is loaded once"
    assert len(list((tmp_path / "prompts").iterdir())) == 1


def test_masks_arrive_unchanged_and_take_little_on_the_way(tmp_path: Path) -> None:
    side = 1000
    soft, hard = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    soft[300:500, 300:500] = np.arange(200)
    hard[300:500, 300:500] = 255
    crop, pixels = Box(0, 0, side, side), np.zeros((8, 8, 3), np.uint8)
    patch = Patch(crop=crop, pixels=pixels, mask=hard, blend=soft, seed=1, effects=soft)
    prompts = SharedPrompts(str(tmp_path))
    table = to_table([Photo(LineageRow(id="1"), patches=[patch])], prompts)
    assert table.nbytes < side * side / 8
    (photo,) = from_table(table, prompts)
    assert isinstance(photo, Photo)
    (arrived,) = photo.patches
    for name in ("mask", "blend", "effects"):
        sent, received = getattr(patch, name), getattr(arrived, name)
        assert np.array_equal(received, sent)
        assert received.flags.writeable
