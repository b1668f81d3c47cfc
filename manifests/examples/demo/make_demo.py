"""Make the demo set: real photos, a catalog blemish drawn into each, and its removal mask.

    python make_demo.py FOLDER_OF_SOURCE_PHOTOS [--out FOLDER]

marks.toml says what is drawn where; SOURCES.md names the photos, their authors and licences.
Needs Pillow, NumPy, OpenCV and the fonts Lato and DejaVu Sans Mono. With the same versions of
these, it always writes the same files.
"""

import argparse
import csv
import tomllib
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageDraw, ImageFilter, ImageFont

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Options = dict[str, Any]

SUPER = 3  # marks are warped at this multiple of the photo's resolution
MASK_MARGIN = 7  # px the mask reaches beyond the last changed pixel, before rounding
MASK_LEAST = 4  # px it reaches there in any case
COVER_FLOOR, SHADOW_FLOOR = 0.008, 0.02  # fainter traces of a mark are not drawn at all
CUT_OUT_ROUNDS, CUT_OUT_ROUNDING, CUT_OUT_EDGE = 6, 2.5, 1.0
LIGHT_BLUR = 14  # px: detail smaller than this is not taken for light and shade
COIN_SCALE, COIN_RIM = 6, 24
EDGE_INK = "#201e20"
SHOWN_TURNED_RIGHT = 6  # the EXIF orientation of most phones' upright photos
MARK_DEFAULTS: Options = {"opacity": 1.0, "blur": 0.6, "grain": 1.5, "light": 0.6, "solid": True}
MARK_DEFAULTS |= {"shadow": 0.0, "shadow_at": [0, 0], "shadow_blur": 1.0, "sheen": [1.0, 1.0]}
# EAN-13: seven modules of a left-hand digit, and the six digits' parities by the first one
EAN_LEFT = (0x0D, 0x19, 0x13, 0x3D, 0x23, 0x31, 0x2F, 0x3B, 0x37, 0x0B)
EAN_PARITY = (0x00, 0x0B, 0x0D, 0x0E, 0x13, 0x19, 0x1C, 0x15, 0x16, 0x1A)
# seven-segment digits: the ends of segments a to g, and the lit ones of each digit
SEGMENTS = [(0, 0, 1, 0), (1, 0, 1, 1), (1, 1, 1, 2), (0, 2, 1, 2), (0, 1, 0, 2), (0, 0, 0, 1)]
SEGMENTS += [(0, 1, 1, 1)]
LIT_SEGMENTS = (0x7E, 0x30, 0x6D, 0x79, 0x33, 0x5B, 0x5F, 0x70, 0x7F, 0x7B)


def draw_bars(pen: ImageDraw.ImageDraw, code: str, box: list[int], ink: str) -> None:
    """Draw the 95 modules of an EAN-13 number into the box."""
    flip = str.maketrans("01", "10")
    codes = [f"{EAN_LEFT[int(digit)]:07b}" for digit in code]
    parities = f"{EAN_PARITY[int(code[0])]:06b}"
    modules = "101"
    for bits, parity in zip(codes[1:7], parities, strict=True):
        modules += bits if parity == "0" else bits.translate(flip)[::-1]
    modules += "01010" + "".join(codes[7:]).translate(flip) + "101"
    step = (box[2] - box[0]) / 95
    for i, bit in enumerate(modules):
        if bit == "1":
            left = box[0] + i * step
            pen.rectangle((left, box[1], left + step - 1, box[3]), fill=ink)


def draw_digit(pen: ImageDraw.ImageDraw, digit: str, left: int, top: int, ink: str) -> None:
    """Draw one digit of a camera's date stamp."""
    lit = f"{LIT_SEGMENTS[int(digit)]:07b}"
    for x0, y0, x1, y1 in (ends for ends, on in zip(SEGMENTS, lit, strict=True) if on == "1"):
        dx, dy = 11 * (x1 - x0), 11 * (y1 - y0)  # the gap between two segments
        start = (left + 80 * x0 + dx, top + 76 * y0 + dy)
        pen.line((*start, left + 80 * x1 - dx, top + 76 * y1 - dy), ink, 22)


def draw_coin(image: Image.Image, photo: Image.Image, tint: list[float]) -> None:
    """Cut a coin out of a grey photo, give it a metal's colour and a rim."""
    grey = photo.resize((photo.width * COIN_SCALE, photo.height * COIN_SCALE))
    face = Image.fromarray((np.asarray(grey)[..., None] * np.array(tint)).clip(0, 255).astype("u1"))
    outline = Image.new("L", grey.size)
    ImageDraw.Draw(outline).ellipse((4, 4, grey.width - 4, grey.height - 4), fill=255)
    for drop in range(COIN_RIM, 0, -1):
        image.paste((110 - 2 * drop, 80 - 2 * drop, 50 - drop), (0, drop), outline)
    image.paste(face, (0, 0), outline.filter(ImageFilter.GaussianBlur(2)))


