"""What a detector finds in unmarked photos is removed, recorded and stored; nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.pipeline.spec import group_steps
from manifests.errors import RecipeError, RowError
from manifests.schema import DetectionRecord, LineageRow, lineage_dict, lineage_row, lineage_schema
from stages import clean
from stages.photo import Photo
from stages.pipeline import Pipeline, steps
from stages.recipe import Recipe
from tests.support import DEMO, as_sent, encoded, write
from tests.support.files.stickers import LOGO_SHAPE, logo, with_logo

NUTHATCH = DEMO / "photos" / "nuthatch-caption.webp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a logo, a photo that shows it, and one that does not."""
    made = tmp_path_factory.mktemp("logos")
    write(made / "logo.png", encoded(logo()))
    plain = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").convert("RGB")
    plain.save(made / "plain.png")
    with_logo(plain, (400, 40), 120).save(made / "marked.png")
    return made


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    options = ["detect.method=template", f"detect.templates={folder / 'logo.png'}", *overrides]
    return Recipe.load("telea", options)


def run(photo: Path, recipe: Recipe, output: Path, **row: Any) -> Photo:
    done = Photo(LineageRow(id=photo.stem, image_uri=str(photo), recipe_hash=recipe.hash, **row))
    Pipeline.of(recipe, str(output)).run(done)
    return done


