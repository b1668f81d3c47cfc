"""Types of NumPy arrays, and what their values mean. Shapes are in the docstrings that use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Marks pixels: True where something is marked, filled or changed; ``(h, w)``.
BoolMask = npt.NDArray[np.bool_]

#: 8-bit pixels: sRGB ``(h, w, 3)``, 0 to 255; or a mask ``(h, w)``, 255 where to fill.
UInt8Array = npt.NDArray[np.uint8]

#: Values for computing, of a range that the docstring states.
Float32Array = npt.NDArray[np.float32]

#: Pixels as a file has them: ``(h, w, c)`` uint8 or uint16, the whole range of the type used.
Samples = npt.NDArray[np.unsignedinteger[Any]]
