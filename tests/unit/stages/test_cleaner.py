"""``stages.clean``: every kind of input gives the same picture, and errors are raised."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from manifests.errors import CatalogCleanupError, RecipeError, RowError
from manifests.schema import LineageRow
from stages.arrays import UInt8Array
from stages.cleaner import Cleaner, clean
from stages.inputs import ImageLike
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from tests.support import DEMO, encoded, upright_rgb, write

COFFEE = DEMO / "photos" / "coffee-stray-coins.jpg"
BOX = [250, 130, 70, 40]
X, Y, WIDTH, HEIGHT = BOX


@pytest.fixture(scope="module")
def drawn() -> UInt8Array:
    """The box as a mask of the coffee's size."""
    mask = np.zeros((400, 600), np.uint8)
    mask[Y : Y + HEIGHT, X : X + WIDTH] = 255
    return mask


def test_a_photo_of_any_kind_gives_the_same_picture(coffee: UInt8Array, tmp_path: Path) -> None:
    path = write(tmp_path / "photo.png", encoded(coffee))
    data = Path(path).read_bytes()
    of_file = clean(path, recipe="telea", boxes=BOX)
    assert clean(data, recipe="telea", boxes=BOX).data == of_file.data
    kinds: list[ImageLike] = [Path(path), Path(path).as_uri(), Image.open(path), coffee]
    made = [clean(kind, recipe="telea", boxes=BOX) for kind in kinds]
    assert all(np.array_equal(each.array, of_file.array) for each in made)
    changed = (of_file.array != coffee).any(axis=2)
    assert changed[Y : Y + HEIGHT, X : X + WIDTH].mean() > 0.8
    assert not changed[: Y - 10].any()


def test_marks_of_any_kind_give_the_same_file(
    coffee: UInt8Array, drawn: UInt8Array, tmp_path: Path
) -> None:
    path = write(tmp_path / "mask.png", encoded(drawn))
    half = drawn.copy()
    half[:, X + 30 :] = 0
    counts = [X * 400 + Y, *([HEIGHT, 400 - HEIGHT] * WIDTH)]
    counts[-1] += 400 * 600 - sum(counts)
    kinds: list[dict[str, Any]] = [
        {"mask": path},
        {"mask": Path(path).read_bytes()},
        {"mask": Image.fromarray(drawn)},
        {"mask": drawn},
        {"mask": drawn > 0},
        {"mask": drawn[..., None] > 0},
        {"mask": [half, drawn - half]},
        {"mask": half, "boxes": [[X + 30, Y, WIDTH - 30, HEIGHT]]},
        {"boxes": BOX},
        {"boxes": np.array([BOX])},
        {"boxes": np.array(BOX, np.float32)},
        {"polygons": [[X, Y, X + WIDTH, Y, X + WIDTH, Y + HEIGHT, X, Y + HEIGHT]]},
        {"rle": {"size": [400, 600], "counts": np.array(counts)}},
    ]
    made = [clean(coffee, recipe="patchmatch", **kind) for kind in kinds]
    assert len({each.data for each in made}) == 1
    assert all((each.hole == made[0].hole).all() for each in made)
    assert made[0].hole.sum() == made[0].record.masked_px
    assert made[0].hole.sum() > WIDTH * HEIGHT


def test_a_file_gives_the_bytes_that_the_steps_of_a_run_store(tmp_path: Path) -> None:
    """Of a JPEG on its side, whose mask is drawn upright."""
    photo, mask = (DEMO / kind / "lounge-bag-hang-tag" for kind in ("photos", "masks"))
    image, mask = photo.with_suffix(".jpg"), mask.with_suffix(".png")
    row = LineageRow(id="1", image_uri=str(image), mask_uri=str(mask))
    Pipeline.of(Recipe.load("patchmatch"), str(tmp_path)).run(Photo(row))
    made = clean(image, mask, output=str(tmp_path / "stored.jpg"))
    assert row.output_uri
    assert made.data == Path(row.output_uri).read_bytes()
    assert made.data == (tmp_path / "stored.jpg").read_bytes()
    assert made.record.output_sha256 == row.output_sha256
    assert made.record.patches == row.patches
    assert made.record.recipe_hash == Recipe.load("patchmatch").hash
    assert made.record.finished_at is not None
    upright = upright_rgb(tmp_path / "stored.jpg")
    assert made.array.shape == np.asarray(made.image).shape == upright.shape
    assert made.hole.shape == upright.shape[:2]


