"""The first steps: from a photo and its marks to patches, cut and at their working size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from manifests.errors import RowError
from stages import colour, storage
from stages.codecs.decode import check_photo, decode_mask, decode_photo
from stages.codecs.encode import converts
from stages.codecs.repair import repaired
from stages.geometry import Box
from stages.masks import Bits, Bytes, fit_to_photo, grown, is_own_alpha, marked
from stages.patches import PlannedPatch, cut, cut_blend, cut_mask
from stages.photo import Patch, Photo
from stages.recipe import Recipe
from stages.resize import scale_mask, scale_pixels
from stages.shapes import rasterise
from stages.step import Work
from stages.windows import plan_crops, window_of, working_size


def fetch(recipe: Recipe) -> Work:
    """Make the step that reads the photo and its masks, and notes their versions and hashes.

    It raises what :func:`stages.storage.fetch` does.
    """
    schemes = recipe.limits.schemes

    def work(photo: Photo) -> None:
        row = photo.lineage
        image = storage.fetch(row.image_uri, "image", schemes)
        photo.original, row.image_version = image.data, image.version
        row.image_sha256 = hashlib.sha256(image.data).hexdigest()
        masks = [
            image if uri == row.image_uri else storage.fetch(uri, "mask", schemes)
            for uri in photo.marks.files
        ]
        photo.mask_files = [mask.data for mask in masks]
        row.mask_version = " ".join(mask.version for mask in masks) or None
        hashes = [hashlib.sha256(mask.data).hexdigest() for mask in masks]
        if len(hashes) > 1:
            row.mask_sha256 = hashlib.sha256("".join(hashes).encode()).hexdigest()
        else:
            row.mask_sha256 = hashes[0] if hashes else None

    return work


def decode(recipe: Recipe) -> Work:
    """Make the step that decodes masks and photo; with nothing marked, the photo stays as it is."""

    def work(photo: Photo) -> None:
        row, limit = photo.lineage, recipe.limits.max_megapixels
        marks, repair = photo.marks, _repairer(recipe)
        notes: list[str] = []
        photo.alpha_is_mask = is_own_alpha(row.image_uri, marks.files, recipe.mask)
        for uri, data in zip(marks.files, photo.mask_files, strict=True):
            whole, mended = repair(data)
            notes += [f"{each} (mask)" for each in mended]
            drawn = decode_mask(whole, limit, uri, recipe.mask)
            _unite(photo.marked, uri, marked(drawn, recipe.mask, uri))
        photo.mask_files = []
        is_empty = not any(each.any() for each in photo.marked.values())
        is_empty &= not any(marks.shapes.values())
        source, mended = repair(photo.original)
        if not is_empty or converts(photo.original, recipe):
            photo.original = source
            photo.decoded = decode_photo(source, limit, row.image_uri)
            row.width, row.height = photo.decoded.width, photo.decoded.height
        else:
            row.width, row.height = check_photo(source, limit, row.image_uri)
            mended = [f"damaged, passed on as it is, without: {each}" for each in mended]
        row.fidelity_note = "; ".join([*mended, *notes]) or None

    return work


def _repairer(recipe: Recipe) -> Callable[[bytes], tuple[bytes, list[str]]]:
    """What becomes of a file before it is decoded, by ``limits.damage``: itself, and notes."""
    return repaired if recipe.limits.damage == "repair" else lambda data: (data, [])


def _unite(regions: dict[str, Bits], uri: str, region: Bits) -> None:
    """Add what a mask marks to that of the same size, so that many masks need no more memory."""
    for each in regions.values():
        if each.shape == region.shape:
            np.logical_or(each, region, out=each)
            return
    regions[uri] = region


def mask(recipe: Recipe) -> Work:
    """Make the step that turns all that is marked into the region to paint anew."""

    def work(photo: Photo) -> None:
        row = photo.lineage
        assert row.width is not None
        assert row.height is not None
        width, height, uri = row.width, row.height, row.image_uri
        drawn = rasterise(photo.marks.shapes, width, height, recipe.shapes, uri)
        for name, each in photo.marked.items():
            drawn |= fit_to_photo(each, width, height, recipe.mask, name)
        photo.marked = {}
        _refuse_specks(drawn, recipe.limits.min_mask_px, uri)
        row.region_sha256 = hashlib.sha256(np.packbits(drawn).tobytes()).hexdigest()
        photo.region = grown(drawn, recipe.mask)
        row.masked_px = int(np.count_nonzero(photo.region))
        share = row.masked_px / photo.region.size
        if share > recipe.limits.max_mask_share:
            raise RowError(
                "mask.covers_photo",
                f"What is marked on the photo {row.image_uri}, grown, covers {share:.0%} of it.",
            )

    return work


def _refuse_specks(drawn: Bits, min_px: int, uri: str) -> None:
    """Refuse a region of a few pixels, of whatever kind its marks are; an empty one is none."""
    count = int(np.count_nonzero(drawn))
    least = min(min_px, drawn.size // 1000)
    if 0 < count < least:
        raise RowError(
            "mask.too_small",
            f"What is marked on the photo {uri} is {count} px in all, under {least}.",
        )


def cut_patches(recipe: Recipe) -> Work:
    """Make the step that plans the patches and cuts them; an empty mask has none."""

    def work(photo: Photo) -> None:
        assert photo.region is not None
        for index, plan in enumerate(plan_crops(photo.region, recipe)):
            patch = _cut_patch(photo, plan, recipe, _seed(photo, recipe, index))
            photo.patches.append(patch)
            photo.lineage.patches.append(_describe(plan, patch))
        photo.region = None

    return work


def _seed(photo: Photo, recipe: Recipe, index: int) -> int:
    """Seed of patch ``index``, 0 to 2**32 - 1, from contents alone.

    These are the photo's file, what is marked on it, in whatever form, and the recipe's ``seed``:
    the same photo comes out the same under any id and path, and recipes paint by the same chance.
    """
    row = photo.lineage
    assert row.image_sha256
    assert row.region_sha256
    key = f"{recipe.seed}/{row.image_sha256}/{row.region_sha256}/{index}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def _cut_patch(photo: Photo, plan: PlannedPatch, recipe: Recipe, seed: int) -> Patch:
    assert photo.region is not None
    photo_height, photo_width = photo.region.shape
    window = window_of(plan, recipe, photo_width, photo_height)
    seen, unknown = _seen(photo, window)
    blend = cut_blend(plan, recipe.mask.feather_for(photo_width, photo_height))
    hidden = _hidden(photo, plan.crop)
    inside = plan.crop.shifted(-window.x0, -window.y0).slices
    detail, hole = (seen[inside].copy(), unknown[inside].copy()) if recipe.refiner else (None, None)
    if (unknown > 0).all():
        # A removal copies from what is known: only what is transparent is left for that.
        unknown = cut_mask(photo.region, window)
    width, height = working_size(recipe, window.width, window.height)
    return Patch(
        crop=plan.crop,
        window=window,
        pixels=scale_pixels(seen, width, height),
        mask=scale_mask(unknown, width, height),
        blend=blend if hidden is None else np.where(hidden, np.uint8(0), blend),
        seed=seed,
        detail=detail,
        hole=hole,
    )


def _seen(photo: Photo, box: Box) -> tuple[Bytes, Bytes]:
    """Part of the photo as models see it, ``(h, w, 3)`` uint8 sRGB, and what of it is unknown.

    Unknown, 255 in ``(h, w)`` uint8, is what is painted anew, and what is wholly transparent: its
    colours are nobody's choice.
    """
    assert photo.decoded is not None
    assert photo.region is not None
    unknown, hidden = cut_mask(photo.region, box), _hidden(photo, box)
    if hidden is not None:
        unknown[hidden] = 255
    return colour.view(cut(photo.decoded.pixels, box), photo.decoded.space), unknown


def _hidden(photo: Photo, box: Box) -> Bits | None:
    """Where the photo is wholly transparent, ``(h, w)``; None: its alpha hides nothing."""
    assert photo.decoded is not None
    if photo.decoded.alpha is None or photo.alpha_is_mask:
        return None
    return np.asarray(photo.decoded.pixels[box.slices][..., -1] == 0)


def _describe(plan: PlannedPatch, patch: Patch) -> dict[str, object]:
    height, width = patch.mask.shape
    return {
        "region": _box_dict(plan.region),
        "crop": _box_dict(plan.crop),
        "window": _box_dict(patch.window),
        "working_width": width,
        "working_height": height,
        "seed": patch.seed,
        "refined": None,  # these are told by the steps that refine
        "reason": None,
        "tries": None,
    }


def _box_dict(box: Box) -> dict[str, int]:
    return {"x": box.x0, "y": box.y0, "width": box.width, "height": box.height}
