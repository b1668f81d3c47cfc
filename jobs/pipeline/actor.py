"""From steps to Ray Data: what an actor does.

An actor takes a block, makes photos of it, takes each photo through all its steps before the next
(so that one decoded photo is in memory, not a block of them), and packs them up again. The first
pool's blocks name shards, whose pending rows it reads; the last pool's photos are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import dropwhile, islice, takewhile

import cv2
import pyarrow as pa

from jobs.pipeline import metrics
from jobs.pipeline.isolated import run_isolated
from jobs.pipeline.limits import limit_memory, time_limit
from jobs.pipeline.pending import read_pending
from jobs.pipeline.prefetch import prefetch
from jobs.pipeline.recorder import Recorder, progress_of_problem
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.transport import Problem, from_table, to_table
from manifests.errors import CatalogCleanupError, error_from_code
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.steps.base import Step

#: Photos that are fetched ahead, or stored behind: enough to hide a storage's latency.
_AHEAD = 8

#: Files that wait for an actor take no more memory than this, but for the last one.
_AHEAD_BYTES = 64 << 20


class StageActor:
    """The callable class that Ray Data runs in each actor of a pool.

    Args:
        spec: the run.
        group: which of the spec's groups of steps this pool does.
    """

    def __init__(self, spec: RunSpec, group: int) -> None:
        cv2.setNumThreads(1)  # the pool's actors share the machine's cores among themselves
        groups = spec.groups()
        steps = groups[group][1]
        self._job = spec
        self._is_first = group == 0
        self._is_last = group == len(groups) - 1
        # Without a GPU, models gain nothing from batches that would hold many photos in memory.
        self._pool = groups[group][0]
        self._together = max(s.batch_size for s in steps) if spec.has_gpus else 1
        self._problem: CatalogCleanupError | None = None
        if spec.isolated:
            return
        ahead, rest = _split(steps)
        behind, middle = (part[::-1] for part in _split(rest[::-1]))
        try:
            self._ahead, self._middle, self._behind = (
                Pipeline(part).load() for part in (ahead, middle, behind)
            )
        except CatalogCleanupError as error:
            # Told with the first block: of an actor that dies while it is made, Ray tells a page.
            self._problem = error
        if all(step.pool == "cpu" for step in steps):
            limit_memory(spec.recipe.limits.max_memory_mib)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Work on one block; yields blocks for the next pool, or progress for the driver."""
        photos = self._worked_on(self._photos(block))
        for made in self._record(photos) if self._is_last else self._pass_on(photos):
            metrics.record_traffic()
            yield made

    def _photos(self, block: pa.Table) -> Iterator[Photo]:
        if not self._is_first:
            for arrived in from_table(block):
                if isinstance(arrived, Problem):
                    self._problem = error_from_code(arrived.code, arrived.message)
                    return
                yield arrived
            return
        for work in block.to_pylist():
            yield from read_pending(self._job, work["shard"], work["id"])

    def _worked_on(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Take photos through the steps; those before a problem that arrived, and then raise it."""
        if self._problem:
            raise self._problem
        if self._job.isolated:
            for photo in photos:
                run_isolated(photo, self._job)
                yield photo
        else:
            fetched = _beside(photos, self._ahead)
            yield from _beside(self._computed(fetched), self._behind)
        if self._problem:
            raise self._problem

    def _computed(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Take photos through the steps, so many together as these like."""
        while batch := list(islice(photos, self._together)):
            with time_limit(self._job.recipe.limits.max_seconds * len(batch)):
                self._middle.run(*batch)
            if self._together > 1:
                metrics.BATCH_FILL.add(len(batch) / self._together, pool=self._pool)
            for photo in batch:
                if self._behind.steps:
                    photo.drop_pixels()  # files may wait to be stored, pixels need not
                yield photo

    def _pass_on(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        try:
            for photo in photos:
                yield to_table([photo], self._job.extra)
        except CatalogCleanupError as error:
            yield to_table([Problem(error.code, error.message)], self._job.extra)

    def _record(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        recorder = Recorder(self._job)
        try:
            for photo in photos:
                recorder.add(photo)
                if recorder.is_due:
                    yield recorder.record()
            yield recorder.record()
        except CatalogCleanupError as error:
            # No fault of the rows, and the same for all of them: the driver stops the run. What is
            # stored already is recorded if that is possible.
            with suppress(CatalogCleanupError):
                yield recorder.record()
            yield progress_of_problem(error.code, error.message)


def _split(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """The first steps that wait, and the rest."""
    waiting = list(takewhile(lambda step: step.is_io, steps))
    return waiting, list(dropwhile(lambda step: step.is_io, steps))


def _beside(photos: Iterator[Photo], waiting: Pipeline) -> Iterator[Photo]:
    """Take photos through steps that wait, beside what the caller computes."""
    if not waiting.steps:
        return photos
    return prefetch(photos, waiting.run, threads=_AHEAD, max_bytes=_AHEAD_BYTES)
