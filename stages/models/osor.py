"""OSOR-SDXL: removes an object, with its shadow and its reflection, in one step.

Zhou et al., "OSOR: One-Step Diffusion Inpainting for Effect-Aware Object Removal" (ECCV 2026). It
is SDXL's inpainting UNet with adapters, and with a fifth output, the opacity of what it paints. The
object stays in the picture that the network sees. Inputs, timestep and blending are those of the
authors' ``inference_enhance.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file
from torch.nn import functional

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models import FillFunction, FillWithAlpha, vae
from stages.models.devices import BatchLimit, choose_device, resolve_dtype, run_in_batches
from stages.models.padding import pad
from stages.models.refiners.adapters import merge_tensors
from stages.models.refiners.diffusers_folder import Loader, check_folder, load_config
from stages.optional_imports import one_line
from stages.recipe.removal_methods import OsorOptions

#: Sides of windows become a multiple of this. The UNet takes any number of latents.
_LATENT_PX = 8

#: The only timestep, of 1,000, that the network was trained for.
_TIMESTEP = 400

#: Names of tensors in the published file, which was written from a wrapped network.
_PREFIX, _ADAPTER = "unet.", ".default."
_LAST_LAYER = ("unet.conv_out.weight", "unet.conv_out.bias")

#: Names of tensors in the file of the encoded text.
_TEXT = ("prompt_embeds", "pooled_prompt_embeds")

#: A window's pixels, (h, w, 3), its mask, (h, w), both padded, and its seed.
_Window = tuple[UInt8Array, UInt8Array, int]


def load(options: OsorOptions) -> FillFunction:
    """Load the model. See :class:`stages.method_options.RemovalOptions`.

    Raises:
        WeightsError: ``weights.unusable``: a file is damaged, or of another network.
        RowError: ``model.out_of_memory``.
    """
    return Osor.load(options).fill


class Osor:
    """The loaded networks.

    Args:
        unet: takes ``(n, 9, h / 8, w / 8)``, and returns noise and the opacity's logit, 5 channels.
        autoencoder: SDXL's.
        scheduler: the base model's noise levels.
        text: the encoded prompt, ``(1, 77, dim)``, and its pooled vector, ``(1, dim)``.
        options: number format and batch size.
        device: where the networks are.
    """

    def __init__(
        self,
        unet: Any,
        autoencoder: Any,
        scheduler: DDPMScheduler,
        text: Sequence[torch.Tensor],
        *,
        options: OsorOptions,
        device: torch.device,
    ) -> None:
        self.unet, self.autoencoder, self.scheduler = unet, autoencoder, scheduler
        self.device, self.dtype = device, resolve_dtype(options.dtype, device)
        self._limit = BatchLimit(options.batch_size)
        self._text = [each.to(device, self.dtype) for each in text]

    @classmethod
    def load(cls, options: OsorOptions) -> Self:
        """Load the networks from local paths. Errors: see :func:`load`."""
        device = choose_device()
        dtype = resolve_dtype(options.dtype, device)
        base = Path(options.base_weights)
        check_folder(base, ("StableDiffusionXLInpaintPipeline",), ("unet", "vae", "scheduler"))
        unet = Loader(base, dtype, device).load_component(UNet2DConditionModel, "unet")
        merge(unet, Path(options.weights))
        text = _tensors(Path(options.prompt_weights), _TEXT)
        return cls(
            unet.to(device),
            Loader(base, vae.vae_dtype(dtype), device).load_component(AutoencoderKL, "vae"),
            load_config(DDPMScheduler, base, "scheduler"),
            [text[name] for name in _TEXT],
            options=options,
            device=device,
        )

    def fill(
        self, pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array], seeds: Sequence[int]
    ) -> list[FillWithAlpha | RowError]:
        """Fill windows; those of equal padded size run together.

        Args:
            pixels: each ``(h, w, 3)`` uint8 RGB, of any size from 1 x 1.
            masks: each ``(h, w)`` uint8; what is not 0 is removed.
            seeds: 0 to 2**32 - 1 each.

        Returns:
            For each window the model's whole picture with its alpha; or, not raised, its RowError:
            ``model.out_of_memory`` or ``model.bad_output``.
        """
        windows = [
            (*pad(each, mask, _LATENT_PX), seed)
            for each, mask, seed in zip(pixels, masks, seeds, strict=True)
        ]
        results = run_in_batches(
            self._run, windows, self._limit, lambda each: each[1].size, lambda each: each[1].shape
        )
        return [
            result if isinstance(result, RowError) else _cut(result, mask.shape)
            for result, mask in zip(results, masks, strict=True)
        ]

    @torch.inference_mode()
    def _run(self, windows: Sequence[_Window]) -> list[FillWithAlpha | RowError]:
        pixels = [each for each, _, _ in windows]
        generators = [torch.Generator("cpu").manual_seed(seed) for _, _, seed in windows]
        shown = self._encode(vae.to_tensor(pixels, self.device), generators)
        noise = randn_tensor(shown.shape, generators, shown.device)
        noisy = self.scheduler.add_noise(shown, noise, torch.tensor([_TIMESTEP]))
        mask = torch.from_numpy(np.stack([mask > 0 for _, mask, _ in windows])).to(self.device)
        marked = functional.max_pool2d(mask[:, None].float(), _LATENT_PX)
        output = self._predict(torch.cat([noisy, marked, shown], dim=1))
        painted = self.scheduler.step(output[:, :4], _TIMESTEP, noisy).pred_original_sample
        alpha = output[:, 4:].sigmoid()
        latents = (painted * alpha + shown * (1 - alpha)) / self.autoencoder.config.scaling_factor
        size = mask.shape[1:]
        opacity = functional.interpolate(alpha, size, mode="bilinear")[:, 0]
        levels = (opacity * 255).round().to(torch.uint8).cpu().numpy()
        return [
            self._erased(each, source, level)
            for each, source, level in zip(latents, pixels, levels, strict=True)
        ]

    def _encode(self, image: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
        """Sample latents, ``(n, 4, h / 8, w / 8)`` float32, each with its own generator."""
        posterior = self.autoencoder.encode(image.to(self.autoencoder.dtype)).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        sampled = mean + std * randn_tensor(mean.shape, generators, mean.device)
        return torch.mul(sampled, self.autoencoder.config.scaling_factor)

    def _predict(self, latents: torch.Tensor) -> torch.Tensor:
        """Run the UNet on ``(n, 9, h / 8, w / 8)``; returns ``(n, 5, h / 8, w / 8)`` float32."""
        count, _, rows, columns = latents.shape
        height, width = rows * _LATENT_PX, columns * _LATENT_PX
        timesteps = torch.full((count,), _TIMESTEP, device=self.device)
        sizes = torch.tensor([height, width, 0, 0, height, width], device=self.device)
        text, pooled = (each.expand(count, *each.shape[1:]) for each in self._text)
        output: torch.Tensor = self.unet(
            latents.to(self.dtype),
            timesteps,
            encoder_hidden_states=text,
            added_cond_kwargs={
                "text_embeds": pooled,
                "time_ids": sizes.to(self.dtype).expand(count, -1),
            },
            return_dict=False,
        )[0]
        return output.float()

    def _erased(
        self, latents: torch.Tensor, source: UInt8Array, alpha: UInt8Array
    ) -> FillWithAlpha | RowError:
        pixels = vae.to_pixels(vae.decode(self.autoencoder, latents), source)
        return pixels if isinstance(pixels, RowError) else FillWithAlpha(pixels, alpha)


def merge(unet: Any, path: Path) -> None:
    """Merge the published file into SDXL's inpainting UNet, in place.

    The adapters (Hu et al. 2021; rank and alpha are equal) are added to the layers, and the last
    layer, which also predicts the opacity, replaces the UNet's.

    Raises:
        WeightsError: ``weights.unusable``: the file is damaged, or of another network.
    """
    tensors = _tensors(path, _LAST_LAYER)
    weight, bias = (tensors.pop(name) for name in _LAST_LAYER)
    old = unet.conv_out
    if weight.shape != (5, *old.weight.shape[1:]) or bias.shape != (5,):
        shapes = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        raise _unusable(path, f"its last layer has {shapes}: it has no alpha, or is another's")
    unet.conv_out = torch.nn.Conv2d(old.in_channels, 5, old.kernel_size, padding=old.padding)
    unet.conv_out.weight.data, unet.conv_out.bias.data = (
        each.to(old.weight.device, old.weight.dtype) for each in (weight, bias)
    )
    named = {name.replace(_ADAPTER, "."): tensor for name, tensor in tensors.items()}
    merge_tensors(dict(unet.named_modules()), named, _PREFIX, path, {})
    unet.eval().requires_grad_(False)


def _tensors(path: Path, needed: Sequence[str]) -> dict[str, torch.Tensor]:
    """Read a safetensors file that has these tensors."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors and the file system have their own
        raise _unusable(path, f"it cannot be read: {one_line(error)}") from error
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise _unusable(path, f"it has no {missing[0]}")
    return tensors


def _unusable(path: Path, problem: str) -> WeightsError:
    return WeightsError("weights.unusable", f"{path} is not OSOR-SDXL's: {problem}.")


def _cut(erased: FillWithAlpha, shape: tuple[int, ...]) -> FillWithAlpha:
    """Undo the padding."""
    height, width = shape[:2]
    return FillWithAlpha(erased.pixels[:height, :width], erased.alpha[:height, :width])
