"""A JPEG's coefficients, for the tests of what keeps them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.codecs.jpeg.header import read_header
from stages.codecs.jpeg.libjpeg import Coefficients, visit


def coefficients_of(jpeg: bytes) -> list[npt.NDArray[np.int16]]:
    """All quantised coefficients: for each component ``(rows, columns, 64)`` int16."""
    header = read_header(jpeg)
    found = [
        np.zeros((*header.blocks(number), 64), np.int16) for number in range(len(header.components))
    ]

    def take(component: int, row: int, coefficients: Coefficients) -> None:
        found[component][row] = coefficients

    visit(jpeg, header, take)
    return found
