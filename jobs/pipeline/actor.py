"""The actors of a run: they apply a pool's steps to blocks of photos.

An actor unpacks a block, takes each photo through all its steps before the next (so that only one
decoded photo is in memory), and packs the photos again. With a GPU it works on two blocks at once,
in threads. The blocks of the first pool are units of planned rows. The actors of the last pool
record the photos.

An actor whose process cannot work ends it: Ray restarts the actor, and repeats what it had in
flight. See ``supervisor.py`` for when that ends.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import dropwhile, islice, takewhile

import cv2
import pyarrow as pa

from cluster.pools import CALLS_PER_GPU_ACTOR
from jobs.pipeline import metrics
from jobs.pipeline.io_threads import run_ahead
from jobs.pipeline.isolated import run_isolated
from jobs.pipeline.limits import limit_memory, time_limit
from jobs.pipeline.pending import photos_of
from jobs.pipeline.prompts import SharedPrompts
from jobs.pipeline.recorder import INTERNAL, Recorder, last_line, progress_of_run_error
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.transport import from_table, to_table
from manifests.errors import CatalogCleanupError, ClusterError, DeviceError
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.steps.base import Step

#: Photos that are prefetched, or waiting to be stored: enough to hide the latency of storage.
PREFETCH_PHOTOS = 8

#: Max size of the waiting files, not counting the last one.
PREFETCH_BYTES = 64 << 20

#: Number of consecutive photos with internal.error after which a worker counts as broken.
_MAX_INTERNAL_ERRORS = 5


class StageActor:
    """The callable class that Ray Data runs in each actor of a pool.

    Args:
        spec: the run.
        group: index of the step group that this pool runs.
    """

    def __init__(self, spec: RunSpec, group: int) -> None:
        cv2.setNumThreads(1)  # the pool's actors share the machine's cores
        groups = spec.step_groups()
        steps = groups[group][1]
        self._spec = spec
        self._group = group
        self._internal_errors = 0
        self._is_first = group == 0
        self._is_last = group == len(groups) - 1
        # Without a GPU, batches gain nothing and would keep many photos in memory.
        self._pool = groups[group][0]
        self._photos_per_call = max(s.photos_per_call for s in steps) if spec.has_gpus else 1
        # Photos may wait for those of the actor's other call.
        calls = CALLS_PER_GPU_ACTOR if spec.has_gpus and self._pool != "cpu" else 1
        self._max_seconds = spec.recipe.limits.max_seconds * calls
        self._prompts = SharedPrompts(spec.plan.output)
        self._run_error: CatalogCleanupError | None = None
        if spec.isolated:
            return
        before, rest = _split_io(steps)
        after, middle = (part[::-1] for part in _split_io(rest[::-1]))
        try:
            self._io_before, self._compute, self._io_after = (
                Pipeline(part).load() for part in (before, middle, after)
            )
            spec.supervisor.report_loaded(group)
        except Exception as error:  # by whichever library of a model
            # Reported with the first block: an actor that fails in its constructor makes Ray print
            # a page of traceback.
            self._run_error = self._replace_worker(error, loading=True)
        if all(step.pool == "cpu" for step in steps):
            limit_memory(spec.recipe.limits.max_memory_mib)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Process one block; yields blocks for the next pool, or progress for the driver."""
        photos = self._process(self._unpack(block))
        for result in self._record(photos) if self._is_last else self._pack(photos):
            metrics.record_traffic()
            yield result

    def _replace_worker(self, error: Exception, *, loading: bool = False) -> CatalogCleanupError:
        """End this process after a pause, so that another takes its place; or return the run's end.

        An error that is not of the catalog's is reported as ``cluster.workers_failed``.
        """
        pause_s = self._spec.supervisor.report_failure(self._group, loading=loading)
        if pause_s is None:
            if isinstance(error, CatalogCleanupError) and not isinstance(error, DeviceError):
                return error
            return ClusterError("cluster.workers_failed", f"{type(error).__name__}: {error}.")
        traceback.print_exception(error)
        sys.stderr.write(f"This worker ends in {pause_s:g} s, and is replaced.\n")
        sys.stderr.flush()
        time.sleep(pause_s)
        os._exit(1)

    def _unpack(self, block: pa.Table) -> Iterator[Photo]:
        if not self._is_first:
            for received in from_table(block, self._prompts):
                if isinstance(received, CatalogCleanupError):
                    self._run_error = received
                    return
                yield received
            return
        yield from photos_of(self._spec, block)

    def _process(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Run the steps on photos; an error that ends the run is raised after the photos."""
        if self._run_error:
            raise self._run_error
        if self._spec.isolated:
            for photo in photos:
                run_isolated(photo, self._spec)
                yield photo
        else:
            fetched = _in_threads(photos, self._io_before)
            yield from _in_threads(self._run_compute(fetched), self._io_after)
        if self._run_error:
            raise self._run_error

    def _run_compute(self, photos: Iterator[Photo]) -> Iterator[Photo]:
        """Run the computing steps, on as many photos at a time as they take."""
        while batch := list(islice(photos, self._photos_per_call)):
            begun = [photo for photo in batch if photo.ok]
            try:
                with time_limit(self._max_seconds * len(batch)):
                    self._compute.run(*batch)
            except DeviceError as error:
                raise self._replace_worker(error) from error
            if self._spec.repeats_internal_errors:
                self._count_internal_errors(begun)
            if not self._internal_errors:
                self._spec.supervisor.report_progress(self._group)
            if self._photos_per_call > 1:
                metrics.BATCH_FILL.add(len(batch) / self._photos_per_call, pool=self._pool)
            for photo in batch:
                if self._io_after.steps:
                    photo.drop_pixels()  # only the file has to wait until it is stored
                yield photo

    def _count_internal_errors(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            is_internal = photo.lineage.error_code == INTERNAL
            self._internal_errors = self._internal_errors + 1 if is_internal else 0
            if self._internal_errors >= _MAX_INTERNAL_ERRORS:
                last = last_line(photo.lineage.error)
                text = f"{_MAX_INTERNAL_ERRORS} photos in a row failed, the last by {last}."
                raise self._replace_worker(ClusterError("cluster.workers_failed", text))

    def _pack(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        try:
            for photo in photos:
                yield to_table([photo], self._prompts)
        except CatalogCleanupError as error:
            yield to_table([error], self._prompts)

    def _record(self, photos: Iterator[Photo]) -> Iterator[pa.Table]:
        recorder = Recorder(self._spec)
        try:
            for photo in photos:
                recorder.add(photo)
                if recorder.is_due:
                    yield recorder.record()
            yield recorder.record()
        except CatalogCleanupError as error:
            # An error that ends the run. Results that are already stored are recorded, if
            # possible.
            with suppress(CatalogCleanupError):
                yield recorder.record()
            yield progress_of_run_error(error.code, error.message)


def _split_io(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Split into the leading steps that wait for storage, and the rest."""
    leading = list(takewhile(lambda step: step.is_io, steps))
    return leading, list(dropwhile(lambda step: step.is_io, steps))


def _in_threads(photos: Iterator[Photo], io_steps: Pipeline) -> Iterator[Photo]:
    """Run steps that wait for storage in threads, while the caller computes."""
    if not io_steps.steps:
        return photos
    return run_ahead(photos, io_steps.run, threads=PREFETCH_PHOTOS, max_bytes=PREFETCH_BYTES)
