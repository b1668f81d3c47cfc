"""The first steps: from a photo and its marks to patches, cut and at their working size."""

from __future__ import annotations

import hashlib

import numpy as np

from manifests.errors import RowError
from stages import colour, storage
from stages.codecs.decode import check_photo, decode_mask, decode_photo
from stages.codecs.encode import converts
from stages.codecs.repair import repaired
from stages.geometry import Box
from stages.masks import Bits, Bytes, fit_to_photo, grown, is_own_alpha, marked
from stages.patches import PlannedPatch, cut, cut_masks, plan_patches
from stages.photo import Patch, Photo
from stages.recipe import Recipe
from stages.resize import scale_mask, scale_pixels, working_size
from stages.shapes import rasterise
from stages.step import Work
from stages.windows import crop_options, max_side_px, window_of


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
        marks, mends = photo.marks, recipe.limits.damage == "repair"
        photo.alpha_is_mask = is_own_alpha(row.image_uri, marks.files, recipe.mask)
        for uri, data in zip(marks.files, photo.mask_files, strict=True):
            whole, _ = repaired(data) if mends else (data, [])
            drawn = decode_mask(whole, limit, uri, recipe.mask)
            _unite(photo.marked, uri, marked(drawn, recipe.mask, uri))
        photo.mask_files = []
        is_empty = not any(each.any() for each in photo.marked.values())
        is_empty &= not any(marks.shapes.values())
        source, notes = repaired(photo.original) if mends else (photo.original, [])
        if not is_empty or converts(photo.original, recipe):
            photo.original, row.fidelity_note = source, "; ".join(notes) or None
            photo.decoded = decode_photo(source, limit, row.image_uri)
            row.width, row.height = photo.decoded.width, photo.decoded.height
        else:
            row.width, row.height = check_photo(source, limit, row.image_uri)
            row.fidelity_note = (
                f"damaged, passed on as it is (not: {'; '.join(notes)})" if notes else None
            )

    return work


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
        drawn = rasterise(photo.marks.shapes, row.width, row.height, row.image_uri)
        for uri, each in photo.marked.items():
            drawn |= fit_to_photo(each, row.width, row.height, recipe.mask, uri)
        photo.marked = {}
        photo.region = grown(drawn, recipe.mask)
        row.masked_px = int(np.count_nonzero(photo.region))
        share = row.masked_px / photo.region.size
        if share > recipe.limits.max_mask_share:
            raise RowError(
                "mask.covers_photo",
                f"What is marked on the photo {row.image_uri}, grown, covers {share:.0%} of it.",
            )

    return work


def cut_patches(recipe: Recipe) -> Work:
    """Make the step that plans the patches and cuts them; an empty mask has none."""

    def work(photo: Photo) -> None:
        assert photo.region is not None
        height, width = photo.region.shape
        planned = plan_patches(
            photo.region,
            crop_options(recipe, width, height),
            feather_px=recipe.mask.feather_for(width, height),
            max_side_px=max_side_px(recipe),
        )
        for index, plan in enumerate(planned):
            patch = _cut_patch(photo, plan, recipe, photo.seed(index))
            photo.patches.append(patch)
            photo.lineage.patches.append(_describe(plan, patch))
        photo.region = None

    return work


def _cut_patch(photo: Photo, plan: PlannedPatch, recipe: Recipe, seed: int) -> Patch:
    assert photo.decoded is not None
    assert photo.region is not None
    photo_height, photo_width = photo.region.shape
    feather_px = recipe.mask.feather_for(photo_width, photo_height)
    generate, blend = cut_masks(photo.region, plan, feather_px)
    samples = cut(photo.decoded.pixels, plan.crop)
    if photo.decoded.alpha is not None and not photo.alpha_is_mask:
        generate, blend = _without_hidden(generate, blend, samples[..., -1] == 0)
    seen = colour.view(samples, photo.decoded.space)
    window = window_of(plan, recipe, photo_width, photo_height)
    if window == plan.crop:
        around, unknown = seen, generate
    else:
        samples = cut(photo.decoded.pixels, window)
        around = colour.view(samples, photo.decoded.space)
        unknown = cut(photo.region.view(np.uint8)[..., None], window)[..., 0] * np.uint8(255)
        if photo.decoded.alpha is not None and not photo.alpha_is_mask:
            unknown, _ = _without_hidden(unknown, unknown, samples[..., -1] == 0)
    width, height = working_size(window.width, window.height, max_side_px(recipe))
    return Patch(
        crop=plan.crop,
        window=window,
        pixels=scale_pixels(around, width, height),
        mask=scale_mask(unknown, width, height),
        blend=blend,
        seed=seed,
        detail=seen if recipe.refiner else None,
        hole=generate if recipe.refiner else None,
    )


def _without_hidden(generate: Bytes, blend: Bytes, hidden: Bits) -> tuple[Bytes, Bytes]:
    """The masks of a patch in which part of the photo is wholly transparent.

    What cannot be seen is not painted, nor is anything copied from it, unless there is nothing
    else to copy from.
    """
    known = ~hidden & (generate == 0)
    if known.any():
        generate = np.where(hidden, np.uint8(255), generate)
    return generate, np.where(hidden, np.uint8(0), blend)


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
