"""RORem (Li et al., CVPR 2025): SDXL's inpainting UNet, fine-tuned to remove objects.

Diffusers' pipeline blanks the masked part of the picture that the network sees, and starts from the
noisy picture itself. It is called as in the authors' ``inference_RORem.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from stages.models import vae
from stages.models.refiners import diffusers_folder
from stages.models.refiners.base import Batch, DiffusionRefiner, whole_cells
from stages.models.refiners.prompts import Prompt, hash_of, to_numpy
from stages.recipe.diffusers_options import SdxlOptions

_LATENT_PX = 8

_SCHEDULERS = {"euler": EulerDiscreteScheduler, "lcm": LCMScheduler}


class RoremPipeline(StableDiffusionXLInpaintPipeline):  # type: ignore[misc] # diffusers has no types
    """The published pipeline, but the VAE keeps its number format.

    Diffusers converts all of it to 32 bits and back for each batch, and warns each time.
    """

    def _encode_vae_image(self, image: torch.Tensor, generator: Any) -> torch.Tensor:
        latents = self.vae.encode(image.to(self.vae.dtype)).latent_dist.sample(generator)
        scaled: torch.Tensor = latents * self.vae.config.scaling_factor
        return scaled.to(image.dtype)


class Rorem(DiffusionRefiner):
    """RORem: see the base class. It is a removal method, too: see :mod:`stages.models.rorem`."""

    denoiser = "unet"
    accepted_pipelines = ("StableDiffusionXLInpaintPipeline",)
    pipeline_class = RoremPipeline
    text_encoders: ClassVar = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    tokenizers: ClassVar = {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer}

    options: SdxlOptions

    @classmethod
    def build_pipe(cls, loader: diffusers_folder.Loader, options: SdxlOptions) -> Any:
        """See the base class."""
        beside = replace(loader, dtype=vae.vae_dtype(loader.dtype))
        return cls.without_text_encoders(
            vae=beside.load_component(AutoencoderKL, "vae"),
            unet=loader.load_component(UNet2DConditionModel, "unet"),
            scheduler=diffusers_folder.load_config(
                _SCHEDULERS[options.sampler], loader.folder, "scheduler"
            ),
        )

    @classmethod
    def make_encoder(cls, pipe: Any, options: SdxlOptions) -> Callable[[str], Prompt]:  # noqa: ARG003 - not needed here
        """See the base class."""

        def encode(text: str) -> Prompt:
            embeds, _, pooled, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
            return Prompt(to_numpy(embeds[0]), to_numpy(pooled[0]), hash_of(text))

        return encode

    def _sigmas(self) -> list[float]:
        """See the base class."""
        scheduled, executed = self.options.scheduled_and_executed_steps
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(scheduled)
        kept = scheduler.alphas_cumprod[scheduler.timesteps[scheduled - executed :].long()]
        return [*((1 - kept) / kept).sqrt().tolist(), 0.0]

    def denoise(self, batch: Batch) -> torch.Tensor:
        """See the base class."""
        scheduled, executed = self.options.scheduled_and_executed_steps
        _, _, height, width = batch.image.shape
        latents: torch.Tensor = self.pipe(
            image=(batch.image + 1) / 2,
            mask_image=whole_cells(batch.mask, _LATENT_PX),
            height=height,
            width=width,
            num_inference_steps=scheduled,
            strength=min((executed + 0.5) / scheduled, 1.0),  # the pipeline rounds down
            guidance_scale=1.0,
            prompt_embeds=batch.embeds,
            pooled_prompt_embeds=batch.pooled,
            generator=batch.generators,
            output_type="latent",
        ).images
        scaling_factor: float = self.pipe.vae.config.scaling_factor
        return latents.float() / scaling_factor


load, load_encoder = Rorem.load, Rorem.load_encoder
