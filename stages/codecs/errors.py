"""Whose fault an error is: the file's, or ours.

Image libraries meet damage with whatever exception their readers run into (``TypeError`` and
``AttributeError`` among them), so the type of an exception does not separate a damaged file from a
fault of this program. Where it was raised does: :func:`library_errors` turns into
:class:`DamagedError` only what comes out of an image library that our code has called. All other
exceptions pass, and the row ends as ``internal.error``. Our own parsers raise DamagedError
themselves.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

#: Top-level packages: ours, and those that read and write image files for us.
_OURS = frozenset({"stages", "manifests", "jobs"})
_LIBRARIES = frozenset({"PIL", "tifffile", "imagecodecs", "pillow_heif", "jpeglib"})


class DamagedError(Exception):
    """The file's data are damaged."""


class UnsupportedError(Exception):
    """Valid, as far as one can tell, but of a kind that this cannot be done with; says which."""


class VerificationError(Exception):
    """The new file is not what it must be: a fault of ours, found before any harm was done."""


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn the exceptions of image libraries into DamagedError; our own pass unchanged.

    Raises:
        DamagedError: caused by the library's exception.
        MemoryError: the library lacked memory, which those written in C report in words only.
        ImportError: a library's optional part is not installed.
    """
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if not is_from_library(error):
            raise
        if _is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise DamagedError(str(error) or type(error).__name__) from error


def is_from_library(error: BaseException) -> bool:
    """Whether the last function of ours in the traceback was waiting for an image library.

    What that library calls in turn (NumPy, the standard library) counts as the library.
    """
    called = set[str]()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        called = set() if package in _OURS else called | {package}
    return bool(called & _LIBRARIES)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a message says so; libheif's "security limit" is about what a file claims."""
    text = str(error).lower()
    words = ("out of memory", "insufficient memory", "memory allocation", "allocate memory")
    return any(each in text for each in words) and "security limit" not in text
