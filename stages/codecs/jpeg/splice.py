"""Edit a JPEG without generation loss: only the blocks that the mask touches are re-encoded.

Every 8 x 8 block, of every component, that holds no masked sample keeps its quantised DCT
coefficients bit for bit, as do all application segments and comments and whatever follows the
image. In a block that the mask touches, the *difference* of the masked samples is transformed and
added to the old coefficients, so that its other samples stay as near as the quantisation allows.

What is promised is coefficients, not decoded pixels: decoders that smooth chroma let a touched
block bleed one pixel into its neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.codecs.errors import DamagedError, VerificationError
from stages.codecs.jpeg.libjpeg import Coefficients, JpegCoefficients, JpegHeader, open_coefficients
from stages.codecs.jpeg.markers import split_metadata

#: The range of coefficients of 8-bit samples; others come from a damaged Huffman table.
_MIN_COEFFICIENT, _MAX_COEFFICIENT = -2048, 2047


def _dct_matrix() -> npt.NDArray[np.float64]:
    """``(64, 64)``: samples of a block, row by row, times this are its DCT coefficients (T.81)."""
    frequency, position = np.arange(8)[:, None], np.arange(8)[None]
    one_axis = np.sqrt((1 + (frequency > 0)) / 8) * np.cos(
        (2 * position + 1) * frequency * np.pi / 16
    )
    return np.ascontiguousarray(np.kron(one_axis, one_axis).T)


_FORWARD = _dct_matrix()
_INVERSE = np.ascontiguousarray(_FORWARD.T)


def splice(jpeg: bytes, edited: UInt8Array, mask: BoolMask) -> bytes:
    """Write an edit into a JPEG.

    Args:
        jpeg: the original file.
        edited: ``(height, width, c)`` uint8 in the stored frame and the file's own colours: 1
            (grey), 3 (RGB) or 4 channels (CMYK as Pillow shows it).
        mask: ``(height, width)`` bool, True where ``edited`` is used.

    Returns:
        The new file, verified against the original's coefficients; the same bytes if the mask is
        empty.

    Raises:
        DamagedError: the file's data are damaged.
        VerificationError: the new file fails the comparison with the original.
        UnsupportedError: the file is of a kind that cannot be edited block by block.
        ValueError: shapes do not fit.
    """
    with open_coefficients(jpeg) as source:
        header = source.header
        _check_shapes(header, edited, mask)
        if not mask.any():
            return jpeg
        before = [np.stack(rows) for rows in source.planes]
        if any(
            plane.min() < _MIN_COEFFICIENT or plane.max() > _MAX_COEFFICIENT for plane in before
        ):
            raise DamagedError("its coefficients are out of range")
        touched = _edit(source, edited, mask)
        coded = source.write()
    segments, _, trailer = split_metadata(jpeg)
    result = b"".join([b"\xff\xd8", *segments, split_metadata(coded)[1], trailer])
    try:
        _verify(result, header, before, touched)
        if split_metadata(result)[::2] != (segments, trailer):
            raise VerificationError("the new file's metadata are not the old one's")
    except DamagedError as error:
        raise VerificationError(str(error)) from error
    return result


def _check_shapes(header: JpegHeader, edited: UInt8Array, mask: BoolMask) -> None:
    size = (header.height, header.width)
    if mask.shape != size or edited.shape != (*size, len(header.components)):
        raise ValueError(
            f"a JPEG of {size} and {len(header.components)} components cannot take an edit of "
            f"{edited.shape} with a mask of {mask.shape}"
        )


def _edit(source: JpegCoefficients, edited: UInt8Array, mask: BoolMask) -> list[BoolMask]:
    """Edit the coefficients, one row of MCUs at a time, so that the cost follows the mask.

    Returns:
        For each component ``(rows, columns)`` bool: the blocks that were edited.
    """
    header = source.header
    touched = [np.zeros((len(rows), len(rows[0])), np.bool_) for rows in source.planes]
    mcu_width, mcu_height = 8 * header.max_h_sampling, 8 * header.max_v_sampling
    masked_rows = np.flatnonzero(mask.any(axis=1))
    for top in np.unique(masked_rows // mcu_height * mcu_height):
        strip = mask[top : top + mcu_height]
        masked = np.flatnonzero(strip.any(axis=0))
        left = int(masked[0]) // mcu_width * mcu_width
        right = -(-(int(masked[-1]) + 1) // mcu_width) * mcu_width
        part = np.s_[top : top + mcu_height, left:right]
        pad = ((0, mcu_height - strip.shape[0]), (0, max(right - header.width, 0)))
        hole = np.pad(mask[part], pad, mode="edge")
        pixels = np.pad(edited[part], (*pad, (0, 0)), mode="edge")
        for number, plane in enumerate(_planes(header, pixels)):
            across, down = header.subsampling_of(number)
            weights, samples = map(_as_blocks, _subsample(plane, hole, across, down))
            first_row, first_column = int(top) // down // 8, left // across // 8
            inside = touched[number][first_row:, first_column:]  # a last MCU may reach outside
            hit = np.asarray(weights.any(axis=2))[: len(inside), : inside.shape[1]]
            inside[: len(hit), : hit.shape[1]] |= hit
            for row in np.flatnonzero(hit.any(axis=1)):
                here = np.flatnonzero(hit[row])
                blocks = source.planes[number][first_row + row]
                blocks[first_column + here] = _edited(
                    blocks[first_column + here],
                    samples[row, here],
                    weights[row, here],
                    header.components[number].table,
                )
    return touched


def _subsample(
    plane: Float32Array, hole: BoolMask, across: int, down: int
) -> tuple[Float32Array, Float32Array]:
    """Shares of masked pixels, and the mean of the masked pixels, for each sample."""
    share: Float32Array = hole.astype(np.float32)
    if (across, down) == (1, 1):
        return share, plane

    def mean(values: Float32Array) -> Float32Array:
        height, width = values.shape
        cells = values.reshape(height // down, down, width // across, across)
        return np.asarray(cells.mean(axis=(1, 3)), np.float32)

    weights = mean(share)
    means = mean(plane * share) / np.maximum(weights, 1e-6)
    return weights, np.asarray(means, np.float32)


def _as_blocks(plane: Float32Array) -> Float32Array:
    """``(8 r, 8 c)`` -> ``(r, c, 64)``."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return blocks.reshape(height // 8, width // 8, 64)


