"""Find a model's weights: by name, path or URI; in the node's cache, or from where they are listed.

Listed weights must match their listed hash or commit. Weights named by path or URI are used as they
are when a run starts: the recipe's ``weights_pin`` records their content, and a machine that finds
anything else refuses it. ``CATALOG_CLEANUP_CACHE`` is the node's cache, shared by its actors: the
first to need something downloads it, the others wait. ``CATALOG_CLEANUP_TRUST=1``, which
``--allow-unverified-weights`` sets for them, allows a listed TorchScript or pickle without a hash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import WeightsError, did_you_mean
from manifests.storage.base import local_path, scheme_of
from stages.recipe import Recipe
from stages.weights.cache import Entry, ensure, place
from stages.weights.catalogue import Model, commit_of, known
from stages.weights.download import CODE_SUFFIXES, DOWNLOADERS, GatedError, version
from stages.weights.foreign import kind_of
from stages.weights.hashes import cached_hash, files_in

TRUST = "CATALOG_CLEANUP_TRUST"

_LOCAL = ("", "file")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: a file, or the folder of a diffusers pipeline.
        sha256: as :func:`stages.weights.hashes.compute_hash` makes it.
        name: the listed model's; else the file's or folder's own.
        model: the listed model with this content; None: of unknown licence.
        commit: of the hub that it was downloaded from, if by commit; else empty.
    """

    path: Path
    sha256: str
    name: str
    model: Model | None = None
    commit: str = ""

    @property
    def file(self) -> Path:
        """The one file of weights, also where the path is a folder; safetensors takes precedence.

        Raises:
            WeightsError: ``weights.unusable``, there is none, or several.
        """
        if not self.path.is_dir():
            return self.path
        files = [path for _, path in files_in(self.path)]
        safe = [path for path in files if path.suffix == ".safetensors"]
        found = safe or [path for path in files if path.suffix in CODE_SUFFIXES]
        if len(found) != 1:
            kind = kind_of(self.path)
            problem = f"{self.path} is {kind}, and holds {len(found)} files of weights, not one."
            raise WeightsError("weights.unusable", problem)
        return found[0]


def find(ref: str, *, pin: str = "") -> Weights:
    """Make weights available locally; the first process on a node downloads, the others wait.

    Args:
        ref: a listed name, unless the model's environment variable names a path instead of it; a
            path; ``file://``, ``s3://``, ``hf://org/repo[@revision]`` or ``https://``. S3 is asked
            whether the object changed; ``https://``, and a hub's branch, are downloaded once, and
            taken from the cache from then on.
        pin: the content they must have, in the format of a recipe's ``weights_pin``; empty: any.

    Raises:
        WeightsError: ``weights.missing``, ``weights.gated``, ``weights.wrong_hash``,
            ``weights.mismatch``, ``weights.untrusted`` or ``model.not_installed``.
    """
    model = known().get(ref)
    if model and (named := os.environ.get(model.env)):
        ref = f"{model.env}={named}"
        found = _identified(_local(named, ref))
    else:
        found = fetch(ref)
    algorithm, _, digits = pin.partition(":")
    if pin and digits != (
        found.commit if algorithm == "commit" else cached_hash(found.path, algorithm)
    ):
        raise WeightsError(
            "weights.mismatch",
            f"{ref}, on this machine {found.path}, has sha256 {found.sha256}; the run's recipe "
            f"takes {pin}.",
        )
    return found


def pin_of(ref: str) -> str:
    """The content of weights in the format of a recipe's ``weights_pin``, wherever they are.

    A listed hash or commit, or a commit in a hub's URI, is taken as it is. All else is read, and
    downloaded if need be. Errors: see :func:`find`.
    """
    model = validate_ref(ref)
    if model and os.environ.get(model.env):
        content = ""
    elif model:
        content = model.content
    else:
        content = f"commit:{commit}" if (commit := commit_of(ref)) else ""
    return content or f"sha256:{find(ref).sha256}"


def fetch(ref: str) -> Weights:
    """:func:`find`, whatever an environment variable names instead."""
    model = validate_ref(ref)
    if not model and scheme_of(ref) in _LOCAL:
        return _identified(_local(str(local_path(ref)), ref))
    try:
        if model:
            entry = ensure(place_of(model), model.sources, model.pin)
        else:
            name = ref.rstrip("/").rpartition("/")[2].partition("@")[0]
            entry = ensure(place(name, f"{ref}\n{version(ref)}"), [ref], None)
    except GatedError as error:
        licence = f" Its licence is the {model.licence}, see {model.page}." if model else ""
        raise WeightsError("weights.gated", f"{error}.{licence}") from None
    except OSError as error:
        name = f"{model.name} is not here: " if model else ""
        how = how_to_get(model) if model else f"Check {ref}, and that this machine may read it."
        raise WeightsError("weights.missing", f"{name}{error}. {how}") from None
    code = [each.name for _, each in files_in(entry.path) if each.suffix in CODE_SUFFIXES]
    if model and code and not (model.is_pinned or _is_trusted()):
        raise WeightsError("weights.untrusted", f"{model.name} holds {code[0]}.")
    return _identified(entry.path, model, commit_of(entry.source))


