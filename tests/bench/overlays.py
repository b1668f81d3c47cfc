"""Pastes what shops lay over photos: prices, badges, ribbons, banners, watermarks, small print.

The photos are the references. Which pixels are letters is stored too, so that a search for text can
be measured. See :func:`make_overlays`.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from jobs.evaluation.synthetic import write_picture
from manifests.storage.row_files import read
from stages.arrays import Float32Array, UInt8Array
from stages.codecs.decode import decode_photo
from stages.steps.detect import on_white

#: What the texts say, by language.
TEXTS = {
    "en": ("$12.99", "SALE", "-20 %", "20% OFF", "FREE SHIPPING", "NEW ARRIVAL", "Buy 1 get 1"),
    "de": (
        "12,99 €",
        "Nur 5,- €",
        "bis zu 50 %",
        "Gratis Versand",
        "Sonderangebot",
        "Tel. 030 123456",
    ),
    "fr": ("Soldes -30 %", "19,90 €", "Livraison gratuite", "Nouveauté"),
    "es": ("Rebajas", "Envío gratis", "Más vendido", "€ 7,95"),
    "it": ("Saldi", "Spedizione gratuita", "Offerta speciale"),
    "nl": ("Uitverkoop", "Gratis verzending", "Korting"),
    "pt": ("Frete grátis", "Promoção", "R$ 49,90"),
    "pl": ("Wyprzedaż", "Darmowa dostawa", "49,99 zł"),
}

#: Small print and watermarks.
_MARKS = ("www.example-shop.com", "© 2024 Example Shop", "info@example.com", "@exampleshop")

#: Kinds, in the order in which photos get them.
KINDS = (
    "plain",
    "disc",
    "tag",
    "outlined",
    "ribbon",
    "watermark",
    "banner",
    "small print",
    "vertical",
)

#: Texts a photo gets; tries to find a place that overlaps no other.
_PER_PHOTO, _PLACES = 3, 40

#: Height of capitals, px, and contrast of letters with their background (WCAG 2.1: 1 to 21).
_MIN_PX, _MAX_PX, _SMALL_PRINT_PX = 8, 80, 16
_CONTRASTS = (1.5, 2.0, 3.0, 4.5, 7.0, 12.0)

#: Max height of capitals, as a share of the photo's shorter side; max share of the photo that an
#: overlay covers.
_MAX_HEIGHT_SHARE, _MAX_AREA_SHARE = 0.08, 0.12

#: Letters' pixels are those that they cover by at least this share.
_COVERED = 0.25

_SUPERSAMPLED = 2

#: Letters of a lower luminance get a white outline, others a black one.
_DARK = 0.4

_MAX_MEGAPIXELS = 100.0


@dataclass(frozen=True, slots=True)
class Overlay:
    """One text in a photo, as ``texts.csv`` lists it.

    Attributes:
        id: of the photo.
        number: value of its letters' pixels in ``letters/ID.png``, from 1.
        kind: one of :data:`KINDS`.
        text: what it says.
        height_px: of its capitals.
        contrast: of its letters with the mean of their background, WCAG 2.1.
    """

    id: str
    number: int
    kind: str
    text: str
    height_px: int
    contrast: float


@dataclass(frozen=True, slots=True)
class _Layer:
    """``(h, w)`` float32 coverage, 0 to 1, of letters, their outline and shadow, and a badge."""

    letters: Float32Array
    outline: Float32Array
    carrier: Float32Array


def make_overlays(folder: Path, photos: Sequence[str], fonts: Sequence[Path] = ()) -> Path:
    """Paste up to three texts into each photo, and write a manifest of the results.

    They depend only on the photo's file name, its number and the fonts.

    Args:
        folder: receives ``manifest.csv``, ``texts.csv``, and as PNG ``photos/``, ``masks/`` (all
            that was pasted), ``letters/`` (their pixels, by number) and ``references/``.
        photos: paths or URIs.
        fonts: TrueType files; none: Pillow's own.

    Returns:
        The manifest's path; its columns are id, image, mask, reference and kind.

    Raises:
        RowError: a photo cannot be read.
    """
    for name in ("photos", "masks", "letters", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows, texts = [], list[Overlay]()
    for number, uri in enumerate(photos):
        name = f"{number + 1:03d}-{Path(uri).stem}"
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        picture = on_white(decode_photo(read(uri, "image"), _MAX_MEGAPIXELS, uri))
        made = _Canvas(picture, rng, fonts)
        for turn in range(_PER_PHOTO):
            made.paste(KINDS[(number * _PER_PHOTO + turn) % len(KINDS)], name)
        write_picture(folder / "references" / f"{name}.png", picture)
        write_picture(folder / "photos" / f"{name}.png", made.pixels)
        changed = (made.pixels != picture).any(axis=2)
        write_picture(
            folder / "masks" / f"{name}.png", np.where(changed, np.uint8(255), np.uint8(0))
        )
        write_picture(folder / "letters" / f"{name}.png", made.letters)
        texts += made.texts
        files = (f"photos/{name}.png", f"masks/{name}.png", f"references/{name}.png")
        rows.append((name, *files, "overlay"))
    fields = [*Overlay.__slots__]
    _write_csv(folder / "texts.csv", [fields, *([getattr(t, f) for f in fields] for t in texts)])
    manifest = folder / "manifest.csv"
    _write_csv(manifest, [("id", "image", "mask", "reference", "kind"), *rows])
    return manifest


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)


class _Canvas:
    """A photo that texts are pasted into.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 sRGB.
        letters: ``(h, w)`` uint8, the number of the text whose letter covers a pixel.
        texts: what was pasted.
    """

    def __init__(
        self, picture: UInt8Array, rng: np.random.Generator, fonts: Sequence[Path]
    ) -> None:
        self.pixels, self._rng, self._fonts = picture.copy(), rng, fonts
        self.letters: UInt8Array = np.zeros(picture.shape[:2], np.uint8)
        self._taken = np.zeros(picture.shape[:2], np.bool_)
        self.texts: list[Overlay] = []

    def paste(self, kind: str, name: str) -> None:
        """Paste a text of a kind where there is room; else nothing."""
        rng = self._rng
        shorter = min(self.pixels.shape[:2])
        most = min(_MAX_PX, round(_MAX_HEIGHT_SHARE * shorter))
        if kind == "small print":
            most = min(most, _SMALL_PRINT_PX)
        height_px = round(float(np.exp(rng.uniform(np.log(_MIN_PX), np.log(max(most, _MIN_PX))))))
        language = list(TEXTS)[int(rng.integers(len(TEXTS)))]
        font = self._font(height_px)
        wanted = _MARKS if kind in ("small print", "watermark") else TEXTS[language]
        choices = [text for text in wanted if _has_glyphs(font, text)] or TEXTS["en"]
        text = choices[int(rng.integers(len(choices)))]
        layer = _draw(kind, text, font, height_px, photo_width=self.letters.shape[1], rng=rng)
        place = self._place(layer, kind)
        if place is None:
            return
        contrast = self._blend(layer, place, kind)
        number = len(self.texts) + 1
        where = np.maximum(layer.letters, layer.outline) >= _COVERED
        self.letters[place][where] = number
        self.texts.append(Overlay(name, number, kind, text, height_px, round(contrast, 2)))

    def _font(self, height_px: int) -> ImageFont.FreeTypeFont:
        """A font whose capitals are of a height, twice as large: layers are drawn so."""
        path = self._fonts[int(self._rng.integers(len(self._fonts)))] if self._fonts else None

        def sized(size: float) -> ImageFont.FreeTypeFont:
            if path:
                return ImageFont.truetype(path, size)
            font = ImageFont.load_default(size)
            assert isinstance(font, ImageFont.FreeTypeFont)
            return font

        _, top, _, bottom = sized(200).getbbox("H")
        return sized(200 * _SUPERSAMPLED * height_px / (bottom - top))

    def _place(self, layer: _Layer, kind: str) -> tuple[slice, slice] | None:
        """A place within the photo that overlaps nothing pasted before."""
        height, width = self.letters.shape
        high, wide = layer.letters.shape
        covered = np.count_nonzero(layer.carrier + layer.letters)
        if high > height or wide > width or covered > _MAX_AREA_SHARE * height * width:
            return None
        for _ in range(_PLACES):
            y, x = (int(self._rng.integers(0, room + 1)) for room in (height - high, width - wide))
            if kind == "banner":
                y = 0 if self._rng.random() < 0.5 else height - high
            part = slice(y, y + high), slice(x, x + wide)
            if not self._taken[part].any():
                self._taken[part] = True
                return part
        return None

    def _blend(self, layer: _Layer, place: tuple[slice, slice], kind: str) -> float:
        """Blend a layer in, in colours of a drawn contrast; returns the contrast it has."""
        rng, under = self._rng, self.pixels[place].astype(np.float32)
        opacity = rng.uniform(0.35, 0.6) if kind == "watermark" else 1.0
        if layer.carrier.any():
            carrier = rng.uniform(0, 255, 3)
            under += (carrier - under) * layer.carrier[..., None]
        near = layer.letters > 0
        background = under[near].mean(axis=0)
        wanted = float(_CONTRASTS[int(rng.integers(len(_CONTRASTS)))])
        colour = _contrasting(background, wanted, opacity, rng)
        if layer.outline.any():
            rim = np.full(3, 255 if luminance(colour) < _DARK else 0, np.float32)
            under += (rim - under) * layer.outline[..., None]
        after = under + (colour - under) * (opacity * layer.letters)[..., None]
        self.pixels[place] = np.rint(np.clip(after, 0, 255)).astype(np.uint8)
        shown = background + (colour - background) * opacity
        return contrast_of(shown, background)


def _has_glyphs(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has all characters of a text; those that it lacks look like a noncharacter."""
    missing = bytes(font.getmask("\U0010ffff"))
    return all(bytes(font.getmask(each)) != missing for each in text if not each.isspace())


