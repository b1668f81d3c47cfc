"""Base class of the diffusion refiners: batches, noise, decoding, and detection of failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.device_lock import DEVICE_LOCK
from stages.models import vae
from stages.models.devices import (
    BatchLimit,
    choose_device,
    resolve_dtype,
    run_in_batches,
)
from stages.models.refiners import adapters, diffusers_folder
from stages.models.refiners.prompts import Prompt, Values
from stages.recipe.diffusers_options import DiffusersOptions

#: Sides must be multiples of this: 8 px to a latent, 2 by 2 latents to a token.
SIDE_PX = 16

#: Encoded prompts that are kept: on the device, some MB each, and by the encoder, 4 to 15 MiB each.
_MAX_KEPT_PROMPTS, _MAX_CACHED_PROMPTS = 8, 32


@dataclass(frozen=True, slots=True)
class Item:
    """One crop: ``(h, w, 3)`` uint8 RGB, ``(h, w)`` uint8 mask (128 and above), prompt, seed.

    ``original`` is like ``pixels``, but may show the object.
    """

    pixels: UInt8Array
    mask: UInt8Array
    prompt: Prompt
    seed: int
    original: UInt8Array

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Items of one shape can run in one batch."""
        arrays = (self.pixels, self.prompt.embeds, self.prompt.pooled)
        return tuple(array.shape for array in arrays)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one shape as tensors on the device, n at once.

    Attributes:
        image: ``(n, 3, h, w)`` float32, -1 to 1.
        mask: ``(n, 1, h, w)`` float32, 1 where to regenerate, else 0.
        embeds: ``(n, tokens, dim)`` in the weights' precision.
        pooled: ``(n, dim)`` in the weights' precision.
        generators: one per item, on the CPU, so that its noise is the same on every device and in
            every batch.
        original: like ``image``, but may show the objects; ``image`` itself if the originals are
            not given.
    """

    image: torch.Tensor
    mask: torch.Tensor
    embeds: torch.Tensor
    pooled: torch.Tensor
    generators: list[torch.Generator]
    original: torch.Tensor


class DiffusionRefiner(ABC):
    """Runs crops in batches through a diffusers pipeline; subclasses run one batch.

    Args:
        pipe: the pipeline on its device.
        options: noise levels, and the maximum number of crops at once.
        device: the pipeline's device.
        dtype: the weights' number format.
    """

    #: The pipeline's component that denoises.
    denoiser: ClassVar[str] = "transformer"
    #: Accepted pipeline classes in ``model_index.json``; the first is the published one.
    accepted_pipelines: ClassVar[tuple[str, ...]]
    #: The pipeline's class, and the classes of its components that encode texts.
    pipeline_class: ClassVar[Any]
    text_encoders: ClassVar[Mapping[str, Any]]
    tokenizers: ClassVar[Mapping[str, Any]]
    #: Whether texts are formatted with the tokenizer's chat template.
    has_template: ClassVar[bool] = False

    options: DiffusersOptions

    def __init__(
        self, pipe: Any, options: DiffusersOptions, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.pipe = pipe
        self.options = options
        self.device = device
        self.dtype = dtype
        self.limit = BatchLimit(options.batch_size)
        self.sigmas = self._sigmas()

    @classmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Load network and VAE. Arguments and errors: see :mod:`stages.models.refiners`."""
        device = choose_device()
        dtype = resolve_dtype(options.dtype, device)
        diffusers_folder.check_folder(folder, cls.accepted_pipelines, (cls.denoiser, "vae"))
        # Straight from the files to the device, unless it could not hold all of it.
        place = device if options.loads_to_device else torch.device("cpu")
        pipe = cls.build_pipe(diffusers_folder.Loader(folder, dtype, place), options)
        adapters.merge(pipe, cls.denoiser, options.lora, options.lora_scales)
        return cls.from_pipe(pipe, options, device, dtype)

    @classmethod
    def from_pipe(cls, pipe: Any, options: Any, device: torch.device, dtype: torch.dtype) -> Self:
        """Build the refiner from a pipeline, which need not be on its device yet.

        Raises:
            WeightsError: ``model.unavailable``: an option does not work here.
            RowError: ``model.out_of_memory``.
        """
        pipe.vae.enable_slicing()  # one crop at a time is as fast, and takes less memory
        diffusers_folder.move_to_device(pipe, device, offload=options.offload)
        return cls(pipe, options, device, dtype)

    @classmethod
    def load_encoder(cls, folder: Path, options: Any) -> Callable[[str], Prompt]:
        """Load the text encoders. Arguments and errors: see :mod:`stages.models.refiners`."""
        device = choose_device()
        dtype = resolve_dtype(options.dtype, device)
        names = (*cls.text_encoders, *cls.tokenizers)
        diffusers_folder.check_folder(folder, cls.accepted_pipelines, names)
        loader = diffusers_folder.Loader(folder, dtype, device)
        components = {
            name: loader.load_component(model_class, name)
            for name, model_class in cls.text_encoders.items()
        }
        for name, tokenizer_class in cls.tokenizers.items():
            components[name] = diffusers_folder.load_tokenizer(
                tokenizer_class, folder, name, has_template=cls.has_template
            )
        absent = dict.fromkeys(("scheduler", "vae", cls.denoiser))
        pipe = cls.pipeline_class(**absent, **components)
        diffusers_folder.move_to_device(pipe, device, offload=False)
        encode = lru_cache(_MAX_CACHED_PROMPTS)(torch.no_grad()(cls.make_encoder(pipe, options)))

        def encode_alone(text: str) -> Prompt:
            (prompt,) = run_in_batches(lambda texts: [encode(texts[0])], [text], BatchLimit(1))
            if isinstance(prompt, RowError):
                raise prompt
            return prompt

        return encode_alone

    @classmethod
    @abstractmethod
    def make_encoder(cls, pipe: Any, options: Any) -> Callable[[str], Prompt]:
        """Make the function that encodes a text with a pipeline of text encoders alone."""

    @classmethod
    @abstractmethod
    def build_pipe(cls, loader: diffusers_folder.Loader, options: Any) -> Any:
        """Load a pipeline without text encoders; it need not be on its device yet.

        Errors: as :meth:`load`.
        """

    @classmethod
    def without_text_encoders(cls, **components: Any) -> Any:
        """Build the pipeline of these components, without text encoders."""
        absent = dict.fromkeys((*cls.text_encoders, *cls.tokenizers))
        return cls.pipeline_class(**absent, **components)

    @property
    def guidance(self) -> float | None:
        """The guidance passed to the model; None: it runs without."""
        return None

    @abstractmethod
    def _sigmas(self) -> list[float]:
        """The noise levels; the last is 0."""

    def with_options(self, **options: Any) -> Self:
        """Return the same model with other options; nothing is loaded again."""
        other = copy(self)
        other.options = self.options.model_copy(update=options)
        with DEVICE_LOCK:  # the scheduler is shared
            other.sigmas = other._sigmas()
        return other

    @abstractmethod
    def denoise(self, batch: Batch) -> torch.Tensor:
        """Denoise a batch from the first noise level to 0; return latents for the VAE."""

    @torch.no_grad()
    def refine(
        self,
        pixels: Sequence[UInt8Array],
        masks: Sequence[UInt8Array],
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        originals: Sequence[UInt8Array] = (),
    ) -> list[UInt8Array | RowError]:
        """Regenerate the masked part of each crop, starting from its current pixels.

        Crops of one size run together; a crop's result does not depend on the others.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB each, h and w multiples of 16.
            masks: ``(h, w)`` uint8 each; 128 and above is regenerated.
            prompts: one per crop, from :meth:`load_encoder`.
            seeds: one per crop, 0 to 2**32 - 1.
            originals: for ``needs_original`` of the options: like ``pixels``, with the objects.

        Returns:
            Full pictures of the same sizes, in order. Their unmasked part may differ from the
            input: paste only the masked one. For a crop that fails, the error instead:
            ``model.out_of_memory`` or ``model.bad_output``.

        Raises:
            ValueError: a size, type or count is wrong, which is the caller's fault.
        """
        parts = zip(pixels, masks, prompts, seeds, originals or pixels, strict=True)
        items = [Item(*each) for each in parts]
        for item in items:
            _check(item)
        return run_in_batches(
            self._run, items, self.limit, lambda item: item.mask.size, lambda item: item.shape
        )

    def _run(self, items: Sequence[Item]) -> list[UInt8Array | RowError]:
        latents = self.denoise(_batch(items, self.device, self.dtype))
        # One by one: this is as fast, and a batch would often need more memory than the model.
        results = [
            vae.to_pixels(vae.decode(self.pipe.vae, each), item.pixels)
            for each, item in zip(latents, items, strict=True)
        ]
        self.pipe.maybe_free_model_hooks()
        return results


