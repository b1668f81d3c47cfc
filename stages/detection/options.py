"""The options of the detection methods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from stages.traits import MethodOptions, Pool, WeightsPin


class DetectionOptions(MethodOptions):
    """The options of a detection method.

    The module ``loader`` defines ``load(options)``, which returns a
    :class:`stages.detection.Detector`.
    """

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

    method: Literal["text"] = "text"


class TemplateOptions(DetectionOptions):
    """A logo or sticker, found at several scales by its picture."""

    loader: ClassVar[str] = "stages.detection.template"

    method: Literal["template"] = "template"
    templates: tuple[str, ...] = Field(min_length=1)
    """Pictures of it: paths or s3:// URIs. Transparent parts, or a white ground around it, do not
    count, and are not removed."""
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
DetectOptions = Annotated[TextOptions | TemplateOptions, Field(discriminator="method")]
