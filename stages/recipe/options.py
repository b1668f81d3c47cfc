"""The sections of a recipe that are not methods: every option, its range, its default, its meaning.

Lengths are in pixels of the *original* photo unless a name says otherwise. Methods: see
:mod:`stages.recipe.removal_methods` and :mod:`stages.recipe.refiners`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from manifests.storage import SCHEMES, Scheme
from stages.method_options import NOT_HASHED, Section

#: Where a mask smaller or larger than the photo lies.
Anchor = Literal[
    "",
    "top-left",
    "top",
    "top-right",
    "left",
    "centre",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
]


class MaskOptions(Section):
    """How masks and shapes become the hole, the pixels to fill, and its soft edge.

    ``channel``, ``polarity``, ``values``, ``threshold``, ``scale_to_photo`` and ``anchor`` apply to
    mask files only; the others apply to shapes too.
    """

    channel: Literal["luminance", "alpha"] = "luminance"
    """The channel of a mask file that marks: brightness or opacity."""
    polarity: Literal["light", "dark"] = "light"
    """light: bright or opaque samples are removed; dark: dark or transparent samples are."""
    values: Literal["auto", "levels", "labels"] = "auto"
    """Meaning of samples. levels: those at or above `threshold` are removed. labels: all that are
    not black (white if dark), or not transparent, are removed. auto: levels, except that in a
    lossless mask of black and one other value, the other is removed. Ambiguous masks, for example
    with several labels, are rejected."""
    threshold: int = Field(128, ge=1, le=255)
    """Samples at or above this value (0 to 255; counted from white if dark) are removed."""
    scale_to_photo: bool = False
    """Accept a mask of another size and the same aspect, and scale it."""
    anchor: Anchor = ""
    """Place a mask of another size at this corner, edge or centre of the displayed photo; what lies
    outside is cut off. Empty: a mask has the photo's size. Never applies to masks that have it."""
    anchor_width: float = Field(0.0, ge=0, le=1)
    """Scale an anchored mask to this share of the photo's width; 0: its own size in px."""
    fill_holes: bool = False
    """Also remove the inside of outlines. Off, since a mask may be a frame around the product."""
    dilate_px: int = Field(3, ge=0, le=256)
    """Grow what is marked by this much, so that no soft edge of the object remains."""
    dilate_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    feather_px: int = Field(3, ge=0, le=256)
    """Width of the soft edge outside the hole: from this + 1 px on, nothing changes."""
    feather_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    effects: Literal["off", "alpha", "grow"] = "off"
    """Whether shadows and reflections that the object casts beyond the mask are removed, too. off:
    nothing outside the mask and its soft edge changes. alpha: where the removal model's own alpha
    shows that it changed something. grow: the hole grows by cast shadows that are found beside or
    beneath it on plain or lightly textured backgrounds; for removal methods without an alpha. The
    part beyond the mask is recorded in the lineage."""
    effects_reach: float = Field(1.0, gt=0, le=10)
    """Maximum distance from the hole, relative to the longer side of the part of it that
    is filled together (`alpha`), or is connected (`grow`)."""
    effects_area: float = Field(4.0, gt=0, le=100)
    """Maximum area beyond the mask, relative to the area of the hole. What would be
    larger is probably wrong: nothing beyond the mask is then changed. With `alpha`, the photo is
    flagged."""

    @model_validator(mode="after")
    def _width_has_an_anchor(self) -> Self:
        if self.anchor_width and not self.anchor:
            raise ValueError("anchor_width needs an anchor")
        return self

    @property
    def guesses_values(self) -> bool:
        """Whether nothing but the masks themselves shows what their samples mean."""
        has_default = self.threshold == type(self).model_fields["threshold"].default
        return self.channel == "luminance" and self.values == "auto" and has_default

    def dilate_for(self, width: int, height: int) -> int:
        """Dilation in px in a photo of this size."""
        return max(self.dilate_px, round(self.dilate_share * max(width, height)))

    def feather_for(self, width: int, height: int) -> int:
        """Width of the soft edge in px in a photo of this size."""
        return max(self.feather_px, round(self.feather_share * max(width, height)))


class ShapeOptions(Section):
    """How the boxes and polygons of a manifest are read; RLE masks are always in px."""

    units: Literal["px", "share", "percent"] = "px"
    """px of the displayed photo, or 0 to 1 (share) or 0 to 100 (percent) of its width and height.
    """


