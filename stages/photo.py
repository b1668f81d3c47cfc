"""The data that travels through the steps: a manifest row with its files, pixels and patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from manifests.planning.marks import Marks, is_unmarked
from manifests.schema import OK, LineageRow
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.picture import Decoded
from stages.models.refiners.prompts import Prompt
from stages.pixels.boxes import Box


@dataclass(slots=True, kw_only=True)
class Patch:
    """One crop of a photo, which is filled independently of the others.

    Attributes:
        crop: where the result is pasted back, in px of the displayed photo.
        pixels: ``(h, w, 3)`` uint8 sRGB, the picture at its working size; the fill replaces it.
        mask: ``(h, w)`` uint8, 255 where to fill; same size as ``pixels``.
        blend: ``(crop.height, crop.width)`` uint8, opacity of the fill when it is pasted: the mask
            with its soft edge.
        seed: 0 to 2**32 - 1.
        effects: of the same size, opacity of the fill where it also removes what the object casts
            beyond the mask; the higher opacity applies. None: nowhere.
    """

    crop: Box
    pixels: UInt8Array
    mask: UInt8Array
    blend: UInt8Array
    seed: int
    effects: UInt8Array | None = None

    @property
    def opacity(self) -> UInt8Array:
        """Opacity of the fill when it is pasted, with that of its effects; like ``blend``."""
        return self.blend if self.effects is None else np.maximum(self.blend, self.effects)


@dataclass(slots=True, kw_only=True)
class WindowPatch(Patch):
    """A patch before ``focus``, or at any time without a refiner: ``pixels`` show the window.

    Attributes:
        window: the removal's input: the crop or, with a refiner, a larger box around it.
        original_crop: ``(crop.height, crop.width, 3)`` uint8 sRGB, from the photo; None without a
            refiner.
        hole: ``(crop.height, crop.width)`` uint8, 255 where to fill; None without a refiner.
        beyond: ``(crop.height, crop.width)`` uint8, 255 where effects beyond the mask may be
            removed; None unless ``mask.effects`` = alpha.
        reach_px: distance from the mask at which they end.
    """

    window: Box
    original_crop: UInt8Array | None = None
    hole: UInt8Array | None = None
    beyond: UInt8Array | None = None
    reach_px: float = 0.0

    @property
    def crop_in_window(self) -> tuple[slice, slice]:
        """Index of the crop in an array of the window's size."""
        return self.crop.shifted(-self.window.x0, -self.window.y0).slices


@dataclass(slots=True, kw_only=True)
class CropPatch(Patch):
    """A patch from ``focus`` on: ``pixels`` show the crop.

    Attributes:
        to_refine: whether the refiner works on it.
        original_pixels: ``(h, w, 3)`` uint8 sRGB like ``pixels``, but with the object in the hole;
            None unless the refiner needs it.
    """

    to_refine: bool
    original_pixels: UInt8Array | None = None


@dataclass(slots=True)
class Photo:
    """One manifest row while it is processed.

    "Local" attributes exist within one actor only and are not sent to the next.

    Attributes:
        lineage: the row's record, which steps add to.
        shard: number of the row's shard.
        extra: the manifest's extra columns, by their names in the lineage.
        prompt: the encoded prompt for the refiner.
        original: the photo's file; freed when the row ends. It is not sent to other actors: the
            last one reads it again, see :func:`stages.steps.fetch.build_fetch_again`.
        is_repaired: whether ``original`` is the repaired file.
        patches: empty before ``cut``, and for an empty mask.
        decoded: the original's pixels. Local: ``stages.steps.stitch`` decodes them again.
        alpha_is_mask: whether a mask is the photo's own alpha channel.
        mask_files: the masks' files. Local.
        marked: URI of a mask -> ``(h, w)`` bool, the marked pixels of it and the other masks of its
            size. Local.
        detected: ``(h, w)`` bool, what the detector found to be removed; None: nothing. Local.
        detected_file: the same as a mask file, to be stored. Local.
        hole: ``(h, w)`` bool, the pixels to fill: all that is marked, dilated. Local.
        shadow_mask: ``(h, w)`` bool, shadows outside the hole that are to be filled, too; None:
            none. Local.
        changed: ``(h, w)`` bool, where the stitched pixels may differ. Local.
        result: the file to publish. Local.
    """

    lineage: LineageRow
    shard: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    prompt: Prompt | None = None
    original: bytes = b""
    is_repaired: bool = False
    patches: list[Patch] = field(default_factory=list)
    decoded: Decoded | None = None
    alpha_is_mask: bool = False
    mask_files: list[bytes] = field(default_factory=list)
    marked: dict[str, BoolMask] = field(default_factory=dict)
    detected: BoolMask | None = None
    detected_file: bytes = b""
    hole: BoolMask | None = None
    shadow_mask: BoolMask | None = None
    changed: BoolMask | None = None
    result: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether no step has failed."""
        return self.lineage.status == OK

    @property
    def file_bytes(self) -> int:
        """Size of its files in memory."""
        files = (self.original, self.result, self.detected_file, *self.mask_files)
        return sum(map(len, files))

    @property
    def patches_to_refine(self) -> list[CropPatch]:
        """The patches to refine; none before ``focus``."""
        return [each for each in self.patches if isinstance(each, CropPatch) and each.to_refine]

    @property
    def is_unmarked(self) -> bool:
        """Whether its row has neither masks nor shapes, and does not say that it marks nothing."""
        return is_unmarked(self.lineage.mask_uri, self.lineage.marks)

    @property
    def marks(self) -> Marks:
        """All masks and shapes of the row."""
        return Marks.unpack(self.lineage.mask_uri, self.lineage.marks)

    def drop_pixels(self) -> None:
        """Free everything but the record and the files."""
        self.mask_files, self.marked, self.patches = [], {}, []
        self.decoded, self.detected = None, None
        self.hole, self.shadow_mask, self.changed = None, None, None
        self.prompt = None

    def drop_all(self) -> None:
        """Free everything but the record, when the row ends."""
        self.original = self.result = self.detected_file = b""
        self.drop_pixels()
