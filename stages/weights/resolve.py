"""Resolves a model's name, path or URI to local weights, downloaded into the node's cache.

Registered weights must match their registered hash or commit. Weights named by path or URI are used
with their content at the start of a run: the recipe's ``weights_pin`` records it, and machines
reject any other content. ``CATALOG_CLEANUP_CACHE`` is the node's cache, shared by its actors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import WeightsError, did_you_mean
from manifests.storage import local_path, scheme_of
from stages.method_options import FolderPart
from stages.recipe import Recipe
from stages.weights.cache import Entry, entry_folder, get_or_download
from stages.weights.download import DOWNLOADERS, version
from stages.weights.hashes import cached_hash
from stages.weights.registry import Model, commit_of, registered_models

_LOCAL = ("", "file")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: a file, or the folder of a diffusers pipeline.
        sha256: see :func:`stages.weights.hashes.compute_hash`; of the part that was asked for, if
            they were downloaded by commit.
        name: the registered model's name; else that of the file or folder.
        model: the registered model with this content; None: the licence is unknown.
        commit: the commit on the Hugging Face Hub, if they were downloaded by commit; else empty.
    """

    path: Path
    sha256: str
    name: str
    model: Model | None = None
    commit: str = ""


def get_weights(ref: str, *, pin: str = "", part: FolderPart = "", env: bool = True) -> Weights:
    """Make weights available locally; the first process on a node downloads, the others wait.

    Args:
        ref: a registered model's name; a path; ``file://``, ``s3://``,
            ``hf://org/repo[@revision]`` or ``https://``. S3 objects are checked for changes;
            ``https://`` and a branch on the Hugging Face Hub are downloaded once and then served
            from the cache.
        pin: the required content, in the format of a recipe's ``weights_pin``; empty: any.
        part: what is needed of a diffusers folder. Of a commit on the Hub nothing else is
            downloaded; other folders are identified by all of their files, and are always complete.
        env: whether the model's environment variable can replace its name by a path.

    Raises:
        WeightsError: ``weights.missing``, ``weights.gated``, ``weights.wrong_hash``,
            ``weights.mismatch`` or ``model.not_installed``.
    """
    model = validate_ref(ref)
    if env and model and (named := os.environ.get(model.env)):
        ref = f"{model.env}={named}"
        found = _identified(_local(named, ref))
    elif not model and scheme_of(ref) in _LOCAL:
        found = _identified(_local(str(local_path(ref)), ref))
    else:
        with _explained(ref, model):
            folder, sources, sha256, part = _entry_of(ref, model, part)
            entry = get_or_download(folder, sources, sha256, part)
        found = _identified(entry.path, model, commit_of(entry.source), part)
    if pin not in ("", f"sha256:{found.sha256}", f"commit:{found.commit}"):
        raise WeightsError(
            "weights.mismatch",
            f"{ref}, on this machine {found.path}, has sha256 {found.sha256}; the run's recipe "
            f"requires {pin}.",
        )
    return found


def content_pin(ref: str, *, download: bool = True) -> str:
    """Return the content of weights in the format of a recipe's ``weights_pin``.

    A registered hash or commit, or a commit in an ``hf://`` URI, is used directly. Other weights
    are hashed, and downloaded if needed; without ``download`` their content is unknown: empty.
    Errors: see :func:`get_weights`.
    """
    model, commit = validate_ref(ref), commit_of(ref)
    if model and model.content and not os.environ.get(model.env):
        return model.content
    if commit:
        return f"commit:{commit}"
    return f"sha256:{get_weights(ref).sha256}" if download or not needs_download(ref) else ""


def needs_download(ref: str, part: FolderPart = "") -> bool:
    """Whether :func:`get_weights` must download the weights to this machine.

    Raises:
        WeightsError: see :func:`get_weights`.
    """
    model = validate_ref(ref)
    if os.environ.get(model.env) if model else scheme_of(ref) in _LOCAL:
        return False
    with _explained(ref, model):
        return Entry.read(_entry_of(ref, model, part)[0]) is None


