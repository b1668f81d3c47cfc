"""TurboJPEG's lossless transform through ctypes: every DCT coefficient seen, and open to change.

Works with libturbojpeg 2.1 (Debian 12) and 3.x. 2.1 refuses arithmetic coding and unusual sampling
factors, and drops restart markers; 3.x does them all.

Thread-safe: each call has a handle of its own.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.codecs.errors import DamagedError, RefusedError

Coefficients = npt.NDArray[np.int16]

#: ``on_row(component, block_row, coefficients)``; the array, ``(blocks, 64)`` int16 in raster order
#: within each block, is TurboJPEG's own: changes to it are written, and it is gone afterwards.
OnRow = Callable[[int, int, Coefficients], None]

INSTALL_HINT = "Install it (Debian: apt-get install libturbojpeg0), or name it in TURBOJPEG_LIB."

_PROGRESSIVE, _NO_OUTPUT, _COPY_NONE, _ARITHMETIC, _OPTIMISE = 32, 16, 64, 128, 256

_INIT_TRANSFORM = 2
# TJPARAM_* of version 3
_STOP_ON_WARNING, _SCAN_LIMIT, _RESTART_BLOCKS, _MAX_MEMORY_MIB = 0, 13, 18, 23
# TJFLAG_* of version 2
_FLAG_STOP_ON_WARNING, _FLAG_LIMIT_SCANS = 8192, 32768

_MAX_SCANS = 500
_MAX_MEMORY = 2048


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


_Filter = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    _Region,
    _Region,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
)


class _Transform(ctypes.Structure):
    _fields_ = [
        ("region", _Region),
        ("operation", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("filter", _Filter),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The shared library, or None where there is none."""
    names = (
        os.environ.get("TURBOJPEG_LIB"),
        ctypes.util.find_library("turbojpeg"),
        "libturbojpeg.so.0",
        "/opt/libjpeg-turbo/lib64/libturbojpeg.so.0",
        "/opt/homebrew/opt/jpeg-turbo/lib/libturbojpeg.dylib",
    )
    for name in filter(None, names):
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        _declare(found)
        return found
    return None


def is_version_3(found: ctypes.CDLL) -> bool:
    """Whether the library has the API of libjpeg-turbo 3."""
    return hasattr(found, "tj3Init")


def _declare(found: ctypes.CDLL) -> None:
    """Give the functions in use their C types."""
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    target = ctypes.POINTER(ctypes.c_void_p)
    transforms = ctypes.POINTER(_Transform)
    size: Any = ctypes.c_size_t
    if is_version_3(found):
        types = {
            "tj3Init": (pointer, [number]),
            "tj3Set": (number, [pointer, number, number]),
            "tj3Destroy": (None, [pointer]),
            "tj3Free": (None, [pointer]),
            "tj3GetErrorStr": (text, [pointer]),
            "tj3Transform": (
                number,
                [pointer, text, size, number, target, ctypes.POINTER(size), transforms],
            ),
        }
    else:
        size = ctypes.c_ulong
        types = {
            "tjInitTransform": (pointer, []),
            "tjDestroy": (number, [pointer]),
            "tjFree": (None, [pointer]),
            "tjGetErrorStr2": (text, [pointer]),
            "tjTransform": (
                number,
                [pointer, text, size, number, target, ctypes.POINTER(size), transforms, number],
            ),
        }
    for name, (result, arguments) in types.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments


def transform(
    jpeg: bytes,
    on_row: OnRow,
    *,
    progressive: bool = False,
    arithmetic: bool = False,
    optimise: bool = False,
    restart_blocks: int = 0,
) -> bytes:
    """Write a JPEG anew from its own coefficients, as ``on_row`` leaves them.

    Markers other than those needed to decode are left out.

    Args:
        jpeg: the file.
        on_row: called for every row of blocks of every component.
        progressive: write a progressive file.
        arithmetic: use arithmetic coding (version 3 only).
        optimise: make Huffman tables for this file (version 3; version 2 does so when it must).
        restart_blocks: blocks between restart markers (version 3 only); 0: none.

    Raises:
        DamagedError: the file's data are damaged.
        RefusedError: this version of the library cannot handle this kind of file.
        Exception: whatever ``on_row`` raises.
    """
    options = _COPY_NONE
    options |= _PROGRESSIVE if progressive else 0
    options |= _ARITHMETIC if arithmetic else 0
    options |= _OPTIMISE if optimise else 0
    return _run(jpeg, on_row, options, restart_blocks)


def visit(jpeg: bytes, on_row: OnRow) -> None:
    """Show ``on_row`` all coefficients of a JPEG; raises as :func:`transform` does."""
    _run(jpeg, on_row, _NO_OUTPUT, 0)


def _run(jpeg: bytes, on_row: OnRow, options: int, restart_blocks: int) -> bytes:
    found = library()
    if found is None:
        raise RefusedError(f"libturbojpeg is not installed. {INSTALL_HINT}")
    errors: list[BaseException] = []
    job = _Transform(_Region(0, 0, 0, 0), 0, options, None, _filter(on_row, errors))
    output, message = _call(found, jpeg, job, restart_blocks)
    if errors:
        raise errors[0]
    if message:
        raise RefusedError(message) if "subsampling type" in message else DamagedError(message)
    return output


def _filter(on_row: OnRow, errors: list[BaseException]) -> Callable[..., int]:
    """Wrap ``on_row`` as the C callback; no exception may cross a C frame."""

    def call(
        address: int, strip: _Region, plane: _Region, component: int, _id: int, _transform: int
    ) -> int:
        try:
            if strip.y < plane.h:  # rows beyond the plane only pad the last MCU
                blocks = strip.w // 8
                memory = (ctypes.c_short * (blocks * 64)).from_address(address)
                array = np.frombuffer(memory, np.int16).reshape(blocks, 64)
                on_row(component, strip.y // 8, array)
        except BaseException as error:
            errors.append(error)
            return -1
        return 0

    return _Filter(call)


def _call(
    found: ctypes.CDLL, jpeg: bytes, job: _Transform, restart_blocks: int
) -> tuple[bytes, str]:
    """The output and an error message, one of them empty."""
    modern = is_version_3(found)
    handle = found.tj3Init(_INIT_TRANSFORM) if modern else found.tjInitTransform()
    output = ctypes.c_void_p(None)
    size = ctypes.c_size_t(0) if modern else ctypes.c_ulong(0)
    results = ctypes.byref(output), ctypes.byref(size), ctypes.byref(job)
    try:
        if modern:
            found.tj3Set(handle, _STOP_ON_WARNING, 1)
            found.tj3Set(handle, _SCAN_LIMIT, _MAX_SCANS)
            found.tj3Set(handle, _MAX_MEMORY_MIB, _MAX_MEMORY)
            if restart_blocks:
                found.tj3Set(handle, _RESTART_BLOCKS, restart_blocks)
            failed = found.tj3Transform(handle, jpeg, len(jpeg), 1, *results)
        else:
            flags = _FLAG_STOP_ON_WARNING | _FLAG_LIMIT_SCANS
            failed = found.tjTransform(handle, jpeg, len(jpeg), 1, *results, flags)
        if failed:
            tell = found.tj3GetErrorStr if modern else found.tjGetErrorStr2
            return b"", tell(handle).decode("latin-1")
        return (ctypes.string_at(output, size.value) if output.value else b""), ""
    finally:
        if output.value:
            (found.tj3Free if modern else found.tjFree)(output)
        (found.tj3Destroy if modern else found.tjDestroy)(handle)
