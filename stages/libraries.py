"""Process-wide settings of image libraries."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache

from PIL import Image, PngImagePlugin


@cache
def configure_libraries() -> None:
    """Raise the limits of image libraries to what photos need, and silence their damage reports.

    Pillow reads and writes HEIC if its plugin pillow-heif (the extra ``heic``) is installed.

    Every function that opens a file calls this first, whether in an actor, a command or a notebook.
    Calling it again is free.
    """
    # The recipe's own limit is checked before any pixel is decoded.
    Image.MAX_IMAGE_PIXELS = None
    # Profiles of printing presses and histories of edits are larger than Pillow expects.
    PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
    PngImagePlugin.MAX_TEXT_MEMORY = 128 << 20
    # Our own errors report what it logs about damaged files.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
