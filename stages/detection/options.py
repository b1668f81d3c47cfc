"""The options of the detection methods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stages.detection.matcher import Matcher
from stages.method_options import NOT_HASHED, MethodOptions, Pool, WeightsPin


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: Names of sets, phrases, ``/regular expressions/``, or ``all``; a single one may be a string.
Entries = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class DetectionOptions(MethodOptions):
    """The options of a detection method.

    The module ``loader`` defines ``load(options)``, which returns a
    :class:`stages.detection.Detector`.

    Attributes:
        libraries: those of an extra that it needs.
    """

    libraries: ClassVar[tuple[str, ...]] = ()

    when: Literal["unmarked", "always"] = "unmarked"
    """unmarked: only in photos whose row has neither mask nor shapes. always: what is found is
    removed in addition to what is marked."""

    @property
    def step_pool(self) -> Pool:
        """The actor pool of the step, and of those that share its decoded photos."""
        return "small_gpu" if getattr(self, "device", "cpu") == "gpu" else self.pool

    def pinned(self) -> Self:
        """Return the options with the content of the files that they name, as a run starts with.

        Raises:
            CatalogCleanupError: a file cannot be used.
        """
        return self


class TextOptions(DetectionOptions):
    """Text: prices, promotions, URLs, watermarks (PP-OCRv6 through the package rapidocr)."""

    loader: ClassVar[str] = "stages.detection.text"
    libraries: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime")

    method: Literal["text"] = "text"
    remove: Entries = (
        "prices",
        "percentages",
        "promotions",
        "shipping",
        "urls",
        "emails",
        "phones",
        "social",
        "copyright",
    )
    """Texts to remove: names of sets (also `dates`, `sizes`), words or phrases, `/regular
    expressions/`, or `all`. Compared without case, accents and spaces; a line goes as a whole.
    `word:NAME` is the word itself if a set has that name."""
    keep: Entries = ()
    """Texts to keep, such as brand names, in the same form; they take precedence."""
    min_confidence: float = Field(0.6, ge=0, le=1)
    """Lines recognised with less confidence are kept."""
    min_height_px: int = Field(8, ge=4, le=1000)
    """Lines in smaller fonts are kept. With larger values large photos take less time."""
    max_area_share: float = Field(0.2, gt=0, le=1)
    """What would cover a larger share of the photo's area is kept."""
    where: Literal["anywhere", "background", "border"] = "anywhere"
    """background: only text on the plain background around the product, or on a badge there.
    border: only within `border_share` of an edge."""
    border_share: float = Field(0.2, gt=0, le=0.5)
    """With `border`: distance from the nearest edge, as a share of the photo's side."""
    shape: Literal["glyphs", "box"] = "glyphs"
    """What is marked: the letters' strokes, or the line's whole box."""
    badge: bool = True
    """Also mark the badge, label or ribbon of one colour that carries the text."""
    max_tiles: int = Field(48, ge=1, le=1000)
    """Maximum number of parts of 832 x 832 px that a photo is searched in; larger photos are
    searched at a smaller scale."""
    device: Annotated[Literal["cpu", "gpu"], NOT_HASHED] = "cpu"
    """gpu: ONNX Runtime's CUDA provider (package onnxruntime-gpu)."""

    @field_validator("remove", "keep")
    @classmethod
    def _entries_are_valid(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        Matcher(entries)
        return entries


class TemplateOptions(DetectionOptions):
    """A logo or sticker, found at several scales by its picture."""

    loader: ClassVar[str] = "stages.detection.template"

    method: Literal["template"] = "template"
    templates: tuple[str, ...] = Field(min_length=1)
    """Pictures of it: paths or s3:// URIs. Transparent parts, or a white background around it, do
    not count, and are not removed."""
    templates_pin: tuple[WeightsPin, ...] = ()
    """Required content of each, `sha256:HEX`. Empty: the content when a run starts."""
    threshold: float = Field(0.7, gt=0, le=1)
    """Minimum correlation of its pixels with the photo's, whatever the brightness and contrast."""
    min_share: float = Field(0.05, gt=0, le=1)
    """Minimum size: its longer side as a share of the photo's longer side."""
    max_share: float = Field(0.5, gt=0, le=1)
    """Maximum size, likewise."""
    max_matches: int = Field(8, ge=1, le=100)
    """Maximum number removed from a photo; those with the highest correlation are."""

    @field_validator("templates", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.min_share > self.max_share:
            raise ValueError("min_share is larger than max_share")
        if self.templates_pin and len(self.templates_pin) != len(self.templates):
            raise ValueError("templates_pin needs one value for each of templates")
        return self

    def pinned(self) -> Self:
        """See the base class; paths become absolute.

        Raises:
            RecipeError: ``detect.bad_template``.
        """
        from stages.detection.template import read_templates

        found = read_templates(self)
        update = {
            "templates": tuple(each.uri for each in found),
            "templates_pin": tuple(f"sha256:{each.sha256}" for each in found),
        }
        return self.model_copy(update=update)


#: The detection methods; add new ones here.
AnyDetectionOptions = Annotated[TextOptions | TemplateOptions, Field(discriminator="method")]
