"""libjpeg-turbo's coefficients through ctypes: every DCT coefficient seen, and open to change.

The library is the one in imagecodecs' wheels for Linux and macOS, so it comes with the
installation.

libjpeg reports an error by calling ``error_exit``, which must not return: C programs leave it by
``longjmp``, which ctypes cannot do. Whatever reads or writes a file therefore runs in a POSIX
thread that has the libjpeg function itself as its start routine, and ``pthread_exit`` as its
``error_exit``: an error ends that thread, which has no frame of Python's on its stack, and the
object is destroyed as after any other error. The first warning is taken for an error, since
libjpeg goes on to repair what it warns of.

Thread-safe: each call has objects of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_long, c_uint, c_ulong, c_void_p
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg.header import JpegHeader

Coefficients = npt.NDArray[np.int16]

#: ``on_row(component, block_row, coefficients)``; the array, ``(blocks, 64)`` int16 in raster order
#: within each block, is libjpeg's own: changes to it are written, and it is gone afterwards.
OnRow = Callable[[int, int, Coefficients], None]

# From jpeglib.h: the interface of libjpeg 8, and what its functions return or expect.
_VERSION = 80
_REACHED_SOS, _STATE_START = 1, 100
_UNKNOWN_SPACE, _YCC_SPACE = 0, 3
_MAX_MESSAGE = 200


class _Errors(ctypes.Structure):
    """``jpeg_error_mgr``."""

    _fields_ = [
        *((name, c_void_p) for name in ("error_exit", "emit_message", "output_message")),
        *((name, c_void_p) for name in ("format_message", "reset_error_mgr")),
        ("msg_code", c_int),
        ("msg_parm", ctypes.c_char * 80),
        ("trace_level", c_int),
        ("num_warnings", c_long),
        *((name, c_void_p) for name in ("message_table", "last_message", "addon_table")),
        *((name, c_int) for name in ("first_addon", "last_addon")),
    ]


class _Memory(ctypes.Structure):
    """The beginning of ``jpeg_memory_mgr``."""

    _fields_ = [("others", c_void_p * 8), ("access_virt_barray", c_void_p)]


class _Destination(ctypes.Structure):
    """``jpeg_destination_mgr``."""

    _fields_ = [
        ("next_output_byte", c_void_p),
        ("free_in_buffer", ctypes.c_size_t),
        ("init_destination", c_void_p),
        ("empty_output_buffer", c_void_p),
        ("term_destination", c_void_p),
    ]


class _Table(ctypes.Structure):
    """``JQUANT_TBL``."""

    _fields_ = [("quantval", ctypes.c_uint16 * 64), ("sent_table", c_int)]


class _Component(ctypes.Structure):
    """``jpeg_component_info``."""

    _fields_ = [
        *((name, c_int) for name in ("component_id", "component_index", "h_samp", "v_samp")),
        *((name, c_int) for name in ("quant_tbl_no", "dc_tbl_no", "ac_tbl_no")),
        *((name, c_uint) for name in ("width_in_blocks", "height_in_blocks")),
        ("scaled_sizes", c_int * 2),
        ("downsampled", c_uint * 2),
        ("component_needed", c_int),
        ("mcu", c_int * 6),
        ("quant_table", ctypes.POINTER(_Table)),
        ("dct_table", c_void_p),
    ]


_COMMON: list[tuple[str, Any]] = [
    ("err", ctypes.POINTER(_Errors)),
    ("mem", ctypes.POINTER(_Memory)),
    ("progress", c_void_p),
    ("client_data", c_void_p),
    ("is_decompressor", c_int),
    ("global_state", c_int),
]


class _Decompressor(ctypes.Structure):
    """``jpeg_decompress_struct``; what is not used of it only takes its place."""

    _fields_ = [
        *_COMMON,
        ("src", c_void_p),
        *((name, c_uint) for name in ("image_width", "image_height")),
        *((name, c_int) for name in ("num_components", "jpeg_color_space", "out_color_space")),
        ("scale", c_uint * 2),
        ("output_gamma", ctypes.c_double),
        ("output_settings", c_int * 12),
        ("output_state", c_int * 6),
        ("colormap", c_void_p),
        ("progress_counts", c_uint * 5),
        ("coef_bits", c_void_p),
        ("tables", c_void_p * 12),
        ("data_precision", c_int),
        ("comp_info", ctypes.POINTER(_Component)),
        ("rest", c_void_p * 43),
    ]


class _Compressor(ctypes.Structure):
    """``jpeg_compress_struct``; likewise."""

    _fields_ = [
        *_COMMON,
        ("dest", ctypes.POINTER(_Destination)),
        *((name, c_uint) for name in ("image_width", "image_height")),
        *((name, c_int) for name in ("input_components", "in_color_space")),
        ("input_gamma", ctypes.c_double),
        ("scale", c_uint * 2),
        *((name, c_uint) for name in ("jpeg_width", "jpeg_height")),
        *((name, c_int) for name in ("data_precision", "num_components", "jpeg_color_space")),
        ("comp_info", ctypes.POINTER(_Component)),
        ("quant_tbl_ptrs", ctypes.POINTER(_Table) * 4),
        ("q_scale_factor", c_int * 4),
        ("huffman_tables", c_void_p * 8),
        ("arithmetic_conditions", ctypes.c_uint8 * 48),
        ("num_scans", c_int),
        ("scan_info", c_void_p),
        *((name, c_int) for name in ("raw_data_in", "arith_code", "optimize_coding")),
        *((name, c_int) for name in ("ccir601_sampling", "fancy_downsampling")),
        *((name, c_int) for name in ("smoothing_factor", "dct_method")),
        *((name, c_int) for name in ("restart_interval", "restart_in_rows")),
        ("write_jfif_header", c_int),
        ("jfif", ctypes.c_uint8 * 8),
        ("write_adobe_marker", c_int),
        ("rest", c_void_p * 30),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """libjpeg-turbo, or None where imagecodecs has none that can be called (on Windows)."""
    spec = importlib.util.find_spec("imagecodecs._jpeg8")
    try:
        # Through the extension, since the name and place of what it links to depend on the wheel.
        found = ctypes.CDLL(str(spec.origin)) if spec else None
        if found is None or not _is_compatible(found):
            return None
        _libc()
    except (OSError, AttributeError):
        return None
    return found


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.pthread_create.argtypes = [c_void_p] * 4
    libc.pthread_join.argtypes = [c_void_p] * 2
    libc.free.argtypes, libc.free.restype = [c_void_p], None
    return libc


def _is_compatible(found: ctypes.CDLL) -> bool:
    """Declare the functions called from Python's threads, and try whether the structures fit."""
    found.jpeg_std_error.argtypes = [c_void_p]
    found.jpeg_mem_src.argtypes = [c_void_p, ctypes.c_char_p, c_ulong]
    found.jpeg_mem_dest.argtypes = [c_void_p] * 3
    found.jpeg_write_coefficients.argtypes = [c_void_p] * 2
    for name in ("jpeg_set_defaults", "jpeg_simple_progression", "jpeg_destroy"):
        getattr(found, name).argtypes = [c_void_p]
    found.jpeg_alloc_quant_table.argtypes = [c_void_p]
    found.jpeg_alloc_quant_table.restype = ctypes.POINTER(_Table)
    refusals: list[int] = []

    def refuse(address: int) -> None:
        """Note it and return: before an object is made, libjpeg can go on."""
        refusals.append(address)

    on_error = ctypes.CFUNCTYPE(None, c_void_p)(refuse)
    for kind, create in (
        (_Decompressor, found.jpeg_CreateDecompress),
        (_Compressor, found.jpeg_CreateCompress),
    ):
        create.argtypes = [c_void_p, c_int, ctypes.c_size_t]
        room = ctypes.create_string_buffer(4096)  # it is cleared at the size that libjpeg knows
        info, errors = kind.from_buffer(room), _Errors()
        found.jpeg_std_error(byref(errors))
        errors.error_exit = ctypes.cast(on_error, c_void_p)
        info.err = ctypes.pointer(errors)
        create(byref(info), _VERSION, ctypes.sizeof(kind))
        found.jpeg_destroy(byref(info))
    return not refusals


