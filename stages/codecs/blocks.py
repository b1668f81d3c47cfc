"""Take a file's metadata blocks through :mod:`stages.codecs.metadata`, and collect its notes."""

from __future__ import annotations

from stages.codecs.metadata.exif import settle_block
from stages.codecs.metadata.photoshop import settle_resources, without_preview
from stages.codecs.metadata.pictures import without_streams
from stages.codecs.metadata.settling import Settling
from stages.codecs.metadata.xmp import settle_packet
from stages.codecs.picture import Edit

C2PA_DROPPED = "C2PA manifest dropped"


class Blocks:
    """The metadata blocks of one edit; each method returns what is to be written in its place.

    All of them may raise RowError ``image.stale_preview``.

    Args:
        edit: the edited photo, from which previews are made.

    Attributes:
        notes: a sentence for each thing that was rebuilt, dropped or added.
    """

    def __init__(self, edit: Edit) -> None:
        self._settling = Settling(edit.as_pillow, edit.metadata, generative=edit.generative)
        self.notes = self._settling.notes

    def exif(self, block: bytes) -> bytes:
        """An EXIF block, with or without the prefix that JPEG gives it; empty stays empty."""
        return settle_block(block, self._settling) if block else block

    def xmp(self, packet: bytes) -> bytes:
        """An XMP packet; may come to be where there was none."""
        return settle_packet(packet, self._settling)

    def photoshop(self, resources: bytes) -> bytes:
        """Photoshop's image resources, the bare ``8BIM`` blocks; empty stays empty."""
        return settle_resources(resources, self._settling) if resources else resources

    def iptc(self, data_sets: bytes) -> bytes:
        """Bare IPTC data sets, as TIFF holds them; no longer than they were."""
        return without_preview(data_sets, self._settling)

    def maker_note(self, content: bytes) -> bytes:
        """A camera's own data, as long as they were: previews in them are zeroed."""
        new = without_streams(content)
        if new is not content:
            self._settling.drop("preview inside the EXIF")
        return new
