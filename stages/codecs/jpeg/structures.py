"""The structures of libjpeg 8 (``jpeglib.h``), for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_long, c_uint, c_void_p
from typing import Any


class ErrorManager(ctypes.Structure):
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


class MemoryManager(ctypes.Structure):
    """The beginning of ``jpeg_memory_mgr``."""

    _fields_ = [("others", c_void_p * 8), ("access_virt_barray", c_void_p)]


class Destination(ctypes.Structure):
    """``jpeg_destination_mgr``."""

    _fields_ = [
        ("next_output_byte", c_void_p),
        ("free_in_buffer", ctypes.c_size_t),
        ("init_destination", c_void_p),
        ("empty_output_buffer", c_void_p),
        ("term_destination", c_void_p),
    ]


class QuantTable(ctypes.Structure):
    """``JQUANT_TBL``."""

    _fields_ = [("quantval", ctypes.c_uint16 * 64), ("sent_table", c_int)]


class ComponentInfo(ctypes.Structure):
    """``jpeg_component_info``."""

    _fields_ = [
        *((name, c_int) for name in ("component_id", "component_index", "h_samp", "v_samp")),
        *((name, c_int) for name in ("quant_tbl_no", "dc_tbl_no", "ac_tbl_no")),
        *((name, c_uint) for name in ("width_in_blocks", "height_in_blocks")),
        ("scaled_sizes", c_int * 2),
        ("downsampled", c_uint * 2),
        ("component_needed", c_int),
        ("mcu", c_int * 6),
        ("quant_table", ctypes.POINTER(QuantTable)),
        ("dct_table", c_void_p),
    ]


_COMMON: list[tuple[str, Any]] = [
    ("err", ctypes.POINTER(ErrorManager)),
    ("mem", ctypes.POINTER(MemoryManager)),
    ("progress", c_void_p),
    ("client_data", c_void_p),
    ("is_decompressor", c_int),
    ("global_state", c_int),
]


class Decompressor(ctypes.Structure):
    """``jpeg_decompress_struct``; unused fields are combined."""

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
        ("quant_tbl_ptrs", ctypes.POINTER(QuantTable) * 4),
        ("huffman_tables", c_void_p * 8),
        ("data_precision", c_int),
        ("comp_info", ctypes.POINTER(ComponentInfo)),
        *((name, c_int) for name in ("is_baseline", "progressive_mode", "arith_code")),
        ("arithmetic_conditions", ctypes.c_uint8 * 48),
        ("restart_interval", c_uint),
        ("saw_jfif_marker", c_int),
        ("jfif", ctypes.c_uint8 * 8),
        ("saw_adobe_marker", c_int),
        ("adobe_transform", ctypes.c_uint8),
        ("ccir601_sampling", c_int),
        ("rest", c_void_p * 32),
    ]


class Compressor(ctypes.Structure):
    """``jpeg_compress_struct``; unused fields are combined."""

    _fields_ = [
        *_COMMON,
        ("dest", ctypes.POINTER(Destination)),
        *((name, c_uint) for name in ("image_width", "image_height")),
        *((name, c_int) for name in ("input_components", "in_color_space")),
        ("input_gamma", ctypes.c_double),
        ("scale", c_uint * 2),
        *((name, c_uint) for name in ("jpeg_width", "jpeg_height")),
        *((name, c_int) for name in ("data_precision", "num_components", "jpeg_color_space")),
        ("comp_info", c_void_p),
        ("quant_tbl_ptrs", c_void_p * 4),
        ("q_scale_factor", c_int * 4),
        ("huffman_tables", c_void_p * 8),
        ("arithmetic_conditions", ctypes.c_uint8 * 48),
        ("num_scans", c_int),
        ("scan_info", c_void_p),
        *((name, c_int) for name in ("raw_data_in", "arith_code", "optimize_coding")),
        ("sampling_settings", c_int * 4),
        *((name, c_int) for name in ("restart_interval", "restart_in_rows")),
        ("markers", c_int * 4),
        ("rest", c_void_p * 30),
    ]
