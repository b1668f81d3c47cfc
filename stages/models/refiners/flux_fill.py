"""FLUX.1-Fill-dev (Black Forest Labs 2024): inpainting conditioned on the surroundings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from stages.models.refiners.base import Batch
from stages.models.refiners.flow import FlowRefiner
from stages.models.refiners.prompts import Prompt, hash_of, to_numpy
from stages.recipe.refiners import FluxFillOptions

#: T5's tokens: shorter texts are padded, as in ComfyUI, longer ones truncated. CLIP always has 77.
_MIN_TOKENS, _MAX_TOKENS = 256, 512


class FillPipeline(FluxFillPipeline):  # type: ignore[misc] # diffusers has no types
    """The published pipeline, but with the most likely latents of the known area, as in ComfyUI.

    Diffusers samples them from the VAE's posterior.
    """

    def prepare_mask_latents(self, mask: Any, masked_image: Any, *how: Any) -> Any:
        """Call the base class with latents, which it recognises by the number of channels."""
        known = self.vae.encode(masked_image).latent_dist.mode()
        return super().prepare_mask_latents(mask, known, *how)


class FluxFill(FlowRefiner):
    """FLUX.1-Fill: see the base class."""

    time_embed = "time_text_embed"
    text_tokens = _MIN_TOKENS
    accepted_pipelines = ("FluxFillPipeline",)
    transformer_class = FluxTransformer2DModel
    pipeline_class = FillPipeline
    text_encoders: ClassVar = {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
    tokenizers: ClassVar = {"tokenizer": CLIPTokenizer, "tokenizer_2": T5Tokenizer}

    options: FluxFillOptions

    @classmethod
    def make_encoder(cls, pipe: Any, options: FluxFillOptions) -> Callable[[str], Prompt]:  # noqa: ARG003 - not needed here
        """See the base class."""

        def encode(text: str) -> Prompt:
            tokens = pipe.tokenizer_2(text, truncation=True, max_length=_MAX_TOKENS).input_ids
            embeds, pooled, _ = pipe.encode_prompt(
                text, None, max_sequence_length=max(len(tokens), _MIN_TOKENS)
            )
            return Prompt(to_numpy(embeds[0]), to_numpy(pooled[0]), hash_of(text))

        return encode

    @property
    def guidance(self) -> float | None:
        """See the base class."""
        return self.options.guidance if self.pipe.transformer.config.guidance_embeds else None

    def denoise(self, batch: Batch) -> torch.Tensor:
        """See the base class. Starts from sigma * noise + (1 - sigma) * image, as ComfyUI does.

        Diffusers keeps latents between steps in the weights' precision; ComfyUI uses float32.
        """
        _, _, height, width = batch.image.shape
        known = self._encode(batch.image)
        noise = randn_tensor(known.shape, batch.generators, known.device)
        sigma = self.sigmas[0]
        packed = self.pipe(
            image=(batch.image + 1) / 2,
            mask_image=batch.mask,
            height=height,
            width=width,
            latents=self._pack(sigma * noise + (1 - sigma) * known),
            sigmas=self.sigmas[:-1],
            num_inference_steps=len(self.sigmas) - 1,
            strength=1.0,  # run all given levels
            guidance_scale=self.options.guidance,
            prompt_embeds=batch.embeds,
            pooled_prompt_embeds=batch.pooled,
            output_type="latent",
            callback_on_step_end=self._keeper(batch.mask, known, noise),
        ).images
        vae = self.pipe.vae.config
        latents = self.pipe._unpack_latents(packed, height, width, self.pipe.vae_scale_factor)
        decodable: torch.Tensor = latents / vae.scaling_factor + vae.shift_factor
        return decodable

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode to the most likely latents, ``(n, 16, h / 8, w / 8)`` float32, as ComfyUI does."""
        vae = self.pipe.vae
        latents = vae.encode(image.to(self.dtype)).latent_dist.mode().float()
        scaled: torch.Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        return scaled

    def _pack(self, latents: torch.Tensor) -> torch.Tensor:
        """``(n, c, h, w)`` -> ``(n, h / 2 * w / 2, c * 4)``: 2 by 2 latents make a token."""
        packed: torch.Tensor = self.pipe._pack_latents(latents, *latents.shape)
        return packed

    def _keeper(
        self, mask: torch.Tensor, known: torch.Tensor, noise: torch.Tensor
    ) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None:
        """With ``noise_mask``: build a callback that resets the known area after each step.

        This is equivalent to ComfyUI's ``KSamplerX0Inpaint`` with Euler steps. A latent with any
        masked pixel is regenerated.
        """
        if not self.options.noise_mask:
            return None
        painted = torch.nn.functional.max_pool2d(mask, 8).expand_as(known)
        mask, known, noise = self._pack(painted), self._pack(known), self._pack(noise)

        def keep(_: Any, step: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
            latents, sigma = state["latents"], self.sigmas[step + 1]
            kept = mask * latents + (1 - mask) * (sigma * noise + (1 - sigma) * known)
            return {"latents": kept.to(latents.dtype)}

        return keep


load, load_encoder = FluxFill.load, FluxFill.load_encoder