def transform(jpeg: bytes, header: JpegHeader, on_row: OnRow) -> bytes:
    """Write a JPEG anew from its own coefficients, as ``on_row`` leaves them.

    Its kind, sampling, tables, components and restart interval stay; markers other than those
    needed to decode are left out.

    Args:
        jpeg: the file.
        header: what its markers say.
        on_row: called for every row of blocks of every component.

    Raises:
        DamagedError: the file's data are damaged.
        UnsupportedError: it cannot be written; or there is no library.
        MemoryError: it takes too much.
        Exception: whatever ``on_row`` raises.
    """
    with _read(jpeg, header) as (info, arrays):
        _visit(info, arrays, on_row)
        return _write(info, arrays, header)


def visit(jpeg: bytes, header: JpegHeader, on_row: OnRow) -> None:
    """Show ``on_row`` all coefficients of a JPEG; raises as :func:`transform` does."""
    with _read(jpeg, header) as (info, arrays):
        _visit(info, arrays, on_row)


def is_complete(jpeg: bytes, header: JpegHeader) -> bool:
    """Whether a file holds every coefficient of every component down to its last bit.

    Raises as :func:`transform` does, above all DamagedError for coded samples that end too soon.
    False for arithmetic coding, of which libjpeg passes over such an end.
    """
    if header.arithmetic:
        return False
    with _read(jpeg, header) as (info, _):
        if not header.progressive:
            return all(info.comp_info[i].quant_table for i in range(info.num_components))
        # The lowest bit that is known of each, or -1.
        lowest = (c_int * (64 * info.num_components)).from_address(info.coef_bits)
        return not any(lowest)