def validate_ref(ref: str) -> Model | None:
    """Check what can be checked of a reference on any machine, without the weights.

    Returns:
        The listed model, if it is one.

    Raises:
        WeightsError: they could not be used anywhere.
    """
    if not ref:
        raise WeightsError("weights.missing", "The recipe names no weights where it needs some.")
    model = known().get(ref)
    if not model and scheme_of(ref) not in (*_LOCAL, *DOWNLOADERS):
        raise WeightsError("weights.missing", f"Weights cannot be fetched from {ref}.")
    if model and model.runs_code and not model.is_pinned and not _is_trusted():
        raise WeightsError("weights.untrusted", f"{model.name} is a {model.format} file.")
    return model


def _is_trusted() -> bool:
    return os.environ.get(TRUST) == "1"


def place_of(model: Model) -> Path:
    """A listed model's folder in the cache; another pin gets another one."""
    return place(model.name, repr(model.pin or model.sources))


def cached(model: Model) -> Path | None:
    """A listed model's file or folder in this node's cache, unchecked; None: not there."""
    entry = Entry.read(place_of(model))
    return entry.path if entry else None


def how_to_get(model: Model) -> str:
    """A sentence that says how to get a model onto a machine that cannot download it."""
    if not model.sources:
        return model.how or f"Get it from {model.page}."
    variable = f", or set {model.env} to its path" if model.env else ""
    return (
        f"Where there is a network, `catalog-cleanup models pull {model.name} --to DIR_OR_S3` gets "
        f"it (about it: {model.page}); name the copy with --set {model.kind}.weights=…{variable}."
    )


def _identified(path: Path, model: Model | None = None, commit: str = "") -> Weights:
    """Weights at a path; a file with a listed hash is that model, whatever it is called."""
    try:
        sha256 = cached_hash(path)
    except OSError as error:
        raise WeightsError("weights.missing", f"{path} cannot be read: {error}.") from None
    model = model or next((each for each in known().values() if each.sha256 == sha256), None)
    return Weights(path, sha256, model.name if model else path.name, model, commit)


def _local(path: str, ref: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        problem = f"{ref} is no file, no folder and no listed model's name"
        raise WeightsError("weights.missing", f"{problem}{did_you_mean(ref, known())}.")
    return found


def of_recipe(recipe: Recipe) -> list[tuple[str, str]]:
    """``(section, ref)`` of every part of a recipe that needs weights, in the order of the work."""
    sections = ("remove", "upscale", "refine") if recipe.refiner else ("remove",)
    found = []
    for section in sections:
        options = getattr(recipe, section)
        ref: str | None = getattr(options, "weights", None)
        if ref is not None and options.method != "lanczos":
            found.append((section, ref))
    return found


def licences(recipe: Recipe) -> list[tuple[str, Model]]:
    """``(section, model)`` of what a recipe uses that is not for commercial use, as presumed."""
    found = ((section, presumed_model(recipe, section, ref)) for section, ref in of_recipe(recipe))
    return [(section, model) for section, model in found if model and not model.commercial]


def presumed_model(recipe: Recipe, section: str, ref: str) -> Model | None:
    """The model whose licence weights are presumed to be under: the listed one, or the section's.

    Weights by path or URI count as the model that their section is made for, where that one is not
    for commercial use: what is derived from such a model is not, either.
    """
    models = known()
    if ref in models:
        return models[ref]
    options = getattr(recipe, section)
    usual = models.get(type(options).model_fields["weights"].default)
    return usual if usual and not usual.commercial else None


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with local paths of weights made absolute: actors run in other folders."""
    paths = {
        section: str(path.absolute())
        for section, ref in of_recipe(recipe)
        if ref and ref not in known() and (path := Path(ref).expanduser()).exists()
    }
    return _with(recipe, "weights", paths)


def with_pins(recipe: Recipe, pins: Mapping[str, str]) -> Recipe:
    """The recipe with the content of its weights (section -> ``weights_pin``), as a run has it."""
    return _with(recipe, "weights_pin", pins)


def _with(recipe: Recipe, option: str, values: Mapping[str, str]) -> Recipe:
    """The recipe with another value of an option in some of its sections."""
    sections = {
        name: getattr(recipe, name).model_copy(update={option: value})
        for name, value in values.items()
    }
    return recipe.model_copy(update=sections)
