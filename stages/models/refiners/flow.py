"""Base class of the flow-matching refiners, such as FLUX."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models.refiners import diffusers_folder
from stages.models.refiners.base import SIDE_PX, DiffusionRefiner, Item
from stages.models.refiners.prompts import Prompt
from stages.models.refiners.sigmas import comfy_sigmas
from stages.optional_imports import one_line
from stages.recipe.refiners import FlowOptions

_log = logging.getLogger(__name__)


class FlowRefiner(DiffusionRefiner):
    """See the base class. The pipeline has a scheduler from :func:`unshifted_scheduler`."""

    #: Name of the transformer's module that embeds timesteps (and guidance and text, if any); empty
    #: if it reads them as they are.
    time_embed: ClassVar[str] = ""
    #: Tokens of a short text.
    text_tokens: ClassVar[int]
    #: The transformer's class.
    transformer_class: ClassVar[Any]

    options: FlowOptions

    def __init__(
        self, pipe: Any, options: FlowOptions, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(pipe, options, device, dtype)
        self._stance: Literal["default", "eager_on_recompile"] = "default"

    @classmethod
    def from_pipe(cls, pipe: Any, options: Any, device: torch.device, dtype: torch.dtype) -> Self:
        """See the base class."""
        diffusers_folder.fuse_projections(pipe.transformer)
        if options.fp8:
            diffusers_folder.quantize(pipe.transformer, dtype, device)
        refiner = super().from_pipe(pipe, options, device, dtype)
        if options.attention:
            diffusers_folder.use_attention(pipe.transformer, options.attention, dtype, device)
        if options.compile is True or (options.compile == "auto" and device.type == "cuda"):
            refiner.compile()
        return refiner

    @classmethod
    def build_pipe(cls, loader: diffusers_folder.Loader, options: Any) -> Any:  # noqa: ARG003 - for subclasses
        """See the base class. This is for pipelines with the autoencoder of FLUX.1."""
        return cls.without_text_encoders(
            vae=loader.load_component(AutoencoderKL, "vae"),
            transformer=loader.load_component(cls.transformer_class, "transformer"),
        )

    @classmethod
    def without_text_encoders(cls, **components: Any) -> Any:
        """See the base class."""
        return super().without_text_encoders(scheduler=unshifted_scheduler(), **components)

    @property
    def text_dim(self) -> int:
        """Embedding size per token."""
        return int(self.pipe.transformer.config.joint_attention_dim)

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
            diffusers_folder.use_compile(transformer)
            for count in sorted({self.options.batch_size, 1}, reverse=True):
                self._warm_up(count)
        except Exception as error:  # a missing compiler, or one that fails, raises many types
            problem = f"refine.compile is not available: {one_line(error)}."
            if self.options.compile is True:
                raise WeightsError("model.unavailable", problem) from None
            _log.warning("%s The refiner runs without.", problem)
            diffusers_folder.undo_compile(transformer)
            return
        self.limit.is_all_or_one = True
        self._stance = "eager_on_recompile"

    def _warm_up(self, count: int) -> None:
        """Run one step for this number of black crops."""
        config = self.pipe.transformer.config
        side = max(round(self.options.size_px / SIDE_PX), 1) * SIDE_PX
        text = np.zeros((self.text_tokens, self.text_dim), np.float32)
        pooled = np.zeros(config.get("pooled_projection_dim", 0), np.float32)
        prompt = Prompt(text, pooled, "")
        black, whole = np.zeros((side, side, 3), np.uint8), np.full((side, side), 255, np.uint8)
        short = self.with_options(steps=1)
        short.refine([black] * count, [whole] * count, [prompt] * count, range(count))

    def _run(self, items: Sequence[Item]) -> list[UInt8Array | RowError]:
        with self._exact_timesteps(), torch.compiler.set_stance(self._stance):
            return super()._run(items)

    @contextmanager
    def _exact_timesteps(self) -> Iterator[None]:
        """Pass each step's timestep to the model in float32, as ComfyUI does.

        Diffusers rounds timesteps to the weights' precision: in bfloat16, 926.65 is read as 928.
        """
        if not self.time_embed:
            yield
            return
        embed, scheduler = getattr(self.pipe.transformer, self.time_embed), self.pipe.scheduler

        def project(_: torch.nn.Module, rounded: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            timestep = scheduler.timesteps[scheduler.step_index or 0].to(rounded[0].device)
            projected: torch.Tensor = embed.time_proj(timestep.expand(len(rounded[0])))
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