def _entry_of(
    ref: str, model: Model | None, part: FolderPart
) -> tuple[Path, tuple[str, ...], str, FolderPart]:
    """The entry of the cache that has a part of weights: what :func:`get_or_download` takes.

    Raises:
        OSError: the source cannot be read.
    """
    if model:
        folder, sources, sha256 = cache_folder_of(model), model.sources, model.sha256
    else:
        name = ref.rstrip("/").rpartition("/")[2].partition("@")[0]
        folder, sources, sha256 = entry_folder(name, f"{ref}\n{version(ref)}"), (ref,), ""
    if sha256 or not all(map(commit_of, sources)):
        part = ""
    if part and not Entry.read(folder):
        folder = folder.with_name(f"{folder.name}-{part}")
    return folder, sources, sha256, part


@contextmanager
def _explained(ref: str, model: Model | None) -> Iterator[None]:
    """Raise what fails in the block with what to do: ``weights.missing``."""
    try:
        yield
    except OSError as error:
        name = f"{model.name} is not available: " if model else ""
        how = how_to_get(model) if model else f"Check {ref}, and that this machine may read it."
        raise WeightsError("weights.missing", f"{name}{error}. {how}") from None


def validate_ref(ref: str) -> Model | None:
    """Check a reference as far as possible without the weights.

    Returns:
        The registered model, if the reference is its name.

    Raises:
        WeightsError: it is invalid on every machine.
    """
    if not ref:
        raise WeightsError("weights.missing", "The recipe names no weights where it needs some.")
    model = registered_models().get(ref)
    if not model and scheme_of(ref) not in (*_LOCAL, *DOWNLOADERS):
        raise WeightsError("weights.missing", f"Weights cannot be fetched from {ref}.")
    return model


def cache_folder_of(model: Model) -> Path:
    """Return a registered model's folder in the cache; each pin has its own folder."""
    return entry_folder(
        model.name, repr(("sha256", model.sha256) if model.sha256 else model.sources)
    )


def cached(model: Model) -> Path | None:
    """Return a registered model's file or folder in this node's cache, unchecked; None: missing."""
    entry = Entry.read(cache_folder_of(model))
    return entry.path if entry else None


def how_to_get(model: Model) -> str:
    """Format a sentence that explains how to copy a model to a machine without a network."""
    variable = f", or set {model.env} to its path" if model.env else ""
    return (
        f"On a machine with a network, `catalog-cleanup models pull {model.name} --to DIR_OR_S3` "
        f"downloads it (see {model.page}); name the copy with --set "
        f"{model.kind}.{model.option}=…"
        f"{variable}."
    )


def _identified(
    path: Path, model: Model | None = None, commit: str = "", part: FolderPart = ""
) -> Weights:
    """Return the weights at a path; a registered hash identifies the model, not the file name."""
    try:
        sha256 = cached_hash(path, part)
    except OSError as error:
        raise WeightsError("weights.missing", f"{path} cannot be read: {error}.") from None
    model = model or next(
        (each for each in registered_models().values() if each.sha256 == sha256), None
    )
    return Weights(path, sha256, model.name if model else path.name, model, commit)


