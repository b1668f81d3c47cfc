"""Converts Arrow's many types to a few plain ones, when a manifest is read.

Shards, lineage, failures and reports contain only these types for the manifest's columns: null,
bool, integers, float32, float64, decimal128, decimal256, string, binary, date32, time64[us],
duration[us], timestamp[us] (without a zone, or in UTC), lists and structs of these. Each can be
written to Parquet, combined with another file's, and turned into Python objects and back without
loss.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_is = pa.types

_TEXT, _BYTES = pa.string(), pa.binary()
#: Max nesting; readers of such types recurse once per level.
_MAX_LEVELS = 64

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

#: Ranges of Python's dates and times in Arrow's units: days and us since 1970, us of a day.
_FIRST_DAY, _LAST_DAY, _DAY_US = -719_162, 2_932_896, 86_400_000_000
_RANGES = {
    pa.date32(): (pa.int32(), _FIRST_DAY, _LAST_DAY),
    pa.time64("us"): (pa.int64(), 0, _DAY_US - 1),
    **{
        pa.timestamp("us", zone): (pa.int64(), _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1)
        for zone in (None, "UTC")
    },
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
        except (pa.ArrowException, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            kind = str(column.type)[:200]
            raise ValueError(
                f"column {name} of type {kind} cannot be read ({reason}); write it as text"
            ) from None
    return pa.table(columns, names=table.column_names)


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column to a plain type.

    Categories become their values, extension types their storage (UUIDs text), maps lists of
    ``key`` and ``value``, and times with zones UTC.

    Raises:
        ValueError: there is no plain type for it, or a date is outside the years 1 to 9999.
        pa.ArrowInvalid: a value does not fit, such as a time finer than microseconds.
    """
    if column.type in (_TEXT, pa.int64(), pa.float64()):
        return column
    chunks = [_plain(chunk) for chunk in column.chunks or [pa.nulls(0, column.type)]]
    return pa.chunked_array(chunks)


def _plain(array: pa.Array, levels: int = 0) -> pa.Array:
    kind = array.type
    if levels > _MAX_LEVELS:
        raise ValueError(f"there are more than {_MAX_LEVELS} lists or objects in each other")
    if isinstance(kind, pa.UuidType):
        return pa.array([each and str(each) for each in array.to_pylist()], _TEXT)
    decoded = _decoded(array)
    if decoded is not None:
        return _plain(decoded, levels)
    if _is.is_struct(kind):
        return _plain_struct(array, levels + 1)
    if _is.is_nested(kind) and hasattr(kind, "value_type"):  # any type of list
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(
            ends, _plain(array.flatten(), levels + 1), mask=array.is_null()
        )
    return _plain_leaf(array)


def _decoded(array: pa.Array) -> pa.Array | None:
    """Decode an array that encodes another one; None if it does not."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return array.storage
    if _is.is_dictionary(kind):
        return _plain(array.dictionary).take(
            array.indices
        )  # not all types support take before conversion
    if _is.is_run_end_encoded(kind):
        return pc.run_end_decode(array)
    if _is.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return array.cast(pa.list_(entry))
    return None


def _plain_struct(array: pa.StructArray, levels: int) -> pa.Array:
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        raise ValueError("two of its fields have one name")
    if not names:
        return pa.nulls(len(array))  # Parquet has no empty structs
    children = [_plain(child, levels) for child in array.flatten()]
    return pa.StructArray.from_arrays(children, names, mask=array.is_null())


def _plain_leaf(array: pa.Array) -> pa.Array:
    wanted = _leaf_type(array.type)
    array = array if array.type == wanted else array.cast(wanted)
    if wanted in _RANGES and array.null_count < len(array):
        counts, first, last = _RANGES[wanted]
        extremes = pc.min_max(array.view(counts)).as_py()
        if extremes["min"] < first or extremes["max"] > last:
            raise ValueError("it contains dates outside the years 1 to 9999, or times over 24 h")
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
