"""A photo as its codec hands it on, and as its codec takes it back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.pixels.masks import Bits
from stages.pixels.samples import ColourModel, Samples, Space, to_8_bits
from stages.recipe.options import MetadataOptions

#: Of lossy files, where the recipe states none.
DEFAULT_QUALITY = 90

Fidelity = Literal["lossless", "coefficients", "reencoded"]

_Array = TypeVar("_Array", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as an array.

    Attributes:
        pixels: ``(h, w, c)`` uint8 or uint16, displayed frame; the colour channels of ``space``,
            and alpha if there is one channel more.
        orientation: EXIF orientation, 1 to 8, that turns the stored frame into this one.
        space: what the samples mean.
        note: what the samples are that the file's are not (a palette's colours), else empty.
    """

    pixels: Samples
    orientation: int
    space: Space
    note: str = ""

    @property
    def width(self) -> int:
        """As displayed, px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """As displayed, px."""
        return int(self.pixels.shape[0])

    @property
    def alpha(self) -> Samples | None:
        """``(h, w)``, 0 where nothing shows; None if all of it is opaque by its kind."""
        has_alpha = self.pixels.shape[2] > self.space.channels
        return self.pixels[..., -1] if has_alpha else None


@dataclass(frozen=True, slots=True)
class Edit:
    """What a codec needs to write an edited photo.

    Attributes:
        source: the original file.
        pixels: ``(h, w, c)`` uint8 or uint16 as :class:`Decoded` has them, in the *stored* frame.
        changed: ``(h, w)`` bool, stored frame, True wherever ``pixels`` were edited.
        orientation: EXIF orientation of the source, 1 to 8.
        space: what the samples mean.
        quality: of lossy files, 1 to 100; 0: not stated.
        metadata: what becomes of previews, and whether the edit is labelled.
        generative: whether a generative model painted.
    """

    source: bytes
    pixels: Samples
    changed: Bits
    orientation: int
    space: Space
    quality: int
    metadata: MetadataOptions
    generative: bool = False

    @property
    def has_alpha(self) -> bool:
        """Whether alpha follows the colour channels."""
        return bool(self.pixels.shape[2] > self.space.channels)

    def as_pillow(self) -> Image.Image:
        """The picture with 8 bits a sample, stored frame, alpha left out; for previews."""
        return as_pillow(self.pixels[..., : self.space.channels], self.space.model)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file, and what was kept of the source.

    Attributes:
        data: the file.
        fidelity: ``lossless``: all samples outside the mask; ``coefficients``: those of all JPEG
            blocks that the mask does not touch; ``reencoded``: neither.
        note: why, if ``reencoded``; what else became of the samples; else empty.
        metadata_notes: a sentence for each thing that was rebuilt, dropped or added.
    """

    data: bytes
    fidelity: Fidelity
    note: str = ""
    metadata_notes: list[str] = field(default_factory=list)


def to_displayed(stored: _Array, orientation: int) -> _Array:
    """Turn ``(h, w, ...)`` from the stored into the displayed frame (EXIF orientation 1 to 8)."""
    turned: npt.NDArray[Any] = stored
    if orientation in (5, 6, 7, 8):
        turned = turned.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)  # type: ignore[return-value]


def to_stored(displayed: _Array, orientation: int) -> _Array:
    """Undo :func:`to_displayed`: only the quarter turns, 6 and 8, are not their own inverses."""
    return to_displayed(displayed, {6: 8, 8: 6}.get(orientation, orientation))


def as_pillow(pixels: Samples, model: ColourModel) -> Image.Image:
    """``(h, w, c)``, colours and perhaps alpha, as a Pillow picture of 8 bits a sample."""
    height, width, channels = pixels.shape
    modes = {"grey": ("L", "LA"), "rgb": ("RGB", "RGBA"), "cmyk": ("CMYK", "")}[model]
    mode = modes[channels - Space(model).channels]
    return Image.frombuffer(mode, (width, height), to_8_bits(pixels).tobytes())
