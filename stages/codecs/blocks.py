"""Take a file's metadata blocks through :mod:`stages.codecs.metadata`, and collect its notes."""

from __future__ import annotations

from stages.codecs.metadata.exif import settle_exif
from stages.codecs.metadata.photoshop import settle_photoshop
from stages.codecs.metadata.xmp import settle_xmp
from stages.codecs.picture import Edit

EXIF_PREFIX = b"Exif\0\0"

C2PA_DROPPED = "C2PA manifest dropped"


class Blocks:
    """The metadata blocks of one edit; each method returns what is to be written in its place.

    Args:
        edit: the edited photo, from which previews are made.

    Attributes:
        notes: a sentence for each thing that was rebuilt, dropped or added.
    """

    def __init__(self, edit: Edit) -> None:
        self._edit = edit
        self.notes: list[str] = []

    def exif(self, block: bytes) -> bytes:
        """An EXIF block, with or without the prefix that JPEG gives it; empty stays empty."""
        if not block:
            return block
        prefix = EXIF_PREFIX if block.startswith(EXIF_PREFIX) else b""
        bare, notes = settle_exif(
            block.removeprefix(prefix),
            self._edit.as_pillow,
            self._edit.metadata,
            generative=self._edit.generative,
        )
        self.notes += notes
        return prefix + bare

    def xmp(self, packet: bytes) -> bytes:
        """An XMP packet; may come to be where there was none."""
        new, notes = settle_xmp(
            packet, self._edit.as_pillow, self._edit.metadata, generative=self._edit.generative
        )
        self.notes += notes
        return new

    def photoshop(self, resources: bytes) -> bytes:
        """Photoshop's image resources, the bare ``8BIM`` blocks; empty stays empty."""
        if not resources:
            return resources
        new, notes = settle_photoshop(resources, self._edit.as_pillow, self._edit.metadata)
        self.notes += notes
        return new
