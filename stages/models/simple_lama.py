"""LaMa run by the package simple-lama-inpainting, as a reference to compare with.

The package processes one window at a time, in float32, with the code in the published TorchScript
file. It truncates to 8 bits instead of rounding, which is half a level darker on average.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simple_lama_inpainting import SimpleLama
from torch import Tensor, nn

from manifests.errors import WeightsError
from stages.models.devices import choose_device
from stages.weights.foreign import reason

_VARIABLE = "LAMA_MODEL"


class SimpleLamaNetwork(nn.Module):
    """The package, as the network of a :class:`stages.models.lama.Lama`, which pads and checks."""

    def __init__(self, lama: Any) -> None:
        super().__init__()
        network = lama.model

        def checked(image: Tensor, hole: Tensor) -> Tensor:
            painted: Tensor = network(image, hole)
            if not painted.isfinite().all():  # the package would convert it to colours
                raise FloatingPointError
            return painted

        lama.model = checked
        self._lama = lama

    @classmethod
    def load(cls, path: Path, device: torch.device | str | None = None) -> SimpleLamaNetwork:
        """Read the published TorchScript; nothing is downloaded.

        Raises:
            WeightsError: ``weights.unusable``.
        """
        try:
            with _named(path), warnings.catch_warnings():
                # PyTorch 2.15 deprecates the format; the published file cannot be changed.
                warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
                return cls(SimpleLama(choose_device(device)))
        except Exception as error:  # TorchScript raises many types for damage
            problem = f"{path} is not the TorchScript that remove.engine = simple-lama needs"
            raise WeightsError("weights.unusable", f"{problem}: {reason(error)}.") from error

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        """``(n, 3, h, w)`` and ``(n, 1, h, w)`` float32, 0 to 1; not a number where it failed."""
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


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Set the environment variable for the package's path; without it, it would download."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before
