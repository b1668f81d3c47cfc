"""Cases with a known answer, to calibrate the judge: real photos, holes in them, and fills.

A case is a removal's fill and what a refiner might have made of it, at one working size. In good
ones the refined fill is the removal's with its texture repaired, or what the photo itself shows, or
another real fill that is like it. In bad ones an object or a word lies in a fill. No output of a
diffusion model is among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from jobs.evaluation.synthetic import OBJECTS, Placement, blob, paste, turned_box
from stages.models.classical import Classical, fill_one
from stages.pixels.boxes import Box, bounds_of, context_box
from stages.pixels.patches import cut_mask, group_into_patches
from stages.pixels.resize import scale_pixels
from stages.pixels.samples import to_lab
from stages.pixels.windows import refiner_size
from stages.recipe.options import CropOptions
from stages.recipe.removal_methods import NavierStokesOptions, PatchMatchOptions, TeleaOptions
from tests.bench.common import Pixels

#: Photos are shrunk to the first longer side, crops brought to the other: as a refiner sees them,
#: if smaller.
_PHOTO_SIDE_PX, _CROP_SIDE_PX = 800, 512

#: Sides of pasted things over the hole's, and how opaque they are.
_EXTENTS, _OPACITIES = (0.35, 0.55, 0.8), (0.5, 0.75, 1.0)

#: What a hole's crop shows around it; the first as shipped recipes that refine, the second less,
#: since photos are smaller.
_CROP = CropOptions(context=2.0, min_context_px=64)

#: What holes lie in: one colour, skin, another single material such as cloth, or several things.
BACKGROUNDS = ("plain", "cloth", "skin", "edges")

#: Of a plain background and of one material: distance from its median colour, CIE76.
_PLAIN, _ONE_MATERIAL = 4.0, 18.0

#: A fill that differs less than this from the photo is good, CIE76; and the photo shows nothing in
#: this hole that its surroundings do not.
_ALIKE = 5.0

_MAX_ATTEMPTS = 40

_SOFT = "soft patchmatch"
_REMOVALS: dict[str, Classical] = {
    "telea": TeleaOptions(),
    "navier-stokes": NavierStokesOptions(),
    _SOFT: PatchMatchOptions(),
}


#: Words that come back in place of objects.
_WORDS = ("cake", "sale", "new", "-50%", "29,99", "free shipping", "best price", "www.shop.com")


def _word(
    placement: Placement, _: Sequence[Pixels], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A word in one colour, in the font that comes with Pillow."""
    height, width = placement.base.shape[:2]
    colours = np.zeros((height, width, 3), np.float32) + rng.uniform(0, 255, 3).astype(np.float32)
    word = str(rng.choice(_WORDS))
    per_px = ImageFont.load_default(100).getlength(word) / 100
    font = ImageFont.load_default(1.3 * placement.side_px / per_px)
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).text(placement.centre, word, fill=255, font=font, anchor="mm")
    return colours, np.asarray(drawn, np.float32) / np.float32(255)


_OBJECTS = OBJECTS | {"word": _word}


@dataclass(frozen=True, slots=True)
class Case:
    """One hole, filled twice; ``extent`` and ``opacity`` are of a pasted thing, else 0."""

    background: str
    removal_method: str
    kind: str
    is_bad: bool
    removal: Pixels
    refined: Pixels
    mask: Pixels
    extent: float = 0.0
    opacity: float = 0.0