class CropOptions(Section):
    """The surroundings of the hole that a fill sees."""

    context: float = Field(2.0, ge=1.0, le=20.0)
    """Side of the crop over side of the masked part, on each axis."""
    min_context_px: int = Field(64, ge=1, le=4096)
    """Minimum context on each side; always more than the feather."""
    aspect: float = Field(0.0, ge=0.0, le=10.0)
    """Width over height of the crop, 0.1 to 10, reached by growing one axis as far as the photo
    allows; 0: no fixed ratio."""
    merge_px: int = Field(48, ge=0, le=4096)
    """Masked parts closer than this are filled together."""
    max_patches: int = Field(32, ge=1, le=256)
    """Maximum number of patches; with more, the merge distance is increased."""

    @model_validator(mode="after")
    def _aspect_is_in_range(self) -> Self:
        if 0 < self.aspect < 0.1:
            raise ValueError(f"aspect = {self.aspect} must be 0, or 0.1 to 10")
        return self


class ResizeOptions(Section):
    """The scale at which the fill works."""

    max_side_px: int = Field(0, ge=0, le=8192)
    """Crops with a longer side are filled at this size and scaled back; 0: never scale."""


class JudgeOptions(Section):
    """Checks whether a refiner painted an object back into the hole, and defines the fallback."""

    threshold: float = Field(0.5, ge=0, le=1)
    """A score, 0 to 1, over this means that an object came back. 0.5 is calibrated
    (`python -m tests.bench.judge`), 1 never flags."""
    attempts: int = Field(2, ge=1, le=16)
    """Maximum number of seeds tried, one after another, until a result passes."""
    fallback: Literal["remove", "keep"] = "remove"
    """If none passes, use the removal's fill, or the try with the lowest score. The photo is
    flagged in either case."""
    bad_output: Literal["fail", "remove"] = "fail"
    """If the output of every try contains NaN or infinity, or is black: fail the row, or use the
    removal's fill and flag it."""
    text: bool = False
    """Also read each result: text in the hole that the removal's fill does not show has come back.
    Needs the extra `text`."""


class OutputOptions(Section):
    """How the result is stored."""

    format: Literal["source", "jpeg", "png", "webp", "tiff", "avif"] = "source"
    """The photo's own format, or one for all photos, encoded from the samples."""
    quality: int = Field(0, ge=0, le=100)
    """Quality of lossy files encoded from samples, 1 to 100; 0: 90, finer than most source files.
    JPEGs that stay JPEGs keep their own tables regardless.
    """
    fidelity: Literal["any", "exact"] = "any"
    """exact: reject a result that must be re-encoded outside the mask too: lossy WebP, AVIF and
    HEIC, JPEGs whose blocks cannot be kept, conversions that lose samples."""
    keep_steps: Annotated[bool, NOT_HASHED] = False
    """With a refiner: store snapshots of each crop, after the removal and after the refiner, under
    ``steps/``, for `catalog-cleanup report`. Rows that are already done are not redone for this."""


class MetadataOptions(Section):
    """Handling of file content that shows or certifies the old picture."""

    stale_preview: Literal["rebuild", "drop", "refuse"] = "rebuild"
    """EXIF's JPEG thumbnail is rebuilt or dropped, or the row is rejected. Other
    content that shows or certifies the old picture (other previews, a TIFF's smaller copies, gain
    maps, depth, motion photo videos, C2PA signatures) is dropped, or rejected too."""
    mark_edit: bool = False
    """Record in the XMP that software edited the picture, and whether a
    generative model did (IPTC digital source type)."""


class Limits(Section):
    """Limits beyond which a row is rejected."""

    max_megapixels: float = Field(100.0, gt=0)
    """A photo or mask with more pixels is rejected before it is decoded."""
    max_mask_share: float = Field(0.8, gt=0, le=1)
    """A mask that covers more of its photo is rejected: its polarity is probably wrong."""
    damage: Literal["refuse", "repair"] = "refuse"
    """Damage that affects no pixel (a JPEG without its end marker, an ancillary PNG chunk with a
    wrong checksum): the photo or mask is rejected, or repaired with a note in `fidelity_note`."""
    min_mask_px: int = Field(16, ge=1)
    """A marked region with fewer px, before dilation, is rejected: probably a stray pixel, or
    shapes in other units. In photos of less than 1,000 times this many px, the limit is a
    thousandth of the photo."""
    max_seconds: float = Field(900.0, gt=0)
    """A photo that takes longer, not counting the loading of models, is aborted as hanging."""
    max_memory_mib: int = Field(4096, ge=64)
    """Memory that an actor without models may use for a photo, beyond its idle use."""
    schemes: tuple[Scheme, ...] = Field(SCHEMES, min_length=1)
    """Allowed storage of photos and masks; ``file`` is the disk, by path or URI. With ``["s3"]`` an
    untrusted manifest cannot read the nodes' own files. HTTP is never allowed."""
