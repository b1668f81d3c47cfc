"""The options of the detection methods."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.traits import MethodOptions


class DetectionOptions(MethodOptions):
    """The options of a detection method.

    The module ``loader`` defines ``load(options)``, which returns a
    :class:`stages.detection.Detector`.
    """

    when: Literal["unmarked", "always"] = "unmarked"
    """unmarked: only in photos whose row has neither mask nor shapes. always: what is found is
    removed in addition to what is marked."""


class TextOptions(DetectionOptions):
    """Text: prices, promotions, URLs, watermarks (PP-OCRv6 through the package rapidocr)."""

    loader: ClassVar[str] = "stages.detection.text"

    method: Literal["text"] = "text"


class TemplateOptions(DetectionOptions):
    """A picture of a logo or sticker, found at several scales."""

    loader: ClassVar[str] = "stages.detection.template"

    method: Literal["template"] = "template"


#: The detection methods; add new ones here.
DetectOptions = Annotated[TextOptions | TemplateOptions, Field(discriminator="method")]
