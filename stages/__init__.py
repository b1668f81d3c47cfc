"""The image work, step by step, in plain Python: no Ray here, so each step runs anywhere.

::

    fetch ▸ decode                   read photo and masks
      ▸ detect                       find what to remove where nothing is marked
      ▸ mask ▸ cut                   crop around each hole
      ▸ remove                       fill the hole: the object is gone, the fill may be soft
      ▸ focus ▸ prompt ▸ upscale     scale the crop to the size the diffusion model works at
      ▸ refine                       repair its texture, judge it, retry
      ▸ stitch ▸ encode ▸ publish    paste back only the hole, keep the rest, store the file

``pipeline.py`` lists them, ``steps/`` has a file for each, and :func:`clean` runs all of them on a
photo::

    from stages import clean

    clean("photo.jpg", boxes=[470, 275, 115, 95]).image

The areas that steps work on::

    ┌ photo ────────────────────────────────────────────────┐
    │   ┌ window: input of the removal ─────────────────┐   │
    │   │   ┌ crop: input of the refiner ───────────┐   │   │
    │   │   │   ┌ hole: marked pixels, dilated ─┐   │   │   │
    │   │   │   │   ┌ marked: to be removed ─┐  │   │   │   │
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
    """Import on first use: the image libraries load slowly, and not every caller needs them.

    Raises:
        AttributeError: the module has no such name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stages import cleaner

    return getattr(cleaner, name)
