"""Clean photos in this process, without Ray: in a notebook, a script, and for ``try``."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import PurePath
from threading import Lock
from typing import Any

from PIL import Image

from manifests.errors import CatalogCleanupError, RowError, error_codes, error_from_code
from manifests.planning.marks import Marks
from manifests.schema import LineageRow
from stages.arrays import BoolMask, Samples
from stages.codecs.decode import decode_photo
from stages.codecs.picture import Decoded
from stages.inputs import ImageLike, encode_in_memory
from stages.optional_imports import require
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.pixels import colour
from stages.pixels.shapes import decode_rle
from stages.recipe import Recipe
from stages.steps.base import Step, finish
from stages.steps.fetch import build_fetch
from stages.steps.publish import build_check_suffix, build_publish_as
from stages.weights.resolve import content_pin, licence_notices, recorded_pin, weights_of, with_pins


@dataclass(frozen=True, slots=True)
class Result:
    """A cleaned photo.

    Attributes:
        data: the encoded file, in the format of the photo (PNG for a picture in memory) or of
            ``output.format``. For a photo from a file, the same bytes that a run would store.
        hole: ``(h, w)`` bool, displayed frame, True where it was filled: everything marked,
            dilated by ``mask.dilate_px``. The soft edge and :attr:`effects` lie outside.
        record: the row that a run writes into its lineage: hashes, boxes, seeds, fidelity, seconds
            per step. A picture in memory is named ``<photo>`` or ``<mask>``.
    """

    data: bytes = field(repr=False)
    hole: BoolMask = field(repr=False)
    record: LineageRow

    @property
    def image(self) -> Image.Image:
        """The result as displayed: 8-bit sRGB, mode ``RGB``, or ``RGBA`` if it has alpha."""
        decoded = self._decoded()
        return colour.as_displayed(decoded.pixels, decoded.space)

    @property
    def array(self) -> Samples:
        """The file's samples in displayed orientation and its own colour space (CMYK: 0 is no ink).

        ``(h, w)`` for grey, else ``(h, w, c)``: colours, then alpha if present. uint8 or uint16,
        over the full range of the type.
        """
        pixels = self._decoded().pixels
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels

    @property
    def effects(self) -> BoolMask:
        """``(h, w)`` bool, displayed frame, True where a shadow or reflection was removed, too.

        See the option ``mask.effects``. These pixels lie beyond the hole and its soft edge.
        """
        row = self.record
        assert row.width is not None
        assert row.height is not None
        return decode_rle(row.effects, row.width, row.height)

    def _repr_png_(self) -> bytes | None:
        """Return the PNG that notebooks display."""
        return self.image._repr_png_()

    def _decoded(self) -> Decoded:
        return decode_photo(self.data, float("inf"), "<result>")


class Cleaner:
    """Cleans photos with one recipe. Models load at the first photo and stay loaded.

    Threads may share one; models then process one photo at a time.

    Args:
        recipe: the recipe to apply.
    """

    def __init__(self, recipe: Recipe) -> None:
        recipe.require_filling()
        self.recipe = recipe
        self._pipeline = Pipeline.of(recipe).after("fetch")

    def clean(
        self,
        photo: ImageLike,
        mask: ImageLike | Sequence[ImageLike] | None = None,
        *,
        boxes: Any = None,
        polygons: Any = None,
        rle: Any = None,
        output: str = "",
    ) -> Result:
        """Clean one photo; arguments and errors: see :func:`clean`."""
        files: dict[str, bytes] = {}
        image = _register(photo, "image", "<photo>", files)
        masks = [mask] if mask is not None and not isinstance(mask, list | tuple) else mask or []
        uris = [
            image
            if picture is photo  # its alpha channel is the mask
            else _register(picture, "mask", f"<mask {number}>" if number > 1 else "<mask>", files)
            for number, picture in enumerate(masks, 1)
        ]
        marks = _marks(uris, boxes=boxes, polygons=polygons, rle=rle)
        mask_uri, packed_marks = marks.pack() if marks else ("", None)
        if not marks and not self.recipe.detect:
            raise RowError("mask.no_uri", "The photo has neither a mask nor shapes.")
        row = LineageRow(
            id=PurePath(output or image).stem,
            image_uri=image,
            mask_uri=mask_uri,
            marks=packed_marks,
            recipe_name=self.recipe.name,
            recipe_hash=self.recipe.hash,
            package_version=version("catalog-cleanup"),
        )
        return self._run(Photo(row), files, output)

    def _run(self, photo: Photo, files: Mapping[str, bytes], output: str) -> Result:
        first = [Step("fetch", "cpu", lambda: build_fetch(self.recipe, files))]
        last = []
        if output:
            first.append(Step("output", "cpu", lambda: build_check_suffix(output, self.recipe)))
            last.append(Step("publish", "cpu", lambda: build_publish_as(output)))
        Pipeline(first).run(photo)
        self._pipeline.run(photo)
        Pipeline(last).run(photo)
        row, data, hole = photo.lineage, photo.result, photo.hole
        if not photo.ok:
            raise _error(row)
        assert hole is not None
        row.output_sha256 = hashlib.sha256(data).hexdigest()
        finish(photo)
        return Result(data, hole, row)


def clean(
    photo: ImageLike,
    mask: ImageLike | Sequence[ImageLike] | None = None,
    recipe: str | Recipe = "patchmatch",
    *,
    boxes: Any = None,
    polygons: Any = None,
    rle: Any = None,
    options: Mapping[str, Any] | None = None,
    output: str = "",
) -> Result:
    """Remove the marked objects from a photo.

    The models of the last recipe used stay loaded; use :class:`Cleaner` to keep several recipes
    loaded. Threads may call this concurrently.

    Args:
        photo: a path or URI, a file's bytes, a Pillow picture or an array; see
            :data:`stages.inputs.ImageLike`. Random seeds are derived from the file's bytes; a
            picture in memory is encoded as PNG first.
        mask: one picture, or a list that is combined; none, nor shapes, for a recipe that detects,
            such as ``declutter``. White, or True, is removed. Pass the photo
            itself with the option ``mask.channel`` = ``alpha`` to use its own alpha channel.
        recipe: a recipe's name, the path of a TOML file, or a recipe.
        boxes: more to remove: ``[x, y, width, height]``, or a list of these, in px of the
            displayed photo (see the option ``shapes.units``), as in a manifest.
        polygons: more to remove: ``[x1, y1, x2, y2, …]``, or a list of these.
        rle: more to remove: COCO's RLE, ``{"size": [h, w], "counts": …}``, or a list of these.
        options: recipe options to change, by name: ``{"crop.context": 3}``.
        output: path or URI to also store the result at; its suffix must match the result's format.

    Raises:
        RowError: the photo or its marks are unusable, or no model could fill it.
        RecipeError: the recipe or option does not exist, or a value is out of range.
        WeightsError: a model is unavailable or cannot be loaded.
        OutputError: the output cannot be stored.
        StorageError: S3 cannot be used.
        TypeError: a picture is of an unsupported type.
    """
    if isinstance(recipe, Recipe):
        chosen = recipe.with_options(options) if options else recipe
    else:
        chosen = Recipe.load(recipe, options or ())
    return _ready(chosen).clean(photo, mask, boxes=boxes, polygons=polygons, rle=rle, output=output)


def _register(picture: ImageLike, role: Any, name: str, files: dict[str, bytes]) -> str:
    """Return a picture's path or URI; add the file of one in memory to ``files`` as ``name``."""
    data = encode_in_memory(picture, role)
    if data is None:
        return str(picture)
    files[name] = data
    return name


