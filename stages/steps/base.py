"""Defines a step, and runs steps: the only place that times them and catches their errors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import cv2

from manifests.errors import DeviceError, OutputError, RowError, StorageError, redact
from manifests.schema import FAILED
from stages.device_lock import DEVICE_LOCK
from stages.method_options import Pool
from stages.photo import Photo

#: Errors of CUDA's libraries after which each further call fails, until the process ends.
_DEVICE_ERROR = re.compile(
    r"(CUDA|HIP) error: (?!out of memory)"
    r"|CUBLAS_STATUS_(NOT_INITIALIZED|MAPPING_ERROR|EXECUTION_FAILED|INTERNAL_ERROR)"
    r"|CUDNN_STATUS_(NOT_INITIALIZED|MAPPING_ERROR|EXECUTION_FAILED|INTERNAL_ERROR)"
)

#: What a step does to one photo: changes it in place. Raises RowError for bad input.
PhotoFunction = Callable[[Photo], None]


@dataclass(frozen=True, slots=True)
class BatchFunction:
    """What a step does to several photos at once, so that models can batch them.

    Attributes:
        process: changes the photos in place, and calls :func:`fail` for one that fails. If it
            raises, it must have left its photos unchanged: they are then retried one by one.
    """

    process: Callable[[Sequence[Photo]], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Attributes:
        name: appears in the lineage's ``seconds`` and ``error_stage``.
        pool: the actor pool; consecutive steps of one pool run in one actor, without copying.
        build: loads models and clients, and returns the function; called once in each actor.
        photos_per_call: the number of photos that an actor with a GPU processes together.
        is_io: whether it waits for storage instead of computing. I/O steps at the beginning or end
            of an actor's steps run in threads, while other photos are computed.
    """

    name: str
    pool: Pool
    build: Callable[[], PhotoFunction | BatchFunction]
    photos_per_call: int = 1
    is_io: bool = False


def run_steps(
    photos: Sequence[Photo], steps: Sequence[tuple[str, PhotoFunction | BatchFunction]]
) -> None:
    """Run photos through ``(name, function)`` pairs; a photo that fails skips the rest.

    Raises:
        OutputError: the output cannot be stored. This is not a row's fault, so no row fails.
        StorageError: S3 cannot be used. No row fails either.
        DeviceError: the device failed. No row fails either.
    """
    for name, function in steps:
        left = [photo for photo in photos if photo.ok]
        if isinstance(function, BatchFunction):
            _run_batch(left, name, function)
        else:
            for photo in left:
                _run_one(photo, name, function)


def _run_one(photo: Photo, name: str, function: PhotoFunction) -> None:
    started = DEVICE_LOCK.clock_s()
    try:
        function(photo)
    except (OutputError, StorageError, DeviceError):
        raise
    except Exception as error:  # whatever a library raises, one row must not affect others
        raise_device_error(error)
        fail(photo, *_code_and_text(error, photo, name), name)
    photo.lineage.seconds[name] = DEVICE_LOCK.clock_s() - started


def _code_and_text(error: Exception, photo: Photo, name: str) -> tuple[str, str]:
    """Return the lineage's code and text for an error."""
    is_allocation = isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
    if is_allocation or isinstance(error, MemoryError):
        photo.drop_all()
        for each in filter(None, (error, error.__cause__)):  # their frames hold what is too much
            traceback.clear_frames(each.__traceback__)
        error = RowError(
            "row.out_of_memory",
            f"The photo {photo.lineage.image_uri} takes too much memory in the step {name}.",
        )
    if isinstance(error, RowError):
        return error.code, str(error)
    return "internal.error", redact("".join(traceback.format_exception(error, limit=-6)))


def _run_batch(photos: Sequence[Photo], name: str, function: BatchFunction) -> None:
    """Process all photos together; if that raises, one by one, so that only bad ones fail."""
    if len(photos) > 1:
        started = DEVICE_LOCK.clock_s()
        # Whatever is raised, the photo that causes it reports it when run alone, outside of the
        # handler, which would hold the memory of the batch.
        try:
            function.process(photos)
        except Exception as error:
            raise_device_error(error)
        else:
            share = (DEVICE_LOCK.clock_s() - started) / len(photos)
            for photo in photos:
                photo.lineage.seconds[name] = share
            return
    for photo in photos:
        _run_one(photo, name, lambda photo: function.process([photo]))


def raise_device_error(error: Exception) -> None:
    """Raise ``model.device_failed`` if an error is one of a device that stays broken.

    PyTorch's ``AcceleratorError`` covers only a part of them. Running out of memory does not
    count as one.

    Raises:
        DeviceError: see above.
    """
    text = str(error)
    if isinstance(error, RuntimeError) and _DEVICE_ERROR.search(text):
        raise DeviceError("model.device_failed", f"{text.strip().splitlines()[0]}.") from error


def fail(photo: Photo, code: str, message: str, stage: str) -> None:
    """Record why a photo failed, and free its pixels."""
    row = photo.lineage
    row.status, row.error_code, row.error, row.error_stage = FAILED, code, message, stage
    photo.drop_all()


def finish(photo: Photo) -> None:
    """Record the time at which a row ended, and free its pixels."""
    photo.lineage.finished_at = datetime.now(UTC)
    photo.drop_all()
