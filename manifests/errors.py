"""All errors that users can meet, and their stable codes, which the lineage records.

::

    CatalogCleanupError         the base: a message, a code and a remedy
    ├── ManifestError           the manifest itself: reported before any work starts
    ├── RecipeError             a recipe that does not exist or does not validate
    ├── OutputError             an output folder that cannot take this run
    ├── StorageError            S3 as a whole: the run stops, and the next one resumes it
    ├── ClusterError            a Ray cluster that cannot be reached or used
    ├── WeightsError            a model that cannot be fetched or loaded
    ├── DeviceError             a GPU that failed: its worker ends, other workers redo its rows
    └── RowError                one row's input or output: recorded, other rows continue

Codes never change their meaning. ``errors.toml`` lists each with its class; ``ERRORS.md`` and
``catalog-cleanup errors`` are generated from it.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple


class ErrorCode(NamedTuple):
    """The entry of a code in ``errors.toml``.

    Attributes:
        meaning: what is wrong, in one or more sentences.
        remedy: how to fix it, in one or more sentences.
        error_class: name of the class in this module that is raised with the code.
    """

    meaning: str
    remedy: str
    error_class: str


@cache
def error_codes() -> Mapping[str, ErrorCode]:
    """All codes, grouped by family, in the order of ``errors.toml``."""
    table = tomllib.loads(resources.files("manifests").joinpath("errors.toml").read_text("utf-8"))
    for name, entry in table["image"].items():
        if name != "class" and not entry.get("photo_only"):
            table["mask"].setdefault(name, entry)
    return {
        f"{family}.{name}": ErrorCode(
            entry["meaning"], entry["remedy"], entry.get("class", entries["class"])
        )
        for family, entries in table.items()
        for name, entry in entries.items()
        if name != "class"
    }


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint at the most similar candidate, for the end of a sentence; empty if there is none."""
    matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""


_USER = re.compile(r"(?<=://)[^/?#\s@]+@")
_SECRET_VALUE = re.compile(
    r"(?<=[?&;])([\w-]*(?:signature|credential|token|secret|password|accesskeyid|sig)=)[^&;#\s\"']+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Replace users, passwords, signatures and tokens in URIs with ``***``.

    Applied to the message of every error, including unexpected ones.
    """
    return _SECRET_VALUE.sub(r"\1***", _USER.sub("***@", text))


def describe(code: str) -> str:
    """Meaning and remedy of an error code; empty for a code of another version."""
    listed = error_codes().get(code)
    return f"{listed.meaning} {listed.remedy}" if listed else ""


class CatalogCleanupError(Exception):
    """An error that the user can fix.

    Args:
        code: one of :func:`error_codes`, listed with this class.
        message: what is wrong, naming the row, file or option; the remedy is added from the code.

    Raises:
        KeyError: the code is not listed.
        TypeError: the code is listed with another class.
    """

    def __init__(self, code: str, message: str) -> None:
        message = redact(message)
        super().__init__(code, message)  # both, so that it survives pickling between processes
        if error_codes()[code].error_class != type(self).__name__:
            raise TypeError(f"{code} is not a code of {type(self).__name__}")
        self.code = code
        self.message = message

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return error_codes()[self.code].remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"


class ManifestError(CatalogCleanupError):
    """The manifest cannot be used; nothing was started."""


class RecipeError(CatalogCleanupError):
    """The recipe does not exist or does not validate."""


class OutputError(CatalogCleanupError):
    """The output folder cannot take this run."""


class StorageError(CatalogCleanupError):
    """S3 cannot be used at all; no row or output is the cause, and the run can be resumed."""


class ClusterError(CatalogCleanupError):
    """The Ray cluster cannot be reached or used; no row is the cause."""


class WeightsError(CatalogCleanupError):
    """A model cannot be fetched or loaded; reported before any work starts, where possible."""


class DeviceError(CatalogCleanupError):
    """A GPU failed; no row is the cause, and only a new process may be able to use it again."""


class RowError(CatalogCleanupError):
    """One row cannot be processed; it ends as ``failed`` with this code, and others continue."""


class ArchivedError(OSError):
    """An object that must be restored from its archive before it can be read."""


def error_from_code(code: str, message: str) -> CatalogCleanupError:
    """Build the error of a code in its listed class, e.g. one that another process reported.

    Raises:
        KeyError: the code is not listed.
    """
    kind: type[CatalogCleanupError] = globals()[error_codes()[code].error_class]
    return kind(code, message)
