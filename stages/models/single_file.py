"""Loads a single file of weights in any supported format, and builds its network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from spandrel import MAIN_REGISTRY, ModelDescriptor, ModelLoader, UnsupportedModelError

from manifests.errors import WeightsError
from stages.optional_imports import one_line

#: How many bytes of a file, and names of its tensors, an error shows: people recognise them.
_SHOWN_BYTES, _SHOWN_NAMES = 24, 3


def load_network(path: Path, purpose: Literal["Inpainting", "SR"]) -> ModelDescriptor:
    """Build the network of a file's weights, in float32 on the CPU, in evaluation mode.

    The suffix names the format: ``.safetensors``, ``.pth`` or ``.ckpt`` (pickles, which may contain
    nothing but tensors), ``.pt`` (also TorchScript, of which only the tensors are used). The
    network's code is spandrel's.

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
        with torchscript():
            tensors = ModelLoader("cpu").load_state_dict_from_file(path)
    except Exception as error:  # each format has its own errors for damage
        with path.open("rb") as file:
            head = file.read(_SHOWN_BYTES)
        raise _unusable(
            f"{path} is damaged, or holds no weights ({one_line(error)}). It begins with {head!r}; "
            "safetensors, TorchScript (.pt) and PyTorch's state dicts (.pth) can be read"
        ) from error
    try:
        found = MAIN_REGISTRY.load(tensors).eval()
    except UnsupportedModelError as error:
        names = ", ".join([*map(str, tensors)][:_SHOWN_NAMES]) or "nothing"
        raise _unusable(
            f"{path} holds weights of no known network (it begins with {names})"
        ) from error
    except Exception as error:  # each of spandrel's 40 networks has its own checks
        problem = (
            f"{path} holds weights of a network of another size or version ({one_line(error)})"
        )
        raise _unusable(problem) from error
    if (found.purpose, found.input_channels, found.output_channels) != (purpose, 3, 3):
        raise _unusable(
            f"{path} holds weights of {found.architecture.name}, which is for {found.purpose} of "
            f"pictures with {found.input_channels} channels, not for {purpose} of RGB"
        )
    return found


@contextmanager
def torchscript() -> Iterator[None]:
    """Silence the deprecation of TorchScript by PyTorch 2.15: published files cannot be changed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        yield


def _unusable(problem: str) -> WeightsError:
    return WeightsError("weights.unusable", f"{problem}.")
