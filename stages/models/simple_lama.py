"""LaMa as the package simple-lama-inpainting runs it: the reference to compare :class:`Lama` with.

One window at a time, in float32, by the code in the published TorchScript file. The package
truncates to 8 bits instead of rounding: on average half a level darker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from simple_lama_inpainting import SimpleLama

from manifests.errors import RowError, WeightsError
from stages.models import Fill
from stages.models.devices import choose_device, is_black, run_in_batches
from stages.models.lama import pad, padded_size, take_inside
from stages.pixels.masks import Bytes
from stages.weights.foreign import reason

_VARIABLE = "LAMA_MODEL"


def load(weights: Path, device: torch.device | str | None = None) -> Fill:
    """Read the published TorchScript; nothing is downloaded.

    Raises:
        WeightsError: ``weights.unusable``.
    """
    try:
        with _named(weights), warnings.catch_warnings():
            # PyTorch 2.15 advises who exports; the published file is as it is.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
            lama = SimpleLama(choose_device(device))
    except Exception as error:  # TorchScript has its own for each kind of damage
        problem = f"{weights} is not the TorchScript that remove.engine = simple-lama needs"
        raise WeightsError("weights.unusable", f"{problem}: {reason(error)}.") from error
    network = lama.model

    def checked(image: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
        painted: torch.Tensor = network(image, hole)
        if not painted.isfinite().all():
            raise _bad_output()
        return painted

    lama.model = checked

    def fill_one(pixels: Bytes, mask: Bytes) -> Bytes | RowError:
        if not mask.any():
            return pixels.copy()
        # The package would mirror what it pads, and take that for known.
        padded = pad(pixels, mask, padded_size(mask))
        try:
            painted: Bytes = np.asarray(lama(*padded))
        except RowError as error:
            return error
        bad = is_black(painted, *padded)
        return _bad_output() if bad else take_inside(painted, pixels, mask)

    def fill(
        pixels: Sequence[Bytes],
        masks: Sequence[Bytes],
        seeds: Sequence[int],  # noqa: ARG001 - without chance
    ) -> list[Bytes | RowError]:
        windows = list(zip(pixels, masks, strict=True))
        return run_in_batches(lambda some: [fill_one(*each) for each in some], windows, 1)

    return fill


@contextmanager
def _named(weights: Path) -> Iterator[None]:
    """Set the variable by which alone the package takes a path; without it, it would download."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(weights)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def _bad_output() -> RowError:
    return RowError("model.bad_output", "LaMa's output is not a picture.")
