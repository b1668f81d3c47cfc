"""Settings of image libraries that hold for the whole process."""

from __future__ import annotations

import logging

from PIL import Image, PngImagePlugin


def configure_libraries() -> None:
    """Make image libraries accept what photos are, and leave the reporting of damage to callers.

    Whatever opens a file calls it first, since the process may be of any kind: an actor, a command,
    a notebook. It costs nothing to call again.
    """
    # Pillow's own limit cannot follow the recipe's, which is checked before any pixel is decoded.
    Image.MAX_IMAGE_PIXELS = None
    # Profiles of printing presses and histories of edits are larger than Pillow expects.
    PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
    PngImagePlugin.MAX_TEXT_MEMORY = 128 << 20
    # What it logs of damaged files, our errors report.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
