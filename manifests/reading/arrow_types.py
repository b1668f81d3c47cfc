"""Converts Arrow's many types to a few plain ones, when a manifest is read.

Shards, lineage, failures and reports contain only these types for the manifest's columns: null,
bool, integers, float32, float64, decimal128, decimal256, string, binary, date32, time64[us],
duration[us] and timestamp[us] (without a zone, or in UTC). Lists and objects are JSON text. Each
type can be written to Parquet, combined with another file's, and turned into Python objects and
back without loss.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

_is = pa.types

_TEXT, _BYTES = pa.string(), pa.binary()

#: A lone surrogate, which JSON and misread text can contain, but UTF-8 cannot.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_UNITS = ("s", "ms", "us", "ns")

#: The plain type of each type; :func:`_leaf_type` handles the parametric ones.
_PLAIN: dict[pa.DataType, pa.DataType] = {
    **{kind: kind for kind in (pa.null(), pa.bool_(), pa.float32(), pa.float64(), pa.date32())},
    **{kind: kind for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: kind for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **dict.fromkeys((_TEXT, pa.large_string(), pa.string_view()), _TEXT),
    **dict.fromkeys((_BYTES, pa.large_binary(), pa.binary_view()), _BYTES),
    **dict.fromkeys((pa.time32("s"), pa.time32("ms"), pa.time64("ns")), pa.time64("us")),
    **{pa.duration(unit): pa.duration("us") for unit in _UNITS},
    pa.time64("us"): pa.time64("us"),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
}


def plain_table(table: pa.Table) -> pa.Table:
    """Convert a table to plain types, without metadata.

    Raises:
        ValueError: a column has a type or a value that no plain type can represent.
    """
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append(plain_column(column))
        except (
            pa.ArrowException,
            ValueError,
            LookupError,
            ArithmeticError,
            RecursionError,
        ) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            kind = str(column.type)[:200]
            raise ValueError(
                f"column {name} of type {kind} cannot be read ({reason}); write it as text"
            ) from None
    return pa.table(columns, names=table.column_names)


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column to a plain type.

    Categories become their values, lists and objects JSON, extension types their storage (UUIDs
    text), and times with zones UTC.

    Raises:
        ValueError: there is no plain type for it, or a date is outside the years 1 to 9999.
        pa.ArrowInvalid: a value does not fit, such as a time finer than microseconds.
    """
    if column.type in (_TEXT, pa.int64(), pa.float64()):
        return column
    chunks = [_plain(chunk) for chunk in column.chunks or [pa.nulls(0, column.type)]]
    return pa.chunked_array(chunks)


def cell_as_json(cell: Any) -> str:
    """Convert a cell to JSON; pycocotools stores RLE counts as bytes, databases store decimals."""
    return json.dumps(cell, default=_for_json)


def refuse_constant(name: str) -> NoReturn:
    """Refuse what JSON does not have: NaN and infinity."""
    raise ValueError(f"{name} is not a number")


def _for_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if hasattr(value, "tolist"):  # arrays and their numbers
        return value.tolist()
    return float(value) if isinstance(value, Decimal) else str(value)


def _plain(array: pa.Array) -> pa.Array:
    kind = array.type
    if isinstance(kind, pa.UuidType):
        return pa.array([each and str(each) for each in array.to_pylist()], _TEXT)
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(array.storage)
    if _is.is_dictionary(kind):  # not all types support take before conversion
        return _plain(array.dictionary).take(array.indices)
    if _is.is_nested(kind):
        cells = array.to_pylist()
        return pa.array([None if cell is None else cell_as_json(cell) for cell in cells], _TEXT)
    return _plain_leaf(array)


def _plain_leaf(array: pa.Array) -> pa.Array:
    wanted = _leaf_type(array.type)
    array = array if array.type == wanted else array.cast(wanted)
    if _is.is_temporal(wanted):
        extremes = pc.min_max(array)
        if pa.scalar(extremes.as_py(), extremes.type) != extremes:  # Python's have smaller ranges
            raise ValueError("it contains times over 24 h")
    return array


def _leaf_type(kind: pa.DataType) -> pa.DataType:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if _is.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if _is.is_fixed_size_binary(kind):
        return _BYTES
    if _is.is_decimal(kind):
        return kind if _is.is_decimal256(kind) else pa.decimal128(kind.precision, kind.scale)
    raise ValueError("no such type is supported")
