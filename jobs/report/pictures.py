"""Renders the pictures of a photo: before and after, patches at full resolution, mask outline.

Pictures are upright WebP files in sRGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import cv2
import numpy as np
from PIL import Image

from manifests.errors import RowError
from manifests.schema import LineageRow
from manifests.storage.row_files import read
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.decode import decode_photo
from stages.codecs.picture import Decoded
from stages.photo import Photo
from stages.pixels import colour
from stages.pixels.resize import limited_size
from stages.pixels.shapes import decode_rle, encode_rle
from stages.recipe import Recipe
from stages.steps.decode import build_decode
from stages.steps.detect import build_restore
from stages.steps.fetch import build_fetch
from stages.steps.mask import build_mask
from stages.steps.snapshots import SnapshotStage, snapshot_uri

#: Max longer side of the photo, its icon, and a patch, px.
_PREVIEW_SIDE_PX, _ICON_SIDE_PX, _PATCH_SIDE_PX = 1600, 160, 2048

#: WebP qualities; patches are viewed closely.
_PREVIEW_QUALITY, _PATCH_QUALITY = 86, 93

#: Max number of parts of an outline; its tolerance is the photo's longer side over the second.
_MAX_PARTS = 400
_PRECISION = 1000

#: Stores a file, given its name in the photo's folder and its bytes.
Store = Callable[[str, bytes], None]


@dataclass(slots=True)
class Pictures:
    """The rendered pictures of a row.

    Attributes:
        shown: ``before`` and ``after``, as far as available.
        width: of the photo, px.
        height: of the photo, px.
        outline: of the hole, as an SVG path in px of the photo; empty: not known.
        effects: of what was removed beyond the hole's soft edge, likewise; empty: nothing.
        patches: ``box`` (x, y, width, height), ``scale`` of its pictures (1: full size),
            and ``steps``: the stages of its snapshots.
        found: of each detection, what is removed for it, or would be: COCO's RLE
            (``counts``), and its outline as an SVG path in px of the photo (``path``).
        problem: why something is missing; empty if nothing is.
    """

    shown: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    outline: str = ""
    effects: str = ""
    patches: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, str]] = field(default_factory=list)
    problem: str = ""


def render(
    row: Mapping[str, Any], recipe: Recipe, output: str, label: str, store: Store
) -> Pictures:
    """Render all available pictures of a lineage row.

    Args:
        row: the lineage row.
        recipe: the recipe of the row.
        output: the output folder, which may have snapshots.
        label: the recipe's label, in the names of their folders.
        store: called with ``before.webp``, ``after.webp``, ``icon.webp`` (of the result, or else
            the photo), and for each patch ``<n>-before.webp``, ``<n>-after.webp`` and snapshots.
    """
    result = Pictures()
    before, hole, detected = _source(row, recipe, result)
    after = _result(row, recipe, result)
    for name, decoded in (("before", before), ("after", after)):
        if decoded:
            picture = colour.as_displayed(decoded.pixels, decoded.space)
            store(f"{name}.webp", _shrunk(picture, _PREVIEW_SIDE_PX, _PREVIEW_QUALITY))
            result.shown.append(name)
            result.width, result.height = picture.size
    if result.shown:
        store("icon.webp", _shrunk(picture, _ICON_SIDE_PX, _PREVIEW_QUALITY))
    if before:
        height, width = before.pixels.shape[:2]
        for each in row["detections"] or []:
            removed = _removed_for(each, detected, width, height)
            result.found.append(
                {"counts": encode_rle(removed.view(np.bool_)), "path": outline(removed)}
            )
    if hole is not None:
        result.outline = outline(hole)
        height, width = hole.shape
        try:
            result.effects = outline(decode_rle(row["effects"], width, height))
        except RowError as error:  # the photo has been replaced by one of another size
            result.problem = result.problem or str(error)
    if before and after and before.pixels.shape[:2] == after.pixels.shape[:2]:
        pair = {"before": colour.as_displayed(before.pixels, before.space), "after": picture}
        for index, patch in enumerate(row["patches"] or []):
            x, y, width, height = (patch["crop"][name] for name in ("x", "y", "width", "height"))
            for name, whole in pair.items():
                part = whole.crop((x, y, x + width, y + height))
                store(f"{index}-{name}.webp", _shrunk(part, _PATCH_SIDE_PX, _PATCH_QUALITY))
            result.patches.append(
                {
                    "box": [x, y, width, height],
                    "scale": min(1.0, _PATCH_SIDE_PX / max(width, height)),
                    "steps": [
                        stage
                        for stage in get_args(SnapshotStage)
                        if recipe.output.keep_steps
                        and _copy_snapshot(
                            snapshot_uri(output, label, row["id"], index, stage),
                            f"{index}-{stage}.webp",
                            store,
                        )
                    ],
                }
            )
    return result


def outline(hole: BoolMask | UInt8Array) -> str:
    """The outline of an ``(h, w)`` mask, of what is not 0, as an SVG path, px, holes included."""
    parts, _ = cv2.findContours(hole.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    tolerance = max(hole.shape) / _PRECISION
    largest = sorted(parts, key=len, reverse=True)[:_MAX_PARTS]
    lines = [cv2.approxPolyDP(part, tolerance, closed=True)[:, 0].tolist() for part in largest]
    return "".join("M" + "L".join(f"{x} {y}" for x, y in line) + "Z" for line in lines)


def _source(
    row: Mapping[str, Any], recipe: Recipe, result: Pictures
) -> tuple[Decoded | None, BoolMask | None, BoolMask | None]:
    """The photo, its hole and what was detected in it, as far as they can be read."""
    photo = Photo(LineageRow(row["id"], image_uri=row["image_uri"], mask_uri=row["mask_uri"]))
    photo.lineage.marks, photo.lineage.detected_uri = row["marks"], row.get("detected_uri")
    decoded, detected, limit = None, None, recipe.limits.max_megapixels
    try:
        for build in (build_fetch, build_decode, build_restore):
            build(recipe)(photo)
        detected = photo.detected
        build_mask(recipe)(photo)
    except RowError as error:
        result.problem = str(error)
    try:
        if photo.original:
            decoded = photo.decoded or decode_photo(photo.original, limit, row["image_uri"])
    except RowError as error:
        result.problem = str(error)
    if row["image_sha256"] and photo.lineage.image_sha256 not in (None, row["image_sha256"]):
        result.problem = "The photo has changed since it was cleaned."
    return decoded, photo.hole, detected


def _removed_for(
    found: Mapping[str, Any], detected: BoolMask | None, width: int, height: int
) -> UInt8Array:
    """``(height, width)`` uint8, 1 where a detection is removed, or would be."""
    removed = np.zeros((height, width), np.uint8)
    box = found["box"]
    part = np.s_[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
    if found["removed"] and detected is not None and detected.shape == removed.shape:
        removed[part] = detected[part]
    if not removed.any():
        corners = np.rint(np.reshape(found["outline"], (-1, 2))).astype(np.int32)
        cv2.fillPoly(removed, [corners], (1,))
    return removed


def _result(row: Mapping[str, Any], recipe: Recipe, result: Pictures) -> Decoded | None:
    uri = row["output_uri"]
    if not uri:
        return None
    try:
        return decode_photo(read(uri, "image"), recipe.limits.max_megapixels, uri)
    except RowError as error:
        result.problem = str(error)
        return None


def _shrunk(picture: Image.Image, side_px: int, quality: int) -> bytes:
    """Encode as WebP, with no side longer than ``side_px``."""
    size = limited_size(*picture.size, side_px)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def _copy_snapshot(uri: str, name: str, store: Store) -> bool:
    """Store a snapshot of a crop; returns whether there is one."""
    try:
        data = read(uri, "image")
    except RowError:  # the row was done before snapshots were kept
        return False
    with Image.open(io.BytesIO(data)) as kept:
        store(name, _shrunk(kept, _PATCH_SIDE_PX, _PATCH_QUALITY))
    return True