@contextmanager
def _object(kind: type[Any], create: str) -> Iterator[tuple[ctypes.CDLL, Any]]:
    """A libjpeg object; errors outside of :func:`_run` can only be ours, and end the process."""
    found = library()
    if found is None:
        raise UnsupportedError("imagecodecs has no libjpeg on this platform")
    info, errors = kind(), _Errors()
    found.jpeg_std_error(byref(errors))
    _on_error(errors, "abort", "labs")
    info.err = ctypes.pointer(errors)
    getattr(found, create)(byref(info), _VERSION, ctypes.sizeof(kind))
    try:
        yield found, info
    finally:
        found.jpeg_destroy(byref(info))


def _on_error(errors: _Errors, end: str, say: str) -> None:
    """Name functions of libc for errors, and for messages; ``labs`` does nothing."""
    libc = _libc()
    errors.error_exit = ctypes.cast(getattr(libc, end), c_void_p)
    errors.output_message = ctypes.cast(getattr(libc, say), c_void_p)


def _run(function: Any, info: Any) -> int:
    """Call a libjpeg function of one argument in a thread that an error ends.

    When reading, a warning ends it, too. When writing, what libjpeg says is no more than a caution.

    Returns:
        What the function returned; the object's address after an error.

    Raises:
        MemoryError: there is no room for the thread.
    """
    libc, thread, result = _libc(), c_void_p(), c_void_p()
    failed = None
    say = "pthread_exit" if info.is_decompressor else "labs"
    _on_error(info.err.contents, "pthread_exit", say)
    try:
        start = ctypes.cast(function, c_void_p)
        failed = libc.pthread_create(byref(thread), None, start, byref(info))
    finally:  # it must have ended before its object does, also on Ctrl-C
        if not failed and thread.value:
            libc.pthread_join(thread, byref(result))
    if failed:
        raise MemoryError("no room for a thread")
    _on_error(info.err.contents, "abort", "labs")
    return result.value or 0


def _message(info: Any) -> str:
    """The last error in libjpeg's words.

    Raises:
        MemoryError: if it is about memory.
    """
    text = ctypes.create_string_buffer(_MAX_MESSAGE)
    ctypes.CFUNCTYPE(None, c_void_p, c_void_p)(info.err.contents.format_message)(byref(info), text)
    message = text.value.decode("latin-1")
    if message.startswith("Insufficient memory"):
        raise MemoryError(message)
    return message


