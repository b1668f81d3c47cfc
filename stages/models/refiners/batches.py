"""Base class of the diffusion refiners: batches, noise, decoding, and detection of failures."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.device_lock import DEVICE_LOCK
from stages.models import vae
from stages.models.devices import (
    BatchLimit,
    choose_device,
    resolve_dtype,
    run_in_batches,
)
from stages.models.refiners import adapters, loading
from stages.models.refiners.prompts import Prompt, Values
from stages.models.refiners.sigmas import comfy_sigmas
from stages.optional_imports import reason
from stages.recipe.options import DiffusionOptions

#: Sides must be multiples of this: 8 px to a latent, 2 by 2 latents to a token.
SIDE_PX = 16

_log = logging.getLogger(__name__)

#: Encoded prompts that are kept: on the device, some MB each, and by the encoder, 4 to 15 MiB each.
_MAX_KEPT_PROMPTS, _MAX_CACHED_PROMPTS = 8, 32


@dataclass(frozen=True, slots=True)
class Item:
    """One crop: ``(h, w, 3)`` uint8 RGB, ``(h, w)`` uint8 mask (128 and above), prompt, seed.

    ``photo`` is like ``pixels``, but may show the object.
    """

    pixels: UInt8Array
    mask: UInt8Array
    prompt: Prompt
    seed: int
    photo: UInt8Array

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Items of one shape can run in one batch."""
        prompt = self.prompt
        arrays = (self.pixels, prompt.embeds, prompt.pooled, prompt.negative)
        return tuple(array.shape for array in arrays)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one shape as tensors on the device, n at once.

    Attributes:
        image: ``(n, 3, h, w)`` float32, -1 to 1.
        mask: ``(n, 1, h, w)`` float32, 1 where to regenerate, else 0.
        embeds: ``(n, tokens, dim)`` in the weights' precision.
        pooled: ``(n, dim)`` in the weights' precision.
        negative: ``(n, tokens, dim)`` in the weights' precision.
        generators: one per item, on the CPU, so that its noise is the same on every device and in
            every batch.
        photo: like ``image``, but may show the objects; ``image`` itself if the photos are not
            given.
    """

    image: torch.Tensor
    mask: torch.Tensor
    embeds: torch.Tensor
    pooled: torch.Tensor
    negative: torch.Tensor
    generators: list[torch.Generator]
    photo: torch.Tensor


class DiffusionRefiner(ABC):
    """Runs crops in batches through a diffusers pipeline; subclasses run one batch.

    Args:
        pipe: the pipeline on its device, with a scheduler from :func:`unshifted_scheduler`.
        options: noise levels, and the maximum number of crops at once.
        device: the pipeline's device.
        dtype: the weights' number format.
    """

    #: Name of the transformer's module that embeds times (and guidance and text, if any).
    time_embed: ClassVar[str]
    #: Tokens of a short text.
    text_tokens: ClassVar[int]
    #: Whether guidance over 1 compares with a negative prompt.
    has_negative: ClassVar[bool] = False
    #: Accepted pipeline classes in ``model_index.json``; the first is the published one.
    pipelines: ClassVar[tuple[str, ...]]
    #: The pipeline's class, and the classes of its parts that encode texts.
    pipeline: ClassVar[Any]
    text_encoders: ClassVar[Mapping[str, Any]]
    tokenizers: ClassVar[Mapping[str, Any]]

    options: DiffusionOptions

    def __init__(
        self, pipe: Any, options: DiffusionOptions, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.pipe = pipe
        self.options = options
        self.device = device
        self.dtype = dtype
        self.limit = BatchLimit(options.batch_size)
        self._stance: Literal["default", "eager_on_recompile"] = "default"
        self.sigmas = self._sigmas()

    @classmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Load transformer and VAE. Arguments and errors: see :mod:`stages.models.refiners`."""
        device = choose_device()
        dtype = resolve_dtype(options.dtype, device)
        index = loading.check_folder(folder, cls.pipelines, ("transformer", "vae"))
        # Straight from the files to the device, unless it could not hold all of it in 16 bits.
        place = torch.device("cpu") if options.offload or options.fp8 else device
        pipe = cls.build_pipe(folder, options, index, place, dtype)
        return cls.from_pipe(pipe, options, device, dtype)

    @classmethod
    def from_pipe(cls, pipe: Any, options: Any, device: torch.device, dtype: torch.dtype) -> Self:
        """Build the refiner from a pipeline, which need not be on its device yet.

        Raises:
            WeightsError: ``model.unavailable``: an option does not work here;
                ``weights.unusable``: an adapter.
            RowError: ``model.out_of_memory``.
        """
        transformer = pipe.transformer
        adapters.merge(pipe, options.lora, options.lora_scales)
        loading.fuse_projections(transformer)
        if options.fp8:
            loading.quantize(transformer, dtype, device)
        pipe.vae.enable_slicing()  # one crop at a time is as fast, and takes less memory
        loading.move_to_device(pipe, device, offload=options.offload)
        if options.attention:
            loading.use_attention(transformer, options.attention, dtype, device)
        refiner = cls(pipe, options, device, dtype)
        if options.compile is True or (options.compile == "auto" and device.type == "cuda"):
            refiner.compile()
        return refiner

    def compile(self) -> None:
        """Compile the transformer's blocks for full batches and single crops of the usual shape.

        The usual shape is a square of ``size_px`` with a short text. Others run uncompiled: each
        would take a minute to compile, and torch refuses the ninth. A batch that is not full runs
        crop by crop, so nothing has to be padded.

        Raises:
            WeightsError: ``model.unavailable``, if ``compile`` is required and does not work here.
        """
        transformer = self.pipe.transformer
        try:
            loading.use_compile(transformer)
            for count in sorted({self.options.batch_size, 1}, reverse=True):
                self._rehearse(count)
        except Exception as error:  # a missing compiler, or one that fails, raises many types
            problem = f"refine.compile is not available: {reason(error)}."
            if self.options.compile is True:
                raise WeightsError("model.unavailable", problem) from None
            _log.warning("%s The refiner runs without.", problem)
            loading.undo_compile(transformer)
            return
        self.limit.is_all_or_one = True
        self._stance = "eager_on_recompile"

    def _rehearse(self, count: int) -> None:
        """Run one step for this number of black crops."""
        config = self.pipe.transformer.config
        side = max(round(self.options.size_px / SIDE_PX), 1) * SIDE_PX
        text = np.zeros((self.text_tokens, config.joint_attention_dim), np.float32)
        pooled = np.zeros(config.get("pooled_projection_dim", 0), np.float32)
        negative = text if self.has_negative and self.options.guidance > 1 else text[:0, :0]
        prompt = Prompt(text, pooled, negative, "")
        black, whole = np.zeros((side, side, 3), np.uint8), np.full((side, side), 255, np.uint8)
        short = self._with(steps=1)
        short.refine([black] * count, [whole] * count, [prompt] * count, range(count))

    @classmethod
    def load_encoder(cls, folder: Path, options: Any) -> Callable[[str], Prompt]:
        """Load the text encoders. Arguments and errors: see :mod:`stages.models.refiners`."""
        device = choose_device()
        dtype = resolve_dtype(options.dtype, device)
        loading.check_folder(folder, cls.pipelines, (*cls.text_encoders, *cls.tokenizers))
        parts = {
            part: loading.load_part(kind, folder, part, dtype, device)
            for part, kind in cls.text_encoders.items()
        }
        for part, kind in cls.tokenizers.items():
            parts[part] = loading.load_tokenizer(kind, folder, part)
        pipe = cls.pipeline(scheduler=None, vae=None, transformer=None, **parts)
        loading.move_to_device(pipe, device, offload=False)
        encode = lru_cache(_MAX_CACHED_PROMPTS)(torch.no_grad()(cls.encoder(pipe, options)))

        def encode_alone(text: str) -> Prompt:
            with DEVICE_LOCK:
                return encode(text)

        return encode_alone

    @classmethod
    @abstractmethod
    def encoder(cls, pipe: Any, options: Any) -> Callable[[str], Prompt]:
        """Return the function that encodes a text with a pipeline of text encoders alone."""

    @classmethod
    @abstractmethod
    def build_pipe(
        cls,
        folder: Path,
        options: Any,
        index: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Any:
        """Load a pipeline without text encoders; ``index`` is the content of ``model_index.json``.

        It need not be on its device yet. Errors: as :meth:`load`.
        """

    @classmethod
    def without_texts(cls, **parts: Any) -> Any:
        """Build the pipeline of these parts, with an Euler scheduler and no text encoders."""
        absent = dict.fromkeys((*cls.text_encoders, *cls.tokenizers))
        return cls.pipeline(scheduler=unshifted_scheduler(), **absent, **parts)

    @property
    def guidance(self) -> float | None:
        """The guidance passed to the model; None: the weights have no guidance input."""
        return self.options.guidance

    def _sigmas(self) -> list[float]:
        """The noise levels, as the scheduler rounds them; the last is 0."""
        options, scheduler = self.options, self.pipe.scheduler
        sigmas = comfy_sigmas(options.steps, options.denoise, options.shift, options.scheduler)
        scheduler.set_timesteps(sigmas=list(sigmas[:-1]))  # it adds the 0 itself
        return list(scheduler.sigmas.tolist())

    def at_denoise(self, denoise: float) -> Self:
        """Return the same model with another starting noise level; nothing is loaded again."""
        return self._with(denoise=denoise)

    def _with(self, **options: Any) -> Self:
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
        photos: Sequence[UInt8Array] = (),
    ) -> list[UInt8Array | RowError]:
        """Regenerate the masked part of each crop, starting from its current pixels.

        Crops of one size run together; a crop's result does not depend on the others.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB each, h and w multiples of 16.
            masks: ``(h, w)`` uint8 each; 128 and above is regenerated.
            prompts: one per crop, from :meth:`load_encoder`.
            seeds: one per crop, 0 to 2**32 - 1.
            photos: for ``needs_photo`` of the options: like ``pixels``, but with the objects.

        Returns:
            Full pictures of the same sizes, in order. Their unmasked part may differ from the
            input: paste only the masked one. For a crop that fails, the error instead:
            ``model.out_of_memory`` or ``model.bad_output``.

        Raises:
            ValueError: a size, type or count is wrong, which is the caller's fault.
        """
        parts = zip(pixels, masks, prompts, seeds, photos or pixels, strict=True)
        items = [Item(*each) for each in parts]
        for item in items:
            _check(item)
        return run_in_batches(
            self._run, items, self.limit, lambda item: item.mask.size, lambda item: item.shape
        )

    def _run(self, items: Sequence[Item]) -> list[UInt8Array | RowError]:
        with self._exact_times(), torch.compiler.set_stance(self._stance):
            latents = self.denoise(_batch(items, self.device, self.dtype))
        # One by one: this is as fast, and a batch would often need more memory than the model.
        results = [
            vae.to_pixels(vae.decode(self.pipe.vae, each, self.dtype), item.pixels)
            for each, item in zip(latents, items, strict=True)
        ]
        self.pipe.maybe_free_model_hooks()
        return results

    @contextmanager
    def _exact_times(self) -> Iterator[None]:
        """Pass each step's time to the model in float32, as ComfyUI does.

        Diffusers rounds times to the weights' precision: in bfloat16, 926.65 is read as 928.
        """
        embed, scheduler = getattr(self.pipe.transformer, self.time_embed), self.pipe.scheduler

        def project(_: torch.nn.Module, rounded: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            time = scheduler.timesteps[scheduler.step_index or 0].to(rounded[0].device)
            projected: torch.Tensor = embed.time_proj(time.expand(len(rounded[0])))
            return (projected.to(rounded[0].dtype),)

        hook = embed.timestep_embedder.register_forward_pre_hook(project)
        try:
            yield
        finally:
            hook.remove()


def unshifted_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Build an Euler scheduler that uses the given noise levels without shifting them."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False
    )


