"""Base classes of recipe options, with the traits of a method that the pipeline needs.

They are separate from the recipe so that a model's file can define its own options: the recipe
imports that file, which must not import the recipe.
"""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.optional_imports import load_module

#: A part of a diffusers folder, which is several of its components: ``text``, its tokenizers and
#: text encoders; ``image``, everything else; empty, the whole folder.
FolderPart = Literal["", "text", "image"]

#: The actor pool a step runs in.
Pool = Literal["cpu", "small_gpu", "large_gpu"]

#: Marks an option that does not change results; the recipe's hash omits it.
NOT_HASHED = "neutral"

#: Expected content of weights, see the options ``weights_pin``; empty: any.
WeightsPin = Annotated[str, Field(pattern=r"^$|^sha256:[0-9a-f]{64}$|^commit:[0-9a-f]{40}$")]

#: Number formats of a network.
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Section(BaseModel):
    """A part of a recipe; immutable, and rejects unknown options.

    Every option changes results unless it is marked :data:`NOT_HASHED`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodOptions(Section):
    """The options of one of several methods that a section can name.

    Attributes:
        pool: the actor pool its step runs in.
        loader: the module that loads the method, imported only where the step runs.
    """

    pool: ClassVar[Pool] = "cpu"
    loader: ClassVar[str]

    method: str

    @property
    def photos_per_call(self) -> int:
        """How many photos its step processes together, see :class:`stages.steps.base.Step`."""
        return int(getattr(self, "batch_size", 1))

    @property
    def cost_name(self) -> str:
        """The name of its seconds in ``jobs/estimate/defaults.toml``."""
        return self.method

    def load_module(self) -> ModuleType:
        """Import :attr:`loader`.

        Raises:
            WeightsError: ``model.not_installed``.
        """
        return load_module(self.loader, self.method)


class RemovalOptions(MethodOptions):
    """The options of a removal method; a subclass overrides the traits that differ.

    The module ``loader`` defines ``load(options)``, which returns a
    :class:`stages.models.FillFunction`. Weights are the options that have a ``<option>_pin``, such
    as ``weights`` and ``weights_pin``; in the options of ``load`` they are local paths.

    Attributes:
        is_generative: whether a trained model generates the fill.
        part: what it needs of weights that are a diffusers folder.
        returns_alpha: whether the fill is a :class:`stages.models.FillWithAlpha`.
        window_multiple_px: window sides are multiples of this where the photo is large enough.
            Fewer distinct sizes make fuller batches.
        working_multiple_px: working sizes are multiples of this, so that nothing is padded.
    """

    is_generative: ClassVar[bool] = False
    part: ClassVar[FolderPart] = "image"
    returns_alpha: ClassVar[bool] = False
    window_multiple_px: ClassVar[int] = 1
    working_multiple_px: ClassVar[int] = 1

    def context_for(self, width: int, height: int) -> tuple[float, int] | None:  # noqa: ARG002
        """Return the method's own window context for a photo of this size, px.

        Returns:
            Ratio of window side to hole side, and the minimum context on each side in px. None:
            use the options of ``[crop]``.
        """
        return None

    @property
    def own_max_side_px(self) -> int | None:
        """Windows with a longer side are scaled to this; None: use the options of ``[resize]``."""
        return None