@contextmanager
def _read(jpeg: bytes, header: JpegHeader) -> Iterator[tuple[Any, Any]]:
    """Decode coefficients; yields the object and libjpeg's array for each component."""
    with _object(_Decompressor, "jpeg_CreateDecompress") as (found, info):
        found.jpeg_mem_src(byref(info), jpeg, len(jpeg))
        if _run(found.jpeg_consume_input, info) & 0xFFFFFFFF != _REACHED_SOS:
            raise DamagedError(_message(info))
        address = _run(found.jpeg_read_coefficients, info)
        if address in (0, ctypes.addressof(info)):
            raise DamagedError(_message(info))
        if not _agrees(info, header):
            raise DamagedError("its markers can be read in two ways")
        yield info, (c_void_p * info.num_components).from_address(address)


def _agrees(info: Any, header: JpegHeader) -> bool:
    """Whether libjpeg found what our walk over the markers found."""
    size = (info.image_width, info.image_height, info.num_components)
    if size != (header.width, header.height, len(header.components)):
        return False
    for number, part in enumerate(header.components):
        found = info.comp_info[number]
        known = (found.component_id, found.h_samp, found.v_samp, found.quant_tbl_no)
        if known != (part.identifier, part.horizontal, part.vertical, part.table):
            return False
        if (found.height_in_blocks, found.width_in_blocks) != header.blocks(number):
            return False
    return True


def _visit(info: Any, arrays: Any, on_row: OnRow) -> None:
    access = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p, c_void_p, c_uint, c_uint, c_int)(
        info.mem.contents.access_virt_barray
    )
    for component, array in enumerate(arrays):
        part = info.comp_info[component]
        row_type = ctypes.c_short * (64 * part.width_in_blocks)
        for row in range(part.height_in_blocks):
            address = access(byref(info), array, row, 1, 1)[0]
            blocks = np.frombuffer(row_type.from_address(address), np.int16)
            on_row(component, row, blocks.reshape(-1, 64))


def _write(source: Any, arrays: Any, header: JpegHeader) -> bytes:
    output, size = c_void_p(), c_ulong()
    with _object(_Compressor, "jpeg_CreateCompress") as (found, info):
        try:
            found.jpeg_mem_dest(byref(info), byref(output), byref(size))
            _set_up(found, info, source, header)
            found.jpeg_write_coefficients(byref(info), arrays)
            _run(found.jpeg_finish_compress, info)
            if info.global_state != _STATE_START:
                finish = info.dest.contents.term_destination
                ctypes.CFUNCTYPE(None, c_void_p)(finish)(byref(info))  # says where the buffer is
                raise UnsupportedError(_message(info))
            return ctypes.string_at(output, size.value)
        finally:
            _libc().free(output)


def _set_up(found: ctypes.CDLL, info: Any, source: Any, header: JpegHeader) -> None:
    """Describe a file of the source's kind."""
    info.image_width = info.jpeg_width = source.image_width
    info.image_height = info.jpeg_height = source.image_height
    info.input_components, info.in_color_space = source.num_components, _UNKNOWN_SPACE
    found.jpeg_set_defaults(byref(info))
    for number in range(source.num_components):
        old, new = source.comp_info[number], info.comp_info[number]
        if not old.quant_table:
            raise DamagedError("a component has no data")
        new.component_id, new.h_samp, new.v_samp = old.component_id, old.h_samp, old.v_samp
        new.quant_tbl_no = old.quant_tbl_no
        new.dc_tbl_no = new.ac_tbl_no = int(header.model in ("ycc", "ycck") and number in (1, 2))
        if not info.quant_tbl_ptrs[old.quant_tbl_no]:
            table = found.jpeg_alloc_quant_table(byref(info))
            info.quant_tbl_ptrs[old.quant_tbl_no] = table
        info.quant_tbl_ptrs[old.quant_tbl_no].contents.quantval = old.quant_table.contents.quantval
    info.arith_code = header.arithmetic
    info.optimize_coding = header.optimised and not header.arithmetic
    info.restart_interval = header.restart_blocks
    if header.progressive:
        info.jpeg_color_space = _YCC_SPACE if header.model == "ycc" else _UNKNOWN_SPACE
        found.jpeg_simple_progression(byref(info))
