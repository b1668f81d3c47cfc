"""The list of known models: where each comes from, how it is recognised, and under what licence.

It is ``catalogue.toml``. A file of the same form that ``CATALOG_CLEANUP_MODELS`` names adds to it
or replaces entries: models of one's own, or mirrors of these within a company.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from manifests.errors import WeightsError

_OWN_LIST = "CATALOG_CLEANUP_MODELS"

#: ``(algorithm, hex digits)`` that a file or folder must have.
Pin = tuple[str, str]


class Model(BaseModel):
    """One known model.

    Attributes:
        name: what recipes call it.
        kind: the section of a recipe that uses it.
        format: ``diffusers`` is a folder, the others are files. TorchScript and pickles can run
            code when they are loaded, so they need a pin.
        title: a description for people.
        licence: its name.
        licence_url: its text.
        commercial: whether the licence allows commercial use of the model as it is.
        sources: URIs as :func:`stages.weights.download.download` takes them, tried in order; empty:
            ``how`` says where to get it.
        page: where it is described, and, if gated, where its licence is accepted.
        size: bytes to download; 0: unknown.
        sha256: of the file, or of the folder as :func:`stages.weights.hashes.compute_hash` counts
            it; the pin.
        md5: the pin where no sha256 is known.
        gated: whether its owner asks for the licence to be accepted first.
        env: environment variable that names a local file to use instead.
        how: how to get it by hand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["remove", "upscale", "refine"]
    format: Literal["safetensors", "diffusers", "torchscript", "pickle"]
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
    def pin(self) -> Pin | None:
        """The strongest hash listed."""
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
        """Its content, in the format of a recipe's ``weights_pin``; empty: unknown before download.

        It is unknown if the sources name different commits.
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

    @property
    def licence_notice(self) -> str:
        """One line for users of a model that is not for commercial use."""
        return f"{self.licence}, {self.licence_url}; not for commercial use unless bought."


_Models = TypeAdapter(dict[str, Model])


def repo_and_revision(uri: str) -> tuple[str, str]:
    """``("org/repo", "revision")`` of ``hf://org/repo[@revision]``; both empty for other URIs."""
    match = re.fullmatch("hf://([^@]+)@?(.*)", uri, re.IGNORECASE)
    return (match[1], match[2]) if match else ("", "")


def commit_of(source: str) -> str:
    """The commit that a hub's URI names by its 40 hex digits; empty for a branch, tag or others."""
    revision = repo_and_revision(source)[1]
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else ""


def known_models() -> dict[str, Model]:
    """Every known model by name, one's own included.

    Raises:
        WeightsError: ``weights.missing``, ``CATALOG_CLEANUP_MODELS`` names no such file.
    """
    table = tomllib.loads((resources.files(__package__) / "catalogue.toml").read_text("utf-8"))
    own = os.environ.get(_OWN_LIST)
    try:
        if own:
            table |= tomllib.loads(Path(own).read_text("utf-8"))
        return _Models.validate_python(
            {name: {"name": name, **entry} for name, entry in table.items()}
        )
    except ValidationError as error:
        problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    except (OSError, ValueError, TypeError) as error:
        problem = str(error)
    raise WeightsError("weights.missing", f"{_OWN_LIST}={own}: {problem}.")
