"""FLUX.2-klein (Black Forest Labs 2026): inpainting, with or without a reference picture.

Diffusers' inpainting pipeline resets the known area after every step, as ``noise_mask`` does for
FLUX.1-Fill.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinInpaintPipeline, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from manifests.errors import WeightsError
from stages.models.refiners import diffusers_folder
from stages.models.refiners.base import SIDE_PX, Batch, whole_cells
from stages.models.refiners.flow import FlowRefiner
from stages.models.refiners.prompts import Prompt, hash_of, to_numpy
from stages.recipe.refiners import Flux2KleinOptions

_MAX_TOKENS = 512


class KleinPipeline(Flux2KleinInpaintPipeline):  # type: ignore[misc] # diffusers has no types
    """The published pipeline, but the model sees no other reference than ``image_reference``.

    Diffusers always shows its input to it, too.
    """

    def prepare_image_latents(
        self, images: list[torch.Tensor], batch_size: int, generator: Any, device: Any, dtype: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Call the base class without the first picture, which is the input.

        Returns:
            ``(n, tokens, channels)`` and the tokens' positions, ``(n, tokens, 4)``.
        """
        if images[1:]:
            latents, positions = super().prepare_image_latents(
                images[1:], batch_size, generator, device, dtype
            )
            return latents, positions
        channels = self.transformer.config.in_channels
        nothing = torch.zeros(batch_size, 0, channels, device=device, dtype=dtype)
        return nothing, torch.zeros(batch_size, 0, 4, device=device, dtype=torch.int64)


class Flux2Klein(FlowRefiner):
    """FLUX.2-klein: see the base class."""

    time_embed = "time_guidance_embed"
    text_tokens = _MAX_TOKENS
    accepted_pipelines = ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline")  # of the same layout
    transformer_class = Flux2Transformer2DModel
    pipeline_class = KleinPipeline
    text_encoders: ClassVar = {"text_encoder": Qwen3ForCausalLM}
    tokenizers: ClassVar = {"tokenizer": Qwen2TokenizerFast}
    has_template = True

    options: Flux2KleinOptions

    @classmethod
    def build_pipe(cls, loader: diffusers_folder.Loader, options: Flux2KleinOptions) -> Any:
        """See the base class."""
        decoder = replace(loader, folder=Path(options.decoder or loader.folder / "vae"))
        vae = decoder.load_component(AutoencoderKLFlux2, "")
        transformer = loader.load_component(cls.transformer_class, "transformer")
        channels, expected = vae.bn.num_features, transformer.config.in_channels
        if channels != expected:
            message = f"{decoder.folder} has latents of {channels} channels, not {expected}."
            raise WeightsError("weights.unusable", message)
        return cls.without_text_encoders(vae=vae, transformer=transformer)

    @classmethod
    def make_encoder(cls, pipe: Any, options: Flux2KleinOptions) -> Callable[[str], Prompt]:  # noqa: ARG003 - not needed here
        """See the base class."""
        pooled = to_numpy(torch.zeros(0))

        def encode(text: str) -> Prompt:
            (embeds,), _ = pipe.encode_prompt(text, max_sequence_length=_MAX_TOKENS)
            return Prompt(to_numpy(embeds), pooled, hash_of(text))

        return encode

    def denoise(self, batch: Batch) -> torch.Tensor:
        """See the base class."""
        image = self._encode(batch.image)
        reference = image if self.options.reference == "fill" else None
        if self.options.reference == "photo":
            reference = self._encode(batch.original)
        latents: torch.Tensor = self.pipe(
            image=image,
            image_reference=reference,
            mask_image=whole_cells(batch.mask, SIDE_PX),
            sigmas=self.sigmas[:-1],
            num_inference_steps=len(self.sigmas) - 1,
            strength=1.0,  # run all given levels
            guidance_scale=self.options.guidance,
            prompt_embeds=batch.embeds,
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
