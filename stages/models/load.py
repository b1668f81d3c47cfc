"""Opens a file of weights in any supported format, and builds its network."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from spandrel import MAIN_REGISTRY, ModelDescriptor, UnsupportedModelError

from manifests.errors import WeightsError
from stages.extras import reason

#: How many bytes of a file, and names of its tensors, an error shows: people recognise them.
_SHOWN_BYTES, _SHOWN_NAMES = 24, 3


def load_network(path: Path, purpose: Literal["Inpainting", "SR"]) -> ModelDescriptor:
    """Build the network of a file's weights, in float32 on the CPU, in evaluation mode.

    TorchScript, safetensors and pickles are distinguished by their content. Only the tensors of a
    TorchScript are used; a pickle may contain nothing else. The network's code is spandrel's.

    Args:
        path: the file.
        purpose: what the network must be for, as spandrel names it; "SR" enlarges pictures.

    Raises:
        WeightsError: ``weights.missing``; ``weights.unusable`` if the file is damaged or of another
            kind, or the network is unknown, for another purpose, or not for RGB.
    """
    if not path.is_file():
        raise WeightsError("weights.missing", f"There is no file of weights at {path}.")
    try:
        tensors = _tensors_of(path)
    except Exception as error:  # each format has its own errors for damage
        with path.open("rb") as file:
            head = file.read(_SHOWN_BYTES)
        raise _unusable(
            f"{path} is damaged, or holds no weights ({reason(error)}). It begins with {head!r}; "
            "safetensors, TorchScript and PyTorch's state dicts can be read"
        ) from error
    try:
        found = MAIN_REGISTRY.load(tensors).eval()
    except UnsupportedModelError as error:
        names = ", ".join([*map(str, tensors)][:_SHOWN_NAMES]) or "nothing"
        raise _unusable(f"{path} is of no known network (it begins with {names})") from error
    except Exception as error:  # each of spandrel's 40 networks has its own checks
        problem = f"{path} is of a network of another size or version ({reason(error)})"
        raise _unusable(problem) from error
    if (found.purpose, found.input_channels, found.output_channels) != (purpose, 3, 3):
        raise _unusable(
            f"{path} is of {found.architecture.name}, which is for {found.purpose} of pictures "
            f"with {found.input_channels} channels, not for {purpose} of RGB"
        )
    return found


def _tensors_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
        return load_file(path)
    if zipfile.is_zipfile(path) and _is_torchscript(path):
        return dict(load_torchscript(path, torch.device("cpu")).state_dict())
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TypeError(f"it holds a {type(loaded).__name__}")
    return loaded


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def load_torchscript(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Load a TorchScript with its code; raises many types for damage."""
    with warnings.catch_warnings():
        # PyTorch 2.15 deprecates the format; the published file cannot be changed.
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        return torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call,no-any-return]


def _unusable(problem: str) -> WeightsError:
    return WeightsError("weights.unusable", f"{problem}.")
