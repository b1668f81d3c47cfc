"""Find a model's weights: by name, path or URI; in the node's cache, or from where they are listed.

A listed file or commit is what it was when it was listed, or it is refused. What a user names by
path or URI is used as it is when a run starts: the recipe's ``weights_pin`` says what that is, and
a machine that finds anything else refuses it. ``CATALOG_CLEANUP_CACHE`` is the node's cache, shared
by its actors: the first to need something downloads it, the others wait.
``CATALOG_CLEANUP_TRUST=1`` is what ``--trust`` sets for them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from manifests.errors import WeightsError
from manifests.storage.objects import local_path, scheme_of
from stages.recipe import Recipe
from stages.weights import hashes
from stages.weights.cache import Entry, have
from stages.weights.catalogue import Model, commit_of, known
from stages.weights.download import CODE_SUFFIXES, GatedError, Tell, hub_page, version
from stages.weights.foreign import kind_of

TRUST = "CATALOG_CLEANUP_TRUST"


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are there.

    Attributes:
        path: a file, or the folder of a diffusers pipeline.
        sha256: of the file, or of the folder as :func:`stages.weights.hashes.read` makes it.
        name: the listed model's; else the file's or folder's own.
        licence: its name; empty: not known.
        licence_url: its text.
        commercial: whether the licence allows commercial use; None: not known.
        commit: of the hub that it was fetched from, if by commit; else empty.
    """

    path: Path
    sha256: str
    name: str
    licence: str = ""
    licence_url: str = ""
    commercial: bool | None = None
    commit: str = ""

    @property
    def file(self) -> Path:
        """The one file of weights, also where the path is a folder; safetensors goes before all.

        Raises:
            WeightsError: ``weights.unusable``, there is none, or several.
        """
        if not self.path.is_dir():
            return self.path
        files = [path for _, path in hashes.files_in(self.path)]
        safe = [path for path in files if path.suffix == ".safetensors"]
        found = safe or [path for path in files if path.suffix in CODE_SUFFIXES]
        if len(found) != 1:
            kind = kind_of(self.path)
            problem = f"{self.path} is {kind}, and holds {len(found)} files of weights, not one."
            raise WeightsError("weights.unusable", problem)
        return found[0]


def silent(_: str) -> None:
    """Tell nobody."""


def find(
    ref: str,
    *,
    pin: str = "",
    env: str | None = None,
    trust: bool = False,
    tell: Tell = silent,
) -> Weights:
    """Have weights on this machine; the first to ask on a node downloads, the others wait for it.

    Args:
        ref: a listed name; a path; ``file://``, ``s3://``, ``hf://org/repo[@revision]`` or
            ``https://``. S3 is asked whether the object changed; ``https://``, and a hub's branch,
            are fetched once, and taken from the cache from then on.
        pin: what it must be, as a recipe's ``weights_pin`` says; empty: whatever it is.
        env: environment variable whose path is used instead of a listed name; None: the listed one.
        trust: allow a listed TorchScript or pickle without a hash.
        tell: hears of the progress, a line each.

    Raises:
        WeightsError: ``weights.missing``, ``weights.gated``, ``weights.wrong_hash``,
            ``weights.mismatch``, ``weights.untrusted`` or ``model.not_installed``.
    """
    model = known().get(ref)
    variable = env or (model.env if model else "")
    if model and (named := os.environ.get(variable)):
        ref = f"{variable}={named}"
        found = _named(_local(named, ref))
    else:
        found = obtain(ref, trust=trust, tell=tell)
    if pin and not _is(found, pin):
        raise WeightsError(
            "weights.mismatch",
            f"{ref}, on this machine {found.path}, has sha256 {found.sha256}; the run's recipe "
            f"takes {pin}.",
        )
    return found


def _is(found: Weights, pin: str) -> bool:
    algorithm, _, digits = pin.partition(":")
    match algorithm:
        case "commit":
            return found.commit == digits
        case "sha256":
            return found.sha256 == digits
        case _:
            return hashes.digest(found.path, algorithm) == digits


def pin_of(ref: str, *, trust: bool = False, tell: Tell = silent) -> str:
    """The content of weights, as a recipe's ``weights_pin`` names it, wherever they lie.

    A listed hash or commit, and a hub's URI with a commit, say it without having them. All else is
    read, and fetched if need be. Arguments and errors: see :func:`find`.
    """
    model = foresee(ref, trust=trust)
    is_replaced = bool(model and os.environ.get(model.env))
    commit = commit_of(ref)
    known_by = model.content if model else commit and f"commit:{commit}"
    if known_by and not is_replaced:
        return known_by
    return f"sha256:{find(ref, trust=trust, tell=tell).sha256}"


def obtain(ref: str, *, trust: bool = False, tell: Tell = silent) -> Weights:
    """:func:`find`, whatever an environment variable names instead."""
    if model := foresee(ref, trust=trust):
        found = _of(model, _listed(model, trust, tell))
        return replace(found, commit=commit_of(entry_of(model).facts["source"]))
    scheme = scheme_of(ref)
    if scheme in ("", "file"):
        return _named(_local(str(local_path(ref)), ref))
    with _explained(ref, f"Check {ref}, and that this machine may read it."):
        name = ref.rstrip("/").rpartition("/")[2].partition("@")[0]
        entry = Entry.of(name, f"{ref}\n{version(ref)}")
        return replace(_named(have(entry, [ref], None, tell)), commit=commit_of(ref))


