"""Loads parts of a diffusers folder, and applies the options that change how a model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, TorchAoConfig
from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn
from transformers.utils import logging as transformers_logging

from manifests.errors import RowError, WeightsError
from stages.extras import reason

#: torch.compile's backend. Tests use `eager`, which traces but generates no code.
COMPILE_BACKEND = "inductor"


def check_folder(
    folder: Path, pipelines: tuple[str, ...], parts: tuple[str, ...]
) -> dict[str, Any]:
    """Read ``model_index.json``, and check that the folder contains such a pipeline and its parts.

    Raises:
        WeightsError: ``weights.unusable``.
    """
    if folder.is_file():
        raise _unusable(
            f"{folder} is a file, and not the folder of a {pipelines[0]}. Convert a single file "
            "with diffusers' from_single_file and save_pretrained; fuse a LoRA into its model "
            "first. `catalog-cleanup models list` lists models to download."
        )
    try:
        index = DiffusionPipeline.load_config(folder, local_files_only=True)
        found = index["_class_name"]
    except (OSError, KeyError, TypeError) as error:
        raise _unusable(f"{folder} is no diffusers pipeline: {reason(error)}.") from None
    if found not in pipelines:
        raise _unusable(f"{folder} holds a {found}, not a {pipelines[0]}.")
    for part in parts:
        if not (folder / part).is_dir():
            raise _unusable(f"{folder} lacks {part}/.")
    return dict(index)


def load_part(kind: Any, folder: Path, part: str, dtype: torch.dtype, **switches: Any) -> Any:
    """Load a network with all of its weights, from safetensors, in eval mode.

    Args:
        kind: the network's class in diffusers or transformers.
        folder: the pipeline's folder.
        part: the subfolder.
        dtype: the weights' number format.
        switches: more arguments for ``from_pretrained``.

    Raises:
        WeightsError: ``weights.unusable``, also if only some weights are missing, which the
            libraries would initialise randomly.
        RowError: ``model.out_of_memory``.
    """
    transformers_logging.disable_progress_bar()  # a worker's log is not a terminal
    dtype_key = "torch_dtype" if issubclass(kind, ModelMixin) else "dtype"
    try:
        network, info = kind.from_pretrained(
            folder,
            subfolder=part,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **{dtype_key: dtype},
            **switches,
        )
    except torch.OutOfMemoryError as error:
        raise _too_large(f"{folder / part}", error) from None
    except Exception as error:  # the libraries raise many types for unusable files
        raise _unusable(f"{folder / part} cannot be loaded: {reason(error)}.") from error
    wrong = sorted([*info["missing_keys"], *info["mismatched_keys"]], key=str)
    if wrong:
        raise _unusable(f"{folder / part} lacks {len(wrong)} weights, such as {wrong[0]}.")
    return network.eval()


def load_tokenizer(kind: Any, folder: Path, part: str) -> Any:
    """Load a tokenizer. Raises WeightsError: ``weights.unusable``."""
    try:
        return kind.from_pretrained(folder, subfolder=part, local_files_only=True)
    except Exception as error:  # as above
        raise _unusable(f"{folder / part} cannot be loaded: {reason(error)}.") from error


def fp8_config(dtype: torch.dtype, device: torch.device) -> TorchAoConfig:
    """Quantization of linear layers: weights and activations in float8 with a scale per row.

    Raises:
        WeightsError: ``model.unavailable``: no torchao, no supported GPU, or not bfloat16.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise _unavailable("refine.fp8 needs a GPU of compute capability 8.9 or more.")
    if dtype is not torch.bfloat16:
        raise _unavailable("refine.fp8 needs refine.dtype = bfloat16.")
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            PerRow,
        )

        return TorchAoConfig(Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    except (ImportError, ValueError, AssertionError) as error:
        raise _unavailable(f"refine.fp8 needs torchao: {reason(error)}.") from None


def use_attention(transformer: Any, backend: str, dtype: torch.dtype, device: torch.device) -> None:
    """Set the attention backend, and run it once: some backends only fail when they run.

    Raises:
        WeightsError: ``model.unavailable``.
    """
    heads = transformer.config.num_attention_heads
    shape = (1, 32, heads, transformer.config.attention_head_dim)
    try:
        with attention_backend():  # diffusers changes the process's default, too, and so the VAE's
            transformer.set_attention_backend(backend)
            dispatch_attention_fn(*[torch.zeros(shape, dtype=dtype, device=device)] * 3)
    except Exception as error:  # each backend fails with its own type
        problem = f"refine.attention = {backend} is not available: {reason(error)}."
        raise _unavailable(problem) from None


def use_compile(transformer: Any, device: torch.device) -> None:
    """Compile the repeated blocks at their first run, each as one graph.

    Raises:
        WeightsError: ``model.unavailable``: compilation does not work here.
    """
    try:  # compilation happens at the first run, so test it now on a small function
        torch.compile(torch.square, backend=COMPILE_BACKEND)(torch.ones(2, device=device))
    except Exception as error:  # a missing compiler raises many types
        raise _unavailable(f"refine.compile is not available: {reason(error)}.") from None
    transformer.compile_repeated_blocks(fullgraph=True, backend=COMPILE_BACKEND)


def move_to_device(pipe: Any, device: torch.device, *, offload: bool) -> None:
    """Move the pipeline to the device: all of it, or with ``offload`` only the running part.

    Raises:
        WeightsError: ``model.unavailable``: offload without a GPU.
        RowError: ``model.out_of_memory``.
    """
    if offload and device.type == "cpu":
        raise _unavailable("refine.offload needs a GPU.")
    try:
        if offload:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.to(device)
    except torch.OutOfMemoryError as error:
        raise _too_large("The model itself", error) from None
    pipe.set_progress_bar_config(disable=True)


def _unusable(message: str) -> WeightsError:
    return WeightsError("weights.unusable", message)


def _unavailable(message: str) -> WeightsError:
    return WeightsError("model.unavailable", message)


def _too_large(what: str, error: torch.OutOfMemoryError) -> RowError:
    return RowError("model.out_of_memory", f"{what} does not fit: {reason(error)}.")
