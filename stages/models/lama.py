"""LaMa: fills the holes of windows.

Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022).
The published TorchScript's weights go into spandrel's module of the same network, which can be
compiled, runs batches, and computes its convolutions in 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from spandrel.architectures.LaMa import LaMa
from torch import Tensor, nn

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models import FillFunction
from stages.models.devices import (
    BatchLimit,
    choose_device,
    is_black,
    keep_freed_memory,
    resolve_dtype,
    run_in_batches,
)
from stages.models.padding import pad, unpad_and_keep_known
from stages.models.single_file import load_network
from stages.optional_imports import load_module, one_line
from stages.recipe.removal_methods import LamaOptions

#: Sides of windows become a multiple of this, since the network halves them three times. One
#: feature covers this many px.
_MULTIPLE_PX = 8
#: Reach of the decoder in features: three transposed convolutions of 3, one of 7.
_REACH_FEATURES = 2
#: Minimum side for the network's reflection padding.
_MIN_SIDE_PX = 16

#: A window's pixels, (h, w, 3), and its mask, (h, w), both padded.
_Padded = tuple[UInt8Array, UInt8Array]


def load(options: LamaOptions) -> FillFunction:
    """Load the engine named by the options. See :class:`stages.method_options.RemovalOptions`.

    Raises:
        WeightsError: as :meth:`Lama.load`; ``model.not_installed``.
    """
    weights = Path(options.weights)
    if options.engine == "simple-lama":
        engine = load_module("stages.models.simple_lama", "remove.engine = simple-lama")
        exact = options.model_copy(update={"dtype": "float32"})
        lama = Lama(engine.SimpleLamaNetwork.load(weights), exact)
    else:
        lama = Lama.load(weights, options)
    return lambda pixels, masks, seeds: lama.fill(pixels, masks)  # noqa: ARG005 - deterministic


class Lama:
    """The loaded network.

    Args:
        network: takes pixels ``(n, 3, h, w)`` and a mask ``(n, 1, h, w)``, both float32 0 to 1,
            and returns the filled pixels.
        options: number format, compilation, batch size.
        device: None: a GPU if there is one.

    Raises:
        WeightsError: ``model.unavailable`` if it cannot be compiled here.
    """

    def __init__(
        self, network: nn.Module, options: LamaOptions, device: torch.device | str | None = None
    ) -> None:
        self.device = choose_device(device)
        self.dtype = resolve_dtype(options.dtype, self.device)
        self._limit = BatchLimit(options.batch_size)
        if self.device.type == "cpu":
            keep_freed_memory()
        network.eval().requires_grad_(False)
        if isinstance(network, LaMa):
            network = _HoleDecoder.of(network)
        self._network: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _keep_in_float32(self._network)
        if options.compile:
            self._compile()

    @classmethod
    def load(
        cls, path: Path, options: LamaOptions, device: torch.device | str | None = None
    ) -> Self:
        """Read the weights: the published TorchScript, safetensors or a plain state dict.

        Raises:
            WeightsError: ``weights.missing``; ``weights.unusable`` if the file is damaged, or of
                another network; ``model.unavailable`` if it cannot be compiled here.
        """
        found = load_network(path, "Inpainting")
        if not isinstance(found.model, LaMa):
            problem = f"{path} holds weights of {found.architecture.name}, not of LaMa."
            raise WeightsError("weights.unusable", problem)
        return cls(found.model, options, device)

    def fill(
        self, pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array]
    ) -> list[UInt8Array | RowError]:
        """Fill windows; those of equal padded size run together.

        Padding depends only on a window's own size, so its batch changes the result only by
        rounding: 1 of 255, in few pixels.

        Args:
            pixels: each ``(h, w, 3)`` uint8 RGB, of any size from 1 x 1.
            masks: each ``(h, w)`` uint8; what is not 0 is filled.

        Returns:
            For each window new ``(h, w, 3)`` uint8 pixels, which are the given ones where the mask
            is 0; or, not raised, its RowError: ``model.out_of_memory`` or ``model.bad_output``.
        """
        results: list[UInt8Array | RowError] = [window.copy() for window in pixels]
        marked = [index for index, mask in enumerate(masks) if mask.any()]
        padded = [pad(pixels[index], masks[index], _MULTIPLE_PX, _MIN_SIDE_PX) for index in marked]
        filled = run_in_batches(
            self._run, padded, self._limit, lambda each: each[1].size, lambda each: each[1].shape
        )
        for index, painted in zip(marked, filled, strict=True):
            results[index] = unpad_and_keep_known(painted, pixels[index], masks[index])
        return results

    @torch.inference_mode()
    def _run(self, windows: Sequence[_Padded]) -> list[UInt8Array | RowError]:
        """One batch: ``(h, w, 3)`` uint8 each, or the error where that is no picture."""
        pixels = torch.from_numpy(np.stack([pixels for pixels, _ in windows])).to(self.device)
        masks = torch.from_numpy(np.stack([mask for _, mask in windows])).to(self.device)
        # A (n, 3, h, w) view in channels-last memory order, which suits the network.
        image = pixels.permute(0, 3, 1, 2).float() / 255
        hole = (masks > 0).unsqueeze(1).float()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            painted = self._network(image, hole).float()
        is_number = painted.isfinite().flatten(1).all(dim=1).tolist()
        levels = (painted * 255).round_().clamp_(0, 255).to(torch.uint8)
        bytes_out = levels.permute(0, 2, 3, 1).cpu().numpy()
        return [
            np.ascontiguousarray(out)
            if ok and not is_black(out, *window)
            else RowError(
                "model.bad_output", "LaMa's output contains NaN or infinity, or is black."
            )
            for out, ok, window in zip(bytes_out, is_number, windows, strict=True)
        ]

    def _compile(self) -> None:
        """Compile the network, and run it once, since errors only appear at the first run.

        At the second size, torch compiles it again for any size.
        """
        if isinstance(self._network, _HoleDecoder):
            self._network = self._network.compiled()
        else:
            self._network = torch.compile(self._network)  # type: ignore[assignment]
        black, whole = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8)
        try:
            self._run([(black, whole)])
        except Exception as error:  # a compiler that is missing, too old, or fails
            problem = f"remove.compile: LaMa cannot be compiled: {one_line(error)}."
            raise WeightsError("model.unavailable", problem) from error


class _HoleDecoder(nn.Module):
    """LaMa, decoded only around the hole, since the photo is kept elsewhere.

    The decoder takes a tenth of the network's time, and with a large context most of its output is
    unused. The fill is the same.

    Args:
        encode: takes pixels, black in the hole, and the mask, ``(n, 4, h, w)``; returns features
            ``(n, 512, h / 8, w / 8)``. Its Fourier units see the whole window.
        decode: takes features, returns 8 x 8 pixels for each.
    """

    def __init__(self, encode: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.encode, self.decode = encode, decode

    @classmethod
    def of(cls, network: LaMa) -> Self:
        """Split the network where its decoder begins."""
        layers = network.model.model
        first = next(i for i, each in enumerate(layers) if isinstance(each, nn.ConvTranspose2d))
        return cls(layers[:first], layers[first:])

    def compiled(self) -> Self:
        """Compile encoder and decoder separately, since holes differ from call to call."""
        return type(self)(torch.compile(self.encode), torch.compile(self.decode))  # type: ignore[arg-type]

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        features = self.encode(torch.cat([image * (1 - hole), hole], dim=1))
        rows, columns = _span(hole.amax(dim=(0, 1, 3))), _span(hole.amax(dim=(0, 1, 2)))
        some = features[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
        painted = self.decode(some)
        filled = image.clone()
        at = (..., _in_px(rows), _in_px(columns))
        filled[at] = torch.where(hole[at] > 0, painted.float(), image[at])
        return filled


def _span(marked: Tensor) -> slice:
    """Range of features that affect the marked samples of one axis; at least one is marked."""
    numbers = marked.nonzero() // _MULTIPLE_PX
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(max(first - _REACH_FEATURES, 0), last + 1 + _REACH_FEATURES)


def _in_px(features: slice) -> slice:
    return slice(features.start * _MULTIPLE_PX, features.stop * _MULTIPLE_PX)


class _InFloat32(nn.Module):
    """A layer computed in float32 under autocast; its output has autocast's 16 bits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, image: Tensor) -> Tensor:
        kind = image.device.type
        with torch.autocast(kind, enabled=False):
            out: Tensor = self.layer(image.float())
        return out.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else out


def _keep_in_float32(network: nn.Module) -> None:
    """Exempt from autocast the layers that need float32.

    These are the Fourier units (``torch.fft`` has no bfloat16, and cuFFT supports 16 bits only for
    powers of two), the sigmoid, and the first convolution: bfloat16's 8 bits are too few for
    pictures of 256 levels. Exempting the latter reduces the error by a quarter.
    """

    def to_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return tuple(each.float() for each in inputs)

    for module in network.modules():
        if type(module).__name__ == "FourierUnit" or isinstance(module, nn.Sigmoid):
            module.register_forward_pre_hook(to_float32)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            network.set_submodule(name, _InFloat32(module))
            break
