"""The list of known models: where each comes from, how it is recognised, and under what licence.

It is ``catalogue.toml``. A file of the same form that ``CATALOG_CLEANUP_MODELS`` names adds to
it or replaces entries: models of one's own, or mirrors of these within a company.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

from manifests.errors import WeightsError

Format = Literal["safetensors", "diffusers", "torchscript", "pickle"]

_OWN_LIST = "CATALOG_CLEANUP_MODELS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One known model.

    Attributes:
        name: what recipes call it.
        kind: the section of a recipe that uses it.
        format: ``diffusers`` is a folder, the others are files. TorchScript and pickles can run
            code when they are loaded, so they need a pin.
        title: what it is, for people.
        licence: its name.
        licence_url: its text.
        commercial: whether the licence allows commercial use of the model as it is.
        sources: URIs as :func:`stages.weights.find` takes them, tried in order; empty: ``how``
            says where to get it.
        page: where it is described, and, if gated, where its licence is accepted.
        size: bytes to download; 0: unknown.
        sha256: of the file, or of the folder as :func:`.hashes.digest` counts it; the pin.
        md5: the pin where no sha256 is known.
        gated: whether its owner asks for the licence to be accepted first.
        env: environment variable that names a local file to use instead.
        how: how to get it by hand.
    """

    name: str
    kind: Literal["remove", "upscale", "refine"]
    format: Format
    title: str
    licence: str
    licence_url: str
    commercial: bool
    sources: tuple[str, ...] = ()
    page: str = ""
    size: int = 0
    sha256: str = ""
    md5: str = ""
    gated: bool = False
    env: str = ""
    how: str = ""

    @property
    def pin(self) -> tuple[str, str] | None:
        """``(algorithm, hex digits)`` of the strongest hash listed."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None

    @property
    def is_pinned(self) -> bool:
        """Whether what is loaded can only be what was listed: by a hash, or by a hub's commits."""
        fixed = (commit_of(source) for source in self.sources)
        return self.pin is not None or (bool(self.sources) and all(fixed))

    @property
    def content(self) -> str:
        """Its content, as a recipe's ``weights_pin`` names it; empty: not known without having it.

        Of sources with several commits nobody knows which one is had.
        """
        if self.pin:
            return ":".join(self.pin)
        commits = {commit_of(source) for source in self.sources}
        commit = commits.pop() if len(commits) == 1 else ""
        return f"commit:{commit}" if commit else ""

    @property
    def runs_code(self) -> bool:
        """Whether loading it can run code that its author chose."""
        return self.format in ("torchscript", "pickle")


class Licensed(Protocol):
    """What is under a licence."""

    @property
    def licence(self) -> str:
        """Its name."""
        ...

    @property
    def licence_url(self) -> str:
        """Its text."""
        ...


def told_licence(thing: Licensed) -> str:
    """What a user of a model that is not for commercial use is told, in a line."""
    return f"{thing.licence}, {thing.licence_url}; not for commercial use unless bought."


def commit_of(source: str) -> str:
    """The commit that a hub's URI names by its 40 hex digits; empty for a branch, tag or others."""
    revision = source.rpartition("@")[2] if source.startswith("hf://") else ""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else ""


def known() -> dict[str, Model]:
    """Every known model by name, one's own included.

    Raises:
        WeightsError: ``weights.missing``, ``CATALOG_CLEANUP_MODELS`` names no such file.
    """
    table = tomllib.loads((resources.files("stages.weights") / "catalogue.toml").read_text("utf-8"))
    if own := os.environ.get(_OWN_LIST):
        table |= _own(Path(own))
    return {name: _model(name, entry) for name, entry in table.items()}


def _own(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError("weights.missing", f"{_OWN_LIST}={path}: {error}.") from None


def _model(name: str, entry: dict[str, Any]) -> Model:
    try:
        return Model(name=name, **(entry | {"sources": tuple(entry.get("sources", ()))}))
    except TypeError as error:
        problem = str(error).partition("__init__() ")[2]
        raise WeightsError(
            "weights.missing", f"In the list of models, {name}: {problem}."
        ) from None
