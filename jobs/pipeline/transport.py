"""Packs photos, and errors for the driver, into Arrow rows between actors.

A row has the original's *encoded* bytes, and the cut patches as binary plus shape, but never the
decoded photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from manifests.schema import LineageRow, lineage_dict, lineage_row, lineage_schema
from stages.arrays import UInt8Array
from stages.models.refiners.prompts import Prompt
from stages.photo import CropPatch, Patch, Photo, WindowPatch
from stages.pixels.boxes import Box


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that is not of a row, for the driver, which then ends the run.

    Attributes:
        code: of the error, see manifests/ERRORS.md.
        message: without the remedy.
    """

    code: str
    message: str


_IMAGE = pa.struct([("data", pa.large_binary()), ("shape", pa.list_(pa.int32()))])
_BOX = pa.list_(pa.int32(), 4)
_IMAGES = ("pixels", "mask", "blend", "detail", "hole")
_PATCH = pa.struct(
    [
        ("crop", _BOX),
        ("window", _BOX),  # null from ``focus`` on
        ("seed", pa.int64()),
        ("to_refine", pa.bool_()),  # null until ``focus``
        *((name, _IMAGE) for name in _IMAGES),
    ]
)
#: Prefix of the manifest's own columns, so that their names cannot collide with ours.
EXTRA_PREFIX = "manifest: "

_OURS = [
    pa.field("_shard", pa.int64()),
    pa.field("_original", pa.large_binary()),
    pa.field("_alpha_is_mask", pa.bool_()),
    pa.field("_prompt", pa.large_binary()),
    pa.field("_patches", pa.list_(_PATCH)),
    pa.field("_problem", pa.list_(pa.string())),
]


def to_table(sent: Iterable[Photo | Problem], extra: pa.Schema) -> pa.Table:
    """Pack photos for another actor; ``extra`` is the schema of the manifest's own columns."""
    extra_fields = [field.with_name(EXTRA_PREFIX + field.name) for field in extra]
    schema = pa.schema([*lineage_schema(), *extra_fields, *_OURS])
    return pa.Table.from_pylist([_pack(each) for each in sent], schema=schema)


def _pack(sent: Photo | Problem) -> dict[str, Any]:
    if isinstance(sent, Problem):
        return {"_problem": astuple(sent)}
    row = lineage_dict(sent.lineage)
    row |= {EXTRA_PREFIX + name: value for name, value in sent.extra.items()}
    row["_shard"] = sent.shard
    row["_original"] = sent.original
    row["_alpha_is_mask"] = sent.alpha_is_mask
    row["_prompt"] = sent.prompt.to_bytes() if sent.prompt else None
    row["_patches"] = [_pack_patch(patch) for patch in sent.patches]
    return row


def from_table(table: pa.Table) -> Iterator[Photo | Problem]:
    """Unpack the result of :func:`to_table`."""
    for batch in table.to_batches(max_chunksize=1):  # one photo's bytes at a time, not all
        yield _unpack(batch.to_pylist(maps_as_pydicts="strict")[0])


def _unpack(row: dict[str, Any]) -> Photo | Problem:
    if problem := row.pop("_problem"):
        return Problem(*problem)
    shard, original = row.pop("_shard"), row.pop("_original")
    alpha_is_mask, prompt = row.pop("_alpha_is_mask"), row.pop("_prompt")
    patches = [_unpack_patch(packed) for packed in row.pop("_patches")]
    lineage = lineage_row({f.name: row.pop(f.name) for f in fields(LineageRow)})
    return Photo(
        lineage,
        shard=shard,
        extra={name.removeprefix(EXTRA_PREFIX): value for name, value in row.items()},
        prompt=Prompt.from_bytes(prompt) if prompt else None,
        original=original,
        patches=patches,
        alpha_is_mask=alpha_is_mask,
    )


def _pack_patch(patch: Patch) -> dict[str, Any]:
    packed: dict[str, Any] = {"crop": astuple(patch.crop), "seed": patch.seed}
    if isinstance(patch, WindowPatch):
        packed["window"] = astuple(patch.window)
    if isinstance(patch, CropPatch):
        packed["to_refine"] = patch.to_refine
    arrays = {name: getattr(patch, name, None) for name in _IMAGES}
    return packed | {name: None if a is None else _pack_array(a) for name, a in arrays.items()}


def _unpack_patch(packed: dict[str, Any]) -> Patch:
    images = {name: _unpack_array(packed[name]) for name in _IMAGES if packed[name]}
    crop, window, seed = Box(*packed["crop"]), packed["window"], packed["seed"]
    if window is None:
        return CropPatch(crop=crop, seed=seed, to_refine=packed["to_refine"], **images)
    return WindowPatch(crop=crop, seed=seed, window=Box(*window), **images)


def _pack_array(array: UInt8Array) -> dict[str, Any]:
    return {"data": array.tobytes(), "shape": list(array.shape)}


def _unpack_array(packed: dict[str, Any]) -> UInt8Array:
    return np.frombuffer(packed["data"], np.uint8).reshape(packed["shape"])
