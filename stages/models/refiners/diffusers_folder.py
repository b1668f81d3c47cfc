"""Loads components of a diffusers folder, and applies the options that change how a model runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.models.attention import AttentionMixin, AttentionModuleMixin
from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn
from transformers.utils import logging as transformers_logging

from manifests.errors import RowError, WeightsError
from stages.optional_imports import one_line
from stages.weights.download import HALF

#: torch.compile's backend. Tests use `eager`, which traces but generates no code.
COMPILE_BACKEND = "inductor"


def check_folder(folder: Path, pipelines: tuple[str, ...], components: tuple[str, ...]) -> None:
    """Check that a folder has such a pipeline, by its ``model_index.json``, and its components.

    Raises:
        WeightsError: ``weights.unusable``.
    """
    if folder.is_file():
        raise _unusable(
            f"{folder} is a file, and not the folder of a {pipelines[0]}. Convert a single file "
            "with diffusers' from_single_file and save_pretrained; name a LoRA in the option lora. "
            "`catalog-cleanup models list` lists models to download."
        )
    try:
        found = DiffusionPipeline.load_config(folder, local_files_only=True)["_class_name"]
    except (OSError, KeyError, TypeError) as error:
        raise _unusable(f"{folder} is not a diffusers pipeline: {one_line(error)}.") from None
    if found not in pipelines:
        raise _unusable(f"{folder} holds a {found}, not a {pipelines[0]}.")
    for component in components:
        if not (folder / component).is_dir():
            raise _unusable(f"{folder} lacks {component}/.")


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads the networks of a diffusers folder.

    Attributes:
        folder: the pipeline's folder.
        dtype: the weights' number format.
        device: where to put them, without a copy in main memory on the way to a GPU.
    """

    folder: Path
    dtype: torch.dtype
    device: torch.device

    def load_component(self, model_class: Any, component: str) -> Any:
        """Load a component with all of its weights, from safetensors, in eval mode.

        Args:
            model_class: its class in diffusers or transformers.
            component: the subfolder.

        Raises:
            WeightsError: ``weights.unusable``, also if only some weights are missing, which the
                libraries would initialise randomly.
            RowError: ``model.out_of_memory``.
        """
        subfolder = self.folder / component
        straight: dict[str, Any] = (
            {} if self.device.type == "cpu" else {"device_map": {"": self.device}}
        )
        if any(subfolder.glob(f"*.{HALF}.safetensors")):
            straight["variant"] = HALF
        if not (subfolder / "config.json").is_file():  # transformers builds its default network
            raise _unusable(f"{subfolder} lacks config.json.")
        transformers_logging.disable_progress_bar()  # a worker's log is not a terminal
        dtype_key = "torch_dtype" if issubclass(model_class, ModelMixin) else "dtype"
        try:
            network, info = model_class.from_pretrained(
                self.folder,
                subfolder=component,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **{dtype_key: self.dtype},
                **straight,
            )
        except torch.OutOfMemoryError as error:
            raise _too_large(f"{subfolder}", error) from None
        except Exception as error:  # the libraries raise many types for unusable files
            raise _unusable(f"{subfolder} cannot be loaded: {one_line(error)}.") from error
        wrong = sorted([*info["missing_keys"], *info["mismatched_keys"]], key=str)
        if wrong:
            raise _unusable(f"{subfolder} lacks {len(wrong)} weights, such as {wrong[0]}.")
        return network.eval()


def load_tokenizer(
    tokenizer_class: Any, folder: Path, component: str, *, has_template: bool
) -> Any:
    """Load a tokenizer; transformers would build one without words where files are missing.

    Args:
        tokenizer_class: its class in transformers.
        folder: the pipeline's folder.
        component: the subfolder.
        has_template: whether the pipeline formats texts with its chat template.

    Raises:
        WeightsError: ``weights.unusable``.
    """
    subfolder, files = folder / component, dict(tokenizer_class.vocab_files_names)
    whole = files.pop("tokenizer_file")
    if not (subfolder / whole).is_file() and not all(
        (subfolder / each).is_file() for each in files.values()
    ):
        raise _unusable(f"{subfolder} lacks {whole}, or {' and '.join(files.values())}.")
    if not (subfolder / "tokenizer_config.json").is_file():
        raise _unusable(f"{subfolder} lacks tokenizer_config.json.")
    tokenizer = load_config(tokenizer_class, folder, component)
    if has_template and not tokenizer.chat_template:
        raise _unusable(f"{subfolder} lacks chat_template.jinja.")
    return tokenizer


