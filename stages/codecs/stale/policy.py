"""The policy for stale data, and what was done by it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property

from PIL import Image

from manifests.errors import RowError
from stages.recipe.options import MetadataOptions

#: What an edited file names as the software that made it.
SOFTWARE = "catalog-cleanup"


#: A picture, or what makes it: most files have no preview to draw, and photos are large.
Drawing = Image.Image | Callable[[], Image.Image]


class Settling:
    """One file on its way from stale to settled.

    Args:
        edited: the edited picture in the stored frame; any mode that converts to RGB.
        options: the policy.
        generative: whether a generative model made the fill; only told if ``mark_edit`` is set.

    Attributes:
        notes: short sentences for the lineage, each once, in the order they came up.
    """

    def __init__(
        self, edited: Drawing, options: MetadataOptions, *, generative: bool = False
    ) -> None:
        self._edited = edited
        self.marks = options.mark_edit
        self.generative = generative
        self.notes: list[str] = []
        self._policy = options.stale_preview

    @cached_property
    def edited(self) -> Image.Image:
        """The edited picture."""
        return self._edited if isinstance(self._edited, Image.Image) else self._edited()

    def rebuilds(self, what: str) -> bool:
        """Whether ``what``, which can be drawn anew, shall be; else it is to be dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        if self._policy == "refuse":
            raise RowError(
                "image.stale_preview", f"The image still holds the old picture's {what}."
            )
        return self._policy == "rebuild"

    def rebuilt(self, what: str) -> None:
        """Note that ``what`` was drawn anew."""
        self._note(f"{what} rebuilt")

    def drop(self, what: str) -> None:
        """Note that ``what`` is dropped.

        Raises:
            RowError: ``image.stale_preview``, if the policy is to refuse.
        """
        self.rebuilds(what)
        self._note(f"{what} dropped")

    def unmarked(self, where: str) -> None:
        """Note that the edit could not be marked in ``where``."""
        self._note(f"{where} not marked as edited")

    def without_marks(self) -> Settling:
        """The same, with the same notes, for what is inside of what gets the marks."""
        inner = copy(self)
        inner.marks = False
        return inner

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
