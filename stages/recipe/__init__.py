"""A recipe: all options that control the processing of a photo; immutable, validated, TOML.

The recipes that ship are in ``presets/``; users' own are TOML files with the same keys. Lengths are
in pixels of the *original* photo unless a name says otherwise. Change ``seed`` to get another
random result from the same options.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, ValidationError, model_validator

from manifests.errors import RecipeError, did_you_mean
from manifests.toml_files import explain, read_toml
from stages.detection.options import AnyDetectionOptions
from stages.method_options import NOT_HASHED, Section
from stages.recipe.options import (
    CropOptions,
    JudgeOptions,
    Limits,
    MaskOptions,
    MetadataOptions,
    OutputOptions,
    ResizeOptions,
    ShapeOptions,
)
from stages.recipe.refiners import AnyRefinementOptions, UpscaleOptions
from stages.recipe.removal_methods import AnyRemovalOptions

#: Part of every hash. Increment it when a default or the meaning of an option changes, since the
#: same options then give other results.
SCHEMA = 1

#: Options to change: texts ``path.to.option=value`` with a TOML value (bare words are strings), or
#: a mapping of ``path.to.option`` to values.
Overrides = Iterable[str] | Mapping[str, Any]

_PRESETS = resources.files("stages.recipe") / "presets"

_log = logging.getLogger(__name__)


class Recipe(Section):
    """All options of a run.

    Raises (from the class methods):
        RecipeError: with code ``recipe.not_found`` or ``recipe.invalid``.
    """

    name: Annotated[str, NOT_HASHED] = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    description: Annotated[str, NOT_HASHED] = ""
    seed: int = Field(0, ge=0, lt=2**32)
    mask: MaskOptions = MaskOptions()
    shapes: ShapeOptions = ShapeOptions()
    detect: AnyDetectionOptions | None = None
    crop: CropOptions = CropOptions()
    resize: ResizeOptions = ResizeOptions()
    remove: AnyRemovalOptions | None = None
    upscale: UpscaleOptions | None = None
    refine: AnyRefinementOptions | None = None
    judge: JudgeOptions | None = None
    output: OutputOptions = OutputOptions()
    metadata: MetadataOptions = MetadataOptions()
    limits: Annotated[Limits, NOT_HASHED] = Limits()

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.fills and self.detect is None:
            raise ValueError("it needs a [remove], a [refine] or a [detect] section")
        return self

    @model_validator(mode="after")
    def _has_sections_it_needs(self) -> Self:
        if self.judge and self.refine is None:
            raise ValueError("[judge] needs a [refine] section")
        if self.mask.effects == "alpha" and self.fills and not self.returns_alpha:
            raise ValueError(
                "mask.effects = alpha needs a removal method that returns an alpha; use grow"
            )
        if self.remove is not None:
            return self
        if self.refine and self.refine.when != "always":
            raise ValueError("without [remove], refine.when can only be always")
        if self.judge and self.judge.fallback == "remove":
            raise ValueError("without [remove], judge.fallback can only be keep or denoise")
        if self.judge and self.judge.bad_output == "remove":
            raise ValueError("without [remove], judge.bad_output can only be fail")
        return self

    @property
    def fills(self) -> bool:
        """Whether it cleans photos; else it only detects."""
        return self.remove is not None or self.refine is not None

    @property
    def returns_alpha(self) -> bool:
        """Whether its removal says where it changed the picture beyond the mask."""
        return self.remove is not None and self.remove.returns_alpha

    @property
    def refiner(self) -> AnyRefinementOptions | None:
        """The section [refine]; None if it never runs."""
        return None if self.refine and self.refine.when == "never" else self.refine

    @classmethod
    def load(cls, name_or_path: str, overrides: Overrides = ()) -> Self:
        """Load a shipped recipe by name, or any recipe by the path of its TOML file.

        Args:
            name_or_path: e.g. ``telea``, or ``./mine.toml``.
            overrides: see :data:`Overrides`.
        """
        table = _read_toml(name_or_path)
        _override(table, overrides)
        return cls.from_table(table, source=name_or_path)

    def with_options(self, overrides: Overrides) -> Self:
        """Return the recipe with options changed."""
        table = self.model_dump(mode="json", exclude_none=True)
        _override(table, overrides)
        return self.from_table(table, source=self.name)

    @classmethod
    def from_table(
        cls, table: Mapping[str, Any], source: str, *, extra: Literal["forbid", "ignore"] = "forbid"
    ) -> Self:
        """Validate a parsed TOML table; ``source`` names it in the error."""
        try:
            return cls.model_validate(table, extra=extra)
        except ValidationError as error:
            problems = explain(error, cls)
            raise RecipeError("recipe.invalid", f"Recipe {source}: {problems}.") from None

    @classmethod
    def from_record(cls, table: Mapping[str, Any], source: str) -> Self:
        """Read the recipe that a run recorded, maybe with another version of the program.

        Options that this version does not have are ignored, and named in a log line.
        """
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            differences = explain(error, cls)
        recipe = cls.from_table(table, source, extra="ignore")
        _log.warning("note: Recipe %s of another version, read without: %s", source, differences)
        return recipe

    @property
    def unmarked_policy(self) -> Literal["detect", "fail"]:
        """What becomes of rows without marks, unless the run says otherwise."""
        return "detect" if self.detect else "fail"

    def require_filling(self) -> None:
        """Raise RecipeError ``recipe.invalid`` if it only detects."""
        if not self.fills:
            raise RecipeError(
                "recipe.invalid",
                f"Recipe {self.name} only detects: it needs a [remove] or a [refine] section.",
            )

    def detecting(self) -> Self:
        """Return the recipe that only detects; its results have their own name and hash.

        It keeps the options that detection depends on.

        Raises:
            RecipeError: ``recipe.invalid``: the recipe has no section [detect].
        """
        if self.detect is None:
            raise RecipeError(
                "recipe.invalid", f"Recipe {self.name} has no [detect] section: nothing to detect."
            )
        kept = {name: getattr(self, name) for name in ("mask", "shapes", "detect", "limits")}
        return type(self)(name=f"{self.name}-detect", **kept)

    @property
    def hash(self) -> str:
        """16 hex digits that change with every option that changes results.

        Options at their defaults are omitted, so that adding an option does not change hashes.
        Weights count by content, if ``weights_pin`` gives it: see
        :func:`stages.weights.resolve.content_pin`.
        """
        options = {"schema": SCHEMA} | _hashed_options(self)
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Readable name of the recipe with its options, used for the folder of its results."""
        return label_of(self.name, self.hash)

    @property
    def is_generative(self) -> bool:
        """Whether a trained model generates pixels, which ``metadata.mark_edit`` records."""
        return self.refiner is not None or bool(self.remove and self.remove.is_generative)

    def to_toml(self) -> str:
        """Format the recipe, including defaults; :meth:`load` reads back the same recipe."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def _hashed_options(section: Section) -> dict[str, Any]:
    """Collect the options that change results and differ from their defaults, and the method."""
    options: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        if NOT_HASHED in field.metadata or bool(getattr(section, f"{name}_pin", None)):
            continue
        value, default = (
            _hashed_options(each) if isinstance(each, Section) else each
            for each in (getattr(section, name), field.get_default(call_default_factory=True))
        )
        if name == "method" or value != default:
            options[name] = value
    return options


def label_of(name: str, hash_: str) -> str:
    """The label of a recipe with this name and :attr:`Recipe.hash`."""
    return f"{name}-{hash_[:8]}"


def preset_names() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(each.name.removesuffix(".toml") for each in _PRESETS.iterdir())


def _read_toml(name_or_path: str) -> dict[str, Any]:
    if name_or_path in preset_names():
        return tomllib.loads((_PRESETS / f"{name_or_path}.toml").read_text("utf-8"))
    path = Path(name_or_path)
    if not path.is_file():
        hint = did_you_mean(name_or_path, preset_names())
        raise RecipeError("recipe.not_found", f"There is no recipe {name_or_path!r}{hint}.")
    return read_toml(path, "recipe.invalid")


def _override(table: dict[str, Any], overrides: Overrides) -> None:
    """Set options in a parsed TOML table."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_parsed, overrides)
    for dotted, value in pairs:
        *sections, option = dotted.split(".")
        inner = table
        for key in sections:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise RecipeError("recipe.invalid", f"{dotted}: {key} is not a section.")
        if option == "method" and inner.get(option) != value:
            inner.clear()  # the options belong to the previous method
        inner[option] = value


def _parsed(override: str) -> tuple[str, Any]:
    """Split a text ``path.to.option=value`` into the option's dotted name and its value."""
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.strip().split(".")):
        raise RecipeError(
            "recipe.invalid", f"--set {override!r} is not of the form path.to.option=value."
        )
    try:
        return dotted.strip(), tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return dotted.strip(), text.strip()