def noise_of(generators: Sequence[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    """Draw ``(n, *shape)`` float32 on the CPU, each item from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=each) for each in generators])


def _check(item: Item) -> None:
    height, width = item.mask.shape
    for pixels in (item.pixels, item.photo):
        if pixels.shape != (height, width, 3):
            raise ValueError(f"Pixels {pixels.shape} and mask {item.mask.shape} do not match.")
        if pixels.dtype != np.uint8 or item.mask.dtype != np.uint8:
            raise ValueError(f"{pixels.dtype} and {item.mask.dtype} must be uint8.")
    if not height or not width or height % SIDE_PX or width % SIDE_PX:
        raise ValueError(f"{width} x {height} px are not multiples of {SIDE_PX}.")


def _batch(items: Sequence[Item], device: torch.device, dtype: torch.dtype) -> Batch:
    texts = [_on_device(item.prompt, device, dtype) for item in items]
    embeds, pooled, negative = (torch.stack(arrays) for arrays in zip(*texts, strict=True))
    image = vae.to_tensor([item.pixels for item in items], device)
    photos = [item.photo for item in items]
    has_photos = any(item.photo is not item.pixels for item in items)
    marked = torch.from_numpy(np.stack([item.mask >= 128 for item in items])).to(device)
    return Batch(
        image=image,
        mask=marked[:, None].float(),
        embeds=embeds,
        pooled=pooled,
        negative=negative,
        generators=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
        photo=vae.to_tensor(photos, device) if has_photos else image,
    )


@lru_cache(_MAX_KEPT_PROMPTS)
def _on_device(prompt: Prompt, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """The prompt's ``embeds``, ``pooled`` and ``negative``; a kept prompt is not copied again."""

    def tensor(array: Values) -> torch.Tensor:
        values = torch.from_numpy(array)
        exact = values.view(torch.bfloat16) if values.dtype == torch.uint16 else values
        return exact.to(device, dtype)

    return [tensor(each) for each in (prompt.embeds, prompt.pooled, prompt.negative)]