def pixels(path: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(str(path)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_what_is_found_is_removed_recorded_and_its_mask_gives_the_same_result(
    folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(folder)
    row = run(folder / "marked.png", recipe, tmp_path).lineage
    assert row.status == "ok", row.error
    (found,) = row.detections or []
    assert (found.label, found.removed, found.reason) == ("logo", True, "template")
    assert found.confidence > 0.95
    box = found.box
    assert abs(box["x"] - 400) <= 2
    assert abs(box["width"] - 120) <= 4
    assert found.outline[:2] == [box["x"], box["y"]]
    assert list(row.weights) == ["logo"]
    before, after, plain = (
        pixels(each) for each in (folder / "marked.png", row.output_uri, folder / "plain.png")
    )
    inside = np.zeros(before.shape[:2], np.bool_)
    inside[40:100, 400:520] = LOGO_SHAPE.resize((120, 60)).convert("L")
    assert np.abs(after[inside].astype(int) - plain[inside]).mean() < 40
    assert (before != after).any(axis=2)[inside].mean() > 0.99
    assert (before == after)[:, :380].all()

    mask = f"{tmp_path}/masks/{recipe.label}/marked.png"
    assert row.detected_uri == mask
    assert np.asarray(Image.open(mask)).shape == before.shape[:2]
    marked = run(folder / "marked.png", Recipe.load("telea"), tmp_path, mask_uri=mask).lineage
    assert marked.region_sha256 == row.region_sha256
    assert marked.output_sha256 == row.output_sha256
    result = clean(folder / "marked.png", recipe=recipe)
    assert result.record.output_sha256 == row.output_sha256


@pytest.mark.parametrize("mask", ["mask.polarity=dark", "mask.channel=alpha"])
def test_the_stored_mask_is_one_that_the_recipe_reads(
    mask: str, folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(folder, mask)
    row = run(folder / "marked.png", recipe, tmp_path).lineage
    assert row.detected_uri, row.error
    marked = run(folder / "marked.png", recipe, tmp_path / "2", mask_uri=row.detected_uri).lineage
    assert marked.detections is None
    assert marked.output_sha256 == row.output_sha256


def test_a_photo_without_anything_is_passed_on_as_it_is(folder: Path, tmp_path: Path) -> None:
    """Also a damaged one: nothing of it is edited, so nothing is repaired."""
    recipe = recipe_of(folder, "limits.damage=repair")
    cut = write(
        tmp_path / "cut.jpg", (DEMO / "photos" / "fig-bowl-sticker-date.jpg").read_bytes()[:-2]
    )
    for photo in (folder / "plain.png", Path(cut)):
        row = run(photo, recipe, tmp_path).lineage
        assert (row.status, row.fidelity, row.masked_px) == ("ok", "identical", 0), row.error
        assert (row.detections, row.detected_uri) == ([], None)
        assert Path(str(row.output_uri)).read_bytes() == photo.read_bytes()
    assert str(row.fidelity_note).startswith("damaged, passed on unchanged")


def test_a_damaged_photo_is_repaired_once_something_is_found(folder: Path, tmp_path: Path) -> None:
    shown = with_logo(Image.open(folder / "plain.png"), (50, 60), 100)
    whole = encoded(shown, format="JPEG", quality=95)
    photo = Path(write(tmp_path / "cut.jpg", whole[:-2]))
    row = run(photo, recipe_of(folder, "limits.damage=repair"), tmp_path).lineage
    assert (row.status, row.fidelity) == ("ok", "coefficients"), row.error
    assert row.fidelity_note
    assert "passed on" not in row.fidelity_note


def test_marked_photos_are_not_searched_unless_always(folder: Path, tmp_path: Path) -> None:
    box = '{"boxes":[[10,300,40,30]]}'
    row = run(folder / "marked.png", recipe_of(folder), tmp_path, marks=box).lineage
    assert (row.detections, len(row.patches)) == (None, 1)
    always = recipe_of(folder, "detect.when=always")
    row = run(folder / "marked.png", always, tmp_path, marks=box).lineage
    assert (len(row.detections or ()), len(row.patches)) == (1, 2)


def test_an_unmarked_photo_needs_a_recipe_that_detects(folder: Path, tmp_path: Path) -> None:
    row = run(folder / "marked.png", Recipe.load("telea"), tmp_path).lineage
    assert (row.error_code, row.error_stage) == ("mask.no_uri", "decode")
    with pytest.raises(RowError, match=r"neither a mask nor shapes"):
        clean(folder / "marked.png", recipe="telea")
    with pytest.raises(RecipeError, match="only detects"):
        clean(folder / "marked.png", recipe=recipe_of(folder).detecting())


def test_16_bits_cmyk_grey_and_transparency_are_searched_as_displayed(
    folder: Path, tmp_path: Path
) -> None:
    shown = with_logo(Image.open(folder / "plain.png"), (100, 60), 140)
    rgb = np.asarray(shown)
    deep = clean_file_of_16_bits(rgb)
    see_through = shown.convert("RGBA")
    hidden = Image.new("L", shown.size, 255)
    hidden.paste(0, (300, 0, 600, 400))
    see_through.putalpha(hidden)
    files = {
        "deep.png": deep,
        "cmyk.jpg": encoded(shown.convert("CMYK"), format="JPEG", quality=95),
        "grey.png": encoded(shown.convert("L")),
        "alpha.png": encoded(see_through),
    }
    write(folder / "grey.png", encoded(logo().convert("LA")))
    both = f'detect.templates=["{folder / "logo.png"}", "{folder / "grey.png"}"]'
    recipe = recipe_of(folder, both)
    for name, data in files.items():
        row = run(Path(write(tmp_path / name, data)), recipe, tmp_path).lineage
        assert row.status == "ok", row.error
        (found,) = [each for each in row.detections or () if each.removed]
        assert abs(found.box["x"] - 100) <= 3, name


def clean_file_of_16_bits(rgb: Any) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(rgb.astype(np.uint16) * 257, level=1))


def test_specks_are_kept_and_limits_do_not_change_what_is_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = encoded(with_logo(Image.open(folder / "plain.png"), (60, 40), 22))
    photo = Path(write(tmp_path / "small.png", small))
    limited = recipe_of(folder, "limits.min_mask_px=1000", "detect.min_share=0.03")
    row = run(photo, limited, tmp_path).lineage
    assert (row.error_code, row.detections and row.detections[0].removed) == (
        "mask.too_small",
        True,
    )
    monkeypatch.setattr("stages.steps.detect._MIN_PX", 1000)
    row = run(photo, recipe_of(folder, "detect.min_share=0.03"), tmp_path).lineage
    assert (row.status, row.masked_px) == ("ok", 0), row.error
    (found,) = row.detections or []
    assert (found.removed, found.reason) == (False, "fewer than 240 px")


def test_detection_alone_stores_masks_and_no_photos(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder).detecting()
    assert recipe.name == "telea-detect"
    assert recipe.hash == recipe_of(folder, "crop.context=3", "output.format=png").detecting().hash
    assert recipe.hash != recipe_of(folder, "mask.dilate_px=9").detecting().hash
    row = run(folder / "marked.png", recipe, tmp_path).lineage
    assert (row.status, row.output_uri, row.patches) == ("ok", None, [])
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    with pytest.raises(RecipeError, match=r"no \[detect\] section"):
        Recipe.load("telea").detecting()


def test_what_shares_decoded_photos_runs_in_the_detectors_pool(folder: Path) -> None:
    recipe = recipe_of(folder)
    on_gpu = recipe.detect.model_copy(update={"device": "gpu"}) if recipe.detect else None
    listed = steps(recipe.model_copy(update={"detect": on_gpu}), "out")
    names = [
        (pool, [step.name for step in group]) for pool, group in group_steps(listed, has_gpus=True)
    ]
    first = ["fetch", "decode", "detect", "mask", "keep_mask", "cut"]
    assert names == [("small_gpu", first), ("cpu", ["remove", "stitch", "encode", "publish"])]
    assert len(group_steps(steps(recipe, "out"), has_gpus=True)) == 1


def test_detections_travel_and_read_back(folder: Path, tmp_path: Path) -> None:
    row = run(folder / "marked.png", recipe_of(folder), tmp_path).lineage
    assert as_sent(Photo(row)).lineage.detections == row.detections
    table = pa.Table.from_pylist([lineage_dict(row)], schema=lineage_schema())
    (packed,) = table.to_pylist(maps_as_pydicts="strict")
    assert lineage_row(packed).detections == row.detections
    assert all(isinstance(each, DetectionRecord) for each in row.detections or "x")
    del packed["detections"], packed["detected_uri"]  # as earlier versions recorded
    assert lineage_row(packed).detections is None


def test_the_content_of_a_template_is_the_recipes_identity(folder: Path, tmp_path: Path) -> None:
    one = recipe_of(folder).detect
    write(tmp_path / "other-name.png", (folder / "logo.png").read_bytes())
    write(tmp_path / "other.png", encoded(logo().rotate(180)))
    hashes = {}
    for path in (folder / "logo.png", tmp_path / "other-name.png", tmp_path / "other.png"):
        recipe = Recipe.load("telea", ["detect.method=template", f"detect.templates={path}"])
        assert recipe.detect
        pinned = recipe.model_copy(update={"detect": recipe.detect.pinned()})
        hashes[path.name] = pinned.hash
    assert hashes["logo.png"] == hashes["other-name.png"] != hashes["other.png"]
    assert one is not None
    pinned_one = one.pinned()
    write(tmp_path / "swapped.png", encoded(logo().rotate(180)))
    swapped = pinned_one.model_copy(update={"templates": (str(tmp_path / "swapped.png"),)})
    with pytest.raises(RecipeError, match="its sha256 is"):
        swapped.load_module().load(swapped)
