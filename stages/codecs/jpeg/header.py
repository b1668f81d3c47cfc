"""The header of a JPEG: what an edit must keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

ColourModel = Literal["grey", "ycc", "rgb", "cmyk", "ycck"]


@dataclass(frozen=True, slots=True)
class Component:
    """One plane.

    Attributes:
        identifier: as in the file.
        horizontal: sampling factor, 1 to 4.
        vertical: sampling factor, 1 to 4.
        table: number of its quantisation table.
    """

    identifier: int
    horizontal: int
    vertical: int
    table: int


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
        arithmetic: whether it is arithmetic coded; if not, Huffman coded.
        optimised: whether its Huffman tables are not the standard ones.
        restart_blocks: MCUs between restart markers; 0: none.
        tables: quantisation tables, ``(64,)`` float32 in raster order.
    """

    width: int
    height: int
    components: list[Component]
    model: ColourModel
    adobe: bool
    progressive: bool
    arithmetic: bool
    optimised: bool
    restart_blocks: int
    tables: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

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

    def blocks(self, component: int) -> tuple[int, int]:
        """8 x 8 blocks of a component that hold samples of the picture: (rows, columns)."""
        across, down = self.step(component)
        return -(-self.height // (8 * down)), -(-self.width // (8 * across))
