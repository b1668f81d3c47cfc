"""The inputs and outputs of codecs: decoded photos, edits, and encoded files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.arrays import BoolMask, Samples
from stages.pixels.samples import ColourModel, ColourSpace, to_8_bits
from stages.recipe.options import MetadataOptions

#: Quality of lossy files if the recipe does not set one.
DEFAULT_QUALITY = 90

Fidelity = Literal["lossless", "coefficients", "reencoded"]

_Array = TypeVar("_Array", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as an array.

    Attributes:
        pixels: ``(h, w, c)`` uint8 or uint16, displayed frame; the colour channels of ``space``,
            and alpha if there is another channel.
        orientation: EXIF orientation, 1 to 8, that converts the stored to the displayed frame.
        space: the colour space of the samples.
        note: how the samples differ from the file's (a palette was expanded), else empty.
    """

    pixels: Samples
    orientation: int
    space: ColourSpace
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
        """``(h, w)``, 0 where transparent; None if there is no alpha channel."""
        has_alpha = self.pixels.shape[2] > self.space.channels
        return self.pixels[..., -1] if has_alpha else None


@dataclass(frozen=True, slots=True)
class Edit:
    """An edited photo that a codec is to write.

    Attributes:
        source: the original file.
        pixels: ``(h, w, c)`` uint8 or uint16 as :class:`Decoded` has them, but in the frame of the
            new file: the stored one, or in another format, which is written upright, the displayed.
        changed: ``(h, w)`` bool, same frame, True wherever ``pixels`` were edited.
        space: the colour space of the samples.
        quality: quality of lossy files, 1 to 100; 0: the default.
        metadata: the options for previews and for labelling the edit.
        generative: whether a generative model filled the hole.
    """

    source: bytes
    pixels: Samples
    changed: BoolMask
    space: ColourSpace
    quality: int
    metadata: MetadataOptions
    generative: bool = False

    def as_pillow(self) -> Image.Image:
        """The picture with 8 bits a sample, alpha left out; for previews."""
        return as_pillow(self.pixels[..., : self.space.channels], self.space.model)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file, and how much of the source was kept.

    Attributes:
        data: the file.
        fidelity: ``lossless``: all samples outside the mask; ``coefficients``: those of all JPEG
            blocks that the mask does not touch; ``reencoded``: neither.
        note: the reason for ``reencoded``, or other changes to the samples; else empty.
        metadata_notes: a sentence for each part of the metadata that was rebuilt, dropped or added.
    """

    data: bytes
    fidelity: Fidelity
    note: str = ""
    metadata_notes: list[str] = field(default_factory=list)


def to_displayed(stored: _Array, orientation: int) -> _Array:
    """Rotate ``(h, w, ...)`` from the stored to the displayed frame (EXIF orientation 1 to 8)."""
    turned: npt.NDArray[Any] = stored
    if orientation in (5, 6, 7, 8):
        turned = turned.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)  # type: ignore[return-value]


def to_stored(displayed: _Array, orientation: int) -> _Array:
    """Undo :func:`to_displayed`; all orientations but 6 and 8 are their own inverses."""
    return to_displayed(displayed, {6: 8, 8: 6}.get(orientation, orientation))


def as_pillow(pixels: Samples, model: ColourModel) -> Image.Image:
    """Convert ``(h, w, c)``, colours and optional alpha, to a Pillow picture of 8 bits a sample."""
    height, width, channels = pixels.shape
    modes = {"grey": ("L", "LA"), "rgb": ("RGB", "RGBA"), "cmyk": ("CMYK", "")}[model]
    mode = modes[channels - ColourSpace(model).channels]
    return Image.frombuffer(mode, (width, height), to_8_bits(pixels).tobytes())