def whole_cells(mask: torch.Tensor, side_px: int) -> torch.Tensor:
    """Dilate a mask, ``(n, 1, h, w)``, to full cells: pipelines sample one px of each.

    They miss lines otherwise.
    """
    touched = torch.nn.functional.max_pool2d(mask, side_px)
    return torch.nn.functional.interpolate(touched, scale_factor=side_px, mode="nearest")


def _check(item: Item) -> None:
    height, width = item.mask.shape
    for pixels in (item.pixels, item.original):
        if pixels.shape != (height, width, 3):
            raise ValueError(f"Pixels {pixels.shape} and mask {item.mask.shape} do not match.")
        if pixels.dtype != np.uint8 or item.mask.dtype != np.uint8:
            raise ValueError(f"{pixels.dtype} and {item.mask.dtype} must be uint8.")
    if not height or not width or height % SIDE_PX or width % SIDE_PX:
        raise ValueError(f"{width} x {height} px are not multiples of {SIDE_PX}.")


def _batch(items: Sequence[Item], device: torch.device, dtype: torch.dtype) -> Batch:
    texts = [_on_device(item.prompt, device, dtype) for item in items]
    embeds, pooled = (torch.stack(arrays) for arrays in zip(*texts, strict=True))
    marked = torch.from_numpy(np.stack([item.mask >= 128 for item in items])).to(device)
    image = vae.to_tensor([item.pixels for item in items], device)
    has_originals = any(item.original is not item.pixels for item in items)
    originals = [item.original for item in items]
    return Batch(
        image=image,
        mask=marked[:, None].float(),
        embeds=embeds,
        pooled=pooled,
        generators=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
        original=vae.to_tensor(originals, device) if has_originals else image,
    )


@lru_cache(_MAX_KEPT_PROMPTS)
def _on_device(prompt: Prompt, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """The prompt's ``embeds`` and ``pooled``; a kept prompt is not copied again."""

    def tensor(array: Values) -> torch.Tensor:
        values = torch.from_numpy(array)
        exact = values.view(torch.bfloat16) if values.dtype == torch.uint16 else values
        return exact.to(device, dtype)

    return [tensor(each) for each in (prompt.embeds, prompt.pooled)]
