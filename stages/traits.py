"""Base classes of options: what a section is, and what the pipeline has to know of a method.

They lie apart from the recipe so that a model's file can hold its own options: the recipe imports
it, and it imports nothing but this and what needs no recipe.
"""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.extras import load_module

#: The actor pool a step runs in.
Pool = Literal["cpu", "small_gpu", "large_gpu"]

#: Marks an option that changes no result: the recipe's hash leaves it out.
NEUTRAL = "neutral"

#: What weights must be, see the options ``weights_pin``; empty: not known yet.
WeightsPin = Annotated[
    str, Field(pattern=r"^$|^sha256:[0-9a-f]{64}$|^md5:[0-9a-f]{32}$|^commit:[0-9a-f]{40}$")
]

#: Number formats of a network.
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Section(BaseModel):
    """A part of a recipe: frozen, and without room for unknown options.

    Each option changes results unless it is marked :data:`NEUTRAL`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodOptions(Section):
    """The options of one of several methods that a section can name.

    Attributes:
        pool: where its step runs.
        loader: the module that loads it, imported only where the step runs.
    """

    pool: ClassVar[Pool] = "cpu"
    loader: ClassVar[str]

    method: str

    @property
    def is_batched(self) -> bool:
        """Whether it works on several photos together: it has an option ``batch_size`` then."""
        return "batch_size" in type(self).model_fields

    @property
    def max_photos(self) -> int:
        """The maximum number of photos that its step takes together."""
        return int(getattr(self, "batch_size", 1))

    def load_module(self) -> ModuleType:
        """Import :attr:`loader`.

        Raises:
            WeightsError: ``model.not_installed``.
        """
        return load_module(self.loader, self.method)


class RemovalOptions(MethodOptions):
    """The options of a method that removes; a subclass changes the traits that differ for it.

    ``loader`` offers ``load(options, weights)``, which makes a :class:`stages.models.Fill`.
    ``weights`` is a path if the method has an option ``weights`` (with ``weights_pin``), else None.

    Attributes:
        is_generative: whether a trained model makes the fill.
        window_multiple_px: what the sides of a window are multiples of where the photo has room for
            it: few sizes fill batches of one size.
        working_multiple_px: what the working size is a multiple of, so that nothing is padded.
    """

    is_generative: ClassVar[bool] = False
    window_multiple_px: ClassVar[int] = 1
    working_multiple_px: ClassVar[int] = 1

    def context_for(self, width: int, height: int) -> tuple[float, int] | None:  # noqa: ARG002
        """How much it sees of a photo of that size, px; None: what ``[crop]`` says.

        Returns:
            Side of the window over side of the masked part, and at least how much of the photo is
            seen on each side, px.
        """
        return None

    @property
    def own_max_side_px(self) -> int | None:
        """Windows with a longer side are filled at this size; None: what ``[resize]`` says."""
        return None
