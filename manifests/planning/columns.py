"""Determines the type and the name of each of a manifest's other columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pyarrow as pa

from manifests.errors import ManifestError
from manifests.reading.formats import MAX_NAMED_LINES
from manifests.schema import MANIFEST_COLUMNS, SHAPE_COLUMNS, LineageRow
from manifests.storage.place import Place

#: Hive partitions of the lineage, which its readers see as columns.
_PARTITIONS = ("recipe", "shard")


def own_columns(schema: pa.Schema) -> pa.Schema:
    """The schema without the columns that this program uses."""
    return pa.schema([f for f in schema if f.name not in (*MANIFEST_COLUMNS, *SHAPE_COLUMNS)])


def merge_parts(place: Place, schema: pa.Schema, more: pa.Schema) -> pa.Schema:
    """Merge the schemas of two parts of a file.

    Raises:
        ManifestError: ``manifest.unreadable``: a column changes its type.
    """
    try:
        return pa.unify_schemas([schema, more], promote_options="permissive")
    except pa.ArrowException as error:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri}: a column changes its type: {error}."
        ) from None


def merge_files(schemas: Iterable[tuple[Place, pa.Schema]]) -> pa.Schema:
    """Merge the schemas of all files; each column gets a type that fits all of them.

    Numbers are widened. A column that is text in one file, as always in CSV, is text in all.

    Raises:
        ManifestError: ``manifest.unreadable``: a column's types are incompatible.
    """
    types: dict[str, list[tuple[pa.DataType, Place]]] = {}
    for place, schema in schemas:
        for field in schema:
            kinds = types.setdefault(field.name, [])
            if all(kind != field.type for kind, _ in kinds):
                kinds.append((field.type, place))
    return pa.schema([(name, _common(name, kinds)) for name, kinds in types.items()])


def _common(name: str, kinds: list[tuple[pa.DataType, Place]]) -> pa.DataType:
    try:
        common = pa.string()
        if not any(pa.types.is_string(kind) for kind, _ in kinds):
            schemas = [pa.schema([(name, kind)]) for kind, _ in kinds]
            common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        for kind, _ in kinds:
            pa.nulls(0, kind).cast(common)
    except pa.ArrowException:
        listed = ", ".join(f"{kind} in {place.name}" for kind, place in kinds[:MAX_NAMED_LINES])
        raise ManifestError(
            "manifest.unreadable",
            f"Column {name} has incompatible types: {listed}. Write it with one type, "
            "or as text, in all files.",
        ) from None
    return common


def names_in_lineage(names: Iterable[str]) -> dict[str, str]:
    """Map the manifest's other columns to their names in shards and lineage.

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
