"""Imports and errors of optional libraries, which the package's extra ``models`` installs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from manifests.errors import WeightsError

#: Library errors with one of these advise disabling a protection against untrusted code.
_BAD_ADVICE = ("weights_only", "safe_globals", "trust_remote_code", "allow_pickle", "safetensors=")


def load_module(name: str, needed_by: str) -> ModuleType:
    """Import a module that is, or depends on, an optional library.

    Args:
        name: the module to import.
        needed_by: the feature that needs it; the subject of the error's sentence.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise WeightsError("model.not_installed", f"{needed_by} needs {error.name}.") from None


def require(*names: str, needed_by: str) -> None:
    """Check that libraries are installed, without the seconds that importing them takes.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    for name in names:
        if not find_spec(name):
            raise WeightsError("model.not_installed", f"{needed_by} needs {name}.")


def one_line(error: BaseException) -> str:
    """Summarise a library's error in one line, without advice to disable a protection."""
    text = str(error).strip()
    if any(word in text for word in _BAD_ADVICE):
        return "it contains more than tensors, or is not a PyTorch file"
    lines = text.splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")
