"""The header of a JPEG: what an edit must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColourModel = Literal["grey", "ycc", "rgb", "cmyk", "ycck"]


@dataclass(frozen=True, slots=True)
class Component:
    """One plane.

    Attributes:
        identifier: as in the file.
        horizontal: sampling factor, 1 to 4.
        vertical: sampling factor, 1 to 4.
        table: its quantisation table, 64 steps in raster order.
    """

    identifier: int
    horizontal: int
    vertical: int
    table: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class JpegHeader:
    """The header of a JPEG, as libjpeg reads it.

    Attributes:
        width: px, in the stored frame.
        height: px, in the stored frame.
        components: the planes.
        model: the colour model of the planes.
        adobe: whether there is an Adobe segment; CMYK is inverted then.
        progressive: whether it is progressive; if not, sequential.
        restart_blocks: MCUs between restart markers; 0: none.
    """

    width: int
    height: int
    components: list[Component]
    model: ColourModel
    adobe: bool
    progressive: bool
    restart_blocks: int

    @property
    def max_horizontal(self) -> int:
        """The largest horizontal sampling factor."""
        return max(c.horizontal for c in self.components)

    @property
    def max_vertical(self) -> int:
        """The largest vertical sampling factor."""
        return max(c.vertical for c in self.components)

    def step(self, component: int) -> tuple[int, int]:
        """Pixels of the photo per sample of a component: (horizontally, vertically)."""
        part = self.components[component]
        return self.max_horizontal // part.horizontal, self.max_vertical // part.vertical
