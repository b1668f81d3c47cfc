"""A step of the method, and the one place where steps are timed and their errors caught."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import cv2

from manifests.errors import OutputError, RowError, StorageError, redact
from manifests.schema import FAILED
from stages.photo import Photo
from stages.traits import Pool

#: Works on one photo in place. Raises RowError for bad input.
Work = Callable[[Photo], None]


@dataclass(frozen=True, slots=True)
class BatchWork:
    """Work on several photos at once, as models like it.

    Attributes:
        work: in place; calls :func:`fail` for a photo that cannot be done. If it raises, nothing
            of its photos may have changed: they are done again, each alone.
    """

    work: Callable[[Sequence[Photo]], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Attributes:
        name: appears in the lineage's ``seconds`` and ``error_stage``.
        pool: neighbouring steps of one pool run in one actor, without copying.
        make: called once in each actor, where models and clients are loaded.
        photos: how many are taken through the actor's steps together, where it has a GPU.
        waits: whether it waits for storage instead of computing. At the beginning or the end of an
            actor's steps such ones run in threads, beside the computing of other photos.
    """

    name: str
    pool: Pool
    build: Callable[[], Work | BatchWork]
    batch_size: int = 1
    is_io: bool = False


def run_steps(photos: Sequence[Photo], steps: Sequence[tuple[str, Work | BatchWork]]) -> None:
    """Take photos through ``(name, work)`` pairs; a photo that fails skips the rest.

    Raises:
        OutputError: the output cannot be stored; that is no fault of a row, which therefore
            does not end.
        StorageError: S3 cannot be used; likewise.
    """
    for name, work in steps:
        left = [photo for photo in photos if photo.ok]
        if isinstance(work, BatchWork):
            _run_batch(left, name, work)
        else:
            for photo in left:
                _run_one(photo, name, work)


def _run_one(photo: Photo, name: str, work: Work) -> None:
    started = time.perf_counter()
    try:
        work(photo)
    except (OutputError, StorageError):
        raise
    except Exception as error:  # a row must never cost another, whatever a library raises
        fail(photo, *_code_and_text(error, photo, name), name)
    photo.lineage.seconds[name] = time.perf_counter() - started


def _code_and_text(error: Exception, photo: Photo, name: str) -> tuple[str, str]:
    """What the lineage says of an error."""
    is_allocation = isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
    if is_allocation or isinstance(error, MemoryError):
        error = RowError(
            "row.out_of_memory",
            f"The photo {photo.lineage.image_uri} takes too much memory in the step {name}.",
        )
    if isinstance(error, RowError):
        return error.code, str(error)
    return "internal.error", redact("".join(traceback.format_exception(error, limit=-6)))


def _run_batch(photos: Sequence[Photo], name: str, step: BatchWork) -> None:
    """Work on all of them; if that raises, on each alone, so that one cannot cost another."""
    if len(photos) > 1:
        started = time.perf_counter()
        try:
            step.work(photos)
        except Exception:  # whatever it is, alone it is told
            for photo in photos:
                _run_one(photo, name, lambda photo: step.work([photo]))
        else:
            share = (time.perf_counter() - started) / len(photos)
            for photo in photos:
                photo.lineage.seconds[name] = share
    elif photos:
        _run_one(photos[0], name, lambda photo: step.work([photo]))


def fail(photo: Photo, code: str, message: str, stage: str) -> None:
    """Record why a photo cannot be done, and free its pixels."""
    row = photo.lineage
    row.status, row.error_code, row.error, row.error_stage = FAILED, code, message, stage
    photo.drop_all()


def finish(photo: Photo) -> None:
    """Stamp the time at which a row ended, and free its pixels."""
    photo.lineage.finished_at = datetime.now(UTC)
    photo.drop_all()
