"""FLUX.2-klein (Black Forest Labs 2026): inpainting with the whole crop as reference.

Diffusers' inpainting pipeline resets the known area after every step, as ``noise_mask`` does for
FLUX.1-Fill, and passes the input to the model as a reference picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinInpaintPipeline, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from manifests.errors import WeightsError
from stages.models.refiners import loading
from stages.models.refiners.batches import SIDE_PX, Batch, DiffusionRefiner
from stages.models.refiners.prompts import Prompt, Values, hash_of, to_numpy
from stages.recipe.options import Flux2KleinOptions

_MAX_TOKENS = 512


class Flux2Klein(DiffusionRefiner):
    """FLUX.2-klein: see the base class."""

    time_embed = "time_guidance_embed"
    pipelines = ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline")  # of the same layout
    pipeline = Flux2KleinInpaintPipeline
    text_encoders: ClassVar = {"text_encoder": Qwen3ForCausalLM}
    tokenizers: ClassVar = {"tokenizer": Qwen2TokenizerFast}

    @classmethod
    def build_pipe(
        cls,
        folder: Path,
        options: Flux2KleinOptions,
        index: dict[str, Any],
        device: torch.device,  # noqa: ARG003 - everything is moved there afterwards
        dtype: torch.dtype,
    ) -> Any:
        """See the base class."""
        distilled = bool(index.get("is_distilled", False))
        if distilled and options.guidance != 1:
            message = "refine.guidance must be 1: these weights are distilled, without guidance."
            raise WeightsError("model.unavailable", message)
        return cls.without_texts(
            vae=loading.load_part(AutoencoderKLFlux2, folder, "vae", dtype),
            transformer=loading.load_part(Flux2Transformer2DModel, folder, "transformer", dtype),
            is_distilled=distilled,
        )

    @classmethod
    def encoder(cls, pipe: Any, options: Flux2KleinOptions) -> Callable[[str], Prompt]:
        """See the base class."""

        def embeds(text: str) -> Values:
            encoded = pipe.encode_prompt(text, max_sequence_length=_MAX_TOKENS)
            return to_numpy(encoded[0][0])

        with torch.no_grad():
            negative = embeds("") if options.guidance > 1 else to_numpy(torch.zeros(0, 0))
        pooled = to_numpy(torch.zeros(0))
        return lambda text: Prompt(embeds(text), pooled, negative, hash_of(text))

    def denoise(self, batch: Batch) -> torch.Tensor:
        """See the base class."""
        latents: torch.Tensor = self.pipe(
            image=self._encode(batch.image),
            mask_image=_whole_tokens(batch.mask),
            sigmas=self.sigmas[:-1],
            num_inference_steps=len(self.sigmas) - 1,
            strength=1.0,  # run all given levels
            guidance_scale=self.options.guidance,
            prompt_embeds=batch.embeds,
            negative_prompt_embeds=batch.negative,
            generator=batch.generators,
            output_type="latent",
        ).images
        return latents

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode to ``(n, 128, h / 16, w / 16)`` latents, which the pipeline does not resize.

        It would shrink pictures of more than a megapixel.
        """
        latents = self.pipe.vae.encode(image.to(self.dtype)).latent_dist.mode()
        tokens: torch.Tensor = self.pipe._patchify_latents(latents)
        return tokens


load, load_encoder = Flux2Klein.load, Flux2Klein.load_encoder


def _whole_tokens(mask: torch.Tensor) -> torch.Tensor:
    """Dilate the mask to full tokens: the pipeline samples it once per token, and misses lines."""
    touched = torch.nn.functional.max_pool2d(mask, SIDE_PX)
    return torch.nn.functional.interpolate(touched, scale_factor=SIDE_PX, mode="nearest")