def drawing(mark: Options, sources: Path) -> Floats:
    """The mark's sheet as RGBA, seen straight on and evenly lit but for its sheen."""
    image = Image.new("RGBA", tuple(mark["size"]))
    pen = ImageDraw.Draw(image)
    for part in mark["parts"]:
        match part:
            case {"disc": box, "ink": ink}:
                pen.ellipse(box, fill=ink)
            case {"ring": box, "width": width, "ink": ink}:
                pen.ellipse(box, outline=ink, width=width)
            case {"pie": box, "turn": [start, end], "ink": ink}:
                pen.pieslice(box, start, end, fill=ink)
            case {"card": box, "radius": radius, "ink": ink}:
                pen.rounded_rectangle(box, radius, fill=ink)
            case {"area": points, "ink": ink}:
                pen.polygon(points, fill=ink)
            case {"stroke": points, "width": width, "ink": ink}:
                pen.line(points, ink, width, "curve")
            case {"text": text, "at": at, "font": name, "size": size, "ink": ink}:
                font, anchor = ImageFont.truetype(f"{name}.ttf", size), part.get("anchor", "mm")
                edge = part.get("edge", 0)
                pen.text(at, text, ink, font, anchor, stroke_width=edge, stroke_fill=EDGE_INK)
            case {"bars": code, "box": box, "ink": ink}:
                draw_bars(pen, code, box, ink)
            case {"digits": digits, "at": lefts, "top": top, "ink": ink}:
                for digit, left in zip(digits, lefts, strict=True):
                    draw_digit(pen, digit, left, top, ink)
            case {"glow": spread, "ink": ink}:
                glow = Image.new("RGBA", image.size, ink)
                glow.putalpha(image.getchannel("A").filter(ImageFilter.GaussianBlur(spread)))
                image = Image.alpha_composite(glow, image)
            case {"coin": box, "tint": tint}:
                coins = Image.open(sources / "coins.png").convert("L")
                draw_coin(image, coins.crop(box), tint)
            case _:
                raise ValueError(f"unknown part {part}")
    sheet = np.asarray(image).astype(np.float32)
    left, right = mark["sheen"]
    across = np.linspace(float(left), float(right), image.width)[None, :, None]
    sheet[..., :3] *= across * np.linspace(1.02, 0.96, image.height)[:, None, None]
    return sheet.clip(0, 255)


def blurred(pixels: Any, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), sigma), np.float32)


def stamped(photo: Pixels, mark: Options, sources: Path, seed: int) -> Pixels:
    """Lay a drawing into the photo: perspective, focus, light, grain and shadow."""
    high, wide = photo.shape[:2]
    art = drawing(mark, sources)
    art[..., :3] *= art[..., 3:] / 255
    corners = [(0, 0), (art.shape[1], 0), (art.shape[1], art.shape[0]), (0, art.shape[0])]
    goal = np.array(mark["quad"], np.float32) * SUPER
    warp = cv2.getPerspectiveTransform(np.array(corners, np.float32), goal)
    art = blurred(art, 0.3 * art.shape[1] / float(np.ptp(goal[:, 0])))
    layer = cv2.warpPerspective(art, warp, (wide * SUPER, high * SUPER))
    layer = blurred(cv2.resize(layer, (wide, high), interpolation=cv2.INTER_AREA), mark["blur"])
    cover = layer[..., 3:] / 255
    colour = layer[..., :3] / np.maximum(cover, 1e-3)
    cover[cover < COVER_FLOOR] = 0
    light = blurred(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), LIGHT_BLUR)[..., None]
    light /= light[cover > 0.5].mean()
    colour *= 1 + mark["light"] * (light.clip(0.6, 1.4) - 1)
    colour += np.random.default_rng(seed).normal(0, mark["grain"], photo.shape)
    dx, dy = mark["shadow_at"]
    shade = cv2.warpAffine(cover, np.array([[1, 0, dx], [0, 1, dy]], np.float32), (wide, high))
    shade = blurred(shade, mark["shadow_blur"])[..., None] * np.float32(mark["shadow"])
    shade[shade < SHADOW_FLOOR] = 0
    cover *= mark["opacity"]
    result = photo * (1 - shade) * (1 - cover) + colour.clip(0, 255) * cover
    return np.rint(result).astype(np.uint8)


