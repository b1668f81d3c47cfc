"""What LaMa and the refiner are shown as known: pixels of the photo, and no others.

The steps are the real ones. In place of both networks stand doubles that record what they are
given, and paint one colour: what that misses is how well a network paints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from manifests.errors import RowError
from manifests.schema import LineageRow
from stages.arrays import BoolMask, UInt8Array
from stages.models.lama import Lama
from stages.models.upscaler import Upscaler, to_size
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.pixels.boxes import Box
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from stages.recipe.refiners import FluxFillOptions, UpscaleOptions
from stages.recipe.removal_methods import LamaOptions
from tests.support import DEMO, encoded, photo_of, upright_rgb
from tests.support.models import object_painter as painting
from tests.support.models.lama_networks import random_upscaler
from tests.support.models.object_painter import Painter


class Removal(nn.Module):
    """LaMa's double: paints magenta."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[UInt8Array, BoolMask]] = []

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        for one, hole in zip(image, mask, strict=True):
            levels = np.rint(one.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            self.seen.append((levels, hole[0].numpy() == 0))
        return image.new_tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand_as(image)


@dataclass
class Refiner(Painter):
    """The refiner's double: paints nothing."""

    seen: list[tuple[UInt8Array, BoolMask]] = field(default_factory=list)

    def refine(
        self,
        pixels: Sequence[UInt8Array],
        masks: Sequence[UInt8Array],
        prompts: Any,  # noqa: ARG002 - as the protocol
        seeds: Any,  # noqa: ARG002
        originals: Any,  # noqa: ARG002
    ) -> list[UInt8Array | RowError]:
        self.seen += [(one, mask < 128) for one, mask in zip(pixels, masks, strict=True)]
        return [one.copy() for one in pixels]


@dataclass
class Models:
    """Both doubles, and the recipe that uses them."""

    removal: Removal
    refiner: Refiner
    recipe: Recipe

    def clean(self, photo: Photo) -> list[tuple[Box, Box]]:
        """Take a photo through all steps; returns window and crop of each patch."""
        self.removal.seen.clear()
        self.refiner.seen.clear()
        photo.lineage.recipe_hash = self.recipe.hash
        whole = Pipeline.of(self.recipe)
        (whole.after("fetch") if photo.original else whole).run(photo)
        assert photo.ok, photo.lineage.error
        return [(box(patch.window), box(patch.crop)) for patch in photo.lineage.patches]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Models:
    removal, refiner = Removal(), Refiner()
    monkeypatch.setattr(FluxFillOptions, "loader", "tests.support.models.object_painter")
    monkeypatch.setattr(painting, "painter", refiner)

    def load(_: Path, options: LamaOptions) -> Lama:
        return Lama(removal, options, "cpu")

    monkeypatch.setattr(Lama, "load", load)
    (tmp_path / "lama.pt").touch()
    random_upscaler(tmp_path / "upscaler.pth")
    options = [
        f"remove.weights={tmp_path / 'lama.pt'}",
        f"refine.weights={tmp_path}",
        f"upscale.weights={tmp_path / 'upscaler.pth'}",
        "judge.attempts=1",
        "judge.fallback=keep",
    ]
    return Models(removal, refiner, Recipe.load("clean", options))


def box(packed: dict[str, int]) -> Box:
    x, y = packed["x"], packed["y"]
    return Box(x, y, x + packed["width"], y + packed["height"])


def assert_known(
    shown: UInt8Array, known: BoolMask, photo: UInt8Array, unseen: BoolMask, where: Box
) -> None:
    """What is shown as known are the photo's pixels at ``where``, and nobody's that are unseen."""
    height, width = where.height, where.width
    assert not known[height:].any(), "padding"
    assert not known[:, width:].any(), "padding"
    known = known[:height, :width]
    assert not (known & unseen[where.slices]).any()
    assert np.array_equal(shown[:height, :width][known], photo[where.slices][known])


SIZED = {
    "refine": {"size_px": 256},
    "crop": {"min_context_px": 64, "merge_px": 8},
    "remove": {"min_context_px": 64, "context": 2.5},
}


def resized(recipe: Recipe) -> Recipe:
    """With crops of 256 px, which the refiner sees as they are."""
    changes = {
        name: getattr(recipe, name).model_copy(update=changed) for name, changed in SIZED.items()
    }
    return recipe.model_copy(update=changes)


@pytest.mark.parametrize("clear", [False, True], ids=["opaque", "half transparent"])
@pytest.mark.parametrize(
    ("x", "y", "other"), [(200, 70, 10), (3, 3, 285), (395, 139, 40), (200, 70, 260)]
)
def test_models_see_the_photos_own_pixels_and_nothing_made_up_as_known(
    x: int, y: int, other: int, clear: bool, models: Models
) -> None:
    """The photo is lower than the square that the recipe asks for."""
    photo = np.random.default_rng(0).integers(0, 256, (208, 520, 4), dtype=np.uint8)
    photo[..., 3] = 255
    if clear:
        photo[:, 300:, 3] = 0
    mask = np.zeros((208, 520), np.uint8)
    mask[y : y + 66, x : x + 122] = mask[:9, other : other + 9] = 255
    models.recipe = resized(models.recipe)
    boxes = models.clean(photo_of(encoded(photo), encoded(mask)))
    unseen = (mask > 0) | (photo[..., 3] == 0)
    for (window, _), removal in zip(boxes, models.removal.seen, strict=True):
        assert_known(*removal, photo[..., :3], unseen, window)
    refined = dict(zip([crop for _, crop in boxes], models.refiner.seen, strict=True))
    ((crop, (shown, known)),) = (each for each in refined.items() if each[0].width == 256)
    assert crop.height == 208
    assert_known(shown, known, photo[..., :3], unseen, crop)
    assert (shown[~known] == (255, 0, 255)).all(), "the removal's fill"


def test_where_all_that_is_visible_is_marked_the_refiner_is_shown_nothing_as_known(
    models: Models,
) -> None:
    photo = np.full((400, 400, 4), (0, 255, 0, 0), np.uint8)
    photo[180:220, 180:220] = (90, 80, 70, 255)
    boxes = models.clean(photo_of(encoded(photo), encoded(photo[..., 3])))
    assert len(boxes) == 1
    ((_, known),) = models.refiner.seen
    assert not known.any()


def test_of_the_dandelion_no_edge_is_repeated(models: Models, tmp_path: Path) -> None:
    """Its watermark is nearly as wide as the photo, whose height is less than that."""
    name = "dandelion-watermark"
    photo = upright_rgb(DEMO / "photos" / f"{name}.jpg")
    drawn = np.asarray(upright_rgb(DEMO / "masks" / f"{name}.png")[..., 0] >= 128)
    row = LineageRow(
        id=name,
        image_uri=str(DEMO / "photos" / f"{name}.jpg"),
        mask_uri=str(DEMO / "masks" / f"{name}.png"),
    )
    ((window, crop),) = models.clean(Photo(row))

    ((seen, known),) = models.removal.seen
    assert_known(seen, known, photo, drawn, window)
    assert seen.shape[:2] == (window.height, window.width) == (720, 1280), "nothing is padded"

    ((refined, known),) = models.refiner.seen
    high, wide = refined.shape[:2]
    assert (wide // 16) * (high // 16) == 2304, "tokens, where a square has 4096"
    upscaler = Upscaler.load(tmp_path / "upscaler.pth", UpscaleOptions(), "cpu")
    expected = to_size(np.ascontiguousarray(photo[crop.slices]), wide, high, upscaler)
    apart = distance_outside(~known) > 16  # the upscaler's pixels see 6 px of the crop around
    assert apart.mean() > 0.5
    assert np.abs(refined[apart].astype(int) - expected[apart]).max() <= 1