def _planes(header: JpegHeader, pixels: UInt8Array) -> list[Float32Array]:
    """Pixels as the file's components, each ``(h, w)`` float32, 0 to 255 (JFIF's YCbCr)."""
    values = pixels.astype(np.float32)
    channels = [values[..., i] for i in range(values.shape[2])]
    if header.colour_space == "ycc":
        return _ycc(*channels)
    if header.colour_space in ("grey", "rgb"):
        return channels
    stored = [255 - channel for channel in channels] if header.adobe else channels
    if header.colour_space == "cmyk":
        return stored
    return [*_ycc(*(255 - channel for channel in stored[:3])), stored[3]]


def _ycc(red: Float32Array, green: Float32Array, blue: Float32Array) -> list[Float32Array]:
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return [luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128]


def _edited(
    old: Coefficients, samples: Float32Array, weights: Float32Array, steps: tuple[int, ...]
) -> Coefficients:
    """Add the transformed difference of the masked samples to blocks.

    Args:
        old: ``(n, 64)`` coefficients.
        samples: ``(n, 64)``, 0 to 255: the new values of the masked part.
        weights: ``(n, 64)``, 0 to 1: the masked share of each sample.
        steps: the quantisation table.
    """
    table = np.array(steps, np.float64)
    difference = (samples - 128 - (old * table) @ _INVERSE) * weights
    # The order of a product's sums depends on the processor: of 64 bits, it shows beyond 10 digits.
    new = old + np.rint(np.round(difference @ _FORWARD / table, 6))
    new[:, 0] = np.clip(new[:, 0], -1024, 1023)
    new[:, 1:] = np.clip(new[:, 1:], -1023, 1023)
    return new.astype(np.int16)


def _verify(
    result: bytes, header: JpegHeader, before: list[Coefficients], touched: list[BoolMask]
) -> None:
    """Check that the new file has the old header, and the old coefficients outside the mask.

    Raises:
        VerificationError: it does not.
    """
    with open_coefficients(result) as made:
        if made.header != header:
            raise VerificationError("the new file's header is not the old one's")
        for old, rows, may_change in zip(before, made.planes, touched, strict=True):
            new = np.stack(rows)
            if old.shape != new.shape or not ((old == new).all(axis=2) | may_change).all():
                raise VerificationError("coefficients outside the mask changed")
