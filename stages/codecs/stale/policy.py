"""The policy for data in a file that still show the old picture, and what was done by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from PIL import Image

from manifests.errors import RowError
from stages.recipe.options import MetadataOptions

#: What an edited file names as the software that made it.
SOFTWARE = "catalog-cleanup"

#: The note's name for Content Credentials, which sign the old picture.
MANIFEST = "C2PA manifest"


class StaleDataPolicy:
    """The policy for one file; collects its notes.

    Args:
        draw: makes the edited picture, stored frame, in any mode that converts to RGB; most files
            have no preview to draw, and photos are large.
        options: the policy.
        generative: whether a generative model made the fill; only of use if ``mark_edit`` is set.

    Attributes:
        labels_edit: whether the file is to say that it was edited.
        notes: short sentences for the lineage, each once, in the order they came up.
    """

    def __init__(
        self, draw: Callable[[], Image.Image], options: MetadataOptions, *, generative: bool = False
    ) -> None:
        self._draw = draw
        self._stale_preview = options.stale_preview
        self.labels_edit = options.mark_edit
        self.generative = generative
        self.notes: list[str] = []

    @cached_property
    def edited(self) -> Image.Image:
        """The edited picture."""
        return self._draw()

    def should_rebuild(self, what: str) -> bool:
        """Whether ``what``, which can be drawn again, shall be; else it is to be dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        if self._stale_preview == "refuse":
            raise RowError(
                "image.stale_preview", f"The image still holds the old picture's {what}."
            )
        return self._stale_preview == "rebuild"

    def rebuilt(self, what: str) -> None:
        """Note that ``what`` was drawn again."""
        self.note(f"{what} rebuilt")

    def drop(self, what: str) -> None:
        """Note that ``what`` is dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        self.should_rebuild(what)
        self.note(f"{what} dropped")

    def unlabelled(self, where: str) -> None:
        """Note that the edit could not be labelled in ``where``."""
        self.note(f"{where} not marked as edited")

    def note(self, sentence: str) -> None:
        """Note something, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
