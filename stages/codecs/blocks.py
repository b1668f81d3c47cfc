"""Take a file's metadata blocks through :mod:`stages.codecs.stale`, and collect its notes."""

from __future__ import annotations

from stages.codecs.picture import Edit
from stages.codecs.stale.exif import NAME as EXIF_NAME
from stages.codecs.stale.exif import settle_block
from stages.codecs.stale.photoshop import settle_resources, without_preview
from stages.codecs.stale.pictures import in_text, without_streams
from stages.codecs.stale.policy import Settling
from stages.codecs.stale.xmp import settle_packet
from stages.codecs.stale.xmp_segments import XMP as XMP_NAME


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

    def profile(self, content: bytes) -> bytes:
        """A block that only its first bytes tell the kind of; empty: it goes."""
        if content.startswith((EXIF_NAME, b"II*\0", b"MM\0*")):
            return self.exif(content)
        if content.startswith(b"8BIM"):
            return self.photoshop(content)
        if content.startswith(b"\x1c"):
            return self.iptc(content)
        for name in (XMP_NAME, b""):
            if content.startswith((name + b"<?xpacket", name + b"<x:xmpmeta")):
                packet = settle_packet(content[len(name) :], self._settling, mark=False)
                return name + packet
        return b"" if self.goes(content, "a raw profile") else content

    def goes(self, content: bytes, where: str) -> bool:
        """Whether a block of no known kind is to be dropped, since a picture is in it.

        Args:
            content: unpacked, perhaps a text with base64.
            where: names the block in the note.
        """
        if not in_text(content):
            return False
        self.drop(f"picture in {where}")
        return True

    def lost(self, content: bytes, what: str) -> None:
        """Note that a block is dropped, which the new file cannot hold; refuse as the policy says.

        Args:
            content: of the block.
            what: names it.
        """
        if in_text(content):
            self.drop(what)
        else:
            self.notes.append(f"{what} dropped")

    def drop(self, what: str) -> None:
        """Note that something stale is dropped."""
        self._settling.drop(what)

    def iptc(self, data_sets: bytes) -> bytes:
        """Bare IPTC data sets, as TIFF holds them; no longer than they were."""
        return without_preview(data_sets, self._settling)

    def maker_note(self, content: bytes) -> bytes:
        """A camera's own data, as long as they were: previews in them are zeroed."""
        new = without_streams(content)
        if new is not content:
            self._settling.drop("preview inside the EXIF")
        return new
