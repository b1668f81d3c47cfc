"""A step of the method, and the one place where steps are timed and their errors caught."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from manifests.errors import DestinationError, RowError
from manifests.schema import FAILED
from stages.photo import Photo

#: The actor pool a step runs in.
Pool = Literal["cpu", "small_gpu", "large_gpu"]

#: Works on one photo in place. Raises RowError for bad input.
Work = Callable[[Photo], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Attributes:
        name: appears in the lineage's ``seconds`` and ``error_stage``.
        pool: neighbouring steps of one pool run in one actor, without copying.
        make: called once in each actor, where models and clients are loaded.
    """

    name: str
    pool: Pool
    make: Callable[[], Work]


def run_steps(photo: Photo, steps: Sequence[tuple[str, Work]]) -> None:
    """Take a photo through ``(name, work)`` pairs; a photo that fails skips the rest.

    Raises:
        DestinationError: the output cannot be stored; that is no fault of the row, which
            therefore does not end.
    """
    for name, work in steps:
        if not photo.ok:
            break
        started = time.perf_counter()
        try:
            work(photo)
        except RowError as error:
            fail(photo, error.code, str(error), name)
        except DestinationError:
            raise
        except Exception:  # a row must never cost another, whatever a library raises
            fail(photo, "internal.error", traceback.format_exc(limit=-6), name)
        photo.lineage.seconds[name] = time.perf_counter() - started


def fail(photo: Photo, code: str, message: str, stage: str) -> None:
    """Record why a photo cannot be done, and free its pixels."""
    row = photo.lineage
    row.status, row.error_code, row.error, row.error_stage = FAILED, code, message, stage
    photo.drop_pixels()


def finish(photo: Photo) -> None:
    """Stamp the time at which a row ended, and free its pixels."""
    photo.lineage.finished_at = datetime.now(UTC)
    photo.drop_pixels()
