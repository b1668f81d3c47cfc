"""LaMa run by the package simple-lama-inpainting, as a reference to compare with.

The package processes one window at a time, in float32, with the code in the published TorchScript
file. It truncates to 8 bits instead of rounding, which is half a level darker on average.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from simple_lama_inpainting import SimpleLama
from torch import Tensor, nn

from manifests.errors import WeightsError
from stages.models.devices import choose_device
from stages.models.single_file import torchscript
from stages.optional_imports import one_line


class SimpleLamaNetwork(nn.Module):
    """The package, as the network of a :class:`stages.models.lama.Lama`, which pads and checks."""

    def __init__(self, network: torch.jit.ScriptModule, device: torch.device) -> None:
        super().__init__()

        def checked(image: Tensor, hole: Tensor) -> Tensor:
            painted: Tensor = network(image, hole)
            if not painted.isfinite().all():  # the package would convert it to colours
                raise FloatingPointError
            return painted

        # Its constructor would download the network, or take it from an environment variable.
        self._lama = SimpleLama.__new__(SimpleLama)
        self._lama.model, self._lama.device = checked, device

    @classmethod
    def load(cls, path: Path, device: torch.device | str | None = None) -> Self:
        """Read the published TorchScript; nothing is downloaded.

        Raises:
            WeightsError: ``weights.unusable``.
        """
        target = choose_device(device)
        try:
            with torchscript():
                network = torch.jit.load(path, map_location=target)  # type: ignore[no-untyped-call]
            return cls(network.eval(), target)
        except Exception as error:  # TorchScript raises many types for damage
            problem = f"{path} is not the TorchScript that remove.engine = simple-lama needs"
            raise WeightsError("weights.unusable", f"{problem}: {one_line(error)}.") from error

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        """``(n, 3, h, w)`` and ``(n, 1, h, w)`` float32, 0 to 1; NaN where it failed."""
        return torch.stack([self._paint(*each) for each in zip(image, hole, strict=True)])

    def _paint(self, image: Tensor, hole: Tensor) -> Tensor:
        pixels, mask = (
            (each * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            for each in (image, hole)
        )
        try:
            painted = np.array(self._lama(pixels, mask[..., 0]))
        except FloatingPointError:
            return torch.full_like(image, torch.nan)
        return torch.from_numpy(painted).to(image).permute(2, 0, 1) / 255