def _marks(files: list[str], **shapes: Any) -> Marks | None:
    """All marks of a photo; None: it has none."""
    try:
        marks = Marks.of(files, **shapes)
    except ValueError as error:
        raise RowError("mask.bad_shape", f"{error}.") from None
    return marks if marks.files or marks.shapes else None


def _error(row: LineageRow) -> CatalogCleanupError:
    """Rebuild the error that a row recorded, with a note of the step that raised it."""
    assert row.error_code
    assert row.error
    remedy = error_codes()[row.error_code].remedy
    error = error_from_code(row.error_code, row.error.removesuffix(f" {remedy}"))
    error.add_note(f"In the step {row.error_stage}.")
    return error


_lock = Lock()


def _ready(recipe: Recipe) -> Cleaner:
    if recipe.detect:
        recipe = recipe.model_copy(update={"detect": recipe.detect.pinned()})
    if not recipe.detect and not weights_of(recipe):
        return Cleaner(recipe)
    with _lock:  # concurrent threads share one, whose models load once
        return _with_models(recipe)


@lru_cache(maxsize=1)
def _with_models(recipe: Recipe) -> Cleaner:
    """Pin the recipe's weights, as a run does, and warn about licences that restrict their use."""
    if weights_of(recipe):
        require("torch", needed_by=f"The recipe {recipe.name}")
    for notice in licence_notices(recipe):
        warnings.warn(notice, stacklevel=4)
    pins = {
        option_path: recorded_pin(recipe, option_path) or content_pin(ref)
        for option_path, ref in weights_of(recipe)
    }
    return Cleaner(with_pins(recipe, pins))
