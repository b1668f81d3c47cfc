"""Shadows and reflections beyond the mask: what goes with the object, and that nothing else does.

The removal model is a double, see ``tests/support/models/shadow_eraser.py``; what it misses is
there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.results.verify import verify
from manifests.errors import RecipeError
from stages.arrays import BoolMask, UInt8Array
from stages.cleaner import Cleaner
from stages.models import FillWithAlpha
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.pixels.effects import opacity_beyond
from stages.pixels.masks import distance_outside
from stages.pixels.shapes import decode_rle, encode_rle
from stages.recipe import Recipe
from stages.recipe.refiners import FluxFillOptions
from stages.steps import remove
from tests.bench.shadow_scenes import shadowed, unshadowed
from tests.support import as_sent, encoded, photo_of, write
from tests.support.files.corpus import small_files, spot, tiff
from tests.support.models import object_painter, shadow_eraser
from tests.support.models.object_painter import Painter
from tests.support.models.shadow_eraser import COLOUR
from tests.support.output_folders import clean_here

BACKGROUND, OBJECT, SHADOW = (220, 215, 205), (40, 60, 160), (120, 117, 112)


def alpha_recipe(*options: str) -> Recipe:
    return Recipe.load("telea", ["mask.effects=alpha", *options])


def scene(*objects: tuple[int, int]) -> tuple[UInt8Array, UInt8Array, BoolMask]:
    """Objects of 40 x 40 px with a shadow of 30 x 20 px at their right: photo, mask, shadows."""
    pixels = np.full((300, 360, 3), BACKGROUND, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 9, pixels.shape, np.uint8)
    mask, shadows = np.zeros((300, 360), np.uint8), np.zeros((300, 360), np.bool_)
    for x, y in objects:
        shadows[y + 20 : y + 40, x + 40 : x + 70] = True
        mask[y : y + 40, x : x + 40] = 255
    pixels[shadows] = SHADOW
    pixels[mask > 0] = OBJECT
    return pixels, mask, shadows


def cleaned(recipe: Recipe, pixels: UInt8Array, mask: UInt8Array) -> Photo:
    photo = photo_of(encoded(pixels), encoded(mask))
    Pipeline.of(recipe).after("fetch").run(photo)
    assert photo.ok, photo.lineage.error
    return photo


def pixels_of(photo: Photo) -> UInt8Array:
    assert photo.decoded is not None
    return np.asarray(photo.decoded.pixels, np.uint8)


def off_the_mask(mask: UInt8Array, recipe: Recipe) -> BoolMask:
    """Where nothing changes without effects."""
    return distance_outside(mask > 0) > recipe.mask.dilate_px + recipe.mask.feather_px + 1


@pytest.mark.parametrize("options", [(), ("resize.max_side_px=70",)])
def test_a_shadow_goes_with_its_object_and_is_recorded_to_the_pixel(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow_eraser.use(monkeypatch, shadow_eraser.dark)
    pixels, mask, shadow = scene((60, 80))
    recipe = alpha_recipe(*options)
    result = Cleaner(recipe).clean(pixels, mask)
    changed = (result.array != pixels).any(axis=2)
    outside = off_the_mask(mask, recipe)
    assert (result.array[shadow] == COLOUR).all(), "it is pasted in full"
    assert not (changed & outside & ~result.effects).any()
    assert result.effects.sum() == result.record.effects_px
    assert result.record.flag is None
    assert result.effects[shadow & outside].all()
    close = distance_outside(shadow) <= (12 if options else 1)
    assert not (result.effects & ~close).any(), "the model's haze beyond is left out"


def test_without_being_asked_nothing_outside_the_mask_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow_eraser.use(monkeypatch, shadow_eraser.dark)
    pixels, mask, _ = scene((60, 80))
    recipe = Recipe.load("telea")
    photo = cleaned(recipe, pixels, mask)
    outside = off_the_mask(mask, recipe)
    assert np.array_equal(pixels_of(photo)[outside], pixels[outside])
    assert (pixels_of(photo)[mask > 0] == COLOUR).all()
    assert (photo.lineage.effects_px, photo.lineage.effects) == (None, None)


def test_the_reach_is_a_soft_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow_eraser.use(monkeypatch, lambda pixels, _: np.full(pixels.shape[:2], 255, np.uint8))
    pixels, mask, _ = scene((150, 100))
    recipe = alpha_recipe("mask.effects_reach=0.5", "mask.effects_area=50")
    result = pixels_of(cleaned(recipe, pixels, mask)).astype(int)
    distance = distance_outside(mask > 0) - recipe.mask.dilate_px
    reach_px = 0.5 * (40 + 2 * recipe.mask.dilate_px)
    assert (result[distance < 0.7 * reach_px] == COLOUR).all()
    assert np.array_equal(result[distance > reach_px + 1], pixels[distance > reach_px + 1])
    below = result[140 + recipe.mask.dilate_px :, 170, 0]
    assert np.abs(np.diff(below)).max() < (BACKGROUND[0] - COLOUR[0]) / 3, "no edge"


def test_more_than_the_area_is_not_pasted_but_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow_eraser.use(monkeypatch, lambda pixels, _: np.full(pixels.shape[:2], 255, np.uint8))
    pixels, mask, _ = scene((60, 80))
    off = cleaned(Recipe.load("telea"), pixels, mask)
    photo = cleaned(alpha_recipe(), pixels, mask)
    assert (photo.lineage.flag, photo.lineage.effects_px) == ("effects_dropped", 0)
    outside = off_the_mask(mask, alpha_recipe())
    assert np.array_equal(pixels_of(photo)[outside], pixels[outside])
    assert (pixels_of(photo)[mask > 0] == pixels_of(off)[mask > 0]).all()


def test_a_photo_whose_effects_take_too_much_memory_does_not_change_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow_eraser.use(monkeypatch, shadow_eraser.dark)
    pixels, mask, _ = scene((60, 80))
    large = np.pad(mask, ((0, 0), (0, 200)))
    wide = np.pad(pixels, ((0, 0), (0, 200), (0, 0)), mode="edge")
    recipe = alpha_recipe("crop.context=20")
    expected = cleaned(recipe, pixels, mask)

    def exhausted(alpha: UInt8Array, *others: Any) -> UInt8Array | None:
        if alpha.shape[1] > pixels.shape[1]:
            raise MemoryError
        return opacity_beyond(alpha, *others)

    monkeypatch.setattr(remove, "opacity_beyond", exhausted)
    photos = photo_of(encoded(pixels), encoded(mask)), photo_of(encoded(wide), encoded(large))
    Pipeline.of(recipe).after("fetch").run(*photos)
    assert photos[0].ok, photos[0].lineage.error
    assert photos[0].lineage.effects_px == expected.lineage.effects_px
    assert np.array_equal(pixels_of(photos[0]), pixels_of(expected))
    assert photos[1].lineage.error_code == "row.out_of_memory"


def test_neighbours_share_no_effect_and_what_is_transparent_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow_eraser.use(monkeypatch, lambda pixels, _: np.full(pixels.shape[:2], 255, np.uint8))
    pixels, mask, _ = scene((40, 60), (160, 190))
    opacity = np.full((*mask.shape, 1), 255, np.uint8)
    opacity[:70] = 0
    options = ("mask.effects_reach=2", "mask.effects_area=50", "crop.merge_px=0")
    recipe = alpha_recipe("crop.context=1", "crop.min_context_px=8", *options)
    marks = photo_of(encoded(np.concatenate([pixels, opacity], axis=2)), encoded(mask))
    pipeline = Pipeline.of(recipe)
    pipeline.until("remove").after("fetch").run(marks)
    left, right = marks.patches
    assert left.crop.intersection(right.crop).area > 5000
    placed = np.zeros((2, *mask.shape), np.bool_)
    for one, patch in zip(placed, (left, right), strict=True):
        assert patch.effects is not None
        one[patch.crop.slices] = patch.effects > 0
    assert placed.any(axis=(1, 2)).all()
    assert not placed.all(axis=0).any(), "each pixel is of one patch"
    assert not placed[:, mask > 0].any(), "none is on a mark"
    assert not placed[:, :70].any()
    first = mask.copy()
    first[190:] = 0
    nearer = distance_outside(first > 0) - distance_outside(mask - first > 0)
    assert not (placed[0] & (nearer > 1)).any(), "none is nearer to the other"
    assert not (placed[1] & (nearer < -1)).any()


def test_a_refiner_repaints_the_effects_and_they_travel_between_actors(
    coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shadow_eraser.use(monkeypatch)
    monkeypatch.setattr(FluxFillOptions, "loader", object_painter.__name__)
    monkeypatch.setattr(object_painter, "painter", Painter(("texture",)))
    mask = np.zeros(coffee.shape[:2], np.uint8)
    mask[310:340, 30:70] = 255
    upscaling = ("upscale.method=lanczos", "refine.size_px=256", f"refine.weights={tmp_path}")
    recipe = Recipe.load("clean", ["remove.method=telea", *upscaling, "mask.effects=alpha"])
    photo = photo_of(encoded(coffee), encoded(mask))
    names = ["cut", "remove", "focus", "refine", "encode"]
    pipeline, done = Pipeline.of(recipe), "fetch"
    for name in names:  # each is the last of an actor
        pipeline.until(name).after(done).run(photo)
        assert photo.ok, photo.lineage.error
        done, sent = name, photo
        if name in names[:-1]:
            photo = as_sent(photo)
            photo.original = sent.original
            assert len(photo.patches) == 1
        if name == "focus":
            (patch,) = photo.patches
            assert patch.effects is not None
            assert (patch.mask[patch.effects > 0] == 255).all()
            assert (patch.pixels[patch.effects > 0] == COLOUR).all()
            assert (patch.effects == sent.patches[0].effects).all()
    assert (photo.lineage.effects_px or 0) > 300
    (patch,) = photo.patches
    assert patch.effects is not None
    assert len(np.unique(patch.pixels[patch.effects > 0], axis=0)) > 20, "grain is over it"
    changed = (pixels_of(photo) != coffee).any(axis=2)
    allowed = ~off_the_mask(mask, recipe)
    allowed[patch.crop.slices] |= patch.effects > 0
    assert not (changed & ~allowed).any()


def test_a_removal_without_alpha_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs a removal method that returns an alpha"):
        alpha_recipe()


#: Files of each codec that keeps samples or coefficients: transparent, deep, in ink, turned.
NAMES = (
    *("jpeg-420-q80-progressive", "jpeg-cmyk", "jpeg-exif-thumbnail-turned", "png-rgb"),
    *("png-rgba", "png-16-bit-rgba", "tiff-lzw", "tiff-16-bit-cmyk", "webp-lossless-alpha"),
)


@pytest.fixture
def in_every_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The results of a run with effects."""
    shadow_eraser.use(monkeypatch)
    corpus, rows = small_files(), []
    for name in NAMES:
        (tmp_path / name).write_bytes(corpus[name])
        (tmp_path / f"{name}.mask.png").write_bytes(encoded(spot(corpus[name])))
        rows.append(f"{name},{name},{name}.mask.png")
    manifest = write(tmp_path / "manifest.csv", "\n".join(["id,image,mask", *rows]))
    clean_here(manifest, tmp_path / "out", alpha_recipe("output.fidelity=exact"))
    return tmp_path / "out"


