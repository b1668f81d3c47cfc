"""Z-Image-Turbo (Alibaba 2025): inpainting with a small transformer under Apache-2.0.

Diffusers' inpainting pipeline resets the known area after every step, as ``noise_mask`` does for
FLUX.1-Fill.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from diffusers import ZImageInpaintPipeline, ZImageTransformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3Model

from stages.models.refiners.base import Batch, whole_cells
from stages.models.refiners.flow import FlowRefiner
from stages.models.refiners.prompts import Prompt, hash_of, to_numpy
from stages.recipe.refiners import ZImageOptions

_MAX_TOKENS = 512

_LATENT_PX = 8


class ZImagePipeline(ZImageInpaintPipeline):  # type: ignore[misc] # diffusers has no types
    """The published pipeline, but it does not encode the masked picture, which it never uses."""

    def prepare_mask_latents(
        self, mask: torch.Tensor, *unused: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Resize the mask, ``(n, 1, h, w)``, to latents; return no latents beside it."""
        dtype, device = unused[4:6]
        latents = torch.nn.functional.interpolate(mask, scale_factor=1 / _LATENT_PX)
        return latents.to(device, dtype), latents[:0]


class ZImage(FlowRefiner):
    """Z-Image-Turbo: see the base class."""

    text_tokens = 32  # the model pads texts to a multiple of this
    accepted_pipelines = ("ZImagePipeline", "ZImageInpaintPipeline")  # of the same layout
    transformer_class = ZImageTransformer2DModel
    pipeline_class = ZImagePipeline
    text_encoders: ClassVar = {"text_encoder": Qwen3Model}
    tokenizers: ClassVar = {"tokenizer": Qwen2TokenizerFast}
    has_template = True

    options: ZImageOptions

    @property
    def text_dim(self) -> int:
        """See the base class."""
        return int(self.pipe.transformer.config.cap_feat_dim)

    @classmethod
    def make_encoder(cls, pipe: Any, options: ZImageOptions) -> Callable[[str], Prompt]:  # noqa: ARG003 - not needed here
        """See the base class."""
        pooled = to_numpy(torch.zeros(0))

        def encode(text: str) -> Prompt:
            (embeds,), _ = pipe.encode_prompt(
                text, do_classifier_free_guidance=False, max_sequence_length=_MAX_TOKENS
            )
            return Prompt(to_numpy(embeds), pooled, hash_of(text))

        return encode

    def denoise(self, batch: Batch) -> torch.Tensor:
        """See the base class."""
        latents: torch.Tensor = self.pipe(
            image=(batch.image + 1) / 2,
            mask_image=whole_cells(batch.mask, _LATENT_PX),
            sigmas=self.sigmas[:-1],
            num_inference_steps=len(self.sigmas) - 1,
            strength=1.0,  # run all given levels
            guidance_scale=self.options.guidance,
            prompt_embeds=list(batch.embeds),
            generator=batch.generators,
            output_type="latent",
        ).images
        vae = self.pipe.vae.config
        decodable: torch.Tensor = latents / vae.scaling_factor + vae.shift_factor
        return decodable


load, load_encoder = ZImage.load, ZImage.load_encoder
