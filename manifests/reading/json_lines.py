"""Parse JSON Lines with Arrow, after a look at what Arrow would not survive."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from manifests.schema import MARK_COLUMNS

#: Arrow calls itself for each level, and a thread's stack ends at some ten thousand.
_MOST_LEVELS = 64

#: In the first of so many bytes most names of a part occur, which is all that they are used for.
_SAMPLE = 1 << 16

_NAME = re.compile(rb'"((?:[^"\\]|\\.)*+)"\s*+:')
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_MARKS_AS_LISTS = re.compile(rb'"(?:' + "|".join(MARK_COLUMNS).encode() + rb')"\s*:\s*[\[{]')


def read_objects(data: bytes, most_names: int) -> pa.Table:
    """Parse lines of one object each; what marks photos may be text or, as JSON in text, lists.

    Raises:
        ValueError: a line is no object, holds more than :data:`_MOST_LEVELS` lists in each other,
            or there are more than ``most_names`` names in all.
        pa.ArrowException: not JSON, or a name has values of several types.
        RecursionError: lists of shapes without end.
    """
    if not _MARKS_AS_LISTS.search(data):
        return _parse(data, most_names)
    others, marks = _apart(data)
    table = _parse(others, most_names)
    return pa.table(dict(zip(table.column_names, table.columns, strict=True)) | marks)


def _parse(data: bytes, most_names: int) -> pa.Table:
    _refuse_many_names(data, most_names)
    _refuse_deep(data)
    # Arrow reads in blocks, in which each line must have room.
    longest = max(map(len, io.BytesIO(data)), default=0)
    options = pajson.ReadOptions(block_size=max(1 << 20, 2 * longest))
    table = pajson.read_json(pa.BufferReader(data), options)
    try:
        table.validate()
    except pa.ArrowInvalid:  # Arrow 26 miscounts lists that hold nothing but nulls
        lines = filter(bytes.strip, data.splitlines())
        return pa.Table.from_struct_array(pa.array([json.loads(line) for line in lines]))
    wanted = pa.schema([(field.name, _without_dates(field.type)) for field in table.schema])
    if wanted.equals(table.schema):
        return table
    return pajson.read_json(
        pa.BufferReader(data), options, pajson.ParseOptions(explicit_schema=wanted)
    )


def _without_dates(kind: pa.DataType) -> pa.DataType:
    """JSON has no dates: what looks like one stays the text it is."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_dates(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_without_dates(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _refuse_many_names(data: bytes, most: int) -> None:
    """Arrow makes a column of each name, with room for each row: a name a row takes terabytes.

    In most files all lines have the same names. If those that begin the part make up nearly all of
    its colons, no other is looked for.
    """
    names = {found[1] for found in _NAME.finditer(data, 0, _SAMPLE)}
    spaced = any(b'"' + space in data for space in (b" ", b"\t"))
    if not spaced and len(names) < most // 2:
        quoted = [b'"' + name + b'":' for name in names]
        # Behind a backslash it is the end of another name.
        known = sum(data.count(each) - data.count(b"\\" + each) for each in quoted)
        if data.count(b'":') - known < most // 2:
            return
    names = set()
    for found in _NAME.finditer(data):
        names.add(found[1])
        if len(names) > most:
            raise ValueError(f"there are more than {most} names of columns and fields")


def _refuse_deep(data: bytes) -> None:
    if data.count(b"[") + data.count(b"{") <= data.count(b"\n") + _MOST_LEVELS:
        return
    for line in io.BytesIO(data):
        if line.count(b"[") + line.count(b"{") <= _MOST_LEVELS:
            continue
        if _levels(_TEXT.sub(b"", line)) > _MOST_LEVELS:
            raise ValueError(f"there are more than {_MOST_LEVELS} lists or objects in each other")


def _levels(line: bytes) -> int:
    """How many lists and objects are open at most, in JSON without texts."""
    steps = np.zeros(256, np.int8)
    steps[list(b"[{")], steps[list(b"]}")] = 1, -1
    return int(np.cumsum(steps[np.frombuffer(line, np.uint8)], dtype=np.int32).max(initial=0))


def _apart(data: bytes) -> tuple[bytes, dict[str, pa.Array]]:
    """Take what marks the photos out of JSON Lines, as text, lists as JSON.

    Its type may differ from row to row, which Arrow does not take.
    """
    marks: dict[str, list[str | None]] = {name: [] for name in MARK_COLUMNS}
    others = []
    for line in filter(bytes.strip, data.splitlines()):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("a line is no object")  # which one, the caller tells
        for name, cells in marks.items():
            cell = row.pop(name, None)
            cells.append(cell if cell is None or isinstance(cell, str) else json.dumps(cell))
        others.append(json.dumps(row).encode())
    return b"\n".join(others), {
        name: pa.array(cells, pa.large_string()) for name, cells in marks.items() if any(cells)
    }


def bad_lines(data: bytes, first: int) -> list[str]:
    """Which lines are not JSON objects; ``first`` is the number of the first line."""
    bad = []
    for number, line in enumerate(data.splitlines(), first):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                bad.append(f"line {number} is not an object")
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {error}")
    return bad
