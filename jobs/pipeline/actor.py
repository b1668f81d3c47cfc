"""The actors of a run: they apply a pool's steps to blocks of photos.

An actor unpacks a block, takes each photo through all its steps before the next (so that only one
decoded photo is in memory), and packs the photos again. The blocks of the first pool name shards,
whose pending rows the actor reads. The actors of the last pool record the photos.
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

#: Photos that are prefetched, or waiting to be stored: enough to hide the latency of storage.
PREFETCH_PHOTOS = 8

#: Max size of the waiting files, not counting the last one.
PREFETCH_BYTES = 64 << 20


class StageActor:
    """The callable class that Ray Data runs in each actor of a pool.

    Args:
        spec: the run.
        group: index of the group of steps that this pool runs.
    """

    def __init__(self, spec: RunSpec, group: int) -> None:
        cv2.setNumThreads(1)  # the pool's actors share the machine's cores
        groups = spec.groups()
        steps = groups[group][1]
        self._spec = spec
        self._is_first = group == 0
        self._is_last = group == len(groups) - 1
        # Without a GPU, batches gain nothing and would keep many photos in memory.
        self._pool = groups[group][0]
        self._batch_size = max(s.batch_size for s in steps) if spec.has_gpus else 1
        self._problem: CatalogCleanupError | None = None
        if spec.isolated:
            return
        before, rest = _split_io(steps)
        after, middle = (part[::-1] for part in _split_io(rest[::-1]))
        try:
            self._io_before, self._compute, self._io_after = (
                Pipeline(part).load() for part in (before, middle, after)
            )
        except CatalogCleanupError as error:
            # Reported with the first block: an actor that fails in its constructor makes Ray print
            # a page of traceback.
            self._problem = error
        if all(step.pool == "cpu" for step in steps):
            limit_memory(spec.recipe.limits.max_memory_mib)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Process one block; yields blocks for the next pool, or progress for the driver."""
        photos = self._process(self._unpack(block))
        for result in self._record(photos) if self._is_last else self._pack(photos):
            metrics.record_traffic()
            yield result

    def _unpack(self, block: pa.Table) -> Iterator[Photo]:
        if not self._is_first:
            for received in from_table(block):
                if isinstance(received, Problem):
                    self._problem = error_from_code(received.code, received.message)
                    return
                yield received
            return
        for unit in block.to_pylist():
            yield from read_pending(self._spec, unit["shard"], unit["id"])

    def _process(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Run the steps on photos; a problem from an earlier pool is raised after the photos."""
        if self._problem:
            raise self._problem
        if self._spec.isolated:
            for photo in photos:
                run_isolated(photo, self._spec)
                yield photo
        else:
            fetched = _in_threads(photos, self._io_before)
            yield from _in_threads(self._run_compute(fetched), self._io_after)
        if self._problem:
            raise self._problem

    def _run_compute(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Run the computing steps, in batches of their size."""
        while batch := list(islice(photos, self._batch_size)):
            with time_limit(self._spec.recipe.limits.max_seconds * len(batch)):
                self._compute.run(*batch)
            if self._batch_size > 1:
                metrics.BATCH_FILL.add(len(batch) / self._batch_size, pool=self._pool)
            for photo in batch:
                if self._io_after.steps:
                    photo.drop_pixels()  # only the file has to wait until it is stored
                yield photo

    def _pack(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        try:
            for photo in photos:
                yield to_table([photo], self._spec.extra)
        except CatalogCleanupError as error:
            yield to_table([Problem(error.code, error.message)], self._spec.extra)

    def _record(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        recorder = Recorder(self._spec)
        try:
            for photo in photos:
                recorder.add(photo)
                if recorder.is_due:
                    yield recorder.record()
            yield recorder.record()
        except CatalogCleanupError as error:
            # Not an error of a row: the driver stops the run. Results that are already stored are
            # recorded, if possible.
            with suppress(CatalogCleanupError):
                yield recorder.record()
            yield progress_of_problem(error.code, error.message)


def _split_io(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Split into the leading steps that wait for storage, and the rest."""
    leading = list(takewhile(lambda step: step.is_io, steps))
    return leading, list(dropwhile(lambda step: step.is_io, steps))


def _in_threads(photos: Iterator[Photo], io_steps: Pipeline) -> Iterator[Photo]:
    """Run steps that wait for storage in threads, while the caller computes."""
    if not io_steps.steps:
        return photos
    return prefetch(photos, io_steps.run, threads=PREFETCH_PHOTOS, max_bytes=PREFETCH_BYTES)