def test_results_are_exact_outside_recorded_effects_in_every_format(in_every_format: Path) -> None:
    def problems() -> dict[str, str]:
        verdicts = list(verify(str(in_every_format)))
        assert [each.unchecked_reason for each in verdicts] == [""] * len(NAMES)
        return {each.id: each.problem for each in verdicts}

    assert problems() == dict.fromkeys(NAMES, "")
    recorded = {path: pq.read_table(path) for path in in_every_format.glob("lineage/*/*/*.parquet")}
    rows = {row["id"]: row for table in recorded.values() for row in table.to_pylist()}
    for row in rows.values():
        assert 0.3 < row["effects_px"] / row["masked_px"] < 0.9, "half of it, at its side"

    def record(**columns: Callable[[dict[str, Any]], Any]) -> None:
        for path, table in recorded.items():
            changed = [
                row | {name: value(row) for name, value in columns.items()}
                for row in table.to_pylist()
            ]
            pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), path)

    record(effects=lambda _: None, effects_px=lambda _: 0)
    for problem in problems().values():
        assert problem.endswith("outside the mask changed")
    record(effects_px=lambda _: 1)
    for name, problem in problems().items():
        assert problem == f"{rows[name]['effects_px']} px beyond the mask changed, 1 are recorded"
    everywhere = {
        "effects": lambda row: encode_rle(np.ones((row["height"], row["width"]), np.bool_)),
        "effects_px": lambda row: row["height"] * row["width"],
    }
    record(**everywhere)
    for problem in problems().values():
        assert "changed more beyond the mask than mask.effects_area" in problem
        assert "changed farther beyond the mask than mask.effects_reach" in problem


