"""Merges LoRA adapters into a network: step-distilled ones, or ones trained for removal.

Diffusers reads and converts the files (its own format, Kohya's, XLabs', ai-toolkit's). Its own
loader needs peft, to keep adapters apart from the weights and to train them; here they are added to
the weights once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_unet_state_dict_to_peft
from safetensors import safe_open

from manifests.errors import WeightsError
from stages.optional_imports import one_line

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"

#: Kinds of adapters, by peft's names, that are more than a product of two matrices.
_OTHER_KINDS = ("use_dora", "use_rslora")


def merge(pipe: Any, network: str, files: Sequence[str], scales: Sequence[float]) -> None:
    """Add adapters to the weights of a pipeline's network, in float32.

    A layer's weight becomes ``weight + scale * alpha / rank * up @ down`` (Hu et al. 2021); alpha
    is the rank where a file states none.

    Args:
        pipe: a pipeline of diffusers that has ``lora_state_dict``.
        network: the pipeline's component, ``transformer`` or ``unet``.
        files: a ``.safetensors`` file each, or a folder with one.
        scales: strengths, in the order of the files; empty: 1 each.

    Raises:
        WeightsError: ``weights.unusable``: a file is damaged, of another kind, or for another
            network. An adapter is never applied in part.
    """
    layers = dict(getattr(pipe, network).named_modules())
    prefix = f"{network}."
    for file, scale in zip(files, scales or [1.0] * len(files), strict=True):
        path = _single_file(Path(file))
        tensors, alphas, metadata = _read(pipe, network, path)
        ranks = {
            key.removesuffix(_DOWN): len(tensors[key]) for key in tensors if key.endswith(_DOWN)
        }
        strengths = {
            name: scale * _alpha(name, rank, alphas, metadata, prefix) / rank
            for name, rank in ranks.items()
        }
        merge_tensors(layers, tensors, prefix, path, strengths)


def merge_tensors(
    layers: Mapping[str, Any],
    tensors: dict[str, torch.Tensor],
    prefix: str,
    path: Path,
    strengths: Mapping[str, float],
) -> None:
    """Add the products of one file to the layers' weights.

    Args:
        layers: the network's, by name.
        tensors: ``<prefix><layer>.lora_A.weight`` and ``.lora_B.weight`` of each layer.
        prefix: see above.
        path: the file, for the error.
        strengths: factors of the products, by the layers' names with prefix; 1 for others.

    Raises:
        WeightsError: ``weights.unusable``: something in it is not for this network.
    """
    left = dict(tensors)
    for name in [key.removesuffix(_DOWN) for key in tensors if key.endswith(_DOWN)]:
        down, up = left.pop(name + _DOWN), left.pop(name + _UP, None)
        layer = layers.get(name.removeprefix(prefix))
        if up is None or not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            raise _unusable(path, f"its layer {name} is not in this model")
        if name.endswith("x_embedder"):
            # Adapters of FLUX.1-dev know the first 64 of the 384 channels that FLUX.1-Fill's first
            # layer takes: the latents, without the known picture and the mask.
            missing = max(layer.weight.shape[1] - down.shape[1], 0)
            down = torch.nn.functional.pad(down, (0, missing))
        add_product(layer, strengths.get(name, 1.0), down, up, f"{path}: {name}")
    if left:
        raise _unusable(path, f"it holds what cannot be merged, such as {next(iter(left))}")


def _single_file(path: Path) -> Path:
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise _unusable(path, "it is neither a .safetensors file nor a folder with one")
    return files[0]


def _read(
    pipe: Any, network: str, path: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors by diffusers' names, ``alpha`` by layer, and peft's configuration."""
    try:
        with safe_open(path, "pt") as file:
            dora = next((key for key in file.keys() if "dora_scale" in key), "")  # noqa: SIM118
        tensors, *alphas, metadata = pipe.lora_state_dict(
            str(path.parent),
            weight_name=path.name,
            use_safetensors=True,
            local_files_only=True,
            return_alphas=True,
            return_lora_metadata=True,
            **({"unet_config": pipe.unet.config} if network == "unet" else {}),
        )
    except Exception as error:  # each format has its own errors for what is not of it
        raise _unusable(path, f"it cannot be read: {one_line(error)}") from error
    metadata = metadata or {}
    others = [each for each in _OTHER_KINDS if metadata.get(f"{network}.{each}")]
    if dora or others:  # diffusers would leave out what makes it DoRA
        raise _unusable(path, f"it is more than a LoRA ({dora or others[0]})")
    inline = {key: tensors.pop(key) for key in list(tensors) if key.endswith(".alpha")}
    found = inline | (alphas[0] or {} if alphas else {})
    if network == "unet":
        tensors, found = map(convert_unet_state_dict_to_peft, (tensors, found))
    named = {re.sub(r"(\.lora_A)?(\.weight)?\.alpha$", "", key): found[key] for key in found}
    return tensors, named, metadata


def _alpha(
    name: str,
    rank: int,
    alphas: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any],
    prefix: str,
) -> float:
    """Alpha of a layer: its own tensor, else as peft finds it in its configuration, else rank."""
    if name in alphas:
        return float(alphas[name])
    for pattern, alpha in (metadata.get(f"{prefix}alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name.removeprefix(prefix)):
            return float(alpha)
    return float(metadata.get(f"{prefix}lora_alpha", rank))


def add_product(
    layer: torch.nn.Linear | torch.nn.Conv2d,
    strength: float,
    down: torch.Tensor,
    up: torch.Tensor,
    where: str,
) -> None:
    """Add ``strength * up @ down`` to a layer's weight, in float32.

    Args:
        layer: the layer to change.
        strength: a factor.
        down: ``(rank, in)``, or ``(rank, in, height, width)`` of a convolution.
        up: ``(out, rank)``, or ``(out, rank, 1, 1)``.
        where: the name of the file and the layer, for the error.

    Raises:
        WeightsError: ``weights.unusable``: the shapes do not match.
    """
    weight = layer.weight.data
    if (
        up.shape[0] != weight.shape[0]
        or down.shape[1:] != weight.shape[1:]
        or up[0].numel() != len(down)
    ):
        shapes = f"{tuple(up.shape)} and {tuple(down.shape)}, not for {tuple(weight.shape)}"
        raise _unusable(where, f"its shapes are {shapes}")
    factors = (each.flatten(1).to(weight.device, torch.float32) for each in (up, down))
    product = torch.mm(*factors).view(weight.shape)
    weight.copy_((weight.float() + strength * product).to(weight.dtype))


def _unusable(where: Path | str, problem: str) -> WeightsError:
    return WeightsError("weights.unusable", f"The adapter {where} cannot be used: {problem}.")
