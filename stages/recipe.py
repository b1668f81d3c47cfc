"""A recipe: everything that steers what happens to a photo, frozen, validated, written as TOML.

The recipes that ship are in ``stages/recipes/*.toml``; a user's own is any TOML file with the same
keys. Lengths are in pixels of the *original* photo unless a name says otherwise.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manifests.errors import RecipeError

_PRESETS = resources.files("stages") / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MaskOptions(_Section):
    """How masks and shapes become the region to paint anew, and its soft edge.

    ``channel``, ``polarity``, ``threshold`` and ``scale_to_photo`` are about mask files alone; the
    others are about shapes, too.
    """

    channel: Literal["luminance", "alpha"] = "luminance"
    """What of a mask file marks: how bright it is, or how opaque."""
    polarity: Literal["light", "dark"] = "light"
    """Light: what is bright, or opaque, is removed; dark: what is dark, or transparent."""
    threshold: int = Field(128, ge=1, le=255)
    """Samples at or above this value (0 to 255; counted from white if dark) are removed."""
    scale_to_photo: bool = False
    """Accept a mask of another size and the same aspect, and scale it."""
    fill_holes: bool = False
    """Also remove what an outline encloses. Off, since a mask may be a frame around the product."""
    dilate_px: int = Field(3, ge=0, le=256)
    """Grow the region by this much, so that no soft edge of the object is left."""
    dilate_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    feather_px: int = Field(3, ge=0, le=256)
    """Width of the soft edge, outside the grown region; beyond it nothing changes."""
    feather_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""

    def dilate_for(self, width: int, height: int) -> int:
        """By how many px the region grows in a photo of this size."""
        return max(self.dilate_px, round(self.dilate_share * max(width, height)))

    def feather_for(self, width: int, height: int) -> int:
        """How many px wide the soft edge is in a photo of this size."""
        return max(self.feather_px, round(self.feather_share * max(width, height)))


class CropOptions(_Section):
    """What surrounds the region when it is filled."""

    context: float = Field(2.0, ge=1.0, le=20.0)
    """Side of the crop over side of the masked part, on each axis."""
    min_context_px: int = Field(64, ge=1, le=4096)
    """At least this much of the photo is seen on each side, and always more than the feather."""
    aspect: float = Field(0.0, ge=0.0, le=10.0)
    """Width over height of the crop, 0.1 to 10, reached by growing one axis; 0: as it comes."""
    merge_px: int = Field(48, ge=0, le=4096)
    """Masked parts nearer than this are filled together."""
    max_patches: int = Field(32, ge=1, le=256)
    """With more parts than this, ever farther ones are merged."""

    @model_validator(mode="after")
    def _aspect_is_sane(self) -> Self:
        if 0 < self.aspect < 0.1:
            raise ValueError(f"aspect = {self.aspect} must be 0, or 0.1 to 10")
        return self


class ResizeOptions(_Section):
    """The scale at which the fill works."""

    max_side_px: int = Field(0, ge=0, le=8192)
    """Crops with a longer side are filled at this size and scaled back; 0: never scale."""


class TeleaOptions(_Section):
    """Fast marching inpainting: smooth fills, milliseconds."""

    method: Literal["telea"] = "telea"
    radius_px: float = Field(5.0, ge=1, le=64)
    """Neighbourhood each pixel is estimated from, in pixels of the working size."""


class NavierStokesOptions(_Section):
    """Fluid-dynamics inpainting: continues lines of equal brightness."""

    method: Literal["navier-stokes"] = "navier-stokes"
    radius_px: float = Field(5.0, ge=1, le=64)
    """Neighbourhood each pixel is estimated from, in pixels of the working size."""


class PatchMatchOptions(_Section):
    """Texture copied from the surroundings."""

    method: Literal["patchmatch"] = "patchmatch"
    patch_radius_px: int = Field(3, ge=1, le=15)
    """Half the side of the compared squares, in pixels of the working size."""


RemoveOptions = Annotated[
    TeleaOptions | NavierStokesOptions | PatchMatchOptions, Field(discriminator="method")
]


class OutputOptions(_Section):
    """How the result is stored."""

    format: Literal["source", "jpeg", "png", "webp", "tiff", "avif"] = "source"
    """The photo's own, or one for all; another one is coded from the samples."""
    quality: int = Field(0, ge=0, le=100)
    """Of lossy files coded from their samples, 1 to 100; 0: the source's own where it can be read
    from the file (WebP), else 90. JPEGs that stay JPEGs keep their own tables, whatever this says.
    """


