"""LPIPS: how different two pictures look, by the features of a network that tells things apart.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018);
version 0.1 of their own package, whose wheel holds the weights of the five linear layers. AlexNet's
come from a file of the user's.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lpips import LPIPS
from torch import Tensor

from manifests.errors import WeightsError
from stages.arrays import BoolMask, UInt8Array
from stages.models.load import read_tensors
from stages.pixels.boxes import bounds_of
from stages.pixels.resize import scale_pixels

#: What the crop has around the region's bounding box, px: as much as the ring of the other figures.
_MARGIN_PX = 16

#: Crops' longer side is at most the second, unless the shorter one would be under the first: of
#: 64 px are the patches the linear layers learned from, and AlexNet's fifth layer needs 31.
_LEAST_PX, _MOST_PX = 64, 512


class Perceptual:
    """LPIPS over AlexNet, in float32 on the CPU.

    Args:
        network: an ``lpips.LPIPS``.
    """

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read torchvision's AlexNet, a state dict as a pickle or safetensors; fetches nothing.

        Raises:
            WeightsError: ``weights.missing``; ``weights.unusable`` if the file is damaged, or of
                another network.
        """
        tensors = read_tensors(path)
        with warnings.catch_warnings():
            # The package asks torchvision for a network without weights as one did until 0.13.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            network = LPIPS(net="alex", pnet_rand=True, verbose=False)
        # There "slice2.3.weight" is what torchvision calls "features.3.weight".
        names = {name: f"features.{name.split('.', 1)[1]}" for name in network.net.state_dict()}
        try:
            network.net.load_state_dict({name: tensors[own] for name, own in names.items()})
        except (KeyError, RuntimeError) as error:
            raise WeightsError(
                "weights.unusable", f"{path} is not of torchvision's AlexNet."
            ) from error
        return cls(network)

    @torch.inference_mode()
    def distance(self, reference: UInt8Array, after: UInt8Array, region: BoolMask) -> float:
        """LPIPS of a crop: the region's bounding box with 16 px more on each side, where there are.

        A crop longer than 512 px is shrunk to that, but one whose shorter side is, or would then
        be, under 64 px is scaled so that it has those; proportions stay.

        Args:
            reference: ``(h, w, 3)`` uint8 sRGB; the network sees it from -1 to 1.
            after: likewise.
            region: ``(h, w)`` bool, what was painted anew; some of it must be.

        Returns:
            0 if they are the same; rarely over 1.
        """
        bounds = bounds_of(region)
        assert bounds is not None
        height, width = region.shape
        crop = bounds.grown(_MARGIN_PX).clipped(width, height)
        longer, shorter = max(crop.width, crop.height), min(crop.width, crop.height)
        scale = max(min(1.0, _MOST_PX / longer), _LEAST_PX / shorter)
        size = round(crop.width * scale), round(crop.height * scale)
        pair = (_tensor(scale_pixels(each[crop.slices], *size)) for each in (reference, after))
        return float(self._network(*pair))


def _tensor(pixels: UInt8Array) -> Tensor:
    """``(1, 3, h, w)`` float32, -1 to 1."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