def load_config(component_class: Any, folder: Path, component: str) -> Any:
    """Load a component without weights, such as a scheduler.

    Raises:
        WeightsError: ``weights.unusable``.
    """
    try:
        return component_class.from_pretrained(folder, subfolder=component, local_files_only=True)
    except Exception as error:  # as above
        raise _unusable(f"{folder / component} cannot be loaded: {one_line(error)}.") from error


def fuse_projections(transformer: Any) -> None:
    """Compute query, key and value in one linear layer each, instead of three.

    Diffusers keeps the three layers, a fifth of FLUX's weights; nothing uses them any more.
    Z-Image's cannot be fused.
    """
    if not isinstance(transformer, AttentionMixin):
        return
    transformer.fuse_qkv_projections()
    for attention in transformer.modules():
        if isinstance(attention, AttentionModuleMixin) and attention.fused_projections:
            for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
                if hasattr(attention, name):
                    delattr(attention, name)


def quantize(transformer: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Quantize linear layers: weights and activations in float8 with a scale per row.

    Each layer is moved to the device by itself, so that the device need not hold all in 16 bits.

    Raises:
        WeightsError: ``model.unavailable``: no torchao, no supported GPU, or not bfloat16.
        RowError: ``model.out_of_memory``.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise _unavailable("refine.fp8 needs a GPU of compute capability 8.9 or more.")
    if dtype is not torch.bfloat16:
        raise _unavailable("refine.fp8 needs refine.dtype = bfloat16.")
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            PerRow,
            quantize_,
        )

        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
        quantize_(transformer, config, device=device)
    except torch.OutOfMemoryError as error:
        raise _too_large("The model itself", error) from None
    except (ImportError, ValueError, AssertionError) as error:
        raise _unavailable(f"refine.fp8 needs torchao: {one_line(error)}.") from None


def use_attention(transformer: Any, backend: str, dtype: torch.dtype, device: torch.device) -> None:
    """Set the attention backend, and run it once: some backends only fail when they run.

    Raises:
        WeightsError: ``model.unavailable``.
    """
    attention = next(each for each in transformer.modules() if hasattr(each, "heads"))
    shape = (1, 32, attention.heads, attention.inner_dim // attention.heads)
    try:
        with attention_backend():  # diffusers changes the process's default, too, and so the VAE's
            transformer.set_attention_backend(backend)
            dispatch_attention_fn(*[torch.zeros(shape, dtype=dtype, device=device)] * 3)
    except Exception as error:  # each backend fails with its own type
        problem = f"refine.attention = {backend} is not available: {one_line(error)}."
        raise _unavailable(problem) from None


def use_compile(transformer: Any) -> None:
    """Compile the repeated blocks for the shapes of their first runs, each as one graph.

    Whatever is wrong shows only then.
    """
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=False, backend=COMPILE_BACKEND)


def undo_compile(transformer: Any) -> None:
    """Run the blocks as they are again."""
    for module in transformer.modules():
        module._compiled_call_impl = None


def move_to_device(pipe: Any, device: torch.device, *, offload: bool) -> None:
    """Move the pipeline to the device: all of it, or with ``offload`` only the running component.

    Raises:
        WeightsError: ``model.unavailable``: offload without a GPU.
        RowError: ``model.out_of_memory``.
    """
    if offload and device.type == "cpu":
        raise _unavailable("The option offload needs a GPU.")
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
    return RowError("model.out_of_memory", f"{what} does not fit: {one_line(error)}.")