def test_the_hole_grows_by_a_shadow_in_photos_of_any_kind(tmp_path: Path) -> None:
    scene = next(shadowed(start=64))
    deep = scene.pixels.astype(np.uint16) * 257
    alpha = np.full((*deep.shape[:2], 1), 65535, np.uint16)
    alpha[:60] = 0
    ink = np.asarray(Image.fromarray(scene.pixels).convert("CMYK"))
    kinds = {
        "png": encoded(scene.pixels),
        "jpeg": encoded(scene.pixels, format="JPEG", quality=92),
        "deep": bytes(imagecodecs.png_encode(np.concatenate([deep, alpha], axis=2))),
        "ink": tiff(ink, photometric="separated"),
    }
    rows = ["id,image,mask"]
    (tmp_path / "mask.png").write_bytes(encoded(scene.mask.astype(np.uint8) * 255))
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        rows.append(f"{name},{name},mask.png")
    manifest = write(tmp_path / "manifest.csv", "\n".join(rows))
    recipe = Recipe.load("telea", ["mask.effects=grow", "output.fidelity=exact"])
    clean_here(manifest, tmp_path / "out", recipe)
    problems = {
        each.id: (each.problem, each.unchecked_reason) for each in verify(str(tmp_path / "out"))
    }
    assert problems == dict.fromkeys(kinds, ("", ""))
    lineage = pq.read_table(tmp_path / "out" / "lineage").to_pylist()
    edge = recipe.mask.dilate_px + recipe.mask.feather_px + 1
    visible = (scene.shade > 0.05) & (distance_outside(scene.mask) > edge)
    for row in lineage:
        effects = decode_rle(row["effects"], *scene.mask.shape[::-1])
        assert (effects & visible).sum() > 0.9 * visible.sum(), row["id"]
        (patch,) = row["patches"]
        assert patch["region"]["width"] == np.ptp(np.nonzero(scene.mask)[1]) + 1 + 6
    result = np.asarray(Image.open(next((tmp_path / "out").glob("images/*/png.png"))))
    background = np.median(scene.pixels[:60], axis=(0, 1))
    before, after = (np.abs(each[visible] - background).mean() for each in (scene.pixels, result))
    assert after < 6 < before