def disc(radius: int) -> Pixels:
    size = (2 * radius + 1, 2 * radius + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size).astype(np.uint8)


def rounded(area: Any, sigma: float) -> Pixels:
    return np.where(blurred(area, sigma) > 127.5, 255, 0).astype(np.uint8)


def removal_mask(clean: Pixels, marked: Pixels, solid: bool) -> Pixels:
    """White over every changed pixel, with a margin and rounded edges."""
    changed = (clean != marked).any(axis=2).astype(np.uint8) * np.uint8(255)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, disc(3))
    mask = rounded(cv2.dilate(closed, disc(MASK_MARGIN)), 3)
    if solid:
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mask, outlines, -1, (255,), cv2.FILLED)
    return cv2.bitwise_or(mask, cv2.dilate(changed, disc(MASK_LEAST))).astype(np.uint8)


def cut_out(photo: Pixels, outline: list[list[int]]) -> Pixels:
    """Coverage of the product inside a rough outline, its edge softened."""
    label = np.full(photo.shape[:2], cv2.GC_BGD, np.uint8)
    cv2.fillPoly(label, [np.array(outline, np.int32)], (cv2.GC_PR_FGD,))
    cv2.setRNGSeed(1)
    back, fore, whole = np.zeros((1, 65)), np.zeros((1, 65)), (0, 0, 1, 1)
    cv2.grabCut(photo, label, whole, back, fore, CUT_OUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = rounded(np.where(label % 2 == 1, 255, 0), CUT_OUT_ROUNDING)
    return np.rint(blurred(cv2.erode(inside, disc(1)), CUT_OUT_EDGE)).astype(np.uint8)


def exif(item: Options) -> Image.Exif:
    """The author's credit, the orientation and a made-up camera's tags."""
    tags = Image.Exif()
    tags[ExifTags.Base.Artist], licence = item["credit"].split(", ")
    tags[ExifTags.Base.Copyright] = f"{licence}; altered: {item['blemish']}"
    if turned := item.get("orientation"):
        tags[ExifTags.Base.Orientation] = turned
    for name, value in item.get("camera", {}).items():
        ifd = tags if name in ("Make", "Model") else tags.get_ifd(ExifTags.IFD.Exif)
        ifd[ExifTags.Base[name]] = value
    return tags


def make(item: Options, sources: Path, out: Path) -> dict[str, str]:
    """Write one photo and its mask; return its line of the manifest."""
    source = Image.open(sources / item["source"]).convert("RGB")
    source = source.crop(tuple(item.get("crop", (0, 0, *source.size))))
    size = (item["width"], round(source.height * item["width"] / source.width))
    clean = marked = np.asarray(source.resize(size, Image.Resampling.LANCZOS))
    mask = np.zeros(clean.shape[:2], np.uint8)
    for i, mark in enumerate(MARK_DEFAULTS | given for given in item["mark"]):
        before, seed = marked, zlib.crc32(item["id"].encode()) + i
        marked = stamped(before, mark, sources, seed)
        mask |= removal_mask(before, marked, mark["solid"])
    if (clean != marked)[mask == 0].any():
        raise ValueError(f"{item['id']}: the mask misses changed pixels")
    image = Image.fromarray(marked)
    if "outline" in item:
        alpha = cut_out(clean, item["outline"])
        image = Image.fromarray(np.where(alpha[..., None] == 0, np.uint8(255), marked))
        image.putalpha(Image.fromarray(alpha))
    if item.get("orientation") == SHOWN_TURNED_RIGHT:  # so store it turned left
        image = image.transpose(Image.Transpose.ROTATE_90)
    suffix = item.get("suffix", ".jpg")
    row = {"id": item["id"], "image": f"photos/{item['id']}{suffix}"}
    row |= {"mask": f"masks/{item['id']}.png", "category": item["category"]}
    options: Options = {"optimize": True} if suffix == ".png" else {"exif": exif(item)}
    if suffix == ".jpg":
        options["subsampling"] = item.get("subsampling", "4:2:0")
        options["progressive"] = item.get("progressive", False)
    image.save(out / row["image"], quality=item.get("quality", 89), **options)
    Image.fromarray(mask).save(out / row["mask"], optimize=True)
    return row | {"blemish": item["blemish"]}


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Make the demo set from its source photos.")
    parser.add_argument("sources", type=Path, help="folder with the source photos")
    parser.add_argument("--out", type=Path, default=here, help="where to write (default: here)")
    args = parser.parse_args()
    for folder in ("photos", "masks"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    items = tomllib.loads((here / "marks.toml").read_text("utf-8"))["photo"]
    rows = [make(item, args.sources, args.out) for item in items]
    with (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
