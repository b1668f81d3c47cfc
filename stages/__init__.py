"""The image work, step by step, in plain Python: no Ray here, so each step runs anywhere.

::

    fetch ▸ decode ▸ mask ▸ cut      read photo and masks, and cut what surrounds each marked region
      ▸ remove                       fill the hole: it is gone, perhaps a little soft
      ▸ focus ▸ upscale ▸ prompt     bring the crop to the size that the diffusion model knows
      ▸ refine                       repair its texture, judge it, try again
      ▸ stitch ▸ encode ▸ publish    paste back only the hole, keep all else, store the file

``pipeline.py`` lists them, ``steps/`` has a file for each, and :func:`clean` takes a photo through
them::

    from stages import clean

    clean("photo.jpg", boxes=[470, 275, 115, 95]).image

What a step works on, from small to large::

    ┌ photo ────────────────────────────────────────────────┐
    │   ┌ window: what the removal sees ────────────────┐   │
    │   │   ┌ crop: what the refiner sees ──────────┐   │   │
    │   │   │   ┌ hole: the region, grown ──────┐   │   │   │
    │   │   │   │   ┌ region: what is marked ┐  │   │   │   │
    │   │   │   │   └────────────────────────┘  │   │   │   │
    │   │   │   └───────────────────────────────┘   │   │   │
    │   │   └───────────────────────────────────────┘   │   │
    │   └───────────────────────────────────────────────┘   │
    └───────────────────────────────────────────────────────┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.cleaner import Cleaner, Result, clean

__all__ = ["Cleaner", "Result", "clean"]


def __getattr__(name: str) -> Any:
    """Import on first use: the image libraries take a while, and not all who come here need them.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stages import cleaner

    return getattr(cleaner, name)
