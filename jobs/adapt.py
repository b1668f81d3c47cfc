"""From steps to Ray Data: which steps share an actor, and what such an actor does.

An actor takes a block, makes photos of it, takes each photo through all its steps before the next
(so that one decoded photo is in memory, not a block of them), and packs them up again. The first
pool's blocks name shards, whose pending rows it reads; the last pool's photos are recorded.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby, islice
from typing import Any

import cv2
import pyarrow as pa

from manifests import ledger
from manifests.errors import DestinationError, WeightsError
from manifests.plan import Plan
from manifests.schema import SHARD_SCHEMA, LineageRow, lineage_schema
from stages.photo import Photo, from_table, lineage_dict, to_table
from stages.recipe import Recipe
from stages.step import Pool, Step, fail, finish, run_steps

#: Rows are recorded together, at the latest after so many or so long: few files, little to redo.
_ROWS_PER_RECORD = 64
_SECONDS_PER_RECORD = 15.0

#: Stands before a WeightsError's code and message: of an actor that cannot be made, Ray passes on
#: nothing but text.
_MARK = "weights error of an actor: "


@dataclass(frozen=True, slots=True)
class Job:
    """What every actor of a run is told.

    Attributes:
        plan: what is to be done, and where results go.
        extra: types of the manifest's other columns.
        recipe: how.
        goal: which rows are still to be done; its run_id is stamped on each lineage row.
        has_gpus: whether steps run in the pools that they name, or all in the CPUs' one.
        steps: makes the recipe's steps; called in the actor, since models do not travel.
    """

    plan: Plan
    extra: pa.Schema
    recipe: Recipe
    goal: ledger.Goal
    steps: Callable[[Recipe, str], Sequence[Step]]
    has_gpus: bool = False

    def groups(self) -> list[tuple[Pool, list[Step]]]:
        """Neighbouring steps of one pool, together: each group becomes one pool of actors."""
        steps = self.steps(self.recipe, self.plan.output)

        def pool_of(step: Step) -> Pool:
            return step.pool if self.has_gpus else "cpu"

        return [(pool, list(group)) for pool, group in groupby(steps, key=pool_of)]


class StageActor:
    """The callable class that Ray Data runs in each actor of a pool.

    Args:
        job: the run.
        group: which of the job's groups of steps this pool does.

    Raises:
        RuntimeError: a model cannot be loaded; :func:`weights_error` tells it from others.
    """

    def __init__(self, job: Job, group: int) -> None:
        cv2.setNumThreads(1)  # the pool's actors share the machine's cores among themselves
        groups = job.groups()
        self._job = job
        try:
            self._steps = [(step.name, step.make()) for step in groups[group][1]]
        except WeightsError as error:
            raise RuntimeError(_MARK + json.dumps([error.code, error.message])) from None
        # Without a GPU, models gain nothing from batches that would hold many photos in memory.
        self._together = max(s.photos for s in groups[group][1]) if job.has_gpus else 1
        self._is_first = group == 0
        self._is_last = group == len(groups) - 1

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Work on one block; yields blocks for the next pool, or progress for the driver."""
        photos = self._photos(block)
        return self._record(photos) if self._is_last else self._pass_on(photos)

    def _pass_on(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        for photo in self._worked_on(photos):
            yield to_table([photo], self._job.extra)

    def _worked_on(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Take photos through the steps, so many together as these like."""
        while batch := list(islice(photos, self._together)):
            run_steps(batch, self._steps)
            yield from batch

    def _record(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        recorder = Recorder(self._job)
        try:
            for photo in self._worked_on(photos):
                recorder.add(photo)
                if recorder.is_due:
                    yield recorder.record()
            yield recorder.record()
        except DestinationError as error:
            # No fault of the rows, and the same for all of them: the driver stops the run. What is
            # stored already is recorded if that is possible.
            with suppress(DestinationError):
                yield recorder.record()
            yield progress(problem=str(error))

    def _photos(self, block: pa.Table) -> Iterator[Photo]:
        if not self._is_first:
            yield from from_table(block)
            return
        for work in block.to_pylist():
            yield from read_pending(self._job, work["shard"], work["id"])


def weights_error(text: str) -> WeightsError | None:
    """The error for which an actor could not be made, from what Ray tells of its death."""
    _, mark, told = text.rpartition(_MARK)
    return WeightsError(*json.JSONDecoder().raw_decode(told)[0]) if mark else None


def read_pending(job: Job, shard: int, only: str | None = None) -> Iterator[Photo]:
    """The shard's rows less those that are done: the anti-join that makes a run resumable.

    Args:
        job: the run.
        shard: its number.
        only: one id of the shard; None: all of them.
    """
    recipe, plan = job.recipe, job.plan
    done = set(ledger.row_keys(ledger.ended_rows(plan.output, shard, job.goal)))
    ours = set(SHARD_SCHEMA.names)
    for row in plan.shard(shard).read_table().to_pylist():
        if tuple(row[name] for name in ledger.KEY) in done:
            continue
        if only is not None and row["id"] != only:
            continue
        photo = Photo(
            LineageRow(
                id=row["id"],
                image_uri=row["image_uri"],
                mask_uri=row["mask_uri"],
                marks=row["marks"],
                recipe_name=recipe.name,
                recipe_hash=recipe.hash,
                package_version=version("catalog-cleanup"),
                run_id=job.goal.run_id,
            ),
            shard=shard,
            extra={name: value for name, value in row.items() if name not in ours},
        )
        if row["error_code"]:
            fail(photo, row["error_code"], row["error"], "plan")
        yield photo


@dataclass(slots=True)
class Recorder:
    """Collects ended rows and adds them to the lineage, shard by shard."""

    job: Job
    rows: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0
    ok: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, photo: Photo) -> None:
        """Take a photo whose picture is stored, or which has failed."""
        finish(photo)
        self.rows[photo.shard].append(lineage_dict(photo.lineage) | photo.extra)
        self.count += 1
        self.ok += photo.ok

    @property
    def is_due(self) -> bool:
        """Whether enough has come together to be recorded."""
        return (
            self.count >= _ROWS_PER_RECORD or time.monotonic() - self.since >= _SECONDS_PER_RECORD
        )

    def record(self) -> pa.Table:
        """Write what was collected; returns it as progress.

        Raises:
            DestinationError: ``output.not_writable``.
        """
        schema = lineage_schema(self.job.extra)
        for shard, rows in self.rows.items():
            ledger.write_rows(self.job.plan.output, shard, rows, schema)
        made = progress(ok=self.ok, failed=self.count - self.ok)
        self.rows.clear()
        self.count = self.ok = 0
        self.since = time.monotonic()
        return made


def progress(ok: int = 0, failed: int = 0, problem: str = "") -> pa.Table:
    """What the last pool hands to the driver: rows recorded, or why it cannot go on."""
    return pa.table({"ok": [ok], "failed": [failed], "problem": [problem]})
