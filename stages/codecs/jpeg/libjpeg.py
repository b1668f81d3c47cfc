"""Read and change the DCT coefficients of JPEGs with libjpeg-turbo, through ctypes.

The library is part of imagecodecs' wheels for Linux and macOS.

libjpeg reports an error by calling ``error_exit``, which must not return: C programs leave it by
``longjmp``, which ctypes cannot do. Functions that read or write a file therefore run in a POSIX
thread that has the libjpeg function itself as its start routine, and ``pthread_exit`` as its
``error_exit``: an error ends that thread, which has no Python frame on its stack, and the
object is destroyed as usual. The first warning counts as an error, since libjpeg would continue
with invented data.

Thread-safe: each call has its own objects.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_uint, c_ulong, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg.markers import check_kind
from stages.codecs.jpeg.structures import Compressor, Decompressor, ErrorManager

Coefficients = npt.NDArray[np.int16]
JpegColourSpace = Literal["grey", "ycc", "rgb", "cmyk", "ycck"]

# From jpeglib.h: the interface of libjpeg 8, and what its functions return or expect.
_VERSION = 80
_REACHED_SOS, _STATE_START = 1, 100
_COLOUR_SPACES: dict[int, JpegColourSpace] = {1: "grey", 2: "rgb", 3: "ycc", 4: "cmyk", 5: "ycck"}
_MAX_MESSAGE = 200


@cache
def library() -> ctypes.CDLL | None:
    """Load libjpeg-turbo; None where imagecodecs has none that can be called (on Windows)."""
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
    """Declare the functions called directly, and check that the structures have the right size."""
    found.jpeg_std_error.argtypes = [c_void_p]
    found.jpeg_mem_src.argtypes = [c_void_p, ctypes.c_char_p, c_ulong]
    found.jpeg_mem_dest.argtypes = [c_void_p] * 3
    for name in ("jpeg_copy_critical_parameters", "jpeg_write_coefficients"):
        getattr(found, name).argtypes = [c_void_p] * 2
    for name in ("jpeg_simple_progression", "jpeg_destroy"):
        getattr(found, name).argtypes = [c_void_p]
    refusals: list[int] = []

    def refuse(address: int) -> None:
        """Record the error and return: before an object is created, libjpeg can continue."""
        refusals.append(address)

    on_error = ctypes.CFUNCTYPE(None, c_void_p)(refuse)
    for kind, create in (
        (Decompressor, found.jpeg_CreateDecompress),
        (Compressor, found.jpeg_CreateCompress),
    ):
        create.argtypes = [c_void_p, c_int, ctypes.c_size_t]
        room = ctypes.create_string_buffer(4096)  # it is cleared at the size that libjpeg knows
        info, errors = kind.from_buffer(room), ErrorManager()
        found.jpeg_std_error(byref(errors))
        errors.error_exit = ctypes.cast(on_error, c_void_p)
        info.err = ctypes.pointer(errors)
        create(byref(info), _VERSION, ctypes.sizeof(kind))
        found.jpeg_destroy(byref(info))
    return not refusals


@dataclass(frozen=True, slots=True)
class Component:
    """One plane.

    Attributes:
        identifier: as in the file.
        h_sampling: horizontal sampling factor, 1 to 4.
        v_sampling: vertical sampling factor, 1 to 4.
        table: its quantisation table, 64 steps in raster order.
    """

    identifier: int
    h_sampling: int
    v_sampling: int
    table: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class JpegHeader:
    """The header of a JPEG, as libjpeg reads it.

    Attributes:
        width: px, in the stored frame.
        height: px, in the stored frame.
        components: the planes.
        colour_space: of the planes.
        adobe: whether there is an Adobe segment; CMYK is inverted then.
        progressive: whether it is progressive; if not, sequential.
        restart_interval: MCUs between restart markers; 0: none.
    """

    width: int
    height: int
    components: list[Component]
    colour_space: JpegColourSpace
    adobe: bool
    progressive: bool
    restart_interval: int

    @property
    def max_h_sampling(self) -> int:
        """The largest horizontal sampling factor."""
        return max(c.h_sampling for c in self.components)

    @property
    def max_v_sampling(self) -> int:
        """The largest vertical sampling factor."""
        return max(c.v_sampling for c in self.components)

    def subsampling_of(self, component: int) -> tuple[int, int]:
        """Pixels of the photo per sample of a component: (horizontally, vertically)."""
        part = self.components[component]
        return self.max_h_sampling // part.h_sampling, self.max_v_sampling // part.v_sampling


class JpegCoefficients:
    """The decoded coefficients of a JPEG.

    Attributes:
        header: its header, as which :meth:`write` writes them.
        planes: for each component its rows of blocks: ``(blocks, 64)`` int16, in raster order
            within each block. It is libjpeg's memory: changes are written, and it is invalid after
            the ``with`` statement.
    """

    def __init__(self, info: Any, arrays: Any) -> None:
        self.header = _header(info)
        self.planes = [_rows(info, *each) for each in enumerate(arrays)]
        self._info, self._arrays = info, arrays

    def write(self) -> bytes:
        """Encode the coefficients as they are now.

        Mode, sampling, tables, components and restart interval are those of the header; markers
        that are not needed to decode are left out.

        Raises:
            UnsupportedError: they cannot be written.
            MemoryError: there is not enough memory.
        """
        return _write(self._info, self._arrays, self.header)

    def is_complete(self) -> bool:
        """Whether the file holds every coefficient of every component down to its last bit."""
        if not self.header.progressive:  # libjpeg reports an end that comes too soon
            return True
        # The lowest bit that is known of each, or -1.
        count = 64 * self._info.num_components
        return not any((c_int * count).from_address(self._info.coef_bits))


@contextmanager
def open_coefficients(jpeg: bytes) -> Iterator[JpegCoefficients]:
    """Decode the coefficients of a JPEG.

    Raises:
        DamagedError: the file's data are damaged.
        UnsupportedError: it is of another kind, or there is no library.
        MemoryError: there is not enough memory.
    """
    check_kind(jpeg)
    with _object(Decompressor, "jpeg_CreateDecompress") as (found, info):
        found.jpeg_mem_src(byref(info), jpeg, len(jpeg))
        if _run(found.jpeg_consume_input, info) & 0xFFFFFFFF != _REACHED_SOS:
            raise DamagedError(_message(info))
        address = _run(found.jpeg_read_coefficients, info)
        if address in (0, ctypes.addressof(info)):
            raise DamagedError(_message(info))
        yield JpegCoefficients(info, (c_void_p * info.num_components).from_address(address))


def _header(info: Any) -> JpegHeader:
    if info.jpeg_color_space not in _COLOUR_SPACES:
        raise UnsupportedError(f"{info.num_components} components")
    header = JpegHeader(
        width=info.image_width,
        height=info.image_height,
        components=[_component(info, each) for each in info.comp_info[: info.num_components]],
        colour_space=_COLOUR_SPACES[info.jpeg_color_space],
        adobe=bool(info.saw_adobe_marker),
        progressive=bool(info.progressive_mode),
        restart_interval=info.restart_interval,
    )
    for part in header.components:
        if header.max_h_sampling % part.h_sampling or header.max_v_sampling % part.v_sampling:
            raise UnsupportedError("fractional sampling factors")
    return header


def _component(info: Any, part: Any) -> Component:
    if not part.quant_table:
        raise DamagedError("a component has no data")
    table = tuple(part.quant_table.contents.quantval)
    if not all(table):
        raise DamagedError("a quantisation table holds a zero")
    if table != tuple(info.quant_tbl_ptrs[part.quant_tbl_no].contents.quantval):
        raise UnsupportedError("its quantisation tables change between scans")
    return Component(part.component_id, part.h_samp, part.v_samp, table)


def _rows(info: Any, number: int, array: Any) -> list[Coefficients]:
    """The rows of blocks of a component, all of which libjpeg keeps in memory."""
    access = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p, c_void_p, c_uint, c_uint, c_int)(
        info.mem.contents.access_virt_barray
    )
    part = info.comp_info[number]
    row_type = ctypes.c_short * (64 * part.width_in_blocks)
    found = []
    for row in range(part.height_in_blocks):
        blocks = row_type.from_address(access(byref(info), array, row, 1, 1)[0])
        found.append(np.frombuffer(blocks, np.int16).reshape(-1, 64))
    return found


@contextmanager
def _object(kind: type[Any], create: str) -> Iterator[tuple[ctypes.CDLL, Any]]:
    """Create a libjpeg object. Errors outside :func:`_run` are bugs, and abort the process."""
    found = library()
    if found is None:
        raise UnsupportedError("imagecodecs has no libjpeg on this platform")
    info, errors = kind(), ErrorManager()
    found.jpeg_std_error(byref(errors))
    _on_error(errors, "abort", "labs")
    info.err = ctypes.pointer(errors)
    getattr(found, create)(byref(info), _VERSION, ctypes.sizeof(kind))
    try:
        yield found, info
    finally:
        found.jpeg_destroy(byref(info))


def _on_error(errors: ErrorManager, end: str, say: str) -> None:
    """Set the libc functions called for errors and for messages; ``labs`` does nothing."""
    libc = _libc()
    errors.error_exit = ctypes.cast(getattr(libc, end), c_void_p)
    errors.output_message = ctypes.cast(getattr(libc, say), c_void_p)


def _run(function: Any, info: Any) -> int:
    """Call a libjpeg function of one argument in a thread that ends on an error.

    When reading, a warning ends it too. When writing, warnings are ignored.

    Returns:
        The function's result; the object's address after an error.

    Raises:
        MemoryError: the thread cannot be created.
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
    """Return libjpeg's last error message.

    Raises:
        MemoryError: the message reports a lack of memory.
    """
    text = ctypes.create_string_buffer(_MAX_MESSAGE)
    ctypes.CFUNCTYPE(None, c_void_p, c_void_p)(info.err.contents.format_message)(byref(info), text)
    message = text.value.decode("latin-1")
    if message.startswith("Insufficient memory"):
        raise MemoryError(message)
    return message


def _write(source: Any, arrays: Any, header: JpegHeader) -> bytes:
    output, size = c_void_p(), c_ulong()
    with _object(Compressor, "jpeg_CreateCompress") as (found, info):
        try:
            found.jpeg_mem_dest(byref(info), byref(output), byref(size))
            _set_up(found, info, source, header)
            found.jpeg_write_coefficients(byref(info), arrays)
            _run(found.jpeg_finish_compress, info)
            if info.global_state != _STATE_START:
                finish = info.dest.contents.term_destination
                ctypes.CFUNCTYPE(None, c_void_p)(finish)(
                    byref(info)
                )  # sets the buffer, so that it is freed
                raise UnsupportedError(_message(info))
            return ctypes.string_at(output, size.value)
        finally:
            _libc().free(output)


def _set_up(found: ctypes.CDLL, info: Any, source: Any, header: JpegHeader) -> None:
    """Set the parameters of the new file to those of the source."""
    found.jpeg_copy_critical_parameters(byref(source), byref(info))
    info.jpeg_width, info.jpeg_height = source.image_width, source.image_height
    info.optimize_coding = True
    info.restart_interval = header.restart_interval
    if header.progressive:
        found.jpeg_simple_progression(byref(info))
