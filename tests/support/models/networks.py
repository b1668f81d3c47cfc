"""The published networks with random weights: they cost what those cost, and paint noise.

``tiny`` ones have the same classes and hardly any weights: they cost nothing, and say nothing of
what the published ones cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2KleinInpaintPipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
    ZImageInpaintPipeline,
    ZImageTransformer2DModel,
)
from spandrel.architectures.LaMa import LaMa
from torch import Tensor, nn

#: FLUX.1-Fill-dev's ``transformer/config.json``, where it differs from the class's defaults. Of
#: 384 channels 64 are noisy latents, 64 the masked picture's, 256 the mask's pixels.
_TRANSFORMER = {"in_channels": 384, "out_channels": 64, "guidance_embeds": True}
_TINY_TRANSFORMER = {
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 6, 6),
}

#: FLUX.1's ``vae/config.json``, likewise.
_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": 0.1159,
    "scaling_factor": 0.3611,
}
_TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}

#: Widths of FLUX.2-small-decoder's blocks; the full decoder's are the encoder's.
_SMALL_DECODER, _TINY_SMALL_DECODER = (96, 192, 384, 384), (4, 4, 4, 4)

#: FLUX.2-klein-4B's ``transformer/config.json``, likewise. Texts are three layers of Qwen3-4B.
_KLEIN = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
_TINY_KLEIN = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 48,
    "axes_dims_rope": (4, 4, 4, 4),
}
_TINY_KLEIN_VAE = {
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    **_TINY_VAE,
}

#: Z-Image's ``transformer/config.json`` has the class's defaults; its VAE is FLUX.1's.
_TINY_Z_IMAGE = {
    "dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": 16,
    "axes_dims": (4, 6, 6),
}

#: SDXL inpainting's ``unet/config.json``, likewise.
_SDXL_UNET = {
    "sample_size": 128,
    "in_channels": 9,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "transformer_layers_per_block": (1, 2, 10),
}
_TINY_SDXL_UNET = {
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": (2, 2, 4),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
    "transformer_layers_per_block": (1, 1, 2),
    "norm_num_groups": 8,
}

#: SDXL's ``vae/config.json``, likewise.
_SDXL_VAE = {"latent_channels": 4, "scaling_factor": 0.13025, "use_quant_conv": True} | {
    "use_post_quant_conv": True,
    "shift_factor": None,
}

#: SDXL inpainting's ``scheduler/scheduler_config.json``, as far as Euler's and DDPM's know it.
SDXL_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def make_lama(*, tiny: bool = False) -> LaMa:
    """big-lama, 51.0 M parameters, in evaluation mode."""
    if not tiny:
        return LaMa(in_nc=4, out_nc=3).eval()
    with torch.device("meta"):
        network = LaMa(in_nc=4, out_nc=3)
    network.model = type(network.model)(4, 3, ngf=8, n_blocks=1)
    return network.eval()


class _Published(nn.Module):
    """LaMa as its TorchScript is published: fills, and gives the known pixels back."""

    def __init__(self, network: LaMa) -> None:
        super().__init__()
        self.model = network.model

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        painted: Tensor = self.model(image * (1 - mask), mask)
        return mask * painted + (1 - mask) * image


def save_torchscript(network: LaMa, path: Path) -> Path:
    """Write LaMa, which is on the CPU, as the TorchScript file that its users have."""
    image, mask = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    with torch.no_grad():
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Published(network), (image, mask), check_trace=False
        )
    torch.jit.save(script, path)
    return path


def make_vae(*, tiny: bool = False) -> AutoencoderKL:
    """FLUX.1's, 84 M parameters, on the default device, in the default dtype, to be evaluated."""
    return AutoencoderKL(**(_VAE | (_TINY_VAE if tiny else {}))).eval()


def make_transformer(*, tiny: bool = False) -> FluxTransformer2DModel:
    """FLUX.1-Fill-dev's, 11.9 G parameters, likewise."""
    options = _TRANSFORMER | (_TINY_TRANSFORMER if tiny else {})
    return FluxTransformer2DModel(**options).eval()


