"""What one change of a recipe would save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stages.options import FluxFillOptions, LamaOptions, PatchMatchOptions
from stages.recipe import Recipe

#: To these the levers go, where a recipe has more.
_CROP_PX, _WINDOW_PX, _STEPS_SHARE = 768, 1024, 0.6


@dataclass(frozen=True, slots=True)
class Lever:
    """A change.

    Attributes:
        settings: as ``--set`` takes them.
        price: what it costs otherwise.
    """

    settings: tuple[str, ...]
    price: str

    def pulled(self, recipe: Recipe) -> Recipe:
        """The recipe with it."""
        table = recipe.model_dump(mode="json", exclude_none=True)
        for setting in self.settings:
            path, _, value = setting.partition("=")
            section, option = path.split(".")
            table[section][option] = {"true": True, "false": False}.get(value, value)
        return Recipe.from_table(table, source=", ".join(self.settings))


def levers(recipe: Recipe) -> Iterator[Lever]:
    """Those that a recipe has left."""
    refine = recipe.refiner
    if refine:
        if refine.size_px > _CROP_PX:
            yield Lever((f"refine.size_px={_CROP_PX}",), "coarser texture where crops are large")
        if refine.steps > 4:
            steps = round(refine.steps * _STEPS_SHARE)
            yield Lever((f"refine.steps={steps}",), "rougher texture")
        if not refine.compile:
            yield Lever(("refine.compile=true",), "actors start a minute later")
        if isinstance(refine, FluxFillOptions) and not refine.fp8:
            settings = ("refine.fp8=true", "refine.compile=true")
            yield Lever(settings, "small differences; takes torchao")
        if refine.when == "always" and recipe.remove:
            yield Lever(("refine.when=auto",), "fills on smooth ground stay as they are")
        if recipe.judge and recipe.judge.attempts > 1:
            yield Lever(("judge.attempts=1",), "more patches fall back to the removal")
        if recipe.remove:
            yield Lever(("refine.when=never",), "fills stay soft")
    remove = recipe.remove
    if isinstance(remove, LamaOptions) and remove.max_side_px > _WINDOW_PX:
        yield Lever((f"remove.max_side_px={_WINDOW_PX}",), "softer fills in large windows")
    longest = recipe.resize.max_side_px
    if isinstance(remove, PatchMatchOptions) and (not longest or longest > _WINDOW_PX):
        yield Lever((f"resize.max_side_px={_WINDOW_PX}",), "softer fills in large crops")