def _draw(
    kind: str,
    text: str,
    font: ImageFont.FreeTypeFont,
    height_px: int,
    *,
    photo_width: int,
    rng: np.random.Generator,
) -> _Layer:
    """Draw letters and what carries them at twice the size, turn them, and reduce them."""
    scale = _SUPERSAMPLED
    unit = height_px * scale
    lines = text.split(" ", 1) if kind == "disc" and len(text) > 6 else [text]
    boxes = [font.getbbox(line) for line in lines]
    text_wide = max(right - left for left, _, right, _ in boxes)
    step = round(1.5 * unit)
    text_high = step * (len(lines) - 1) + max(bottom - top for _, top, _, bottom in boxes)
    margin = round((0.9 if kind in ("tag", "ribbon", "banner") else 0.35) * unit)
    wide, high = round(text_wide) + 2 * margin, round(text_high) + 2 * margin
    if kind == "disc":
        wide = high = round(float(np.hypot(text_wide, text_high)) + 1.2 * unit)
    if kind == "banner":
        wide = max(wide, photo_width * scale)
    letters, outline, carrier = (Image.new("L", (wide, high), 0) for _ in range(3))
    y = (high - text_high) / 2
    for line, (left, top, right, _) in zip(lines, boxes, strict=True):
        at = ((wide - (right - left)) / 2 - left, y - top)
        ImageDraw.Draw(letters).text(at, line, 255, font)
        if kind == "outlined":
            drawn = ImageDraw.Draw(outline)
            shadow = (at[0] + 0.08 * unit, at[1] + 0.08 * unit)
            drawn.text(shadow, line, 160, font)
            drawn.text(at, line, 255, font, stroke_width=max(2, round(0.07 * unit)))
        y += step
    shape = ImageDraw.Draw(carrier)
    if kind == "disc":
        shape.ellipse((0, 0, wide - 1, high - 1), 255)
    elif kind in ("ribbon", "banner"):
        shape.rectangle((0, 0, wide, high), 255)
    elif kind == "tag":
        shape.rounded_rectangle((0, 0, wide - 1, high - 1), 0.4 * unit, 255)
    angle = _angle_of(kind, rng)
    turned = (
        each.rotate(angle, Image.Resampling.BICUBIC, expand=True).reduce(scale)
        for each in (letters, outline, carrier)
    )
    return _Layer(*(np.asarray(each, np.float32) / np.float32(255) for each in turned))


