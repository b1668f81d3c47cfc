"""Text in photos: found at any size and angle, judged, and marked by its strokes or its badge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from manifests.errors import WeightsError
from stages.detection import Detection, ocr, text
from stages.detection.background import plain_background
from stages.detection.ocr import Line, TextReader
from stages.detection.options import TextOptions
from stages.detection.text import TextDetector
from stages.optional_imports import require
from stages.pixels.boxes import Box
from tests.support import DEMO, upright_rgb

Pixels = npt.NDArray[np.uint8]
Detect = Callable[..., dict[str, Detection]]


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


@pytest.fixture
def detect(reader: TextReader) -> Detect:
    """Detections by their text, without spaces."""

    def call(picture: Image.Image | Pixels, **options: Any) -> dict[str, Detection]:
        found = TextDetector(TextOptions(**options), reader)(np.asarray(picture))
        return {each.label.replace(" ", ""): each for each in found}

    return call


def font(size: float) -> Any:
    return ImageFont.load_default(size)


def studio(width: int = 640, height: int = 480) -> Image.Image:
    """A shaded product on white, with a print on it."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for row in range(height // 3, height - 40):
        shade = 40 + row // 8
        draw.line((width // 4, row, 3 * width // 4, row), (shade, shade + 20, 160))
    draw.text((width // 4 + 40, height // 2), "AURORA 100% COTTON", "white", font(22))
    return picture


def turned(picture: Image.Image, text: str, angle: float, at: tuple[int, int]) -> None:
    layer = Image.new("L", (round(font(28).getlength(text)) + 8, 40), 0)
    ImageDraw.Draw(layer).text((4, 2), text, 255, font(28))
    picture.paste((180, 20, 20), at, layer.rotate(angle, Image.Resampling.BICUBIC, expand=True))


def marked(found: Detection, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    whole = np.zeros(shape[:2], np.bool_)
    if found.mask is not None:
        whole[found.box.slices] = found.mask
    return whole


def test_a_badge_goes_whole_and_a_products_print_stays(detect: Detect) -> None:
    picture = studio()
    before = np.asarray(picture.copy())
    draw = ImageDraw.Draw(picture)
    draw.ellipse((480, 20, 620, 160), (200, 30, 40))
    draw.text((512, 55), "SALE", "white", font(30))
    draw.text((513, 95), "-20 %", "white", font(30))
    draw.rectangle((0, 440, 639, 479), (20, 60, 20))
    draw.text((220, 446), "www.example-shop.com", "white", font(20))
    found = detect(picture)
    assert {each.remove for text, each in found.items() if "AURORA" in text} == {False}
    assert next(e.reason for t, e in found.items() if "AURORA" in t) == "not in detect.remove"
    removed = np.any([marked(each, before.shape) for each in found.values()], axis=0)
    changed = (np.asarray(picture) != before).any(axis=2)
    assert removed[changed].all()
    near = np.asarray(Image.fromarray(changed).convert("L").reduce(8).resize((640, 480))) > 0
    assert (removed & ~near).mean() < 0.002
    disc = next(each for text, each in found.items() if "SALE" in text)
    assert (disc.label, disc.reason) == ("SALE -20 %", "promotions")


def test_a_lit_face_of_the_product_is_no_badge(detect: Detect) -> None:
    picture = studio()
    shade = Image.linear_gradient("L").resize((240, 140)).point(lambda level: level // 8)
    face = Image.merge("RGB", [shade.point(lambda level, c=c: c + level) for c in (40, 90, 170)])
    picture.paste(face, (340, 40))
    ImageDraw.Draw(picture).text((370, 100), "FREE SHIPPING", "white", font(24))
    (found,) = [each for text, each in detect(picture).items() if each.remove]
    assert marked(found, (480, 640)).sum() < 0.3 * 240 * 140


def test_letters_go_by_their_strokes_with_outline_and_shadow(detect: Detect) -> None:
    for base in (studio(), Image.fromarray(upright_rgb(DEMO / "photos/coffee-stray-coins.jpg"))):
        before = np.asarray(base.copy())
        draw = ImageDraw.Draw(base)
        draw.text((33, 33), "$12.99 ONLY", (90, 90, 90), font(36))
        draw.text(
            (30, 30), "$12.99 ONLY", (230, 30, 30), font(36), stroke_width=2, stroke_fill="black"
        )
        pixels = np.asarray(base)
        changed = np.abs(pixels.astype(int) - before).max(axis=2) > 24
        strokes, box = (
            marked(detect(pixels, shape=shape)["$12.99ONLY"], before.shape)
            for shape in ("glyphs", "box")
        )
        assert strokes[changed].mean() > 0.98
        assert box[changed].mean() > 0.98
        assert strokes.sum() < 0.85 * box.sum()


def test_text_at_any_angle_and_upside_down_is_found(detect: Detect) -> None:
    picture = Image.new("RGB", (900, 700), (235, 235, 230))
    angles = (15, 45, 75, 90, -90, -45, 180, -150)
    for number, angle in enumerate(angles):
        turned(
            picture,
            f"SALE -{20 + number} %",
            angle,
            (20 + number % 4 * 220, 20 + number // 4 * 330),
        )
    found = detect(picture)
    assert {text[-3:] for text in found} == {f"{20 + number}%" for number in range(len(angles))}
    assert all(each.remove for each in found.values())
    dark = np.asarray(picture)[..., 1] < 128
    assert np.any([marked(e, dark.shape) for e in found.values()], axis=0)[dark].mean() > 0.99


def test_small_print_of_a_large_photo_is_found_once_where_tiles_meet(reader: TextReader) -> None:
    picture = Image.new("RGB", (2600, 1400), (240, 240, 240))
    draw = ImageDraw.Draw(picture)
    text = "free shipping by www.example-shop.com on all orders this week and the next"
    draw.text((400, 690), text, (60, 60, 60), font(15))
    draw.text((1700, 900), "SALE", (60, 60, 60), font(260))
    pixels = np.asarray(picture)
    lines = reader.read(pixels)
    found = [line.text.replace(" ", "") for line in lines]
    assert found == [text.replace(" ", ""), "SALE"]
    again = reader.read(pixels)
    assert [(a.text, a.confidence, a.outline.tolist()) for a in again] == [
        (b.text, b.confidence, b.outline.tolist()) for b in lines
    ]


def test_the_work_on_a_large_photo_is_bounded(
    reader: TextReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    session = reader._detector.session

    def counting(levels: npt.NDArray[np.float32]) -> Any:
        runs.append(levels.shape[2] * levels.shape[3])
        return session(levels)

    monkeypatch.setattr(reader._detector, "session", counting)
    monkeypatch.setattr(reader, "_max_tiles", 1)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    assert reader.read(noise) == []
    assert sum(runs) < 3 * 960 * 960
    runs.clear()
    assert reader.read(np.full((1500, 2000, 3), 250, np.uint8)) == []
    assert runs == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2, 3000), (3000, 2)])
def test_photos_of_a_pixel_or_two_are_searched(reader: TextReader, shape: tuple[int, int]) -> None:
    stripes = np.zeros((*shape, 3), np.uint8)
    stripes[::8, ::8] = 255
    assert reader.read(stripes) == []
    background = plain_background(np.full((*shape, 3), 255, np.uint8))
    assert background is not None
    assert background.all()


def test_where_text_stands_decides(detect: Detect) -> None:
    picture = studio()
    draw = ImageDraw.Draw(picture)
    draw.text((200, 300), "$12.99", "white", font(30))
    draw.text((40, 30), "-20 %", "black", font(30))
    draw.text((250, 90), "SALE", "black", font(30))
    on_background = {
        t: (e.remove, e.reason) for t, e in detect(picture, where="background").items()
    }
    assert on_background["$12.99"] == (False, "not on plain background")
    assert on_background["-20%"] == (True, "percentages")
    assert on_background["SALE"] == (True, "promotions")
    at_border = {t: (e.remove, e.reason) for t, e in detect(picture, where="border").items()}
    assert at_border["-20%"] == (True, "percentages")
    assert at_border["SALE"] == (False, "not at the border")
    assert at_border["$12.99"] == (False, "not at the border")
    everywhere = detect(picture)
    assert all(everywhere[text].remove for text in ("$12.99", "-20%", "SALE"))


def test_each_kept_line_says_why(detect: Detect) -> None:
    picture = studio()
    draw = ImageDraw.Draw(picture)
    draw.text((40, 20), "AURORA sale", "black", font(40))
    draw.text((40, 80), "$9.99", "black", font(12))
    reasons = {t: e.reason for t, e in detect(picture, keep=["aurora"], min_height_px=20).items()}
    assert reasons["AURORAsale"] == "keep: aurora"
    assert reasons["AURORA100%COTTON"] == "keep: aurora"
    assert reasons["$9.99"].endswith(" px below 20")
    picture.paste(0, (38, 40, 300, 43))  # a line through it
    struck = next(
        e for t, e in detect(picture, min_confidence=0.995).items() if "sale" in t.lower()
    )
    assert struck.reason == f"confidence {struck.confidence:.2f} below 0.995"
    large = detect(picture, max_area_share=0.0005, min_height_px=4)["$9.99"]
    assert large.reason.endswith(" of the photo, over 0.0005")
    assert (large.remove, large.mask) == (False, None)


def test_lines_of_one_badge_share_a_decision_and_keep_takes_precedence(detect: Detect) -> None:
    picture = studio()
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((20, 20, 220, 130), 12, (250, 210, 0))
    draw.text((40, 30), "-20 %", "black", font(32))
    draw.text((40, 80), "our Festival", "black", font(24))
    (found,) = [each for each in detect(picture).values() if each.remove]
    assert found.label == "-20 % our Festival"
    assert marked(found, (480, 640))[20:130, 30:210].all()
    assert not any(each.remove for each in detect(picture, keep=["festival"]).values())
    without = detect(picture, badge=False)
    assert without["-20%"].remove
    assert not marked(without["-20%"], (480, 640))[25, 40:210].any()


@pytest.mark.parametrize(
    ("keep", "removed", "kept"),
    [([], ["SALE 50%", "SALE 20%"], []), (["50%"], [], ["SALE", "50%", "20%"])],
)
def test_badges_that_overlap_are_removed_or_kept_together(
    monkeypatch: pytest.MonkeyPatch, keep: list[str], removed: list[str], kept: list[str]
) -> None:
    class Read(TextReader):
        def __init__(self) -> None:
            """Loads nothing."""

        def read(self, _pixels: Pixels) -> list[Line]:
            return [
                Line(np.array([(x, 50), (x + 60, 50), (x + 60, 80), (x, 80)], np.float32), text, 1)
                for x, text in ((100, "SALE"), (20, "50%"), (170, "20%"))
            ]

    def badge(pixels: Pixels, outlines: list[Any], index: int, max_share: float) -> Any:
        box = Box(10, 40, 165, 90) if index < 2 else Box(95, 40, 250, 90)
        return box, np.ones((box.height, box.width), np.bool_)

    monkeypatch.setattr(text, "find_badge", badge)
    found = TextDetector(TextOptions(keep=keep), Read())(np.full((200, 300, 3), 255, np.uint8))
    assert [each.label for each in found if each.remove] == removed
    assert [each.label for each in found if not each.remove] == kept


def test_missing_libraries_and_devices_are_named_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(WeightsError) as no_cuda:
        TextReader(device="gpu")
    assert no_cuda.value.code == "model.unavailable"
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(WeightsError, match="--extra text") as missing:
        TextReader()
    assert missing.value.code == "model.not_installed"
    monkeypatch.undo()
    require(*TextOptions.libraries, needed_by="the lock has each: a name that no library has")


def test_other_weights_than_the_known_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError) as other:
        ocr._checked(tmp_path / "a.onnx", "0" * 64)
    assert other.value.code == "weights.wrong_hash"
    with pytest.raises(WeightsError) as missing:
        ocr._checked(tmp_path / "b.onnx", "0" * 64)
    assert missing.value.code == "weights.missing"


def test_it_is_silent_and_takes_the_threads_that_the_pool_grants(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = TextReader()._detector.session.session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert capfd.readouterr() == ("", "")
