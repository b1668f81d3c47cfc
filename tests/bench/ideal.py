"""What a network's arithmetic alone would take on a GPU: the floor that no implementation passes.

The operations are counted by PyTorch on the networks' own shapes, without weights (on the ``meta``
device), so nothing is copied from elsewhere. Counted are matrix products, attention and
convolutions; Fourier transforms, normalisations and all else are not: they move memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.support.models.networks import (
    make_flux_fill,
    make_klein,
    make_lama,
    make_sdxl,
    make_z_image,
)

_META = torch.device("meta")

#: Layers that fp8 quantizes are these operations.
_LINEAR = (torch.ops.aten.addmm, torch.ops.aten.mm)

#: TFLOP/s of the tensor cores in 16 and in 8 bits (0: it has none), by the name that CUDA gives; a
#: slice of a GPU (MIG) has another. NVIDIA's data sheets give most with sparsity: halved here.
PEAKS: dict[str, tuple[float, float]] = {
    "A100-SXM4-40GB": (312, 0),
    "A100-SXM4-80GB": (312, 0),
    "A100-PCIE-40GB": (312, 0),
    "A100 80GB PCIe": (312, 0),
    "H100 80GB HBM3": (989, 1979),
    "H100 PCIe": (756, 1513),
    "H200": (989, 1979),
    "L4": (121, 242),
    "L40S": (362, 733),
}


@dataclass(frozen=True, slots=True)
class Work:
    """TFLOP for one picture; a multiplication and an addition are two.

    ``linear`` are those of the linear layers, which fp8 computes in 8 bits; ``other`` those of
    attention and convolutions, always in 16 bits here.
    """

    linear: float
    other: float

    def seconds(self, device_name: str, *, fp8: bool = False) -> float | None:
        """On a GPU that is always as fast as it can be; None: its peak is not known."""
        bits_16, bits_8 = PEAKS.get(device_name.removeprefix("NVIDIA "), (0, 0))
        linear_peak = bits_8 if fp8 else bits_16
        return self.linear / linear_peak + self.other / bits_16 if linear_peak else None


@cache
def lama_work(size_px: int, *, tiny: bool = False) -> Work:
    """LaMa, for a square window, all of it: decoding a small hole alone takes up to 8 % less."""
    with _META:
        network = make_lama(tiny=tiny)
        image, mask = torch.empty(1, 3, size_px, size_px), torch.empty(1, 1, size_px, size_px)
    return _count(lambda: network(image, mask))


@cache
def flux_fill_work(size_px: int, steps: int, text_tokens: int, *, tiny: bool = False) -> Work:
    """FLUX-Fill, for a square crop: the steps; and the VAE, which encodes the crop twice, whole
    and without its hole, and decodes once.
    """
    step, vae = _flux_fill_parts(size_px, text_tokens, tiny=tiny)
    return Work(step.linear * steps, step.other * steps + vae)


@cache
def _flux_fill_parts(size_px: int, text_tokens: int, *, tiny: bool) -> tuple[Work, float]:
    """One step, and what the VAE does for a picture."""
    pipe = make_flux_fill(None, _META, torch.bfloat16, tiny=tiny)
    step = _count(lambda: _step(pipe.transformer, size_px, text_tokens))
    picture = _empty(1, 3, size_px, size_px)
    latents = _empty(1, 16, size_px // 8, size_px // 8)
    encoding = _count(lambda: pipe.vae.encode(picture))
    decoding = _count(lambda: pipe.vae.decode(latents))
    return step, 2 * _all(encoding) + _all(decoding)


@cache
def klein_work(
    size_px: int,
    steps: int,
    *,
    references: int = 1,
    small_decoder: bool = False,
    tiny: bool = False,
) -> Work:
    """FLUX.2-klein, likewise, with the crop as reference, which is encoded once.

    Each reference is as many tokens more in each step.
    """
    pipe = make_klein(None, _META, torch.bfloat16, tiny=tiny, small_decoder=small_decoder)
    config, text_tokens = pipe.transformer.config, 512
    tokens = (1 + references) * (size_px // 16) ** 2
    step = _count(
        lambda: pipe.transformer(
            hidden_states=_empty(1, tokens, config.in_channels),
            encoder_hidden_states=_empty(1, text_tokens, config.joint_attention_dim),
            timestep=_empty(1),
            img_ids=torch.empty(1, tokens, 4, device=_META),
            txt_ids=torch.empty(1, text_tokens, 4, device=_META),
        )
    )
    encoding = _count(lambda: pipe.vae.encode(_empty(1, 3, size_px, size_px)))
    channels = pipe.vae.config.latent_channels
    decoding = _count(lambda: pipe.vae.decode(_empty(1, channels, size_px // 8, size_px // 8)))
    return Work(step.linear * steps, step.other * steps + _all(encoding) + _all(decoding))


@cache
def z_image_work(size_px: int, steps: int, *, tiny: bool = False) -> Work:
    """Z-Image, likewise, with a short text; the crop is encoded once."""
    pipe = make_z_image(None, _META, torch.bfloat16, tiny=tiny)
    config, side = pipe.transformer.config, size_px // 8
    latents, text = _empty(config.in_channels, 1, side, side), _empty(32, config.cap_feat_dim)
    step = _count(lambda: pipe.transformer([latents], torch.empty(1, device=_META), [text]))
    encoding = _count(lambda: pipe.vae.encode(_empty(1, 3, size_px, size_px)))
    decoding = _count(lambda: pipe.vae.decode(_empty(1, config.in_channels, side, side)))
    return Work(step.linear * steps, step.other * steps + _all(encoding) + _all(decoding))


def sdxl_work(size_px: int, steps: int, *, encodings: int = 2, tiny: bool = False) -> Work:
    """SDXL inpainting, likewise: RORem encodes the window whole and without its hole, OSOR once."""
    step, encoding, decoding = _sdxl_parts(size_px, tiny)
    once = encodings * _all(encoding) + _all(decoding)
    return Work(step.linear * steps, step.other * steps + once)


@cache
def _sdxl_parts(size_px: int, tiny: bool) -> tuple[Work, Work, Work]:
    pipe = make_sdxl(None, _META, torch.bfloat16, tiny=tiny)
    config, side = pipe.unet.config, size_px // 8
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    step = _count(
        lambda: pipe.unet(
            _empty(1, config.in_channels, side, side),
            torch.empty(1, device=_META),
            encoder_hidden_states=_empty(1, 77, config.cross_attention_dim),
            added_cond_kwargs={"text_embeds": _empty(1, pooled), "time_ids": _empty(1, 6)},
        )
    )
    encoding = _count(lambda: pipe.vae.encode(_empty(1, 3, size_px, size_px)))
    decoding = _count(lambda: pipe.vae.decode(_empty(1, 4, side, side)))
    return step, encoding, decoding


def _step(transformer: Any, size_px: int, text_tokens: int) -> None:
    """Run the transformer once: a token stands for 16 by 16 px."""
    config, image_tokens = transformer.config, (size_px // 16) ** 2
    transformer(
        hidden_states=_empty(1, image_tokens, config.in_channels),
        encoder_hidden_states=_empty(1, text_tokens, config.joint_attention_dim),
        pooled_projections=_empty(1, config.pooled_projection_dim),
        timestep=_empty(1),
        guidance=torch.empty(1, device=_META),
        img_ids=torch.empty(image_tokens, 3, device=_META),
        txt_ids=torch.empty(text_tokens, 3, device=_META),
    )


def _empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device=_META)


def _all(work: Work) -> float:
    return work.linear + work.other


def _count(call: Callable[[], object]) -> Work:
    # What the networks make themselves is there, too.
    with torch.no_grad(), _META, FlopCounterMode(display=False) as counter:
        call()
    counts = counter.get_flop_counts()["Global"]
    linear = sum(flop for operation, flop in counts.items() if operation in _LINEAR)
    return Work(linear / 1e12, (counter.get_total_flops() - linear) / 1e12)