def _local(path: str, ref: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        problem = f"{ref} is not a file, a folder or a registered model's name"
        raise WeightsError("weights.missing", f"{problem}{did_you_mean(ref, registered_models())}.")
    return found


def weights_of(recipe: Recipe) -> list[tuple[str, str]]:
    """List ``(option_path, ref)`` of the weights that a recipe needs, in step order.

    They are the options that have a ``<option>_pin``. An option path is the section, ``remove``;
    with another option than ``weights``, ``remove.base_weights``; and one of several,
    ``refine.lora.0``.
    """
    sections = ("remove", "upscale", "refine") if recipe.refiner else ("remove",)
    return [pair for section in sections for pair in _refs(section, getattr(recipe, section))]


def _refs(section: str, options: Any) -> Iterator[tuple[str, str]]:
    if options is None or options.method == "lanczos":
        return
    fields = type(options).model_fields
    for option in (name for name in fields if f"{name}_pin" in fields):
        value = getattr(options, option)
        if isinstance(value, tuple):
            yield from ((f"{section}.{option}.{index}", ref) for index, ref in enumerate(value))
        elif option == "weights":
            yield section, value
        elif value:
            yield f"{section}.{option}", value


def full_option_path(option_path: str) -> str:
    """Return an option path with its option, also if that is ``weights``."""
    return option_path if "." in option_path else f"{option_path}.weights"


def is_list_item(option_path: str) -> bool:
    """Whether an option path is of one of several weights, as adapters are."""
    return option_path.count(".") > 1


def recorded_pin(recipe: Recipe, option_path: str) -> str:
    """Return the pin that a recipe has for an option path; empty: any content."""
    section, option, index = _split(option_path)
    pin: str | tuple[str, ...] = getattr(getattr(recipe, section), f"{option}_pin")
    if isinstance(pin, tuple):
        return pin[index] if pin else ""
    return pin


def get_section_weights(
    recipe: Recipe, section: str, part: FolderPart = "image"
) -> tuple[Any, dict[str, str]]:
    """Make the weights of a section available locally.

    Args:
        recipe: the recipe.
        section: ``remove``, ``upscale`` or ``refine``.
        part: see :func:`get_weights`.

    Returns:
        The section's options with local paths in place of names and URIs; and name -> sha256, for
        the lineage. Names of other options than ``weights`` begin with the option, and adapters are
        numbered from 1, since several can have one name.

    Raises:
        WeightsError: see :func:`get_weights`.
    """
    paths: dict[str, str] = {}
    used: dict[str, str] = {}
    for option_path, ref in weights_of(recipe):
        owner, option, index = _split(option_path)
        if owner == section:
            found = get_weights(ref, pin=recorded_pin(recipe, option_path), part=part)
            paths[option_path] = str(found.path)
            number = f" {index + 1}" if is_list_item(option_path) else ""
            name = found.name if option_path == section else f"{option}{number}: {found.name}"
            used[name] = found.sha256
    return getattr(_with(recipe, "", paths), section), used


def licence_notices(recipe: Recipe) -> list[str]:
    """Format a line for each licence that presumably restricts the use of a recipe's models."""
    found = (presumed_model(recipe, option_path, ref) for option_path, ref in weights_of(recipe))
    return join_notices((each.name, each.licence_notice) for each in found if each)


def join_notices(notices: Iterable[tuple[str, str]]) -> list[str]:
    """Format ``(model's name, notice)`` as lines; models with the same notice share one."""
    names: dict[str, list[str]] = {}
    for name, notice in notices:
        names.setdefault(notice, []).append(name)
    return [f"{', '.join(dict.fromkeys(names[notice]))}: {notice}" for notice in names if notice]


def presumed_model(recipe: Recipe, option_path: str, ref: str) -> Model | None:
    """Return the model whose licence the weights are presumed to have; None: unknown.

    Weights by path or URI are presumed to be derived from the option's default model if the use of
    that one is restricted, since derived models are then restricted too.
    """
    models = registered_models()
    if ref in models:
        return models[ref]
    section, option, _ = _split(option_path)
    fields = type(getattr(recipe, section)).model_fields
    usual = models.get(fields["weights" if is_list_item(option_path) else option].default)
    return usual if usual and usual.licence_notice else None


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Make local paths of weights absolute, since actors run in other folders."""
    paths = {
        option_path: str(path.absolute())
        for option_path, ref in weights_of(recipe)
        if ref and ref not in registered_models() and (path := Path(ref).expanduser()).exists()
    }
    return _with(recipe, "", paths)


def with_pins(recipe: Recipe, pins: Mapping[str, str]) -> Recipe:
    """Set the content of a recipe's weights (option path -> ``weights_pin``), as a run does."""
    return _with(recipe, "_pin", pins)


def _with(recipe: Recipe, suffix: str, values: Mapping[str, str]) -> Recipe:
    """Set the option at each option path, or its pin."""
    for option_path, value in values.items():
        section, option, index = _split(option_path)
        options, name = getattr(recipe, section), f"{option}{suffix}"
        changed: str | tuple[str, ...] = value
        if is_list_item(option_path):
            each = [*getattr(options, name)] or [""] * len(getattr(options, option))
            each[index] = value
            changed = tuple(each)
        recipe = recipe.model_copy(update={section: options.model_copy(update={name: changed})})
    return recipe


def _split(option_path: str) -> tuple[str, str, int]:
    """Split an option path into section, option, and number of the adapter (0 for others)."""
    section, option, index = (*option_path.split("."), "", "")[:3]
    return section, option or "weights", int(index or 0)
