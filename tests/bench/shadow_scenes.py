"""Scenes with a cast shadow whose pixels are known, and scenes that only seem to have one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, Float32Array, UInt8Array

#: Size of a scene, and the longer side of its object, px.
SIDE_PX, OBJECT_PX = 480, 96

#: Share of the light that the umbra is left with, and blur of its edge over the object's side.
STRENGTHS, SOFTNESSES = (0.3, 0.5, 0.7, 0.85), (0.0, 0.04, 0.1)

#: Where shadows fall, degrees from the right, clockwise; and how far, over the object's side.
DIRECTIONS, LENGTHS = (0, 45, 90, 135, 180), (0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo, its object, and its shadow.

    Attributes:
        kind: of the background, or of what seems a shadow.
        pixels: ``(h, w, 3)`` uint8 sRGB.
        mask: ``(h, w)`` bool, the object.
        shade: ``(h, w)`` float32, the share of the light that the shadow takes; 0: none.
        strength: share of the light in the umbra; 1: no shadow.
        softness: see :data:`SOFTNESSES`.
        direction: see :data:`DIRECTIONS`.
    """

    kind: str
    pixels: UInt8Array
    mask: BoolMask
    shade: Float32Array
    strength: float = 1.0
    softness: float = 0.0
    direction: int = 0


def linear(pixels: UInt8Array) -> npt.NDArray[np.float64]:
    level = pixels / 255.0
    return np.asarray(np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4))


def srgb(light: npt.NDArray[np.float64]) -> UInt8Array:
    light = np.clip(light, 0, 1)
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(level * 255), np.uint8)