def make_cases(
    photo: Pixels, others: Sequence[Pixels], holes: int, rng: np.random.Generator
) -> Iterator[Case]:
    """Cut holes into a photo, and fill each well and badly; objects are cut from the others."""
    photo, others = shrunk(photo), [shrunk(each) for each in others]
    first = int(rng.integers(len(BACKGROUNDS)))
    for number in range(holes):
        removal_method = list(_REMOVALS)[number % len(_REMOVALS)]
        crop, hole = _cut_hole_in(BACKGROUNDS[(first + number) % len(BACKGROUNDS)], photo, rng)
        background = background_of(crop, hole)
        removal, copied, mask = _filled(crop, hole, removal_method, rng)
        own = _enlarged(crop, mask.shape[::-1])
        repaired = repair_texture(removal, mask, rng)
        yield Case(background, removal_method, "texture repaired", False, removal, repaired, mask)
        if _differ(copied, own, mask) <= _ALIKE:
            yield Case(background, removal_method, "patchmatch", False, removal, copied, mask)
            degraded = repair_texture(own, mask, rng)
            yield Case(
                background, removal_method, "the photo's own", False, removal, degraded, mask
            )
        for kind, thing in _OBJECTS.items():
            base = copied if rng.random() < 0.5 else repaired
            extent, opacity = float(rng.choice(_EXTENTS)), float(rng.choice(_OPACITIES))
            placement = _place_in(base, mask, extent, rng)
            made = paste(placement, thing, others, rng, opacity=opacity, within=mask)
            if made:
                bad = Case(
                    background, removal_method, kind, True, removal, made[0], mask, extent, opacity
                )
                yield bad


def original_cases(
    photo: Pixels, marked: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[Case]:
    """What was to be removed, back in its own hole: for each part of a real mask."""
    for number, plan in enumerate(group_into_patches(marked, _CROP, feather_px=3)):
        crop, mask = photo[plan.crop.slices].copy(), cut_mask(marked, plan.crop)
        removal_method = list(_REMOVALS)[number % len(_REMOVALS)]
        removal, copied, hole = _filled(crop, mask, removal_method, rng)
        original = _enlarged(crop, (removal.shape[1], removal.shape[0]))
        background = background_of(crop, mask)
        yield Case(background, removal_method, "patchmatch", False, removal, copied, hole)
        yield Case(background, removal_method, "the original", True, removal, original, hole)


def repair_texture(fill: Pixels, mask: Pixels, rng: np.random.Generator) -> Pixels:
    """What a refiner does to a soft fill if it invents nothing: detail, grain, a slight tint.

    Sharpens the hole, lays on grain of about the surroundings' strength, and shifts its colour by
    up to 2 (L) and 1.5 (a, b), and about as much again from place to place, as decoding latents
    does.
    """
    inside, levels = mask > 0, fill.astype(np.float32)
    fine = levels - cv2.GaussianBlur(levels, (0, 0), 2)
    grain = cv2.GaussianBlur(rng.normal(0, 1, mask.shape).astype(np.float32), (0, 0), 1)
    usual = float(np.median(np.abs(fine[~inside]))) if not inside.all() else 0.0
    strength = float(np.clip(1.5 * usual, 0.5, 8)) * rng.uniform(0.7, 1.4) / grain.std()
    sharp = levels + rng.uniform(0.3, 1.2) * fine + (strength * grain)[..., None]
    lab = to_lab(np.rint(np.clip(sharp, 0, 255)).astype(np.uint8))
    drift = rng.normal(0, 1, (4, 4, 3)).astype(np.float32)
    slow = cv2.resize(drift, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_CUBIC)
    lab += (rng.uniform(-1, 1, 3) * (2.0, 1.5, 1.5) + slow * (0.8, 0.4, 0.4)).astype(np.float32)
    rgb = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1) * 255
    return np.where(inside[..., None], np.rint(rgb).astype(np.uint8), fill)


def shrunk(photo: Pixels) -> Pixels:
    scale = min(1.0, _PHOTO_SIDE_PX / max(photo.shape[:2]))
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def _differ(fill: Pixels, own: Pixels, mask: Pixels) -> float:
    """Mean difference of a fill from what the photo shows there at the scale of objects, CIE76."""
    size_px = 0.02 * max(mask.shape)
    first, second = (cv2.GaussianBlur(to_lab(each), (0, 0), size_px) for each in (fill, own))
    return float(np.linalg.norm(first - second, axis=2)[mask > 0].mean())


