"""Exceptions of the codecs, and separation of damaged files from bugs of this program.

Image libraries raise all kinds of exceptions for damaged files (``TypeError`` and
``AttributeError`` among them), so the type of an exception does not separate a damaged file from a
bug of this program. The place where it was raised does: :func:`library_errors` translates only
exceptions from an image library that our code has called to :class:`DamagedError`. All other
exceptions propagate, and the row ends as ``internal.error``. Our own parsers raise DamagedError
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
    """The file is apparently valid, but of an unsupported kind; the message says which."""


class VerificationError(Exception):
    """The new file failed verification: a bug of this program, found before the file was stored."""


@contextmanager
def library_errors() -> Iterator[None]:
    """Translate exceptions of image libraries to DamagedError; others propagate unchanged.

    Raises:
        DamagedError: the library raised an exception, which is the cause.
        MemoryError: the library ran out of memory; those written in C say so only in the message.
        ImportError: an optional part of a library is not installed.
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
    """Whether the innermost function of ours in the traceback called an image library.

    Packages that the library itself calls (NumPy, the standard library) count as the library.
    """
    called = set[str]()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        called = set() if package in _OURS else called | {package}
    return bool(called & _LIBRARIES)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the message reports a lack of memory; libheif's "security limit" does not."""
    text = str(error).lower()
    words = ("out of memory", "insufficient memory", "memory allocation", "allocate memory")
    return any(word in text for word in words) and "security limit" not in text