def test_limits_do_not_change_the_shadow_that_is_found() -> None:
    scene = next(shadowed(start=64))

    def found(limit: float) -> tuple[BoolMask, BoolMask]:
        photo = photo_of(encoded(scene.pixels), encoded(scene.mask.astype(np.uint8) * 255))
        options = ["mask.effects=grow", f"limits.max_mask_share={limit}"]
        Pipeline.of(Recipe.load("telea", options)).until("grow").after("fetch").run(photo)
        assert photo.hole is not None
        assert photo.shadow_mask is not None, photo.lineage.error
        return photo.hole, photo.shadow_mask

    hole, shadow = found(0.8)
    assert shadow.any()
    assert np.array_equal(found(hole.mean() + shadow.mean() / 2)[1], shadow)


def test_a_photo_without_a_shadow_is_cleaned_as_ever() -> None:
    scene = next(unshadowed())
    mask = scene.mask.astype(np.uint8) * 255
    grown, off = (
        Cleaner(Recipe.load("telea", [f"mask.effects={each}"])).clean(scene.pixels, mask)
        for each in ("grow", "off")
    )
    assert np.array_equal(grown.array, off.array)
    assert (grown.record.effects_px, grown.record.effects) == (0, None)
    assert grown.record.patches == off.record.patches
    photo = photo_of(encoded(scene.pixels), encoded(mask))
    recipe = Recipe.load("telea", ["mask.effects=grow"])
    Pipeline.of(recipe).until("grow").after("fetch").run(photo)
    assert photo.hole is not None
    assert photo.shadow_mask is None, "an empty one costs each patch a distance transform"


