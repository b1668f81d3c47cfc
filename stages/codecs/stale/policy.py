"""The policy for metadata that still shows the old picture, and the notes on its effect."""

from __future__ import annotations

from dataclasses import dataclass, field

from manifests.errors import RowError
from stages.codecs.picture import Edit
from stages.codecs.stale.pictures import contains_picture

#: The software name in edited files.
SOFTWARE = "catalog-cleanup"

#: The note's name for Content Credentials, which sign the old picture.
C2PA_MANIFEST = "C2PA manifest"


@dataclass(slots=True)
class StaleDataPolicy:
    """The policy for one file; collects its notes.

    Attributes:
        edit: the edited photo, and the recipe's options.
        notes: short sentences for the lineage, without duplicates, in order.
    """

    edit: Edit
    notes: list[str] = field(default_factory=list)

    @property
    def labels_edit(self) -> bool:
        """Whether to label the file as edited."""
        return self.edit.metadata.mark_edit

    def may_rebuild(self, what: str) -> bool:
        """Whether to rebuild ``what``; if not, it must be dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        policy = self.edit.metadata.stale_preview
        if policy == "refuse":
            raise RowError(
                "image.stale_preview", f"The image still holds the old picture's {what}."
            )
        return policy == "rebuild"

    def note_dropped(self, what: str) -> None:
        """Note that ``what`` is dropped because it shows the old picture.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        self.may_rebuild(what)
        self.note(f"{what} dropped")

    def must_drop(self, block: bytes, what: str) -> bool:
        """Whether a block must be dropped, which is then noted: if it has a picture or a video.

        Args:
            block: its uncompressed content, which may be text.
            what: its name in the note.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        has_picture = contains_picture(block)
        if has_picture:
            self.note_dropped(f"{what} with a picture")
        return has_picture

    def note_left_out(self, block: bytes, what: str) -> None:
        """Note that a block is dropped as the new file cannot hold it; raises as ``must_drop``."""
        if not self.must_drop(block, what):
            self.note(f"{what} dropped")

    def note(self, sentence: str) -> None:
        """Note something, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