def test_a_pillow_picture_is_taken_as_it_is_displayed() -> None:
    path = DEMO / "photos" / "lounge-bag-hang-tag.jpg"
    with Image.open(path) as stored:
        made = clean(stored, DEMO / "masks" / "lounge-bag-hang-tag.png", "telea")
        upright = np.asarray(ImageOps.exif_transpose(stored))
    assert made.array.shape == upright.shape
    assert (made.array == upright)[~made.hole].mean() > 0.99


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"),
    [
        ((40, 60), np.uint8, "RGB"),
        ((40, 60, 2), np.uint8, "RGBA"),
        ((40, 60, 4), np.uint8, "RGBA"),
        ((40, 60), np.uint16, "RGB"),
        ((40, 60, 3), np.uint16, "RGB"),
        ((40, 60, 4), np.uint16, "RGBA"),
    ],
)
def test_arrays_come_back_in_their_own_shape_and_depth(
    shape: tuple[int, ...], dtype: Any, mode: str
) -> None:
    top = np.iinfo(dtype).max
    photo = np.random.default_rng(0).integers(top // 2, top, shape, dtype, endpoint=True)
    made = clean(photo, recipe="telea", boxes=[20, 10, 8, 8], options={"limits.min_mask_px": 1})
    assert (made.array.shape, made.array.dtype) == (shape, dtype)
    soft = np.zeros(shape[:2], np.bool_)
    soft[1:28, 10:40] = True
    assert np.array_equal(made.array[~soft], photo[~soft])
    assert not np.array_equal(made.array, photo)
    assert (made.image.mode, made.image.size) == (mode, (60, 40))


def test_a_profile_of_a_pillow_picture_is_kept(coffee: UInt8Array) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(coffee)
    picture.info["icc_profile"] = profile
    made = clean(picture, recipe="telea", boxes=BOX)
    assert Image.open(io.BytesIO(made.data)).info["icc_profile"] == profile


def test_the_photos_own_alpha_may_be_the_mask(coffee: UInt8Array) -> None:
    erased = np.dstack([coffee, np.full(coffee.shape[:2], 255, np.uint8)])
    erased[Y : Y + HEIGHT, X : X + WIDTH] = 0
    options = {"mask.channel": "alpha", "mask.polarity": "dark"}
    made = clean(erased, erased, "telea", options=options)
    assert (made.array[..., 3] == 255).all(), "what was filled is opaque"


def test_a_photo_that_is_its_own_mask_is_refused_unless_its_alpha_marks() -> None:
    drawn = np.zeros((60, 80), np.uint8)
    drawn[20:40, 20:40] = 255
    with pytest.raises(RowError, match="is the photo itself") as caught:
        clean(drawn, drawn.copy(), "telea")
    assert caught.value.code == "mask.ambiguous"
    made = clean(drawn, drawn.copy(), "telea", options={"mask.values": "levels"})
    assert made.hole.any()


def test_options_are_those_of_a_recipe(coffee: UInt8Array) -> None:
    recipe = Recipe.load("telea", ["mask.dilate_px=9"])
    options = {"mask.dilate_px": 9}
    made = [
        clean(coffee, boxes=BOX, recipe=recipe),
        clean(coffee, boxes=BOX, recipe="telea", options=options),
        clean(coffee, boxes=BOX, recipe=Recipe.load("telea"), options=options),
    ]
    assert {each.record.recipe_hash for each in made} == {recipe.hash}
    assert len({each.data for each in made}) == 1
    assert Recipe.load("clean", {"refine": None, "judge": None}).refine is None


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({}, RowError, "mask.no_uri"),
        ({"mask": []}, RowError, "mask.no_uri"),
        ({"mask": "absent.png"}, RowError, "mask.not_found"),
        ({"mask": b"nothing"}, RowError, "mask.not_an_image"),
        ({"mask": np.zeros((40, 60), np.uint8)}, RowError, "mask.size_mismatch"),
        ({"mask": np.zeros((400, 600), np.float32)}, RowError, "mask.unsupported"),
        ({"mask": np.zeros((0, 600), np.uint8)}, RowError, "mask.unsupported"),
        ({"mask": Image.new("F", (600, 400))}, RowError, "mask.unsupported"),
        ({"boxes": [700, 0, 10, 10]}, RowError, "mask.bad_shape"),
        ({"boxes": [float("nan"), 0, 10, 10]}, RowError, "mask.bad_shape"),
        ({"boxes": BOX, "photo": "absent.jpg"}, RowError, "image.not_found"),
        ({"boxes": BOX, "photo": Image.new("CMYK", (600, 400))}, RowError, "image.unsupported"),
        ({"boxes": BOX, "photo": np.ones((400, 600), np.bool_)}, RowError, "image.unsupported"),
        ({"boxes": BOX, "recipe": "tela"}, RecipeError, "recipe.not_found"),
        ({"boxes": BOX, "options": {"mask.dilate": 1}}, RecipeError, "recipe.invalid"),
        ({"boxes": BOX, "options": {"name.x": 1}}, RecipeError, "recipe.invalid"),
        ({"boxes": BOX, "output": "result.webp"}, RowError, "output.other_format"),
        ({"boxes": BOX, "output": str(COFFEE)}, RowError, "output.is_input"),
    ],
)
def test_errors_are_raised_with_their_code_and_remedy_once(
    arguments: dict[str, Any], kind: type[CatalogCleanupError], told: str
) -> None:
    with pytest.raises(kind) as caught:
        clean(**{"photo": COFFEE, "recipe": "telea", **arguments})
    assert caught.value.code == told
    assert str(caught.value).count(caught.value.remedy) == 1


