"""Update a file's metadata blocks after an edit, by :mod:`stages.codecs.stale`."""

from __future__ import annotations

from stages.codecs.picture import Edit
from stages.codecs.stale.exif import PREVIEW, refresh_exif
from stages.codecs.stale.jpeg import refresh_jpeg
from stages.codecs.stale.photoshop import refresh_resources, without_preview
from stages.codecs.stale.pictures import in_text, without_streams
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import EXIF, XMP
from stages.codecs.stale.xmp import refresh_xmp


class MetadataUpdater:
    """Updates the metadata blocks of one edit; each method returns a block's new content.

    All of them may raise RowError ``image.stale_preview``.

    Args:
        edit: the edited photo, from which previews are rebuilt.

    Attributes:
        notes: a sentence for each part that was rebuilt, dropped or added.
    """

    def __init__(self, edit: Edit) -> None:
        self._policy = StaleDataPolicy(edit.as_pillow, edit.metadata, generative=edit.generative)
        self.notes = self._policy.notes

    def jpeg(self, segments: list[bytes], trailer: bytes) -> tuple[list[bytes], bytes]:
        """A JPEG's application segments and comments, and what follows its picture."""
        return refresh_jpeg(segments, trailer, self._policy)

    def exif(self, block: bytes) -> bytes:
        """An EXIF block, with or without the prefix that JPEG gives it; empty stays empty."""
        return refresh_exif(block, self._policy) if block else block

    def xmp(self, packet: bytes) -> bytes:
        """An XMP packet; an empty one becomes a packet if the edit is to be labelled."""
        return refresh_xmp(packet, self._policy)

    def photoshop(self, resources: bytes) -> bytes:
        """Photoshop's image resources, the bare ``8BIM`` blocks; empty stays empty."""
        return refresh_resources(resources, self._policy) if resources else resources

    def profile(self, content: bytes) -> bytes:
        """A block whose kind is detected by its first bytes; empty if it is dropped."""
        if content.startswith((EXIF.name, b"II*\0", b"MM\0*")):
            return self.exif(content)
        if content.startswith(b"8BIM"):
            return self.photoshop(content)
        if content.startswith(b"\x1c"):
            return self.iptc(content)
        for name in (XMP.name, b""):
            if content.startswith((name + b"<?xpacket", name + b"<x:xmpmeta")):
                packet = refresh_xmp(content[len(name) :], self._policy, label=False)
                return name + packet
        return b"" if self.goes(content, "a raw profile") else content

    def goes(self, content: bytes, where: str) -> bool:
        """Whether a block of unknown kind is dropped because it contains a picture.

        Args:
            content: the uncompressed block, which may be text with base64.
            where: the name of the block in the note.
        """
        if not in_text(content):
            return False
        self.drop(f"picture in {where}")
        return True

    def lost(self, content: bytes, what: str) -> None:
        """Note that a block is dropped because the new file cannot hold it.

        If it contains a picture, the policy may refuse the file.

        Args:
            content: the block.
            what: the name of the block in the note.
        """
        if in_text(content):
            self.drop(what)
        else:
            self.notes.append(f"{what} dropped")

    def drop(self, what: str) -> None:
        """Note that something stale is dropped."""
        self._policy.drop(what)

    def iptc(self, data_sets: bytes) -> bytes:
        """Bare IPTC data sets, as TIFF holds them; no longer than they were."""
        return without_preview(data_sets, self._policy)

    def maker_note(self, content: bytes) -> bytes:
        """A camera's maker note, of unchanged length: previews in it are zeroed."""
        new = without_streams(content)
        if new is not content:
            self._policy.drop(PREVIEW)
        return new
