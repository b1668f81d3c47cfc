"""Find what is to be removed from photos that nobody has marked, and store it as a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manifests.schema import DetectionRecord
from manifests.storage.row_files import read, write
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.decode import decode_mask
from stages.codecs.mask_file import encode_mask
from stages.codecs.picture import Decoded
from stages.detection import Detection, Detector
from stages.photo import Photo
from stages.pixels import colour
from stages.pixels.masks import marked_pixels
from stages.pixels.samples import composite_on, to_8_bits
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction
from stages.steps.decode import should_detect
from stages.steps.mask import min_marked_px

#: Fewer px are specks. Not ``limits.min_mask_px``: limits reject rows, and change no result.
_MIN_PX = 16


def build_detect(recipe: Recipe) -> PhotoFunction:
    """Build the function that looks for objects in photos, and records each that it finds."""
    options = recipe.detect
    assert options is not None
    detector: Detector = options.load_module().load(options)

    def process(photo: Photo) -> None:
        if not should_detect(photo, recipe):
            return
        row = photo.lineage
        assert photo.decoded is not None
        seen = on_white(photo.decoded)
        found = detector(seen)
        mask = union(found, seen.shape[:2])
        limit = min_marked_px(mask, _MIN_PX)
        if np.count_nonzero(mask) < limit:
            found = [_kept(each, f"fewer than {limit} px") for each in found]
            mask[:] = False
        row.detections = [_record(each) for each in found]
        row.weights |= detector.content_hashes
        if mask.any():
            photo.detected, photo.detected_file = mask, encode_mask(mask, recipe.mask)

    return process


def build_keep_mask(output: str, recipe: Recipe) -> PhotoFunction:
    """Build the function that stores ``<output>/masks/<recipe>-<hash>/<id>.png``.

    The mask has the photo's displayed size. It shows what was detected, before it is dilated, as
    the recipe's section ``[mask]`` reads it.
    """
    folder = f"{output}/masks/{recipe.label}"

    def process(photo: Photo) -> None:
        if photo.detected_file:
            uri = f"{folder}/{photo.lineage.id}.png"
            write(uri, photo.detected_file, photo.lineage.run_id)
            photo.lineage.detected_uri, photo.detected_file = uri, b""

    return process


def build_restore(recipe: Recipe) -> PhotoFunction:
    """Build the function that reads what a run detected and stored, instead of detecting again.

    Its errors are those of a mask.
    """

    def process(photo: Photo) -> None:
        if uri := photo.lineage.detected_uri:
            data, limit = read(uri, "mask"), recipe.limits.max_megapixels
            levels = decode_mask(data, limit, uri, recipe.mask)
            photo.detected = marked_pixels(levels, recipe.mask, uri)

    return process


def on_white(decoded: Decoded) -> UInt8Array:
    """Return a photo as a detector sees it: ``(h, w, 3)`` uint8 sRGB, transparent parts white."""
    seen = colour.to_srgb8(decoded.pixels, decoded.space)
    if decoded.alpha is None:
        return seen
    return composite_on(255, seen, to_8_bits(decoded.pixels[..., -1:]))


def union(found: list[Detection], shape: tuple[int, ...]) -> BoolMask:
    """Return ``(h, w)`` bool: all pixels to remove."""
    mask = np.zeros(shape, np.bool_)
    for each in found:
        if each.mask is not None:
            mask[each.box.slices] |= each.mask
    return mask


def _kept(found: Detection, reason: str) -> Detection:
    return replace(found, remove=False, reason=reason, mask=None) if found.remove else found


def _record(found: Detection) -> DetectionRecord:
    return DetectionRecord(
        outline=[round(float(number), 1) for point in found.outline for number in point],
        label=found.label,
        confidence=round(float(found.confidence), 4),
        removed=found.remove,
        reason=found.reason,
        box=found.box.as_dict(),
    )