def foresee(ref: str, *, trust: bool = False) -> Model | None:
    """Tell what can be told of weights without having them, on whatever machine.

    Returns:
        The listed model, if it is one.

    Raises:
        WeightsError: they could not be used anywhere.
    """
    model = known().get(ref)
    if not ref:
        raise WeightsError("weights.missing", "The recipe names no weights where it needs some.")
    if not model:
        if scheme_of(ref) not in ("", "file", "s3", "hf", "http", "https"):
            raise WeightsError("weights.missing", f"Weights cannot be fetched from {ref}.")
        return None
    if model.runs_code and not model.is_pinned and not _is_trusted(trust):
        raise WeightsError("weights.untrusted", f"{model.name} is a {model.format} file.")
    return model


def _listed(model: Model, trust: bool, tell: Tell) -> Path:
    """The cached file or folder of a listed model, downloaded if need be, and as it was listed."""
    entry = entry_of(model)
    if not model.sources and not entry.content:
        how = model.how or f"Get it from {model.page}."
        raise WeightsError("weights.missing", f"{model.name} is not listed with a source. {how}")
    with _explained(model.name, how_to_get(model), model):
        path = have(entry, model.sources, model.pin, tell)
    code = [name for name, each in hashes.files_in(path) if each.suffix in CODE_SUFFIXES]
    if code and not (model.is_pinned or _is_trusted(trust)):
        raise WeightsError("weights.untrusted", f"{model.name} holds {code[0] or path.name}.")
    return path


def _is_trusted(trust: bool) -> bool:
    return trust or os.environ.get(TRUST) == "1"


def entry_of(model: Model) -> Entry:
    """A listed model's place in the cache; another pin gets another place."""
    return Entry.of(model.name, repr(model.pin or model.sources))


def cached(model: Model) -> Path | None:
    """A listed model's file or folder in this node's cache, unchecked; None: not there."""
    return entry_of(model).content


def how_to_get(model: Model) -> str:
    """A sentence that says how to get a model onto a machine that cannot download it."""
    variable = f", or set {model.env} to its path" if model.env else ""
    return (
        f"Where there is a network, `catalog-cleanup models pull {model.name} --to DIR_OR_S3` gets "
        f"it (about it: {model.page}); name the copy with --set {model.kind}.weights=…{variable}."
    )


def _of(model: Model, path: Path) -> Weights:
    return Weights(
        path,
        hashes.digest(path),
        model.name,
        model.licence,
        model.licence_url,
        model.commercial,
    )


def _named(path: Path) -> Weights:
    """Of a path; a file with a listed hash is that model, whatever it is called."""
    try:
        sha256 = hashes.digest(path)
    except OSError as error:
        raise WeightsError("weights.missing", f"{path} cannot be read: {error}.") from None
    for model in known().values():
        if model.sha256 == sha256:
            return _of(model, path)
    return Weights(path, sha256, path.name)


def _local(path: str, told: str) -> Path:
    found = Path(path).expanduser()
    if found.exists():
        return found
    near = difflib.get_close_matches(told, known(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise WeightsError(
        "weights.missing", f"{told} is no file, no folder and no listed model's name.{hint}"
    )


@contextmanager
def _explained(what: str, how: str, model: Model | None = None) -> Iterator[None]:
    """Turn what keeps weights from being had into an error that says how to get them."""
    try:
        yield
    except GatedError as error:
        page = model.page if model else hub_page(what)
        licence = f"; its licence is the {model.licence}" if model else ""
        raise WeightsError("weights.gated", f"{error}. Its page is {page}{licence}.") from None
    except OSError as error:
        name = f"{model.name} is not here: " if model else ""
        raise WeightsError("weights.missing", f"{name}{error}. {how}") from None


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
    """``(section, model)`` of what a recipe uses that is not for commercial use, as far as listed.

    Weights by path count as the model that their section is made for, where that one is not for
    commercial use: what is derived from such a model is not, either.
    """
    found = ((section, presumed(recipe, section, ref)) for section, ref in of_recipe(recipe))
    return [(section, model) for section, model in found if model and not model.commercial]


def presumed(recipe: Recipe, section: str, ref: str) -> Model | None:
    """The listed model, or, for a path or URI, the one whose licence it is presumed to be under."""
    models = known()
    if ref in models:
        return models[ref]
    options = getattr(recipe, section)
    usual = models.get(type(options).model_fields["weights"].default)
    return usual if usual and not usual.commercial else None


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with local paths of weights made absolute: actors run in other folders."""
    for section, ref in of_recipe(recipe):
        path = Path(ref).expanduser()
        if ref and ref not in known() and not scheme_of(ref) and path.exists():
            options = getattr(recipe, section).model_copy(update={"weights": str(path.absolute())})
            recipe = recipe.model_copy(update={section: options})
    return recipe


def with_pins(recipe: Recipe, pins: Mapping[str, str]) -> Recipe:
    """The recipe with the content of its weights (section -> ``weights_pin``), as a run has it."""
    options = {name: getattr(recipe, name) for name in pins}
    return recipe.model_copy(
        update={
            name: section.model_copy(update={"weights_pin": pins[name]})
            for name, section in options.items()
        }
    )
