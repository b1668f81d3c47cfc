"""Libraries of the package's extra ``models``, which much of it does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from manifests.errors import WeightsError


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Translate a failed import within the block; ``what`` needs it: the start of a sentence.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    try:
        yield
    except ImportError as error:
        raise WeightsError("model.not_installed", f"{what} needs {error.name}.") from None
