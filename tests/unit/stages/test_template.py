"""A logo is found by its picture at any place and size, and nothing is found where it is not."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from manifests.errors import RecipeError, RowError
from stages.arrays import BoolMask, UInt8Array
from stages.detection import Detection
from stages.detection.options import TemplateOptions
from stages.detection.template import TemplateDetector, load
from stages.recipe import Recipe
from stages.steps.detect import union
from tests.support import DEMO, encoded, upright_rgb, write
from tests.support.files.stickers import LOGO_SHAPE, logo, with_logo

PHOTOS = sorted((DEMO / "photos").iterdir())


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> TemplateDetector:
    picture = write(tmp_path_factory.mktemp("templates") / "logo.png", encoded(logo()))
    return load(TemplateOptions(templates=(picture,)))


def detector_of(folder: Path, picture: Image.Image, **options: float) -> TemplateDetector:
    return load(TemplateOptions(templates=(write(folder / "it.png", encoded(picture)),), **options))


def removed(found: list[Detection]) -> list[Detection]:
    return [each for each in found if each.remove]


def shape_at(at: tuple[int, int], width: int, size: tuple[int, int]) -> BoolMask:
    """``(h, w)`` bool: the pixels that a pasted logo covers."""
    made = Image.new("1", size)
    made.paste(LOGO_SHAPE.resize((width, width // 2)), at)
    return np.asarray(made)


@pytest.mark.parametrize("share", [0.06, 0.15, 0.45])
def test_it_is_found_at_every_size_to_the_pixel(detector: TemplateDetector, share: float) -> None:
    photo = Image.fromarray(upright_rgb(PHOTOS[1]))
    width = round(share * max(photo.size))
    at = (photo.width - width - 7, photo.height // 3)
    found = removed(detector(np.asarray(with_logo(photo, at, width))))
    assert [each.label for each in found] == ["logo"]
    truth = shape_at(at, width, photo.size)
    covered = union(found, truth.shape)
    assert (covered & truth).sum() >= 0.98 * truth.sum()
    assert (covered & ~truth).sum() <= 0.1 * truth.sum()


def test_nothing_is_found_in_photos_without_it(detector: TemplateDetector) -> None:
    for path in PHOTOS[:4]:
        assert removed(detector(upright_rgb(path))) == [], path.name
    assert detector(np.full((300, 400, 3), 255, np.uint8)) == []


def test_it_may_be_fainter_darker_or_several_times_there(detector: TemplateDetector) -> None:
    photo = Image.fromarray(upright_rgb(PHOTOS[1]))
    shown = with_logo(with_logo(photo, (20, 20), 130), (300, 250), 90)
    faint = Image.blend(photo, shown, 0.5)
    dark = ImageEnhance.Brightness(shown).enhance(0.6)
    for each in (faint, dark):
        boxes = [each.box for each in removed(detector(np.asarray(each)))]
        assert [(round(box.x0, -1), round(box.y0, -1)) for box in boxes] == [(20, 20), (300, 250)]


def test_templates_of_one_name_in_several_folders_are_all_recorded(tmp_path: Path) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
    turned = logo().transpose(Image.Transpose.ROTATE_90)
    files = [encoded(each) for each in (logo(), turned, logo().reduce(2))]
    paths = [
        write(tmp_path / folder / "logo.png", file)
        for folder, file in zip("abc", files, strict=True)
    ]
    detector = load(TemplateOptions(templates=tuple(paths)))
    names = ["logo", "logo 2", "logo 3"]
    hashes = [hashlib.sha256(each).hexdigest() for each in files]
    assert detector.content_hashes == dict(zip(names, hashes, strict=True))
    shown = with_logo(Image.fromarray(upright_rgb(PHOTOS[1])), (20, 20), 130).rotate(
        90, expand=True
    )
    assert [each.label for each in removed(detector(np.asarray(shown)))] == ["logo 2"]


def test_more_than_the_maximum_and_weaker_ones_are_kept_with_a_reason(tmp_path: Path) -> None:
    photo = Image.fromarray(upright_rgb(PHOTOS[1]))
    shown = np.asarray(with_logo(with_logo(photo, (20, 20), 130), (300, 250), 90))
    one = detector_of(tmp_path, logo(), max_matches=1)(shown)
    assert sorted(each.reason for each in one) == ["more than 1 matches", "template"]
    strict = detector_of(tmp_path, logo(), threshold=1.0)(shown)
    assert {each.reason for each in strict} == {"correlation below 1"}
    assert all(each.mask is None and not each.remove for each in strict)


def test_white_background_does_not_count_unless_the_logo_encloses_it(tmp_path: Path) -> None:
    """A ring of the logo's colours keeps the white inside it."""
    ring = logo()
    ImageDraw.Draw(ring).ellipse((95, 35, 135, 85), fill=(255, 255, 255, 255))
    on_white = Image.new("RGB", (300, 200), "white")
    on_white.paste(ring, (30, 40), ring)
    detector = detector_of(tmp_path, on_white)
    photo = Image.fromarray(upright_rgb(PHOTOS[1]))
    small = ring.resize((120, 60), Image.Resampling.LANCZOS)
    photo.paste(small, (200, 100), small)
    (found,) = removed(detector(np.asarray(photo)))
    assert found.mask is not None
    assert abs(found.box.width - 120) <= 3, "the background is cut off"
    assert not found.mask[:4, :4].any(), "nor removed"
    assert found.mask[found.box.height // 2, found.box.width // 2]


def test_colours_of_the_same_brightness_tell_logos_apart(tmp_path: Path) -> None:
    def stripes(*colours: tuple[int, int, int]) -> Image.Image:
        rows: UInt8Array = np.zeros((80, 80, 3), np.uint8)
        for number in range(8):
            rows[:, 10 * number : 10 * number + 10] = colours[number % 2]
        return Image.fromarray(rows)

    photo = Image.fromarray(upright_rgb(PHOTOS[1]))
    photo.paste(stripes((200, 60, 60), (60, 131, 60)), (40, 50))
    detector = detector_of(tmp_path, stripes((200, 60, 60), (60, 131, 60)))
    (found,) = removed(detector(np.asarray(photo)))
    assert max(abs(found.box.x0 - 40), abs(found.box.y0 - 50)) <= 1


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (b"", "cannot be used: The image .* has no bytes"),
        (b"no picture", "is not a picture"),
        (encoded(Image.new("RGB", (40, 40), "red")), "it has only one colour"),
        (encoded(Image.new("RGB", (40, 40), "white")), "nothing in it is visible"),
        (encoded(Image.new("RGBA", (40, 40))), "nothing in it is visible"),
    ],
)
def test_a_template_that_shows_nothing_is_refused_at_once(
    picture: bytes, told: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "bad.png", picture)
    with pytest.raises(RecipeError, match=f"{re.escape(path)}.*{told}") as caught:
        TemplateOptions(templates=(path,)).pinned()
    assert caught.value.code == "detect.bad_template"


def test_options_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"There is no image .*/gone\.png") as caught:
        TemplateOptions(templates=(str(tmp_path / "gone.png"),)).pinned()
    assert caught.value.code == "detect.bad_template"
    for options, told in {
        ("detect.templates=[]",): "templates",
        ("detect.templates=a.png", "detect.min_share=0.6"): "min_share is larger",
        ("detect.templates=a.png", "detect.templates_pin=[]", "detect.max_matches=0"): "max_match",
    }.items():
        with pytest.raises(RecipeError, match=told):
            Recipe.load("telea", ["detect.method=template", *options])


def test_a_template_that_fits_nowhere_fails_the_photo(tmp_path: Path) -> None:
    tall = detector_of(tmp_path, logo().rotate(90, expand=True), min_share=0.9, max_share=1.0)
    with pytest.raises(RowError, match="does not fit into the photo of 600x200 px") as caught:
        tall(np.zeros((200, 600, 3), np.uint8))
    assert caught.value.code == "detect.template_too_large"
