"""What a network's arithmetic alone would take on a GPU: the floor that no implementation passes.

The operations are counted by PyTorch on the networks' own shapes, without weights (on the ``meta``
device), so nothing is copied from elsewhere. Counted are matrix products, attention and
convolutions; Fourier transforms, normalisations and all else are not: they move memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch.utils.flop_counter import FlopCounterMode

from jobs.bench.networks import make_flux_fill, make_lama

_META = torch.device("meta")

#: Layers that fp8 quantizes are these operations.
_LINEAR = (torch.ops.aten.addmm, torch.ops.aten.mm)


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a GPU's tensor cores do, without sparsity, in TFLOP per second.

    Attributes:
        bits_16: in bfloat16 or float16.
        bits_8: in 8-bit floating point; 0: it has none.
    """

    bits_16: float
    bits_8: float

    @classmethod
    def of(cls, device_name: str) -> Self | None:
        """Of a GPU as CUDA names it; None if it is not listed. A slice of one (MIG) never is."""
        peak = _PEAKS.get(device_name.removeprefix("NVIDIA "))
        return cls(*peak) if peak else None


#: From NVIDIA's data sheets, which give most figures with sparsity: halved here.
_PEAKS = {
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
    """Operations for one picture, in TFLOP; a multiplication and an addition are two.

    Attributes:
        linear: of the linear layers, which fp8 computes in 8 bits.
        other: of attention and convolutions, always in 16 bits here.
    """

    linear: float
    other: float

    @property
    def total(self) -> float:
        """Of both."""
        return self.linear + self.other

    def seconds(self, peak: Peak, *, fp8: bool = False) -> float:
        """On a GPU that does nothing else, and always as fast as it can."""
        return self.linear / (peak.bits_8 if fp8 else peak.bits_16) + self.other / peak.bits_16


@cache
def lama_work(size_px: int, *, tiny: bool = False) -> Work:
    """LaMa, for a square window, all of it: decoding a small hole alone takes up to 8 % less."""
    with _META:
        network = make_lama(tiny=tiny)
        image, mask = torch.empty(1, 3, size_px, size_px), torch.empty(1, 1, size_px, size_px)
    return _count(lambda: network(image, mask))


@cache
def flux_fill_work(size_px: int, steps: int, text_tokens: int, *, tiny: bool = False) -> Work:
    """FLUX-Fill, for a square crop: so many steps; and the VAE, which encodes the crop twice, whole
    and without its hole, and decodes once.
    """
    pipe = make_flux_fill(None, _META, torch.bfloat16, tiny=tiny)
    step = _count(lambda: _step(pipe.transformer, size_px, text_tokens))
    with _META:
        picture = torch.empty(1, 3, size_px, size_px, dtype=torch.bfloat16)
        latents = torch.empty(1, 16, size_px // 8, size_px // 8, dtype=torch.bfloat16)
    encoding = _count(lambda: pipe.vae.encode(picture)).total
    decoding = _count(lambda: pipe.vae.decode(latents)).total
    return Work(step.linear * steps, step.other * steps + 2 * encoding + decoding)


def _step(transformer: Any, size_px: int, text_tokens: int) -> None:
    """Run the transformer once: a token stands for 16 by 16 px."""
    config, image_tokens = transformer.config, (size_px // 16) ** 2
    with _META:
        transformer(
            hidden_states=torch.empty(1, image_tokens, config.in_channels, dtype=torch.bfloat16),
            encoder_hidden_states=torch.empty(
                1, text_tokens, config.joint_attention_dim, dtype=torch.bfloat16
            ),
            pooled_projections=torch.empty(1, config.pooled_projection_dim, dtype=torch.bfloat16),
            timestep=torch.empty(1, dtype=torch.bfloat16),
            guidance=torch.empty(1),
            img_ids=torch.empty(image_tokens, 3),
            txt_ids=torch.empty(text_tokens, 3),
        )


def _count(call: Callable[[], object]) -> Work:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    counts = counter.get_flop_counts()["Global"]
    linear = sum(flop for operation, flop in counts.items() if operation in _LINEAR)
    return Work(linear / 1e12, (counter.get_total_flops() - linear) / 1e12)
