"""A drawn logo, and photos that it is pasted into."""

from __future__ import annotations

from PIL import Image, ImageDraw


def logo(width: int = 240) -> Image.Image:
    """A red ellipse with a yellow bar and a blue disc, twice as wide as high, RGBA."""
    made = Image.new("RGBA", (240, 120), (0, 0, 0, 0))
    draw = ImageDraw.Draw(made)
    draw.ellipse((0, 0, 239, 119), fill=(200, 20, 30, 255))
    draw.rectangle((50, 40, 190, 80), fill=(255, 240, 60, 255))
    draw.ellipse((90, 30, 140, 90), fill=(20, 60, 160, 255))
    return made.resize((width, width // 2), Image.Resampling.LANCZOS)


#: Where the logo is opaque, 240 x 120 px.
LOGO_SHAPE = logo().getchannel("A").point(lambda level: 255 * (level >= 128)).convert("1")


def with_logo(photo: Image.Image, at: tuple[int, int], width: int) -> Image.Image:
    """A copy of a photo with the logo at a place (its upper left corner), px."""
    made, drawn = photo.convert("RGB"), logo(width)
    made.paste(drawn, at, drawn)
    return made
