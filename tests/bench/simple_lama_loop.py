"""The loop that people write around simple-lama-inpainting; runs where that is, and we are not.

``python simple_lama_loop.py PHOTOS MASKS RESULTS``
"""

import sys
from pathlib import Path

from PIL import Image
from simple_lama_inpainting import SimpleLama


def clean(photos: Path, masks: Path, results: Path) -> None:
    """Clean each photo of a folder, with the mask of the same name, into its own format."""
    lama = SimpleLama()
    for path in sorted(photos.iterdir()):
        with Image.open(path) as photo, Image.open(masks / f"{path.stem}.png") as mask:
            cleaned = lama(photo.convert("RGB"), mask.convert("L"))
            cleaned.crop((0, 0, *photo.size)).save(results / path.name)  # it leaves its padding


if __name__ == "__main__":
    clean(*map(Path, sys.argv[1:]))