def backgrounds(random: np.random.Generator) -> dict[str, UInt8Array]:
    """Plain, graded and lightly textured backgrounds, with the noise of a camera."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    flat = np.ones((SIDE_PX, SIDE_PX, 1))
    vignette = 1 - 0.5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    fibres = cv2.GaussianBlur(random.normal(size=(SIDE_PX, SIDE_PX)), (0, 0), 6, sigmaY=0.8)
    weave = cv2.GaussianBlur(random.normal(size=(SIDE_PX, SIDE_PX)), (0, 0), 1.2)
    made = {
        "white": flat * (240, 240, 238),
        "grey": flat * (150, 152, 155),
        "colour": flat * (190, 150, 120),
        "gradient": (130 + 100 * y)[..., None] * (1, 0.98, 0.95),
        "vignette": vignette[..., None] * (235, 230, 222),
        "wood": (1 + 0.06 * fibres / fibres.std())[..., None] * (175, 135, 95),
        "cloth": (1 + 0.05 * weave / weave.std())[..., None] * (120, 140, 165),
    }
    noise = {name: random.normal(0, 1.5, each.shape) for name, each in made.items()}
    return {
        name: np.rint(np.clip(each + noise[name], 0, 255)).astype(np.uint8)
        for name, each in made.items()
    }


def shape(random: np.random.Generator) -> BoolMask:
    """An ellipse, a box or a polygon in the middle of a scene."""
    drawn = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    centre, half = (SIDE_PX // 2, SIDE_PX // 2), OBJECT_PX // 2
    other = int(half * random.uniform(0.5, 1))
    kind = random.integers(3)
    if kind == 0:
        cv2.ellipse(drawn, centre, (half, other), float(random.uniform(0, 180)), 0, 360, 1, -1)
    elif kind == 1:
        box = (centre, (2.0 * half, 2.0 * other), float(random.uniform(-20, 20)))
        cv2.fillPoly(drawn, [cv2.boxPoints(box).astype(np.int32)], 1)
    else:
        angles = np.sort(random.uniform(0, 2 * np.pi, 7))
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half + centre
        cv2.fillPoly(drawn, [cv2.convexHull(points.astype(np.int32))], 1)
    return drawn > 0


def with_object(pixels: UInt8Array, mask: BoolMask, random: np.random.Generator) -> UInt8Array:
    colour = random.integers(0, 256, 3)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)[..., None]
    return np.asarray(np.rint(pixels * (1 - soft) + colour * soft), np.uint8)


def with_shadow(
    pixels: UInt8Array,
    mask: BoolMask,
    strength: float,
    softness: float,
    direction: int,
    length: float,
) -> tuple[UInt8Array, Float32Array]:
    """Darken what the object would shade if it were as thick as it is long."""
    swept: Float32Array = np.zeros(mask.shape, np.float32)
    angle, far = np.deg2rad(direction), length * OBJECT_PX
    for step in np.linspace(0, far, 24):
        move = np.array([[1, 0, step * np.cos(angle)], [0, 1, step * np.sin(angle)]], np.float32)
        moved = cv2.warpAffine(mask.astype(np.float32), move, (mask.shape[1], mask.shape[0]))
        swept = np.asarray(np.maximum(swept, moved), np.float32)
    if softness:
        swept = np.asarray(cv2.GaussianBlur(swept, (0, 0), softness * OBJECT_PX), np.float32)
    shade = np.where(mask, 0, (1 - strength) * swept).astype(np.float32)
    return srgb(linear(pixels) * (1 - shade[..., None])), shade


def shadowed(step: int = 1, start: int = 0) -> Iterator[Scene]:
    """Every strength, softness, direction and length, on every background; or every ``step``-th."""
    known = backgrounds(np.random.default_rng(0))
    ways = enumerate(product(known, STRENGTHS, SOFTNESSES, DIRECTIONS, LENGTHS))
    for number, (name, strength, softness, direction, length) in islice(ways, start, None, step):
        random = np.random.default_rng(number)
        mask = shape(random)
        cast, shade = with_shadow(known[name], mask, strength, softness, direction, length)
        pixels = with_object(cast, mask, random)
        yield Scene(name, pixels, mask, shade, strength, softness, direction)


def unshadowed(count: int = 20, step: int = 1) -> Iterator[Scene]:
    """Objects without a shadow, alone and beside something darker than the background."""
    known = backgrounds(np.random.default_rng(0))
    ways = enumerate(product(known, ("", *LOOKALIKES), range(count)))
    for number, (background, kind, _) in islice(ways, 0, None, step):
        random = np.random.default_rng(number)
        mask = shape(random)
        pixels = LOOKALIKES[kind](known[background], mask, random) if kind else known[background]
        nothing = np.zeros(mask.shape, np.float32)
        yield Scene(kind or background, with_object(pixels, mask, random), mask, nothing)


def on_photos(places: Sequence[UInt8Array], *, shaded: bool = False) -> Iterator[Scene]:
    """Objects on parts of photos, of ``SIDE_PX`` square, whatever these show.

    If ``shaded``, with a shadow that takes half of the light.
    """
    random = np.random.default_rng(2)
    for number, place in enumerate(places):
        mask, direction = shape(random), DIRECTIONS[number % len(DIRECTIONS)]
        strength = 0.5 if shaded else 1.0
        cast, shade = with_shadow(place, mask, strength, 0.04, direction, 0.5)
        yield Scene("photos", with_object(cast, mask, random), mask, shade, strength)


def dark_product(background: UInt8Array, mask: BoolMask, random: np.random.Generator) -> UInt8Array:
    """A neutral or coloured thing that touches the object, with a little shading of its own."""
    drawn = np.zeros(mask.shape, np.uint8)
    angle, side = random.uniform(0, 2 * np.pi), random.uniform(0.3, 1.2) * OBJECT_PX
    offset = (OBJECT_PX + side) * 0.42
    centre = SIDE_PX / 2 + offset * np.array([np.cos(angle), np.sin(angle)])
    box = (tuple(centre.tolist()), (side, side * random.uniform(0.5, 1)), random.uniform(0, 90))
    cv2.fillPoly(drawn, [cv2.boxPoints(box).astype(np.int32)], 1)
    level = random.uniform(20, 150)
    colour = np.full(3, level) if random.random() < 0.5 else random.uniform(10, 160, 3)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] / mask.shape[0]
    shading = 1 + random.uniform(0.1, 0.4) * (x * np.cos(angle) + y * np.sin(angle) - 0.5)
    thing = np.clip(shading[..., None] * colour, 0, 255)
    soft = cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), 0.8)[..., None]
    return np.asarray(np.rint(background * (1 - soft) + thing * soft), np.uint8)


def dark_half(background: UInt8Array, mask: BoolMask, random: np.random.Generator) -> UInt8Array:
    """A darker table or wall that begins under the object."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] - mask.shape[0] / 2
    angle = random.uniform(0, 2 * np.pi)
    beyond = x * np.cos(angle) + y * np.sin(angle) > random.uniform(-0.2, 0.4) * OBJECT_PX
    return np.where(
        beyond[..., None], srgb(linear(background) * random.uniform(0.3, 0.8)), background
    )


def stripes(background: UInt8Array, mask: BoolMask, random: np.random.Generator) -> UInt8Array:
    """Lines, as of a drawing or a grid of tiles."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    period, angle = random.uniform(20, 90), random.uniform(0, np.pi)
    there = ((x * np.cos(angle) + y * np.sin(angle)) % period) < random.uniform(3, 0.4 * period)
    return np.where(
        there[..., None], srgb(linear(background) * random.uniform(0.3, 0.8)), background
    )


#: What may be taken for a shadow: draws it on a background, beside an object.
LOOKALIKES: dict[str, Callable[[UInt8Array, BoolMask, np.random.Generator], UInt8Array]] = {
    "dark product": dark_product,
    "dark half": dark_half,
    "stripes": stripes,
}
