"""Determines the type and the name of each of a manifest's extra columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import chain

import pyarrow as pa

from manifests.schema import MANIFEST_COLUMNS, SHAPE_COLUMNS, LineageRow

#: Hive partitions of the lineage, which its readers see as columns.
_PARTITIONS = ("recipe", "shard")


def merge_types(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Merge the extra columns of all parts of a manifest; each gets a type that fits all parts.

    Numbers are widened. A column that is text in one part, as always in CSV, is text in all, and so
    is one whose types have no other in common.
    """
    types: dict[str, dict[pa.DataType, None]] = {}
    for field in chain.from_iterable(schemas):
        if field.name not in (*MANIFEST_COLUMNS, *SHAPE_COLUMNS):
            types.setdefault(field.name, {})[field.type] = None
    return pa.schema([(name, _common(list(kinds))) for name, kinds in types.items()])


def _common(kinds: list[pa.DataType]) -> pa.DataType:
    if pa.string() in kinds:
        return pa.string()
    schemas = [pa.schema([("", kind)]) for kind in kinds]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def names_in_lineage(names: Iterable[str]) -> dict[str, str]:
    """Map the manifest's extra columns to their names in shards and lineage.

    A name becomes ``manifest_<name>`` if the lineage has a column or partition of that name,
    ignoring case as databases do.
    """
    taken = {f.name for f in fields(LineageRow)}.union(_PARTITIONS)
    chosen = {name: name for name in names}
    used = {name.lower() for name in chosen if name.lower() not in taken}
    for name in chosen:
        if name.lower() in taken:
            new = f"manifest_{name}"
            while new.lower() in used:
                new = f"manifest_{new}"
            used.add(new.lower())
            chosen[name] = new
    return chosen
