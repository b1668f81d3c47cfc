"""Damage that costs no pixel: refused, or repaired on request. Missing pixels are not made up."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manifests.schema import LineageRow
from stages.codecs.repair import repaired
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from tests.hostile.formats import chunk
from tests.support import encoded

Pixels = npt.NDArray[np.uint8]

BOXES = [[90, 60, 50, 40]]
REPAIR = "limits.damage=repair"
PROGRESSIVE = {"format": "JPEG", "quality": 88, "progressive": True}


def cleaned(folder: Path, image: bytes, *options: str, **marks: object) -> Photo:
    (folder / "photo").write_bytes(image)
    shapes = json.dumps(marks or {"boxes": BOXES})
    row = LineageRow(id="1", image_uri=str(folder / "photo"), marks=shapes)
    photo = Photo(row)
    recipe = Recipe.load("telea", list(options))
    Pipeline.of(recipe, str(folder / "out")).run(photo)
    return photo


def wrong(name: bytes, content: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return chunk(name, content)[:-1] + b"?"


def sound(photo: Pixels) -> dict[str, bytes]:
    return {
        "baseline": encoded(photo, format="JPEG", quality=88),
        "progressive": encoded(photo, **PROGRESSIVE),
        "grey": encoded(photo[..., 0].copy(), format="JPEG"),
        "420": encoded(photo, format="JPEG", subsampling="4:2:0", optimize=True),
        "restarts": encoded(photo, format="JPEG", restart_marker_rows=1),
    }


KINDS = ["baseline", "progressive", "grey", "420", "restarts"]


@pytest.mark.parametrize("cut", [1, 2], ids=["half", "whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_its_end_marker_is_repaired_on_request(
    photo: Pixels, kind: str, cut: int, tmp_path: Path
) -> None:
    whole = sound(photo)[kind]
    refused = cleaned(tmp_path, whole[:-cut])
    assert refused.lineage.error_code == "image.truncated"
    made = cleaned(tmp_path, whole[:-cut], REPAIR)
    assert made.ok, made.lineage.error
    assert (made.lineage.fidelity_note or "").startswith("end marker of the JPEG appended")
    like = cleaned(tmp_path, whole)
    assert made.result == like.result


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_samples_stays_refused(photo: Pixels, kind: str, tmp_path: Path) -> None:
    whole = sound(photo)[kind]
    for length in (len(whole) - 12, len(whole) - 40, len(whole) * 3 // 4, len(whole) // 3):
        cut = whole[:length]
        assert repaired(cut) == (cut, [])
        made = cleaned(tmp_path, cut, REPAIR)
        assert made.lineage.error_code in ("image.truncated", "image.corrupt")


def test_a_progressive_jpeg_without_its_last_scans_stays_refused(
    photo: Pixels, tmp_path: Path
) -> None:
    """Also behind a thumbnail with all its scans, which count for nothing."""
    small = encoded(Image.fromarray(photo).resize((64, 48)), format="JPEG")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = small
    for options in ({}, {"exif": exif}):
        whole = encoded(photo, **PROGRESSIVE, **options)
        at = len(whole)
        for _ in range(3):
            at = whole.rindex(b"\xff\xda", 0, at)
            cut = whole[: whole.rindex(b"\xff\xc4", 0, at)]
            assert repaired(cut) == (cut, [])
            assert cleaned(tmp_path, cut, REPAIR).lineage.error_code == "image.truncated"


@pytest.mark.parametrize("name", [b"tEXt", b"gAMA", b"iCCP", b"eXIf", b"tIME"])
def test_a_pngs_ancillary_chunk_with_a_wrong_checksum_is_dropped_on_request(
    photo: Pixels, name: bytes, tmp_path: Path
) -> None:
    plain = encoded(photo)
    kept = chunk(b"tEXt", b"Title\0A bowl")
    damaged = plain[:33] + kept + wrong(name, struct.pack(">I", 20_000)) + plain[33:]
    assert cleaned(tmp_path, damaged).lineage.error_code == "image.corrupt"
    made = cleaned(tmp_path, damaged, REPAIR)
    assert made.ok, made.lineage.error
    note = f"chunk {name.decode()} with a wrong checksum dropped"
    assert made.lineage.fidelity_note == note
    assert made.lineage.fidelity == "lossless"
    assert made.result == cleaned(tmp_path, plain[:33] + kept + plain[33:]).result


def samples_of(data: bytes) -> tuple[int, int]:
    """Where the content of a PNG's first IDAT chunk begins, and its length."""
    at = data.index(b"IDAT")
    return at + 4, int.from_bytes(data[at - 4 : at], "big")


def test_a_pngs_other_damage_stays_refused(photo: Pixels, tmp_path: Path) -> None:
    plain = encoded(photo)
    start, size = samples_of(plain)
    for at in (30, start + size, start + size // 2):  # checksums of its size and samples; a sample
        damaged = bytearray(plain)
        damaged[at] ^= 1
        assert cleaned(tmp_path, bytes(damaged), REPAIR).lineage.error_code == "image.corrupt"
    assert (
        cleaned(tmp_path, plain[: len(plain) // 2], REPAIR).lineage.error_code == "image.truncated"
    )


def test_a_mask_is_repaired_as_a_photo_is(photo: Pixels, tmp_path: Path) -> None:
    drawn = np.zeros(photo.shape[:2], np.uint8)
    drawn[60:100, 90:140] = 255
    plain = encoded(drawn)
    for data, code in (
        (encoded(drawn, format="JPEG", quality=95)[:-2], "mask.truncated"),
        (plain[:33] + wrong(b"tEXt", b"a\0b") + plain[33:], "mask.corrupt"),
    ):
        (tmp_path / "photo").write_bytes(encoded(photo))
        (tmp_path / "mask").write_bytes(data)
        for options, ends in (((), code), ((REPAIR,), None)):
            row = LineageRow(
                id="1", image_uri=str(tmp_path / "photo"), mask_uri=str(tmp_path / "mask")
            )
            recipe = Recipe.load("telea", list(options))
            Pipeline.of(recipe, str(tmp_path / "out")).run(Photo(row))
            assert row.error_code == ends
            assert ends or (row.fidelity_note or "").endswith("(mask)")


@pytest.mark.parametrize(
    "marks", [{"boxes": []}, {"rle": [{"size": [241, 303], "counts": [241 * 303]}]}], ids=str
)
def test_a_damaged_photo_without_marks_is_passed_on_as_it_is(
    photo: Pixels, marks: dict[str, object], tmp_path: Path
) -> None:
    """Also if its shapes mark nothing, which shows only when they are drawn."""
    damaged = encoded(photo, format="JPEG")[:-2]
    assert cleaned(tmp_path, damaged, **marks).lineage.error_code == "image.truncated"
    made = cleaned(tmp_path, damaged, REPAIR, **marks)
    assert made.ok, made.lineage.error
    assert made.result == damaged
    assert made.lineage.fidelity == "identical"
    assert "passed on unchanged" in (made.lineage.fidelity_note or "")


def test_sound_files_are_left_alone(photo: Pixels) -> None:
    for data in (*sound(photo).values(), encoded(photo), encoded(photo, format="WEBP")):
        again, notes = repaired(data)
        assert again is data
        assert notes == []
    animated = io.BytesIO()
    Image.fromarray(photo).save(
        animated, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    )
    assert repaired(animated.getvalue())[1] == []