class MetadataOptions(_Section):
    """What becomes of that inside a file which shows the old picture or vouches for it."""

    stale_preview: Literal["rebuild", "drop", "refuse"] = "rebuild"
    """Thumbnails and previews are drawn anew, dropped, or the row is refused. What cannot be drawn
    anew (gain maps, depth, motion photo videos, C2PA signatures) is dropped, or refused too."""
    mark_edit: bool = False
    """Say in XMP, and in EXIF where there is some, that software edited the picture, and whether a
    generative model did (IPTC digital source type)."""


class Limits(_Section):
    """What is refused rather than processed."""

    max_megapixels: float = Field(100.0, gt=0)
    """A photo or mask with more pixels is refused before it is decoded."""
    max_mask_share: float = Field(0.8, gt=0, le=1)
    """A mask that covers more of its photo is refused: most likely its polarity is wrong."""


class Recipe(_Section):
    """All the options of a run.

    Raises (from the class methods):
        RecipeError: with code ``recipe.not_found`` or ``recipe.invalid``.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    mask: MaskOptions = MaskOptions()
    crop: CropOptions = CropOptions()
    resize: ResizeOptions = ResizeOptions()
    remove: RemoveOptions
    output: OutputOptions = OutputOptions()
    metadata: MetadataOptions = MetadataOptions()
    limits: Limits = Limits()

    @classmethod
    def load(cls, name_or_path: str, overrides: Iterable[str] = ()) -> Self:
        """Load a shipped recipe by name, or any by the path of its TOML file.

        Args:
            name_or_path: e.g. ``telea``, or ``./mine.toml``.
            overrides: ``path.to.option=value`` each, the value as in TOML (bare words are taken
                as strings).
        """
        table = _read_toml(name_or_path)
        for override in overrides:
            _override(table, override)
        return cls.from_table(table, source=name_or_path)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], source: str) -> Self:
        """Validate a parsed TOML table; ``source`` names it in the error."""
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            problems = "; ".join(_explain(e) for e in error.errors())
            raise RecipeError("recipe.invalid", f"Recipe {source}: {problems}.") from None

    @property
    def hash(self) -> str:
        """16 hex digits that change with every option that steers a result.

        The name and the description do not, nor the limits, which only decide what is refused.
        """
        options = self.model_dump(mode="json", exclude={"name", "description", "limits"})
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The whole recipe, defaults included; :meth:`load` reads it back as the same recipe."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def preset_names() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(f.name.removesuffix(".toml") for f in _PRESETS.iterdir() if _is_toml(f.name))


def _is_toml(name: str) -> bool:
    return name.endswith(".toml")


def _read_toml(name_or_path: str) -> dict[str, Any]:
    if name_or_path in preset_names():
        return tomllib.loads((_PRESETS / f"{name_or_path}.toml").read_text("utf-8"))
    path = Path(name_or_path)
    if not path.is_file():
        hint = _nearest(name_or_path, preset_names())
        raise RecipeError("recipe.not_found", f"There is no recipe {name_or_path!r}{hint}.")
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError("recipe.invalid", f"{path} is not TOML: {error}.") from None


def _override(table: dict[str, Any], override: str) -> None:
    """Set one ``path.to.option=value`` in a parsed TOML table."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            "recipe.invalid", f"--set {override!r} is not of the form path.to.option=value."
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *sections, option = keys
    for key in sections:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError("recipe.invalid", f"--set {override!r}: {key} is not a section.")
    if option == "method" and table.get(option) != value:
        table.clear()  # the options of another method mean nothing to this one
    table[option] = value


def _explain(error: Any) -> str:
    """One pydantic error as a sentence with the option's dotted name."""
    path = [str(part) for part in error["loc"]]
    if path[:1] == ["remove"]:
        del path[1:2]  # pydantic puts the chosen method's tag there
    dotted = ".".join(path)
    names = list(_option_names(Recipe))
    if error["type"] == "extra_forbidden" and dotted in names:
        return f"{dotted} is an option of another method"
    if error["type"] == "extra_forbidden":
        return f"{dotted} is not an option{_nearest(dotted, names)}"
    if error["type"] == "missing":
        return f"{dotted} is missing"
    if error["type"] == "union_tag_invalid":
        methods, given = error["ctx"]["expected_tags"], error["ctx"]["tag"]
        nearest = _nearest(given, methods.replace("'", "").split(", "))
        return f"{dotted}.method = {given!r} is none of {methods}{nearest}"
    message = error["msg"].removeprefix("Value error, ")
    if not dotted:
        return str(message)
    return f"{dotted} = {error['input']!r}: {message}"


def _nearest(word: str, candidates: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def _option_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all sections and options, those of every method included."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _sections_in(field.annotation):
            yield from _option_names(section, f"{prefix}{name}.")


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's annotation (a section, or a union of them) names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections_in(part)]
