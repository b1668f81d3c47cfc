"""The row that flows through the stages, and how it travels between actors.

Within one actor a photo is a Python object with its decoded pixels at hand. Between actors it is
an Arrow row: the original's *encoded* bytes and the cut patches as binary plus shape, never the
decoded photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from manifests.planning.marks import Marks
from manifests.schema import OK, LineageRow, lineage_schema
from stages.codecs.picture import Decoded
from stages.models.refiners.prompts import Prompt
from stages.pixels.boxes import Box
from stages.pixels.masks import Bits, Bytes


@dataclass(slots=True)
class Patch:
    """One crop of a photo, worked on by itself.

    Attributes:
        crop: what is pasted back, in the displayed photo.
        window: what the removal sees: the crop, or more.
        pixels: ``(h, w, 3)`` uint8 sRGB of the window at its working size, and from ``focus`` on
            of the crop; the fill replaces them.
        mask: ``(h, w)`` uint8, 255 where to paint anew; as large as ``pixels``.
        blend: ``(crop.height, crop.width)`` uint8, how much of the fill is laid on.
        seed: 0 to 2**32 - 1.
        detail: ``(crop.height, crop.width, 3)`` uint8 sRGB, the crop as it was; only for a refiner,
            and only until ``focus``.
        hole: ``(crop.height, crop.width)`` uint8, 255 where to paint anew; goes with ``detail``.
        to_refine: whether the refiner, if the recipe has one, works on it; ``focus`` decides.
    """

    crop: Box
    window: Box
    pixels: Bytes
    mask: Bytes
    blend: Bytes
    seed: int
    detail: Bytes | None = None
    hole: Bytes | None = None
    to_refine: bool = True


@dataclass(slots=True)
class Photo:
    """One manifest row on its way.

    Attributes:
        lineage: what will be recorded of it; stages write into it.
        shard: number of the shard it came from.
        extra: the manifest's other columns, by their names in the lineage.
        prompt: what a refiner is to paint, encoded.
        original: the photo's file; dropped once the row has ended.
        patches: empty until cut, and for an empty mask.
        decoded: the original's pixels. Does not travel: ``stages.steps.decode`` makes it again.
        alpha_is_mask: whether a mask is the alpha channel of the photo itself, so that what is
            transparent, or opaque, is what is painted anew.
        mask_files: the masks' files; do not travel.
        marked: URI of a mask -> ``(h, w)`` bool, what it and the others of its size mark; does not
            travel.
        region: ``(h, w)`` bool, the whole generation mask; does not travel.
        changed: ``(h, w)`` bool, where the stitched pixels may differ; does not travel.
        result: the file to publish; does not travel.
        problem: ``(code, message)`` of an error that is no row's and is on its way to the driver;
            the photo is none then, and the step that records says so.
    """

    lineage: LineageRow
    shard: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    prompt: Prompt | None = None
    original: bytes = b""
    patches: list[Patch] = field(default_factory=list)
    decoded: Decoded | None = None
    alpha_is_mask: bool = False
    mask_files: list[bytes] = field(default_factory=list)
    marked: dict[str, Bits] = field(default_factory=dict)
    region: Bits | None = None
    changed: Bits | None = None
    result: bytes = b""
    problem: tuple[str, str] | None = None

    @property
    def ok(self) -> bool:
        """Whether no stage has failed it."""
        return self.lineage.status == OK

    @property
    def file_bytes(self) -> int:
        """What its files take in memory."""
        return len(self.original) + len(self.result) + sum(map(len, self.mask_files))

    @property
    def patches_to_refine(self) -> list[Patch]:
        """Those that the refiner works on."""
        return [patch for patch in self.patches if patch.to_refine]

    @property
    def marks(self) -> Marks:
        """All that marks it."""
        return Marks.unpack(self.lineage.mask_uri, self.lineage.marks)

    def drop_pixels(self) -> None:
        """Free everything but the record and the files, once nothing is painted any more."""
        self.mask_files, self.marked, self.patches = [], {}, []
        self.decoded, self.region, self.changed = None, None, None

    def drop_all(self) -> None:
        """Free everything but the record, once the row has ended."""
        self.original = self.result = b""
        self.drop_pixels()


_IMAGE = pa.struct([("data", pa.large_binary()), ("shape", pa.list_(pa.int32()))])
_BOX = pa.list_(pa.int32(), 4)
_IMAGES = ("pixels", "mask", "blend", "detail", "hole")
_TRAVELLING_PATCH = pa.struct(
    [
        ("crop", _BOX),
        ("window", _BOX),
        ("seed", pa.int64()),
        ("to_refine", pa.bool_()),
        *((name, _IMAGE) for name in _IMAGES),
    ]
)
#: Before the names of the manifest's own columns, which may be called like any of ours.
_THEIRS = "manifest: "

_OURS = [
    pa.field("_shard", pa.int64()),
    pa.field("_original", pa.large_binary()),
    pa.field("_alpha_is_mask", pa.bool_()),
    pa.field("_prompt", pa.large_binary()),
    pa.field("_patches", pa.list_(_TRAVELLING_PATCH)),
    pa.field("_problem", pa.list_(pa.string())),
]


def to_table(photos: Iterable[Photo], extra: pa.Schema) -> pa.Table:
    """Pack photos for the way to another actor; ``extra`` types the passed-through columns."""
    rows = []
    for photo in photos:
        row = lineage_dict(photo.lineage)
        row |= {_THEIRS + name: value for name, value in photo.extra.items()}
        row["_shard"] = photo.shard
        row["_original"] = photo.original
        row["_alpha_is_mask"] = photo.alpha_is_mask
        row["_prompt"] = photo.prompt.to_bytes() if photo.prompt else None
        row["_patches"] = [_pack_patch(patch) for patch in photo.patches]
        row["_problem"] = photo.problem
        rows.append(row)
    theirs = [field.with_name(_THEIRS + field.name) for field in extra]
    return pa.Table.from_pylist(rows, schema=pa.schema([*lineage_schema(), *theirs, *_OURS]))


def from_table(table: pa.Table) -> Iterator[Photo]:
    """Unpack what :func:`to_table` packed."""
    known = {f.name for f in fields(LineageRow)}
    for batch in table.to_batches(max_chunksize=1):  # one photo's bytes at a time, not all
        row = batch.to_pylist(maps_as_pydicts="strict")[0]
        shard, original = row.pop("_shard"), row.pop("_original")
        alpha_is_mask, prompt = row.pop("_alpha_is_mask"), row.pop("_prompt")
        patches = [_unpack_patch(packed) for packed in row.pop("_patches")]
        problem = row.pop("_problem")
        lineage = LineageRow(**{name: row.pop(name) for name in known})
        yield Photo(
            lineage,
            shard=shard,
            extra={name.removeprefix(_THEIRS): value for name, value in row.items()},
            prompt=Prompt.from_bytes(prompt) if prompt else None,
            original=original,
            patches=patches,
            alpha_is_mask=alpha_is_mask,
            problem=(problem[0], problem[1]) if problem else None,
        )


def lineage_dict(row: LineageRow) -> dict[str, Any]:
    """A lineage row as Arrow takes it; shallow, unlike ``dataclasses.asdict``."""
    return {f.name: getattr(row, f.name) for f in fields(row)}


def _pack_patch(patch: Patch) -> dict[str, Any]:
    boxes = {name: astuple(getattr(patch, name)) for name in ("crop", "window")}
    arrays = {name: getattr(patch, name) for name in _IMAGES}
    images = {name: None if a is None else _pack_array(a) for name, a in arrays.items()}
    return boxes | images | {"seed": patch.seed, "to_refine": patch.to_refine}


def _unpack_patch(packed: dict[str, Any]) -> Patch:
    images = {name: _unpack_array(packed[name]) if packed[name] else None for name in _IMAGES}
    crop, window = Box(*packed["crop"]), Box(*packed["window"])
    rest = {name: packed[name] for name in ("seed", "to_refine")}
    return Patch(crop=crop, window=window, **rest, **images)  # type: ignore[arg-type]


def _pack_array(array: Bytes) -> dict[str, Any]:
    return {"data": array.tobytes(), "shape": list(array.shape)}


def _unpack_array(packed: dict[str, Any]) -> Bytes:
    return np.frombuffer(packed["data"], np.uint8).reshape(packed["shape"])