def make_sdxl_vae(*, tiny: bool = False) -> AutoencoderKL:
    """SDXL's, 84 M parameters, likewise."""
    return AutoencoderKL(**(_VAE | _SDXL_VAE | (_TINY_VAE if tiny else {}))).eval()


def make_sdxl_unet(*, tiny: bool = False) -> UNet2DConditionModel:
    """SDXL inpainting's, 2.6 G parameters, likewise."""
    return UNet2DConditionModel(**(_SDXL_UNET | (_TINY_SDXL_UNET if tiny else {}))).eval()


def make_klein_vae(*, tiny: bool = False, small_decoder: bool = False) -> AutoencoderKLFlux2:
    """FLUX.2's, likewise; with ``small_decoder``, as FLUX.2-small-decoder has it."""
    widths = _TINY_SMALL_DECODER if tiny else _SMALL_DECODER
    decoder = {"decoder_block_out_channels": widths} if small_decoder else {}
    vae = AutoencoderKLFlux2(**(_TINY_KLEIN_VAE if tiny else {}), **decoder).eval()
    if tiny:  # statistics that must be applied once each way, as the published ones
        vae.bn.running_mean.uniform_(-0.5, 0.5)
        vae.bn.running_var.uniform_(0.5, 2)
    return vae


def make_klein_transformer(*, tiny: bool = False) -> Flux2Transformer2DModel:
    """FLUX.2-klein-4B's, 3.9 G parameters, likewise."""
    return Flux2Transformer2DModel(**(_KLEIN | (_TINY_KLEIN if tiny else {}))).eval()


def make_z_image_transformer(*, tiny: bool = False) -> ZImageTransformer2DModel:
    """Z-Image's, 6.2 G parameters, likewise."""
    return ZImageTransformer2DModel(**(_TINY_Z_IMAGE if tiny else {})).eval()


def make_flux_fill(
    scheduler: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tiny: bool = False,
    kind: type[FluxFillPipeline] = FluxFillPipeline,
) -> FluxFillPipeline:
    """The pipeline without its text encoders, made on the device, weights never elsewhere.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    with _made_on(device, dtype):
        vae, transformer = make_vae(tiny=tiny), make_transformer(tiny=tiny)
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = kind(scheduler=scheduler, vae=vae, transformer=transformer, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_klein(
    scheduler: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tiny: bool = False,
    small_decoder: bool = False,
    kind: type[Flux2KleinInpaintPipeline] = Flux2KleinInpaintPipeline,
) -> Flux2KleinInpaintPipeline:
    """FLUX.2-klein, distilled, likewise."""
    with _made_on(device, dtype):
        vae = make_klein_vae(tiny=tiny, small_decoder=small_decoder)
        transformer = make_klein_transformer(tiny=tiny)
    nothing = dict.fromkeys(("text_encoder", "tokenizer"))
    pipe = kind(scheduler=scheduler, vae=vae, transformer=transformer, is_distilled=True, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_z_image(
    scheduler: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tiny: bool = False,
    kind: type[ZImageInpaintPipeline] = ZImageInpaintPipeline,
) -> ZImageInpaintPipeline:
    """Z-Image, likewise."""
    with _made_on(device, dtype):
        vae, transformer = make_vae(tiny=tiny), make_z_image_transformer(tiny=tiny)
    nothing = dict.fromkeys(("text_encoder", "tokenizer"))
    pipe = kind(scheduler=scheduler, vae=vae, transformer=transformer, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_sdxl(
    scheduler: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tiny: bool = False,
    kind: type[StableDiffusionXLInpaintPipeline] = StableDiffusionXLInpaintPipeline,
) -> StableDiffusionXLInpaintPipeline:
    """SDXL inpainting, likewise."""
    with _made_on(device, dtype):
        vae, unet = make_sdxl_vae(tiny=tiny), make_sdxl_unet(tiny=tiny)
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = kind(scheduler=scheduler, vae=vae, unet=unet, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(usual)