def _angle_of(kind: str, rng: np.random.Generator) -> float:
    """Degrees, counter-clockwise."""
    match kind:
        case "vertical":
            return float(rng.choice((90, -90)))
        case "watermark":
            return float(rng.uniform(20, 45)) * float(rng.choice((1, -1)))
        case "ribbon":
            return float(rng.choice((45, -45, 0, 12)))
        case "disc" | "plain":
            return float(rng.choice((0, 0, 0, 8, -15)))
    return 0.0


def _contrasting(
    background: npt.NDArray[np.floating], wanted: float, opacity: float, rng: np.random.Generator
) -> Float32Array:
    """A colour of about this contrast with the background, or as near to it as there is."""
    hue = rng.uniform(0, 255, 3)
    best, error = np.zeros(3), np.inf
    for target in (np.zeros(3), np.full(3, 255.0)):
        for share in np.linspace(0, 1, 41):
            for start in (hue, background):
                colour = start + (target - start) * share
                off = abs(
                    np.log(
                        contrast_of(background + (colour - background) * opacity, background)
                        / wanted
                    )
                )
                if off < error - 0.02:
                    best, error = colour, off
    return np.asarray(best, np.float32)


def contrast_of(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Contrast ratio of two sRGB colours, 0 to 255 each, by WCAG 2.1: 1 to 21."""
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: npt.NDArray[np.floating]) -> float:
    """Relative luminance of an sRGB colour, by WCAG 2.1: 0 to 1."""
    share = np.clip(np.asarray(colour, np.float64) / 255, 0, 1)
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
