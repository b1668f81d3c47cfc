"""Libraries of the package's extra ``models``, which much of it does without."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from manifests.errors import WeightsError


def load_module(name: str, needed_by: str) -> ModuleType:
    """Import a module that is, or needs, a library of the extra; ``needed_by`` begins a sentence.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise WeightsError("model.not_installed", f"{needed_by} needs {error.name}.") from None


def require(name: str, needed_by: str) -> None:
    """Check that a library is there, without the seconds that importing it takes.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    if not find_spec(name):
        raise WeightsError("model.not_installed", f"{needed_by} needs {name}.")
