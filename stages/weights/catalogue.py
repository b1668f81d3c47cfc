"""The list of known models, with their sources, hashes and licences.

It is ``catalogue.toml``. A file of the same format named by ``CATALOG_CLEANUP_MODELS`` adds or
replaces entries: own models, or a company's mirrors of the listed ones.
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

_OWN_LIST_VARIABLE = "CATALOG_CLEANUP_MODELS"

#: ``(algorithm, hex digits)`` that a file or folder must have.
Pin = tuple[str, str]


class Model(BaseModel):
    """One known model.

    Attributes:
        name: its name in recipes.
        kind: the section of a recipe that uses it.
        format: ``diffusers`` is a folder, the others are files. TorchScript and pickles can run
            code when they are loaded, so they need a pin.
        title: a description for people.
        licence: the licence's name.
        licence_url: where the licence's text is.
        commercial: whether the licence allows commercial use of the model as it is.
        sources: URIs for :func:`stages.weights.download.download`, tried in order; empty: see
            ``how``.
        page: its web page, where the licence of a gated model is accepted.
        size: bytes to download; 0: unknown.
        sha256: required hash of the file, or of the folder as
            :func:`stages.weights.hashes.compute_hash` computes it.
        md5: required hash if no sha256 is known.
        gated: whether the licence must be accepted on its page before downloading.
        env: environment variable that names a local file to use instead.
        how: how to get it manually.
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
        """Whether its content is fixed, by a hash or by commits of a hub."""
        fixed = (commit_of(source) for source in self.sources)
        return self.pin is not None or (bool(self.sources) and all(fixed))

    @property
    def content(self) -> str:
        """Its content in the format of a recipe's ``weights_pin``; empty: unknown before download.

        It is also unknown if the sources name different commits.
        """
        if self.pin:
            return ":".join(self.pin)
        commits = {commit_of(source) for source in self.sources}
        commit = commits.pop() if len(commits) == 1 else ""
        return f"commit:{commit}" if commit else ""

    @property
    def runs_code(self) -> bool:
        """Whether loading it can run its author's code."""
        return self.format in ("torchscript", "pickle")

    @property
    def licence_notice(self) -> str:
        """One line for users of a model that is not for commercial use."""
        return f"{self.licence}, {self.licence_url}; not for commercial use unless bought."


_Models = TypeAdapter(dict[str, Model])


def repo_and_revision(uri: str) -> tuple[str, str]:
    """Split ``hf://org/repo[@revision]``; both parts are empty for other URIs."""
    match = re.fullmatch("hf://([^@]+)@?(.*)", uri, re.IGNORECASE)
    return (match[1], match[2]) if match else ("", "")


def commit_of(source: str) -> str:
    """Return the commit, 40 hex digits, in a hub's URI; empty for a branch, tag or other URI."""
    revision = repo_and_revision(source)[1]
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else ""


def known_models() -> dict[str, Model]:
    """Return all known models by name, including those of ``CATALOG_CLEANUP_MODELS``.

    Raises:
        WeightsError: ``weights.missing``, that file does not exist or is invalid.
    """
    table = tomllib.loads((resources.files(__package__) / "catalogue.toml").read_text("utf-8"))
    own = os.environ.get(_OWN_LIST_VARIABLE)
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
    raise WeightsError("weights.missing", f"{_OWN_LIST_VARIABLE}={own}: {problem}.")
