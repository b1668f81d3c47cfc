"""The row: how it travels between actors, and that one bad row costs only itself."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools import mask as coco

from manifests.errors import OutputError, RowError, error_codes, error_from_code
from manifests.planning.marks import Marks
from manifests.schema import LineageRow, PatchRecord, TryRecord, lineage_dict, lineage_schema
from stages.codecs.jpeg import libjpeg
from stages.models.refiners.prompts import Prompt
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from stages.steps.base import run_steps
from stages.steps.fetch import build_fetch_again
from tests.support import DEMO, as_sent, encoded
from tests.support.files.coefficients import coefficients_of, header_of


def demo_photo(name: str, recipe: Recipe, suffix: str = "jpg") -> Photo:
    return Photo(
        LineageRow(
            id=name,
            image_uri=str(DEMO / "photos" / f"{name}.{suffix}"),
            mask_uri=str(DEMO / "masks" / f"{name}.png"),
            recipe_hash=recipe.hash,
        )
    )


def made(recipe: Recipe, output: Path) -> Pipeline:
    return Pipeline.of(recipe, str(output))


@pytest.mark.parametrize("border", ["cut", "remove"])
def test_travelling_between_pools_changes_nothing(border: str, tmp_path: Path) -> None:
    recipe = Recipe.load("telea")
    direct = demo_photo("fig-bowl-sticker-date", recipe)
    made(recipe, tmp_path / "direct").run(direct)
    works = made(recipe, tmp_path / "travelled")
    photo = demo_photo("fig-bowl-sticker-date", recipe)
    works.until(border).run(photo)
    photo.extra = {"sku": "0012"}
    photo = as_sent(photo)
    assert photo.extra == {"sku": "0012"}
    build_fetch_again(recipe)(photo)
    works.after(border).run(photo)
    assert photo.ok, photo.lineage.error
    assert photo.lineage.output_sha256 == direct.lineage.output_sha256
    assert photo.lineage.patches == direct.lineage.patches
    assert len(photo.lineage.patches) == 2


@pytest.mark.parametrize("name", ["lounge-bag-hang-tag", "dandelion-watermark"])
def test_a_jpeg_keeps_its_blocks_outside_the_mask(name: str, tmp_path: Path) -> None:
    """One is stored on its side, with the mask drawn on it upright; the other is progressive."""
    recipe = Recipe.load("telea")
    photo = demo_photo(name, recipe)
    made(recipe, tmp_path).run(photo)
    assert (photo.lineage.fidelity, photo.lineage.fidelity_note) == ("coefficients", None)
    drawn = np.asarray(Image.open(photo.lineage.mask_uri)) >= 128
    reach = recipe.mask.dilate_px + recipe.mask.feather_px + 1
    reached = distance_outside(drawn) < reach
    stored = np.rot90(reached) if name.startswith("lounge") else reached
    source = Path(photo.lineage.image_uri).read_bytes()
    result = Path(str(photo.lineage.output_uri)).read_bytes()
    planes = zip(coefficients_of(source), coefficients_of(result), strict=True)
    for number, (was, now) in enumerate(planes):
        across, down = (8 * each for each in header_of(source).subsampling_of(number))
        may_change = np.zeros(was.shape[:2], np.bool_)
        ys, xs = np.nonzero(stored)
        may_change[ys // down, xs // across] = True
        changed = (was != now).any(axis=2)
        assert not changed[~may_change].any()
        assert changed[may_change].mean() > 0.5


def test_without_the_library_a_jpeg_is_coded_again_and_the_lineage_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libjpeg, "library", lambda: None)
    recipe = Recipe.load("telea")
    photo = demo_photo("dandelion-watermark", recipe)
    made(recipe, tmp_path).run(photo)
    assert photo.lineage.fidelity == "reencoded"
    assert "no libjpeg" in str(photo.lineage.fidelity_note)


def test_an_empty_mask_passes_the_file_through_byte_for_byte(tmp_path: Path) -> None:
    recipe = Recipe.load("patchmatch")
    photo = demo_photo("fig-bowl-sticker-date", recipe)
    (tmp_path / "black.png").write_bytes(encoded(Image.new("L", (1300, 879))))
    photo.lineage.mask_uri = str(tmp_path / "black.png")
    made(recipe, tmp_path).run(photo)
    assert photo.ok
    assert photo.lineage.masked_px == 0
    assert photo.lineage.output_sha256 == photo.lineage.image_sha256
    assert photo.lineage.fidelity == "identical"


def with_marks(name: str, recipe: Recipe, files: list[str], **shapes: object) -> Photo:
    photo = demo_photo(name, recipe)
    photo.lineage.mask_uri, photo.lineage.marks = Marks(files, shapes).pack()
    return photo


def test_masks_and_shapes_are_united(tmp_path: Path) -> None:
    """The demo's mask, taken apart, and put together again from all forms that marks have."""
    recipe = Recipe.load("telea")
    whole = demo_photo("fig-bowl-sticker-date", recipe)
    drawn = np.array(Image.open(whole.lineage.mask_uri).convert("L"))
    height, width = drawn.shape
    drawn[600:650, 300:420] = drawn[700:740, 100:160] = 255
    (tmp_path / "whole.png").write_bytes(encoded(drawn))
    whole.lineage.mask_uri = str(tmp_path / "whole.png")
    made(recipe, tmp_path / "whole").run(whole)
    drawn[600:650, 300:420] = drawn[700:740, 100:160] = 0
    parts = [drawn.copy(), drawn.copy(), drawn]
    parts[0][:, width // 3 :] = parts[1][:, : width // 3] = parts[1][height // 2 :] = 0
    parts[2][: height // 2] = parts[2][:, : width // 3] = 0
    files = [str(tmp_path / "0.png"), str(tmp_path / "1.png")]
    for file, part in zip(files, parts, strict=False):
        Path(file).write_bytes(encoded(part))
    rle = coco.encode(np.asfortranarray(parts[2] >= 128, np.uint8))
    photo = with_marks(
        "fig-bowl-sticker-date",
        recipe,
        files,
        boxes=[[300, 600, 120, 50]],
        polygons=[100, 700, 160, 700, 160, 740, 100, 740],
        rle={"size": rle["size"], "counts": rle["counts"].decode()},
    )
    made(recipe, tmp_path / "parts").run(photo)
    assert photo.ok, photo.lineage.error
    assert photo.lineage.masked_px == whole.lineage.masked_px
    assert photo.lineage.output_sha256 == whole.lineage.output_sha256
    hashes = "".join(sha256(Path(file).read_bytes()).hexdigest() for file in files)
    assert photo.lineage.mask_sha256 == sha256(hashes.encode()).hexdigest()


@pytest.mark.parametrize("shapes", [{}, {"boxes": []}, {"polygons": [], "rle": []}])
def test_an_empty_list_is_an_empty_mask(shapes: dict[str, object], tmp_path: Path) -> None:
    recipe = Recipe.load("telea")
    photo = with_marks("fig-bowl-sticker-date", recipe, [], **shapes)
    made(recipe, tmp_path).run(photo)
    assert photo.ok, photo.lineage.error
    assert (photo.lineage.fidelity, photo.lineage.mask_sha256) == ("identical", None)


def test_a_shape_that_cannot_be_drawn_fails_its_row(tmp_path: Path) -> None:
    recipe = Recipe.load("telea")
    photo = with_marks("fig-bowl-sticker-date", recipe, [], boxes=[[5000, 1, 9, 9]])
    made(recipe, tmp_path).run(photo)
    assert (photo.lineage.error_code, photo.lineage.error_stage) == ("mask.bad_shape", "mask")
    assert "boxes[0] lies outside the photo of 1300x879" in str(photo.lineage.error)


@pytest.mark.parametrize("channel", ["alpha", "luminance"])
def test_what_was_erased_in_an_editor_is_marked(channel: str, tmp_path: Path) -> None:
    recipe = Recipe.load("telea", [f"mask.channel={channel}", "mask.polarity=dark"])
    colours = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").convert("RGBA")
    erased = Image.new("L", colours.size, 255)
    erased.paste(0, (470, 275, 585, 370))
    colours.putalpha(erased)
    path = tmp_path / "erased.png"
    path.write_bytes(encoded(colours))
    row = LineageRow(id="x", image_uri=str(path), mask_uri=str(path), recipe_hash=recipe.hash)
    photo = Photo(row)
    made(recipe, tmp_path).until("cut").run(photo)
    if channel == "alpha":
        assert photo.ok, photo.lineage.error
        (patch,) = photo.lineage.patches
        grown_by = recipe.mask.dilate_px
        assert patch.region == {
            "x": 470 - grown_by,
            "y": 275 - grown_by,
            "width": 115 + 2 * grown_by,
            "height": 95 + 2 * grown_by,
        }
    assert photo.alpha_is_mask == as_sent(photo).alpha_is_mask == (channel == "alpha")
    assert row.mask_sha256 == row.image_sha256


def test_each_of_several_masks_is_fitted_to_the_photo(tmp_path: Path) -> None:
    half, full = np.zeros((440, 650), np.uint8), np.zeros((879, 1300), np.uint8)
    half[100:150, 100:150] = full[500:600, 900:1000] = 255
    files = [str(tmp_path / "half.png"), str(tmp_path / "full.png")]
    for file, mask in zip(files, (half, full), strict=True):
        Path(file).write_bytes(encoded(mask))
    strict = Recipe.load("telea", ["mask.dilate_px=0"])
    photo = with_marks("fig-bowl-sticker-date", strict, files)
    made(strict, tmp_path).run(photo)
    assert photo.lineage.error_code == "mask.size_mismatch"
    assert "half.png is 650x440, the photo 1300x879" in str(photo.lineage.error)
    scaling = Recipe.load("telea", ["mask.dilate_px=0", "mask.scale_to_photo=true"])
    photo = with_marks("fig-bowl-sticker-date", scaling, files)
    made(scaling, tmp_path).run(photo)
    assert photo.ok, photo.lineage.error
    assert photo.lineage.masked_px == pytest.approx(2 * 100 * 100, rel=0.05)
    assert len(photo.lineage.patches) == 2


def test_a_mask_over_everything_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.load("telea")
    photo = demo_photo("fig-bowl-sticker-date", recipe)
    (tmp_path / "white.png").write_bytes(encoded(Image.new("L", (1300, 879), 255)))
    photo.lineage.mask_uri = str(tmp_path / "white.png")
    made(recipe, tmp_path).run(photo)
    assert photo.lineage.error_code == "mask.covers_photo"
    assert "covers 1 of it, more than limits.max_mask_share = 0.8." in str(photo.lineage.error)
    assert photo.lineage.error_stage == "mask"
    assert not list(tmp_path.glob("images/*"))


SPECK = np.zeros((879, 1300), np.uint8)
SPECK[400:403, 500:505] = 255

SPECKS: dict[str, dict[str, object]] = {
    "file": {},
    "boxes": {"boxes": [[500, 400, 5, 3]]},
    "polygons": {"polygons": [[500, 400, 505, 400, 505, 403, 500, 403]]},
    "rle": {"rle": {"size": [879, 1300], "counts": [879 * 500 + 400, 15, 879 * 800 - 415]}},
}


@pytest.mark.parametrize("kind", SPECKS)
def test_a_mark_of_some_pixels_is_refused_whatever_its_kind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "speck.png").write_bytes(encoded(SPECK))
    files = [str(tmp_path / "speck.png")] if kind == "file" else []
    for limit in (16, 15):
        recipe = Recipe.load("telea", [f"limits.min_mask_px={limit}"])
        photo = with_marks("fig-bowl-sticker-date", recipe, files, **SPECKS[kind])
        made(recipe, tmp_path).run(photo)
        if limit == 16:
            assert (photo.lineage.error_code, photo.lineage.error_stage) == (
                "mask.too_small",
                "mask",
            )
            assert "has 15 px, fewer than 16" in str(photo.lineage.error)
        else:
            assert photo.ok, photo.lineage.error


def test_in_a_thumbnail_a_thousandth_is_enough(tmp_path: Path) -> None:
    recipe = Recipe.load("telea")
    (tmp_path / "thumbnail.png").write_bytes(encoded(Image.new("RGB", (64, 64), "red")))
    photo = with_marks("fig-bowl-sticker-date", recipe, [], boxes=[[30, 30, 2, 2]])
    photo.lineage.image_uri = str(tmp_path / "thumbnail.png")
    made(recipe, tmp_path).run(photo)
    assert photo.ok, photo.lineage.error


def test_boxes_are_read_in_the_units_of_the_recipe(tmp_path: Path) -> None:
    share = [0.25, 0.5, 0.125, 0.25]
    regions = {}
    for units, factor in (("share", 1), ("percent", 100)):
        recipe = Recipe.load("telea", [f"shapes.units={units}", "mask.dilate_px=0"])
        boxes = [[number * factor for number in share]]
        photo = with_marks("fig-bowl-sticker-date", recipe, [], boxes=boxes)
        made(recipe, tmp_path).until("cut").run(photo)
        assert photo.ok, photo.lineage.error
        (regions[units],) = (patch.region for patch in photo.lineage.patches)
    assert regions["share"] == {"x": 325, "y": 439, "width": 163, "height": 221}
    assert regions["percent"] == regions["share"]
    recipe = Recipe.load("telea")
    photo = with_marks("fig-bowl-sticker-date", recipe, [], boxes=[share])
    made(recipe, tmp_path).run(photo)
    assert photo.lineage.error_code == "mask.bad_shape"
    assert "--set shapes.units=share" in str(photo.lineage.error)


def test_a_mask_of_dark_labels_is_no_empty_mask(tmp_path: Path) -> None:
    drawn = np.zeros((879, 1300), np.uint8)
    drawn[200:260, 300:420] = 2
    (tmp_path / "labels.png").write_bytes(encoded(drawn))
    recipe = Recipe.load("telea", ["mask.dilate_px=0"])
    photo = with_marks("fig-bowl-sticker-date", recipe, [str(tmp_path / "labels.png")])
    made(recipe, tmp_path).run(photo)
    assert photo.ok, photo.lineage.error
    assert photo.lineage.masked_px == 60 * 120
    assert photo.lineage.output_sha256 != photo.lineage.image_sha256


def test_errors_are_caught_in_one_place_and_pixels_freed() -> None:
    words = np.zeros((1, 1), np.float32)
    photo = Photo(LineageRow(id="x"), original=b"data", prompt=Prompt(words, words, ""))

    def bad_input(_: Photo) -> None:
        raise RowError("image.corrupt", "The image x is bad.")

    def never(_: Photo) -> None:
        raise AssertionError("a failed photo skips the rest")

    run_steps([photo], [("decode", bad_input), ("mask", never)])
    row = photo.lineage
    assert (row.status, row.error_code, row.error_stage) == ("failed", "image.corrupt", "decode")
    assert (row.error or "").startswith("The image x is bad. Upload it again.")
    assert photo == Photo(row), "all but the record is freed"
    assert list(row.seconds) == ["decode"]


def test_a_fault_of_ours_costs_one_row_and_keeps_its_traceback() -> None:
    photo = Photo(LineageRow(id="x"))

    def fault(_: Photo) -> None:
        np.zeros((2, 2)) @ np.zeros((3, 3))

    run_steps([photo], [("remove", fault)])
    assert photo.lineage.error_code == "internal.error"
    assert "in fault" in (photo.lineage.error or "")


def test_a_full_disk_is_not_the_rows_fault() -> None:
    photo = Photo(LineageRow(id="x"))

    def full(_: Photo) -> None:
        raise OutputError("output.not_writable", "Cannot store x: no space.")

    with pytest.raises(OutputError):
        run_steps([photo], [("publish", full)])
    assert photo.ok


def test_the_lineage_row_fits_its_schema_and_its_patches_read_back() -> None:
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    tries = [TryRecord(7, 0.8), TryRecord(8, 0.8, None, 2.0, 0.25)]
    patches = [
        PatchRecord(box, box, box, 5, 6, seed=7),
        PatchRecord(box, box, box, 5, 6, 7, refined=True, reason="always", tries=tries),
    ]
    rows = [lineage_dict(LineageRow(id="x", patches=patches))]
    table = pa.Table.from_pylist(rows, schema=lineage_schema())
    assert table.column_names == lineage_schema().names
    packed = table["patches"].to_pylist()[0]
    assert packed[1]["tries"][0].keys() == {*asdict(tries[0]), "learned"}
    assert [PatchRecord.from_dict(each) for each in packed] == patches
    assert all(field.metadata[b"doc"] for field in table.schema)


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    for listed in error_codes().values():
        assert listed.meaning.endswith(".")
        assert listed.remedy
    assert error_codes()["mask.truncated"] == error_codes()["image.truncated"]
    assert "mask.stale_preview" not in error_codes()
    assert len(error_codes()) > 70


def test_a_code_fixes_the_class_of_its_error() -> None:
    for code in error_codes():
        error = error_from_code(code, "x")
        assert (error.code, pickle.loads(pickle.dumps(error)).code) == (code, code)  # noqa: S301 - ours
    assert type(error_from_code("mask.corrupt", "x")) is RowError
    with pytest.raises(TypeError, match=r"output\.in_use"):
        RowError("output.in_use", "x")
    with pytest.raises(KeyError):
        RowError("image.unheard_of", "x")