def _cut_hole_in(background: str, photo: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Like :func:`cut_hole`, in a background of this kind if the photo has one."""
    for _ in range(_MAX_ATTEMPTS):
        crop, hole = cut_hole(photo, rng)
        if background_of(crop, hole) == background:
            break
    return crop, hole


def background_of(crop: Pixels, mask: Pixels) -> str:
    """What a hole lies in, one of :data:`BACKGROUNDS`, by its pixels and as many around it."""
    small = (mask.shape[1] // 3, mask.shape[0] // 3)
    hole = cv2.resize(mask, small, interpolation=cv2.INTER_NEAREST)
    bounds = bounds_of(hole)
    assert bounds is not None
    near_px = max(bounds.width, bounds.height) // 3
    near = cv2.dilate(hole, np.ones((2 * near_px + 1,) * 2, np.uint8)) > 0
    lab = to_lab(scale_pixels(crop, *small))[near]
    usual = np.median(lab, axis=0)
    spread = float(np.quantile(np.linalg.norm(lab - usual, axis=1), 0.97))
    if spread > _ONE_MATERIAL:
        return "edges"
    _, red, yellow = usual
    if 7 < red < 25 and 0.7 * red < yellow < 1.8 * red:
        return "skin"
    return "plain" if spread < _PLAIN else "cloth"


def cut_hole(photo: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Draw an ellipse, a turned rectangle or a blob, a tenth to a third of the shorter side wide.

    Returns:
        A crop around it, and its mask.
    """
    height, width = photo.shape[:2]
    across, down = rng.uniform(0.04, 0.15) * min(height, width) * rng.uniform(0.6, 1.4, 2)
    axes = (float(across), float(down))
    centre = (float(rng.uniform(0.1, 0.9) * width), float(rng.uniform(0.1, 0.9) * height))
    hole = np.zeros((height, width), np.uint8)
    match int(rng.integers(3)):
        case 0:
            cv2.fillPoly(hole, [turned_box(centre, axes, rng)], 255)
        case 1:
            cv2.fillPoly(hole, [blob(centre, axes, rng)], 255)
        case _:
            whole = (round(centre[0]), round(centre[1])), (round(across), round(down))
            cv2.ellipse(hole, *whole, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    bounds, context = bounds_of(hole), _CROP.min_context_px
    assert bounds is not None
    box = context_box(bounds, width, height, context=_CROP.context, min_context_px=context)
    return photo[box.slices].copy(), np.ascontiguousarray(hole[box.slices])


def _filled(
    crop: Pixels, mask: Pixels, removal_method: str, rng: np.random.Generator
) -> tuple[Pixels, Pixels, Pixels]:
    """The removal's fill, PatchMatch's with another seed, and the mask; at the working size."""
    first, second = (int(seed) for seed in rng.integers(2**31, size=2))
    if removal_method == _SOFT:
        removal = soft_fill(crop, mask, first)
    else:
        removal = fill_one(_REMOVALS[removal_method], crop, mask, first)
    copied = fill_one(PatchMatchOptions(), crop, mask, second)
    size = refiner_size(Box(0, 0, mask.shape[1], mask.shape[0]), _CROP_SIDE_PX)
    hole = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return _enlarged(removal, size), _enlarged(copied, size), hole


def soft_fill(crop: Pixels, mask: Pixels, seed: int) -> Pixels:
    """Texture that is continued, and a little soft: as near to LaMa's as without its weights."""
    sharp = fill_one(PatchMatchOptions(), crop, mask, seed)
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 1.5), np.uint8)
    return np.where(mask[..., None] > 0, soft, crop)


def _enlarged(crop: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _place_in(base: Pixels, mask: Pixels, extent: float, rng: np.random.Generator) -> Placement:
    """A place in the hole, as far inside as the thing is large, where there is room."""
    side_px = extent * float(np.sqrt(np.count_nonzero(mask)))
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ys, xs = np.nonzero(inside >= min(0.5 * side_px, 0.8 * float(inside.max())))
    pick = int(rng.integers(len(ys)))
    return Placement(base, (float(xs[pick]), float(ys[pick])), side_px)
