"""The policy for metadata that still shows the old picture, and the notes on its effect."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Self

from PIL import Image

from manifests.errors import RowError
from stages.codecs.picture import Edit
from stages.codecs.stale.pictures import contains_picture
from stages.recipe.options import MetadataOptions

#: The software name in edited files.
SOFTWARE = "catalog-cleanup"

#: The note's name for Content Credentials, which sign the old picture.
MANIFEST = "C2PA manifest"


class StaleDataPolicy:
    """The policy for one file; collects its notes.

    Args:
        draw: creates the edited picture in the stored frame, in any mode that converts to RGB;
            called only if there is a preview to rebuild.
        options: the recipe's options.
        generative: whether a generative model filled the region; used if ``mark_edit`` is set.

    Attributes:
        labels_edit: whether to label the file as edited.
        notes: short sentences for the lineage, without duplicates, in order.
    """

    def __init__(
        self, draw: Callable[[], Image.Image], options: MetadataOptions, *, generative: bool = False
    ) -> None:
        self._draw = draw
        self._stale_preview = options.stale_preview
        self.labels_edit = options.mark_edit
        self.generative = generative
        self.notes: list[str] = []

    @classmethod
    def of(cls, edit: Edit) -> Self:
        """The policy for the file of an edit."""
        return cls(edit.as_pillow, edit.metadata, generative=edit.generative)

    @cached_property
    def edited(self) -> Image.Image:
        """The edited picture."""
        return self._draw()

    def should_rebuild(self, what: str) -> bool:
        """Whether to rebuild ``what``; if not, it is to be dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        if self._stale_preview == "refuse":
            raise RowError(
                "image.stale_preview", f"The image still holds the old picture's {what}."
            )
        return self._stale_preview == "rebuild"

    def drop(self, what: str) -> None:
        """Note that ``what`` is dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        self.should_rebuild(what)
        self.note(f"{what} dropped")

    def drops(self, block: bytes, what: str) -> bool:
        """Whether a block that is not rebuilt is dropped: any that contains a picture or a video.

        Args:
            block: its uncompressed content, which may be text.
            what: its name in the note.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        has_picture = contains_picture(block)
        if has_picture:
            self.drop(f"{what} with a picture")
        return has_picture

    def lost(self, block: bytes, what: str) -> None:
        """Note that a block is dropped because the new file cannot hold it; raises as ``drops``."""
        if not self.drops(block, what):
            self.note(f"{what} dropped")

    def unlabelled(self, where: str) -> None:
        """Note that the edit could not be labelled in ``where``."""
        self.note(f"{where} not marked as edited")

    def note(self, sentence: str) -> None:
        """Note something, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