def test_a_model_that_leaves_the_object_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow_eraser.use(monkeypatch)
    pixels, mask, _ = scene((60, 80))
    assert cleaned(alpha_recipe(), pixels, mask).lineage.flag is None
    monkeypatch.setattr(
        shadow_eraser, "_erased", lambda seen, _: FillWithAlpha(seen, seen[..., 0] // 32)
    )
    assert cleaned(alpha_recipe(), pixels, mask).lineage.flag == "came_back"

    pixels[:60] = 255
    opacity = np.full((*mask.shape, 1), 255, np.uint8)
    opacity[:60] = 0

    def elsewhere(seen: UInt8Array, marked: UInt8Array) -> FillWithAlpha:
        is_there = (seen.min(axis=2) == 255) & (marked > 0)
        return FillWithAlpha(seen, is_there.view(np.uint8) * np.uint8(255))

    monkeypatch.setattr(shadow_eraser, "_erased", elsewhere)
    seen = np.concatenate([pixels, opacity], axis=2)
    assert cleaned(alpha_recipe(), seen, mask).lineage.flag == "came_back"


def test_a_refiner_repaints_the_shadow_that_the_hole_grew_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FluxFillOptions, "loader", object_painter.__name__)
    monkeypatch.setattr(object_painter, "painter", Painter(("texture",)))
    scene = next(shadowed(start=64))
    upscaling = ("upscale.method=lanczos", "refine.size_px=256", f"refine.weights={tmp_path}")
    recipe = Recipe.load("clean", ["remove.method=telea", *upscaling, "mask.effects=grow"])
    photo = photo_of(encoded(scene.pixels), encoded(scene.mask.astype(np.uint8) * 255))
    pipeline = Pipeline.of(recipe)
    pipeline.until("focus").after("fetch").run(photo)
    (patch,) = photo.patches
    shaded = ((scene.shade > 0.05) & ~scene.mask)[patch.crop.slices]
    assert (patch.mask[shaded] > 0).mean() > 0.9
    photo, original = as_sent(photo), photo.original
    photo.original = original
    pipeline.after("focus").run(photo)
    assert photo.ok, photo.lineage.error
    changed = (pixels_of(photo) != scene.pixels).any(axis=2)
    effects = decode_rle(photo.lineage.effects, *scene.mask.shape[::-1])
    mask = scene.mask.astype(np.uint8) * 255
    assert not (changed & off_the_mask(mask, recipe) & ~effects).any()
    assert changed[effects].mean() > 0.5