def test_an_error_names_its_step(coffee: UInt8Array) -> None:
    with pytest.raises(RowError) as caught:
        clean(coffee, np.ones((400, 600), np.bool_))
    assert (caught.value.code, caught.value.__notes__) == (
        "mask.covers_photo",
        ["In the step mask."],
    )


def test_a_damaged_pillow_picture_is_a_damaged_photo() -> None:
    half = Image.open(io.BytesIO(COFFEE.read_bytes()[:30000]))
    with pytest.raises(RowError, match="truncated") as caught:
        clean(half, boxes=BOX)
    assert caught.value.code == "image.corrupt"


def test_what_is_no_picture_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="the image is a int; it must be a path"):
        clean(7, boxes=BOX)  # type: ignore[arg-type]


def test_nothing_marked_passes_the_file_on() -> None:
    made = clean(COFFEE, boxes=[])
    assert made.data == COFFEE.read_bytes()
    assert not made.hole.any()


@pytest.mark.parametrize("recipe", ["telea", "patchmatch"])
def test_threads_change_nothing(recipe: str, coffee: UInt8Array) -> None:
    """Whether they share a cleaner or not."""
    cleaner = Cleaner(Recipe.load(recipe))
    boxes = [[x, 130, 60, 40] for x in (50, 150, 250, 350)]
    alone = [cleaner.clean(coffee, boxes=box).data for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        shared = pool.map(lambda box: cleaner.clean(coffee, boxes=box).data, boxes)
        own = pool.map(lambda box: clean(coffee, recipe=recipe, boxes=box).data, boxes)
        assert list(shared) == list(own) == alone


def test_importing_stages_is_cheap_and_nothing_there_needs_ray() -> None:
    code = (
        "import sys, stages; assert 'numpy' not in sys.modules; from stages import clean; "
        "assert not {'ray', 'jobs', 'torch'} & sys.modules.keys(); stages.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "AttributeError: module 'stages' has no attribute 'nothing'"
    )
