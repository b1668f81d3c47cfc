"""The model registry: the models that recipes name, with their sources, hashes and licences.

It is ``registry.toml``. A file of the same format named by ``CATALOG_CLEANUP_MODELS`` adds or
replaces entries: own models, or a company's mirrors of the registered ones.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from manifests.errors import WeightsError
from manifests.toml_files import explain, read_toml

_OWN_REGISTRY_VARIABLE = "CATALOG_CLEANUP_MODELS"


class Model(BaseModel):
    """One registered model.

    Attributes:
        name: its name in recipes.
        kind: the section of a recipe that uses it.
        option: the option of that section that names it.
        format: ``diffusers`` is a folder, the others are files. TorchScript and pickles can run
            code when they are loaded, so they need a hash.
        title: a description for people.
        licence: the licence's name.
        licence_url: where the licence's text is.
        commercial: whether the licence allows commercial use of the model as it is.
        restrictions: what the licence forbids nevertheless, a clause for users; empty: nothing.
        sources: URIs for :data:`stages.weights.download.DOWNLOADERS`, tried in order.
        page: its web page, where the licence of a gated model is accepted.
        size: bytes to download; 0: unknown.
        sha256: required hash of the file, or of the folder as
            :func:`stages.weights.hashes.compute_hash` computes it.
        gated: whether the licence must be accepted on its page before downloading.
        env: environment variable that names a local file to use instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["remove", "upscale", "refine"]
    option: str = "weights"
    format: Literal["safetensors", "diffusers", "torchscript", "pickle"]
    title: str
    licence: str
    licence_url: str
    commercial: bool
    restrictions: str = ""
    sources: tuple[Annotated[str, Field(pattern="^(https?|s3|hf)://")], ...] = Field(min_length=1)
    page: str = ""
    size: int = 0
    sha256: str = Field(default="", validate_default=True)
    gated: bool = False
    env: str = ""

    @field_validator("sha256")
    @classmethod
    def _has_a_hash_if_it_can_run_code(cls, sha256: str, others: ValidationInfo) -> str:
        if not sha256 and others.data.get("format") in ("torchscript", "pickle"):
            raise ValueError(
                "a pickle or TorchScript file can run code when it is loaded, so its SHA-256 is "
                "required; or list a safetensors file"
            )
        return sha256

    @property
    def content(self) -> str:
        """Its content in the format of a recipe's ``weights_pin``; empty: unknown before download.

        It is also unknown if the sources name different commits.
        """
        if self.sha256:
            return f"sha256:{self.sha256}"
        commits = {commit_of(source) for source in self.sources}
        commit = commits.pop() if len(commits) == 1 else ""
        return f"commit:{commit}" if commit else ""

    @property
    def commercial_use(self) -> str:
        """Whether commercial use is allowed, in words."""
        if not self.commercial:
            return "no, unless bought"
        return "with restrictions" if self.restrictions else "yes"

    @property
    def licence_notice(self) -> str:
        """One line for users on what the licence forbids; empty: it allows commercial use."""
        limits = self.restrictions if self.commercial else "not for commercial use unless bought"
        return f"{self.licence}, {self.licence_url}; {limits}." if limits else ""


_Models = TypeAdapter(dict[str, Model])


def repo_and_revision(uri: str) -> tuple[str, str]:
    """Split ``hf://org/repo[@revision]``; both parts are empty for other URIs."""
    match = re.fullmatch("hf://([^@]+)@?(.*)", uri, re.IGNORECASE)
    return (match[1], match[2]) if match else ("", "")


def commit_of(source: str) -> str:
    """Return the commit, 40 hex digits, in an ``hf://`` URI; empty: a branch, tag or other URI."""
    revision = repo_and_revision(source)[1]
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else ""


def registered_models() -> dict[str, Model]:
    """Return all registered models by name, including those of ``CATALOG_CLEANUP_MODELS``.

    Raises:
        WeightsError: ``weights.bad_list``, that file does not exist or is invalid.
    """
    table = tomllib.loads((resources.files(__package__) / "registry.toml").read_text("utf-8"))
    own = os.environ.get(_OWN_REGISTRY_VARIABLE)
    if own:
        table |= read_toml(Path(own), "weights.bad_list")
    for name, entry in table.items():
        if isinstance(entry, dict):
            entry["name"] = name
    try:
        return _Models.validate_python(table)
    except ValidationError as error:
        problem = f"{_OWN_REGISTRY_VARIABLE}={own}: {explain(error, dict)}."
        raise WeightsError("weights.bad_list", problem) from None
