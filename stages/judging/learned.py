"""A second judge, by path: whether a network sees the fill as part of its surroundings.

As ReMOVE (Chandrasekar et al., CVPR Workshops 2024) does, the mean feature of the hole is held
against the mean feature of what is around it; the features are DINOv2's (Oquab et al. 2023), which
tell objects apart without labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch

from manifests.errors import WeightsError
from stages.models.devices import choose_device
from stages.pixels.masks import Bytes
from stages.pixels.resize import resample, scale_pixels
from stages.weights.foreign import kind_of, reason

#: Longer side of what the network sees, in its patches: 518 px with patches of 14, as trained.
_PATCHES = 37

#: Of ImageNet, with which DINOv2 was trained.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LearnedJudge:
    """DINOv2 in transformers' form.

    Args:
        network: a ``Dinov2Model``, or one with registers.
        device: where it is.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network = network
        self._device = device

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Self:
        """Load it from a folder that ``save_pretrained`` wrote; never from the network.

        Raises:
            WeightsError: ``weights.unusable``.
        """
        from transformers import AutoModel

        place = choose_device(device)
        try:
            network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # the library raises a dozen kinds for what is not right
            problem = f"{folder} is {kind_of(folder) or 'no folder of a DINOv2'}: {reason(error)}."
            raise WeightsError("weights.unusable", problem) from error
        if not network.config.model_type.startswith("dinov2"):
            kind = network.config.model_type
            raise WeightsError("weights.unusable", f"{folder} holds a {kind}, not a DINOv2.")
        return cls(network.eval().to(place), place)

    @torch.no_grad()
    def score(self, refined: Bytes, before: Bytes, mask: Bytes, has_removal: bool) -> float:
        """How far the fill is from its surroundings; arguments as :func:`.reappearance.judge`'s.

        Returns:
            1 - cosine of the mean features, 0 to 2; less the removal's, if there is one.
        """
        painted = np.where(mask[..., None] > 0, refined, before)
        distance = self._distance(painted, mask)
        return distance - self._distance(before, mask) if has_removal else distance

    def _distance(self, pixels: Bytes, mask: Bytes) -> float:
        patch_px = int(self._network.config.patch_size)
        wide, high = (max(round(_PATCHES * side / max(mask.shape)), 1) for side in mask.shape[::-1])
        view = scale_pixels(pixels, wide * patch_px, high * patch_px)
        levels = (view.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        image = torch.from_numpy(levels).permute(2, 0, 1)[None].float().to(self._device)
        tokens = self._network(pixel_values=image).last_hidden_state[0, -wide * high :]
        share = resample((mask > 0).astype(np.float32), wide, high, cv2.INTER_AREA)
        hole = torch.from_numpy(share.ravel() >= min(0.5, float(share.max()))).to(self._device)
        if bool(hole.all()):
            return 0.0
        inside, around = tokens[hole].mean(dim=0), tokens[~hole].mean(dim=0)
        return 1 - float(torch.nn.functional.cosine_similarity(inside, around, dim=0))
