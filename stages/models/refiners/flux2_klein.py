"""FLUX.2-klein (Black Forest Labs 2026): inpainting, with or without a reference picture.

Diffusers' inpainting pipeline resets the known area after every step, as ``noise_mask`` does for
FLUX.1-Fill.
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
from stages.models.refiners.batches import SIDE_PX, Batch, whole_cells
from stages.models.refiners.flow import FlowRefiner
from stages.models.refiners.prompts import Prompt, Values, hash_of, to_numpy
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
    has_negative = True
    pipelines = ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline")  # of the same layout
    transformer = Flux2Transformer2DModel
    pipeline = KleinPipeline
    text_encoders: ClassVar = {"text_encoder": Qwen3ForCausalLM}
    tokenizers: ClassVar = {"tokenizer": Qwen2TokenizerFast}
    has_template = True

    options: Flux2KleinOptions

    @classmethod
    def build_pipe(
        cls,
        folder: Path,
        options: Flux2KleinOptions,
        index: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Any:
        """See the base class."""
        distilled = bool(index.get("is_distilled", False))
        if distilled and options.guidance != 1:
            message = "refine.guidance must be 1: these weights are distilled, without guidance."
            raise WeightsError("model.unavailable", message)
        place = (Path(options.decoder), "") if options.decoder else (folder, "vae")
        vae = loading.load_part(AutoencoderKLFlux2, *place, dtype, device)
        transformer = loading.load_part(cls.transformer, folder, "transformer", dtype, device)
        channels, expected = vae.bn.num_features, transformer.config.in_channels
        if channels != expected:
            message = f"{options.decoder or folder / 'vae'} has latents of {channels} channels"
            raise WeightsError("weights.unusable", f"{message}, not {expected}.")
        return cls.without_texts(vae=vae, transformer=transformer, is_distilled=distilled)

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
        image = self._encode(batch.image)
        reference = image if self.options.reference == "fill" else None
        if self.options.reference == "photo":
            reference = self._encode(batch.photo)
        latents: torch.Tensor = self.pipe(
            image=image,
            image_reference=reference,
            mask_image=whole_cells(batch.mask, SIDE_PX),
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
