"""Finds a model's weights by name, path or URI, and downloads them into the node's cache.

Listed weights must match their listed hash or commit. Weights named by path or URI are used with
their content at the start of a run: the recipe's ``weights_pin`` records it, and machines reject
any other content. ``CATALOG_CLEANUP_CACHE`` is the node's cache, shared by its actors.
``CATALOG_CLEANUP_TRUST=1``, which ``--allow-unverified-weights`` sets for them, allows a listed
TorchScript or pickle without a hash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import WeightsError, did_you_mean
from manifests.storage import local_path, scheme_of
from stages.recipe import Recipe
from stages.weights.cache import Entry, ensure, entry_folder
from stages.weights.catalogue import Model, commit_of, known_models
from stages.weights.download import DOWNLOADERS, version
from stages.weights.hashes import Part, cached_hash

TRUST_VARIABLE = "CATALOG_CLEANUP_TRUST"

_LOCAL = ("", "file")

#: Between the section and the number of an adapter.
_LORA = ".lora."


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: a file, or the folder of a diffusers pipeline.
        sha256: see :func:`stages.weights.hashes.compute_hash`; of the part that was asked for, if
            they were downloaded by commit.
        name: the listed model's name; else that of the file or folder.
        model: the listed model with this content; None: the licence is unknown.
        commit: the hub's commit, if they were downloaded by commit; else empty.
    """

    path: Path
    sha256: str
    name: str
    model: Model | None = None
    commit: str = ""


def find(ref: str, *, pin: str = "", part: Part = "") -> Weights:
    """Make weights available locally; the first process on a node downloads, the others wait.

    Args:
        ref: a listed name (the model's environment variable can replace it by a path); a path;
            ``file://``, ``s3://``, ``hf://org/repo[@revision]`` or ``https://``. S3 objects are
            checked for changes; ``https://`` and a hub's branch are downloaded once and then
            served from the cache.
        pin: the required content, in the format of a recipe's ``weights_pin``; empty: any.
        part: what is needed of a diffusers folder. Of a hub's commit nothing else is downloaded;
            other folders are identified by all of their files, and are always complete.

    Raises:
        WeightsError: ``weights.missing``, ``weights.gated``, ``weights.wrong_hash``,
            ``weights.mismatch``, ``weights.untrusted`` or ``model.not_installed``.
    """
    model = known_models().get(ref)
    if model and (named := os.environ.get(model.env)):
        ref = f"{model.env}={named}"
        found = _identified(_local(named, ref))
    else:
        found = fetch(ref, part)
    if pin not in ("", f"sha256:{found.sha256}", f"commit:{found.commit}"):
        raise WeightsError(
            "weights.mismatch",
            f"{ref}, on this machine {found.path}, has sha256 {found.sha256}; the run's recipe "
            f"requires {pin}.",
        )
    return found


def pin_of(ref: str) -> str:
    """Return the content of weights in the format of a recipe's ``weights_pin``.

    A listed hash or commit, or a commit in a hub's URI, is used directly. Other weights are
    downloaded if needed, and hashed. Errors: see :func:`find`.
    """
    model, commit = validate_ref(ref), commit_of(ref)
    if model and model.content and not os.environ.get(model.env):
        return model.content
    return f"commit:{commit}" if commit else f"sha256:{find(ref).sha256}"


def fetch(ref: str, part: Part = "") -> Weights:
    """Make weights available as :func:`find` does, but ignore environment variables."""
    model = validate_ref(ref)
    if not model and scheme_of(ref) in _LOCAL:
        return _identified(_local(str(local_path(ref)), ref))
    try:
        if model:
            folder, sources, sha256 = cache_folder_of(model), model.sources, model.sha256
        else:
            name = ref.rstrip("/").rpartition("/")[2].partition("@")[0]
            folder, sources, sha256 = entry_folder(name, f"{ref}\n{version(ref)}"), (ref,), ""
        if sha256 or not all(map(commit_of, sources)):
            part = ""
        if part and not Entry.read(folder):
            folder = folder.with_name(f"{folder.name}-{part}")
        entry = ensure(folder, sources, sha256, part)
    except OSError as error:
        name = f"{model.name} is not available: " if model else ""
        how = how_to_get(model) if model else f"Check {ref}, and that this machine may read it."
        raise WeightsError("weights.missing", f"{name}{error}. {how}") from None
    return _identified(entry.path, model, commit_of(entry.source), part)


def validate_ref(ref: str) -> Model | None:
    """Check a reference as far as possible without the weights.

    Returns:
        The listed model, if the reference is its name.

    Raises:
        WeightsError: it is invalid on every machine.
    """
    if not ref:
        raise WeightsError("weights.missing", "The recipe names no weights where it needs some.")
    model = known_models().get(ref)
    if not model and scheme_of(ref) not in (*_LOCAL, *DOWNLOADERS):
        raise WeightsError("weights.missing", f"Weights cannot be fetched from {ref}.")
    is_trusted = os.environ.get(TRUST_VARIABLE) == "1"
    if model and model.runs_code and not model.content and not is_trusted:
        raise WeightsError("weights.untrusted", f"{model.name} is a {model.format} file.")
    return model


