"""Opens a file of weights in any supported format, and builds its network."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from spandrel import MAIN_REGISTRY, ModelDescriptor, UnsupportedModelError

from manifests.errors import WeightsError
from stages.weights.foreign import SINGLE_FILES, kind_of, kind_of_names, reason


def load_network(path: Path) -> ModelDescriptor:
    """Build the network of a file's weights, in float32 on the CPU, in evaluation mode.

    The network's code is spandrel's.

    Raises:
        WeightsError: as :func:`read_tensors`; also ``weights.unusable`` if spandrel does not
            support the network.
    """
    tensors = read_tensors(path)
    if kind := kind_of_names(tensors):
        raise WeightsError("weights.unusable", f"{path} is {kind}.")
    try:
        return MAIN_REGISTRY.load(tensors).eval()
    except UnsupportedModelError as error:
        raise _unusable(path, f"is of no known network{_sample(tensors)}", None) from error
    except Exception as error:  # each of spandrel's 40 networks has its own checks
        raise _unusable(path, "is of a network of another size or version", error) from error


def read_tensors(path: Path) -> dict[str, Any]:
    """Read the tensors of a file by name, on the CPU.

    TorchScript, safetensors and pickles are distinguished by their content. Only the tensors of a
    TorchScript are used; a pickle may contain nothing else.

    Raises:
        WeightsError: ``weights.missing``; ``weights.unusable`` if the file is damaged, or of
            another kind.
    """
    if not path.is_file():
        raise WeightsError("weights.missing", f"There are no weights at {path}.")
    if kind := kind_of(path):
        raise WeightsError("weights.unusable", f"{path} is {kind}; {SINGLE_FILES}.")
    try:
        return _tensors_of(path)
    except Exception as error:  # each format has its own errors for damage
        raise _unusable(path, "is damaged, or holds no weights", error) from error


def _tensors_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
        return load_file(path)
    if zipfile.is_zipfile(path) and _is_torchscript(path):
        with warnings.catch_warnings():
            # PyTorch 2.15 deprecates the format; the published file cannot be changed.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
            return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TypeError(f"it holds a {type(loaded).__name__}")
    return loaded


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _unusable(path: Path, what: str, error: Exception | None) -> WeightsError:
    detail = f" ({reason(error)})" if error else ""
    return WeightsError("weights.unusable", f"{path} {what}{detail}.")


def _sample(tensors: dict[str, Any]) -> str:
    """Format the names of a few tensors, by which people recognise a network."""
    names = ", ".join(list(map(str, tensors))[:3])
    return f" (it begins with {names})" if names else " (it is empty)"
