"""Detectors: they find what is to be removed in photos that nobody has marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stages.arrays import BoolMask, UInt8Array
from stages.pixels.boxes import Box

#: Corners ``(x, y)`` in px of the displayed photo, in order around it.
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing that a detector found in a photo.

    Attributes:
        outline: around the thing itself, such as a line of text.
        label: what it is: the recognised text, or the template's name.
        confidence: 0 to 1.
        remove: whether it is to be removed.
        reason: why, or why not, such as ``price`` or ``confidence below 0.6``.
        box: bounds of what is marked for it, which can be more than the outline; within the photo.
        mask: ``(box.height, box.width)`` bool, the pixels to remove; None if it is kept.
    """

    outline: Polygon
    label: str
    confidence: float
    remove: bool
    reason: str
    box: Box
    mask: BoolMask | None = None


class Detector(Protocol):
    """What a detection method's ``load(options)`` returns.

    Attributes:
        content_hashes: name -> SHA-256 of each file that it works with, such as weights; the
            lineage records them.
    """

    @property
    def content_hashes(self) -> dict[str, str]:
        """See above."""
        ...

    def __call__(self, pixels: UInt8Array) -> list[Detection]:
        """Find things in a photo; on a GPU, several threads call this at once.

        Args:
            pixels: ``(h, w, 3)`` uint8 sRGB of the displayed photo; transparent parts are white.

        Returns:
            Everything found, in reading order, whether it is to be removed or not.

        Raises:
            RowError: the photo cannot be processed.
        """
        ...