def cache_folder_of(model: Model) -> Path:
    """Return a listed model's folder in the cache; each pin has its own folder."""
    return entry_folder(
        model.name, repr(("sha256", model.sha256) if model.sha256 else model.sources)
    )


def cached(model: Model) -> Path | None:
    """Return a listed model's file or folder in this node's cache, unchecked; None: missing."""
    entry = Entry.read(cache_folder_of(model))
    return entry.path if entry else None


def how_to_get(model: Model) -> str:
    """Format a sentence that explains how to copy a model to a machine without a network."""
    variable = f", or set {model.env} to its path" if model.env else ""
    return (
        f"On a machine with a network, `catalog-cleanup models pull {model.name} --to DIR_OR_S3` "
        f"downloads it (see {model.page}); name the copy with --set {model.kind}.weights=…"
        f"{variable}."
    )


def _identified(
    path: Path, model: Model | None = None, commit: str = "", part: Part = ""
) -> Weights:
    """Return the weights at a path; a listed hash identifies the model, whatever the file name."""
    try:
        sha256 = cached_hash(path, part)
    except OSError as error:
        raise WeightsError("weights.missing", f"{path} cannot be read: {error}.") from None
    model = model or next((each for each in known_models().values() if each.sha256 == sha256), None)
    return Weights(path, sha256, model.name if model else path.name, model, commit)


def _local(path: str, ref: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        problem = f"{ref} is not a file, a folder or a listed model's name"
        raise WeightsError("weights.missing", f"{problem}{did_you_mean(ref, known_models())}.")
    return found


def weights_of(recipe: Recipe) -> list[tuple[str, str]]:
    """List ``(place, ref)`` of the weights that a recipe needs, in step order.

    A place is a section, ``remove``, or an adapter in it, ``refine.lora.0``.
    """
    sections = ("remove", "upscale", "refine") if recipe.refiner else ("remove",)
    found = []
    for section in sections:
        options = getattr(recipe, section)
        ref: str | None = getattr(options, "weights", None)
        if ref is not None and options.method != "lanczos":
            found.append((section, ref))
    adapters = recipe.refiner.lora if recipe.refiner else ()
    return found + [(f"refine{_LORA}{index}", ref) for index, ref in enumerate(adapters)]


def is_adapter(place: str) -> bool:
    """Whether a place of :func:`weights_of` is an adapter, not a section."""
    return _LORA in place


def recorded_pin(recipe: Recipe, place: str) -> str:
    """Return the pin that a recipe has for a place of :func:`weights_of`; empty: any content."""
    section, _, index = place.partition(_LORA)
    options = getattr(recipe, section)
    pins: Sequence[str] = options.lora_pin if index else (options.weights_pin,)
    return pins[int(index or 0)] if pins else ""


def find_adapters(recipe: Recipe) -> list[Weights]:
    """Make the adapters of ``refine.lora`` available locally. Errors: see :func:`find`."""
    return [
        find(ref, pin=recorded_pin(recipe, place))
        for place, ref in weights_of(recipe)
        if is_adapter(place)
    ]


def noncommercial_models(recipe: Recipe) -> list[tuple[str, Model]]:
    """List ``(place, model)`` of a recipe's models that are presumably not for commercial use."""
    found = ((place, presumed_model(recipe, place, ref)) for place, ref in weights_of(recipe))
    return [(place, model) for place, model in found if model and not model.commercial]


def presumed_model(recipe: Recipe, place: str, ref: str) -> Model | None:
    """Return the model whose licence the weights are presumed to have; None: unknown.

    Weights by path or URI are presumed to be derived from the section's default model if that one
    is not for commercial use, since derived models are then not either.
    """
    models = known_models()
    if ref in models:
        return models[ref]
    options = getattr(recipe, place.partition(_LORA)[0])
    usual = models.get(type(options).model_fields["weights"].default)
    return usual if usual and not usual.commercial else None


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Make local paths of weights absolute, since actors run in other folders."""
    paths = {
        place: str(path.absolute())
        for place, ref in weights_of(recipe)
        if ref and ref not in known_models() and (path := Path(ref).expanduser()).exists()
    }
    return _with(recipe, ("weights", "lora"), paths)


def with_pins(recipe: Recipe, pins: Mapping[str, str]) -> Recipe:
    """Set the content of a recipe's weights (place -> ``weights_pin``), as a run does."""
    return _with(recipe, ("weights_pin", "lora_pin"), pins)


def _with(recipe: Recipe, names: tuple[str, str], values: Mapping[str, str]) -> Recipe:
    """Change an option of some places of a recipe: a section's by the first name, an adapter's by
    the second.
    """
    for place, value in values.items():
        section, _, index = place.partition(_LORA)
        options, (option, of_adapters) = getattr(recipe, section), names
        changed: dict[str, Any] = {option: value}
        if index:
            each = [*getattr(options, of_adapters)] or [""] * len(options.lora)
            each[int(index)] = value
            changed = {of_adapters: tuple(each)}
        recipe = recipe.model_copy(update={section: options.model_copy(update=changed)})
    return recipe
