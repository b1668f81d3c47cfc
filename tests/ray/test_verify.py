"""The promise put to the proof: a corpus of real photos in every kind of file, and a referee."""

from __future__ import annotations

import io
import re
from pathlib import Path

import jpeglib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from jobs.cli.results import EXIT_ALL_MATCH, EXIT_DIFFERS, EXIT_UNCHECKED, show_verdicts
from jobs.results.verify import verify
from manifests.errors import OutputError
from stages.codecs.formats import detect_format
from stages.codecs.jpeg.markers import split_metadata
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import DEMO, encoded, upright_rgb
from tests.support.files.coefficients import header_of
from tests.support.files.corpus import exif_with_thumbnail, files, segment, write_corpus
from tests.support.output_folders import clean_here

QUIET = Console(quiet=True)
RECIPE = Recipe.load("navier-stokes")


@pytest.fixture(scope="module")
def cleaned(on_ray: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus and, in ``out``, its results, as ``run`` leaves them."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(folder)
    assert on_ray(manifest, folder / "out", recipe=RECIPE).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def lineage(cleaned: Path) -> pd.DataFrame:
    return pd.read_parquet(cleaned / "out" / "lineage").set_index("id").sort_index()


def test_the_corpus_is_large_and_holds_every_format() -> None:
    kinds = [detect_format(data) for data in files().values()]
    assert len(kinds) >= 60
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert {kind for kind, count in counts.items() if kind and count >= 2} == {
        *("jpeg", "png", "webp", "tiff", "avif", "heic"),
    }


def test_all_of_the_corpus_holds_what_was_promised(cleaned: Path, lineage: pd.DataFrame) -> None:
    verdicts = {each.id: each for each in verify(str(cleaned / "out"))}
    corpus = files()
    assert set(verdicts) == set(corpus)
    assert {name: v.problem for name, v in verdicts.items() if v.problem} == {}
    for name, verdict in verdicts.items():
        found, kind = verdict.found, detect_format(corpus[name])
        assert found is not None, verdict.detail
        lossy = kind in ("avif", "heic") or (kind == "webp" and "lossless" not in name)
        expected = "coefficients" if kind == "jpeg" else "lossless"
        assert lineage.fidelity[name] == ("reencoded" if lossy else expected), name
        assert found.outside.startswith("re-encoded") == lossy, name
        assert found.unexplained_differences == [], name
        is_rebuilt = "exif-thumbnail" in name or name in ALSO_PREVIEWS
        assert ("rebuilt" in found.previews) == is_rebuilt, name
    shown = Console(width=200, file=io.StringIO())
    assert show_verdicts(shown, str(cleaned / "out"), sample=5) == EXIT_ALL_MATCH
    assert re.search(
        r"5 checked: \d unchanged outside the mask, \d re-encoded as recorded, "
        r"0 differ, 0 could not be checked\.",
        shown.file.getvalue(),  # type: ignore[attr-defined]
    )


#: This got an EXIF thumbnail, too, though its name says something else. (So did avif-rgb, but
#: Pillow writes the EXIF of an AVIF anew, and leaves the thumbnail out.)
ALSO_PREVIEWS = {"webp-lossless"}


def test_a_referee_finds_the_same_coefficients(cleaned: Path, lineage: pd.DataFrame) -> None:
    """jpeglib, which brings a libjpeg of its own, on every JPEG of the corpus."""
    looked_at = 0
    for name, row in lineage[lineage.fidelity == "coefficients"].iterrows():
        mask = np.asarray(Image.open(cleaned / f"{name}.mask.png"))
        reach = RECIPE.mask.dilate_px + RECIPE.mask.feather_px + 1
        changed = distance_outside(mask > 0) < reach
        source = Path(row.image_uri).read_bytes()
        orientation = Image.open(io.BytesIO(source)).getexif().get(0x0112, 1)
        assert orientation in (1, 6)
        stored = np.rot90(changed) if orientation == 6 else changed
        old, new = (jpeglib.read_dct(str(path)) for path in (row.image_uri, row.output_uri))
        header = header_of(source)
        for number, plane in enumerate(("Y", "Cb", "Cr", "K")):
            before, after = getattr(old, plane), getattr(new, plane)
            if before is None:
                continue
            across, down = header.subsampling_of(number)
            ys, xs = np.nonzero(stored)
            touched = np.zeros(before.shape[:2], np.bool_)
            touched[ys // (8 * down), xs // (8 * across)] = True
            assert np.array_equal(before[~touched], after[~touched]), (name, plane)
            assert touched.any()
            looked_at += int((~touched).sum())
    assert looked_at > 400_000


def test_files_grow_by_no_more_than_a_few_percent(lineage: pd.DataFrame) -> None:
    for name, row in lineage[lineage.fidelity == "coefficients"].iterrows():
        before, after = (Path(uri).stat().st_size for uri in (row.image_uri, row.output_uri))
        assert after < 1.05 * before + 1000, name


def test_what_does_not_hold_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results are spoiled behind the pipeline's back, each in its own way."""
    photo = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")
    thumbnail = segment(0xE1, exif_with_thumbnail(photo))
    plain = encoded(Image.fromarray(photo), format="JPEG", quality=90)
    jpeg = plain[:2] + thumbnail + plain[2:]
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[100:180, 200:330] = 255
    (tmp_path / "mask.png").write_bytes(encoded(mask))
    rows = []
    for name, data in {
        "good": jpeg,
        "reencoded": jpeg,
        "old-thumbnail": jpeg,
        "comment": jpeg,
        "sample": encoded(photo),
        "gone": encoded(photo),
        "uncleaned": encoded(photo),
        "swapped": encoded(photo),
        "replaced": encoded(photo),
    }.items():
        suffix = "jpg" if data is jpeg else "png"
        (tmp_path / f"{name}.{suffix}").write_bytes(data)
        rows.append(f"{name},{name}.{suffix},mask.png")
    (tmp_path / "m.csv").write_text("\n".join(["id,image,mask", *rows]))
    out = tmp_path / "out"
    clean_here(tmp_path / "m.csv", out, RECIPE)

    images = out / "images" / RECIPE.label
    again = Image.open(images / "reencoded.jpg")
    again.save(images / "reencoded.jpg", quality=90, exif=again.info["exif"])
    result = (images / "old-thumbnail.jpg").read_bytes()
    segments, _, _ = split_metadata(result)
    made = next(each for each in segments if each[4:8] == b"Exif")
    (images / "old-thumbnail.jpg").write_bytes(result.replace(made, thumbnail))
    result = (images / "comment.jpg").read_bytes()
    (images / "comment.jpg").write_bytes(result[:2] + segment(0xFE, b"bowl") + result[2:])
    pixels = np.array(Image.open(images / "sample.png"))
    pixels[5, 5, 0] ^= 1
    (images / "sample.png").write_bytes(encoded(pixels))
    (images / "gone.png").unlink()
    (images / "uncleaned.png").write_bytes(encoded(photo))
    (images / "swapped.png").write_bytes(encoded(255 - photo))
    (tmp_path / "replaced.png").write_bytes(encoded(255 - photo))

    verdicts = {each.id: each for each in verify(str(out))}
    assert verdicts["replaced"].unchecked_reason == "the source has changed since"
    problems = {name: each.problem for name, each in verdicts.items()}
    assert problems.pop("good") == problems.pop("replaced") == ""
    assert "There is no" in problems.pop("gone")
    assert {name: text.split(", ")[-1] for name, text in problems.items()} == {
        "reencoded": "coefficients outside the mask changed",
        "old-thumbnail": "the old picture still shows: EXIF 1/samples",
        "comment": "metadata changed: comment",
        "sample": "samples outside the mask changed",
        "uncleaned": "nothing was cleaned",
        "swapped": "samples outside the mask changed",
    }
    assert all(text.startswith("not the file that was stored") for text in problems.values())
    console = Console(width=200)
    assert show_verdicts(console, str(out)) == EXIT_DIFFERS
    told = capsys.readouterr().out
    assert "9 checked: 1 unchanged outside the mask, 0 re-encoded as recorded, 7 differ," in told
    assert "1 could not be checked (1 the source has changed since)." in told
    for name in problems.keys() | {"gone"}:
        next(images.glob(f"{name}.*"), images / name).unlink(missing_ok=True)
    (tmp_path / "mask.png").write_bytes(encoded(255 - mask))
    assert {each.unchecked_reason for each in verify(str(out)) if not each.problem} == {
        "the source has changed since",
        "the mask has changed since",
    }


def test_a_run_whose_sources_are_gone_is_no_success(tmp_path: Path) -> None:
    photo = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[100:180, 200:330] = 255
    (tmp_path / "p.png").write_bytes(encoded(photo))
    (tmp_path / "m.png").write_bytes(encoded(mask))
    (tmp_path / "m.csv").write_text("id,image,mask\n1,p.png,m.png\n")
    out = str(tmp_path / "out")
    clean_here(tmp_path / "m.csv", out, RECIPE)
    assert show_verdicts(QUIET, out) == EXIT_ALL_MATCH
    (tmp_path / "p.png").unlink()
    (verdict,) = verify(out)
    assert (verdict.problem, verdict.found) == ("", None)
    assert verdict.unchecked_reason == "the source or its mask cannot be read"
    assert "There is no image" in verdict.detail
    assert show_verdicts(QUIET, out) == EXIT_UNCHECKED


def test_a_photo_whose_file_or_mask_was_repaired_is_checked(tmp_path: Path) -> None:
    source = (DEMO / "photos" / "coffee-stray-coins.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(source.removesuffix(b"\xff\xd9"))
    (tmp_path / "whole.jpg").write_bytes(source)
    mask = np.zeros((400, 600), np.uint8)
    mask[100:140, 100:150] = 255
    cut = encoded(mask, format="JPEG", quality=95).removesuffix(b"\xff\xd9")
    (tmp_path / "mask.jpg").write_bytes(cut)
    rows = ['1,photo.jpg,,"[100, 100, 50, 40]"', "2,whole.jpg,mask.jpg,"]
    (tmp_path / "m.csv").write_text("\n".join(["id,image,mask,boxes", *rows]))
    recipe = Recipe.load("telea", ["limits.damage=repair"])
    clean_here(tmp_path / "m.csv", tmp_path / "out", recipe)
    verdicts = list(verify(str(tmp_path / "out")))
    assert [(each.problem, each.unchecked_reason) for each in verdicts] == [("", "")] * 2


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no run") as caught:
        list(verify(str(tmp_path)))
    assert caught.value.code == "output.not_found"
