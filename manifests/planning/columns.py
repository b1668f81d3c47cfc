"""The manifest's own columns: one type and one name for each, whatever its files say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pyarrow as pa

from manifests.errors import ManifestError
from manifests.reading.formats import MAX_NAMED_LINES
from manifests.schema import MANIFEST_COLUMNS, SHAPE_COLUMNS, LineageRow
from manifests.storage.place import Place

#: What readers of the lineage make columns of: the folders that its files lie in.
_PARTITIONS = ("recipe", "shard")


def own_columns(schema: pa.Schema) -> pa.Schema:
    """All but the columns that we use."""
    return pa.schema([f for f in schema if f.name not in (*MANIFEST_COLUMNS, *SHAPE_COLUMNS)])


def merge_parts(place: Place, schema: pa.Schema, more: pa.Schema) -> pa.Schema:
    """The columns of two parts of a file.

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
    """The columns of all files, each of a type that holds those of all.

    Numbers become wide enough for all; what is text in one file, as it always is in CSV, is text in
    all.

    Raises:
        ManifestError: ``manifest.unreadable``: a column's types do not go together.
    """
    found: dict[str, list[tuple[pa.DataType, Place]]] = {}
    for place, schema in schemas:
        for field in schema:
            kinds = found.setdefault(field.name, [])
            if all(kind != field.type for kind, _ in kinds):
                kinds.append((field.type, place))
    return pa.schema([(name, _common(name, kinds)) for name, kinds in found.items()])


def _common(name: str, kinds: list[tuple[pa.DataType, Place]]) -> pa.DataType:
    try:
        common = pa.string()
        if not any(pa.types.is_string(kind) for kind, _ in kinds):
            each = [pa.schema([(name, kind)]) for kind, _ in kinds]
            common = pa.unify_schemas(each, promote_options="permissive").field(0).type
        for kind, _ in kinds:
            pa.nulls(0, kind).cast(common)
    except pa.ArrowException:
        found = ", ".join(f"{kind} in {place.name}" for kind, place in kinds[:MAX_NAMED_LINES])
        raise ManifestError(
            "manifest.unreadable",
            f"Column {name} has types that do not fit together: {found}. Write it with one type, "
            "or as text, in all files.",
        ) from None
    return common


def names_in_lineage(names: Iterable[str]) -> dict[str, str]:
    """The manifest's own columns -> their names in shards and lineage.

    ``manifest_<name>`` where the lineage has a column, or a folder that is read as one, of that
    name; databases take upper and lower case for the same.
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
