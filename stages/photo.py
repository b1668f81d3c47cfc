"""The row that flows through the steps, with its decoded pixels at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manifests.planning.marks import Marks
from manifests.schema import OK, LineageRow
from stages.codecs.picture import Decoded
from stages.models.refiners.prompts import Prompt
from stages.pixels.boxes import Box
from stages.pixels.masks import Bits, Bytes


@dataclass(slots=True, kw_only=True)
class Patch:
    """One crop of a photo, worked on by itself.

    Attributes:
        crop: what is pasted back, in the displayed photo.
        pixels: ``(h, w, 3)`` uint8 sRGB, what is worked on, at its working size; the fill replaces
            them.
        mask: ``(h, w)`` uint8, 255 where to paint anew; as large as ``pixels``.
        blend: ``(crop.height, crop.width)`` uint8, how much of the fill is laid on.
        seed: 0 to 2**32 - 1.
    """

    crop: Box
    pixels: Bytes
    mask: Bytes
    blend: Bytes
    seed: int


@dataclass(slots=True, kw_only=True)
class WindowPatch(Patch):
    """A patch until ``focus``, and to the end without a refiner: ``pixels`` are of the window.

    Attributes:
        window: what the removal sees: the crop, or, for a refiner, more.
        detail: ``(crop.height, crop.width, 3)`` uint8 sRGB, the crop as it was; only for a refiner.
        hole: ``(crop.height, crop.width)`` uint8, 255 where to paint anew; goes with ``detail``.
    """

    window: Box
    detail: Bytes | None = None
    hole: Bytes | None = None


@dataclass(slots=True, kw_only=True)
class CropPatch(Patch):
    """A patch from ``focus`` on: ``pixels`` are of the crop.

    Attributes:
        to_refine: whether the refiner works on it.
    """

    to_refine: bool


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

    @property
    def ok(self) -> bool:
        """Whether no stage has failed it."""
        return self.lineage.status == OK

    @property
    def file_bytes(self) -> int:
        """What its files take in memory."""
        return len(self.original) + len(self.result) + sum(map(len, self.mask_files))

    @property
    def patches_to_refine(self) -> list[CropPatch]:
        """Those that the refiner works on; none before ``focus``."""
        return [each for each in self.patches if isinstance(each, CropPatch) and each.to_refine]

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
