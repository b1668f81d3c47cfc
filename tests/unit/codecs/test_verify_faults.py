"""Faults of what writes results, really planted, each in every container: the checker sees them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import jpeglib
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from manifests.schema import LineageRow
from stages.codecs import pillow_io
from stages.codecs.png import codec as png
from stages.codecs.stale import exif, jpeg, pictures
from stages.codecs.tiff import codec as tiff
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from stages.verify import Expected, Finding, compare, unexplained_differences
from stages.verify.containers import list_metadata
from stages.verify.embedded import embedded_pictures
from tests.support import encoded
from tests.support.files.corpus import SRGB, XMP, exif_with_thumbnail, segment
from tests.support.files.corpus import photoshop as resources_of

Pixels = npt.NDArray[np.uint8]

#: A file to the result that is made of it, and what is recorded of that.
Clean = Callable[[bytes], tuple[bytes, Expected]]

AUTHOR = b"A Maker"

#: Containers whose EXIF is refreshed as a block; a TIFF's tags are its own.
WITH_EXIF = ["jpeg", "png", "webp", "avif", "heic"]
LOSSLESS = ["png", "webp", "tiff"]


def file(
    kind: str,
    pixels: Pixels,
    *,
    icc: bytes = SRGB,
    xmp: bytes = XMP,
    text: str = "4711",
    iptc: bool = True,
    pages: int = 2,
    quality: int = 90,
) -> bytes:
    """A photo with everything that its container can hold; an empty value leaves that out."""
    block = exif_with_thumbnail(pixels)
    if kind == "tiff":
        resources = resources_of(pixels) if iptc else b""
        extra: list[Any] = [(315, 2, 0, AUTHOR.decode(), True), (34675, 7, len(icc), icc, True)]
        extra += [(700, 1, len(xmp), xmp, True), (34377, 7, len(resources), resources, True)]
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            for page in range(pages):
                tags = [tag for tag in extra if tag[3]] if not page else []
                options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
                writer.write(pixels, **options, description=text or None, extratags=tags)
        return buffer.getvalue()
    if kind == "heic":
        picture = pillow_heif.from_pillow(Image.fromarray(pixels))
        buffer = io.BytesIO()
        more = {"exif": block, "icc_profile": icc or None, "xmp": xmp or None}
        picture.save(buffer, quality=quality, **{k: v for k, v in more.items() if v})
        return buffer.getvalue()
    options = {"format": kind.upper(), "exif": block, "icc_profile": icc or None}
    if kind == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Article", text) if text else None
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode()) if xmp else None
        return encoded(Image.fromarray(pixels), pnginfo=texts, **options)
    options |= {"xmp": xmp} if xmp else {}
    options |= {"lossless": True} if kind == "webp" else {"quality": quality}
    coded = encoded(Image.fromarray(pixels), **options)
    if kind != "jpeg":
        return coded
    resources = segment(0xED, b"Photoshop 3.0\0" + resources_of(pixels)) if iptc else b""
    comment = segment(0xFE, text.encode()) if text else b""
    return coded[:2] + resources + comment + coded[2:]


@pytest.fixture
def clean(tmp_path: Path, spot: npt.NDArray[np.bool_]) -> Clean:
    """What the pipeline's steps make of a file, and what they record of it."""
    recipe = Recipe.load("navier-stokes")
    pipeline = Pipeline.of(recipe)
    (tmp_path / "mask.png").write_bytes(encoded(np.where(spot, 255, 0).astype(np.uint8)))

    def call(data: bytes) -> tuple[bytes, Expected]:
        (tmp_path / "photo").write_bytes(data)
        mask = str(tmp_path / "mask.png")
        row = LineageRow("1", image_uri=str(tmp_path / "photo"), mask_uri=mask)
        photo = Photo(row)
        pipeline.run(photo)
        assert photo.ok, row.error
        assert photo.changed is not None
        return photo.result, Expected(row.fidelity or "", photo.changed, row.metadata_note or "")

    return call


def found(clean: Clean, source: bytes, other: bytes | None = None) -> Finding:
    """The comparison of a source with the result, if wanted, of another file than that."""
    result, promise = clean(other or source)
    return compare(source, result, promise)


@pytest.mark.parametrize("kind", [*WITH_EXIF, "tiff"])
def test_what_is_kept_holds(clean: Clean, photo: Pixels, kind: str) -> None:
    finding = found(clean, file(kind, photo))
    assert (finding.problems, finding.unexplained_differences) == ([], [])


@pytest.mark.parametrize("kind", [*WITH_EXIF, "tiff"])
def test_a_wiped_author_is_seen(
    clean: Clean, photo: Pixels, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh, update_tags = exif.refresh_exif, tiff.update_tags

    def wipe(block: bytes, policy: Any) -> bytes:
        return refresh(block, policy).replace(AUTHOR, bytes(len(AUTHOR)))

    def wipe_tag(file: Any, directory: int, *rest: Any, **options: Any) -> None:
        file.drop(directory, 315)
        update_tags(file, directory, *rest, **options)

    for module in (jpeg, png, pillow_io):
        monkeypatch.setattr(module, "refresh_exif", wipe)
    monkeypatch.setattr(tiff, "update_tags", wipe_tag)
    tag = 315 if kind == "tiff" else 271
    assert found(clean, file(kind, photo)).unexplained_differences == [f"EXIF 0/{tag}"]


@pytest.mark.parametrize("brand", [b"avif", b"heic", b"mif1"])
def test_less_chroma_and_other_colours_are_seen(photo: Pixels, brand: bytes) -> None:
    """Also in a HEIC whose main brand, mif1, differs from the result's: it was not converted."""
    if brand == b"avif":
        options: dict[str, Any] = {"level": 90, "speed": 10, "transfer": 13}
        source, result = (
            bytes(imagecodecs.avif_encode(photo, primaries=primaries, pixelformat=form, **options))
            for primaries, form in ((12, 1), (1, 3))
        )
    else:
        files = io.BytesIO(), io.BytesIO()
        picture = pillow_heif.from_pillow(Image.fromarray(photo))
        picture.save(files[0], quality=90, chroma="444", color_primaries=12)
        picture.save(files[1], quality=90, chroma="420")
        source, result = (each.getvalue() for each in files)
    source = source[:8] + brand + source[12:]
    nothing = np.zeros(photo.shape[:2], np.bool_)
    finding = compare(source, result, Expected("reencoded", nothing))
    assert finding.unexplained_differences == ["chroma subsampling", "nclx colours"]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "heic"])
def test_an_old_thumbnail_is_seen(
    clean: Clean, photo: Pixels, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, old = pictures.thumbnail, Image.fromarray(photo)
    monkeypatch.setattr(exif, "thumbnail", lambda _, limit: draw(old, limit))
    problems = found(clean, file(kind, photo)).problems
    assert [each for each in problems if "old picture still shows: EXIF 1/samples" in each]


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_an_old_photoshop_thumbnail_is_seen(
    clean: Clean, photo: Pixels, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (jpeg, tiff):
        monkeypatch.setattr(module, "refresh_resources", lambda block, _: block)
    monkeypatch.setattr(tiff, "contains_picture", lambda _: False)
    problems = found(clean, file(kind, photo)).problems
    assert [each for each in problems if "old picture still shows: 8BIM 1036" in each]


def test_a_smaller_copy_that_stays_is_seen(
    clean: Clean, photo: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", metadata=None)
        small = np.ascontiguousarray(photo[::4, ::4])
        writer.write(small, photometric="rgb", metadata=None, subfiletype=1)
    monkeypatch.setattr(tiff, "_drop_copies", lambda *_: None)
    problems = found(clean, buffer.getvalue()).problems
    assert problems == ["the old picture still shows: copy 1/samples"]


@pytest.mark.parametrize("kind", [*WITH_EXIF, "tiff"])
@pytest.mark.parametrize(
    ("lost", "name"), [("icc", "ICC"), ("xmp", "XMP {http://purl.org/dc/elements/1.1/}source")]
)
def test_a_lost_profile_and_lost_properties_are_seen(
    clean: Clean, photo: Pixels, kind: str, lost: str, name: str
) -> None:
    less = file(kind, photo, **{lost: b""})  # type: ignore[arg-type]
    assert found(clean, file(kind, photo), less).unexplained_differences == [name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("jpeg", "comment"), ("png", "chunk tEXt Article"), ("tiff", "EXIF 0/270")],
)
def test_a_lost_text_is_seen(clean: Clean, photo: Pixels, kind: str, name: str) -> None:
    assert (
        name in found(clean, file(kind, photo), file(kind, photo, text="")).unexplained_differences
    )


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_lost_iptc_is_seen(clean: Clean, photo: Pixels, kind: str) -> None:
    name = "8BIM 1028"  # in both
    assert (
        name
        in found(clean, file(kind, photo), file(kind, photo, iptc=False)).unexplained_differences
    )


def test_a_lost_page_and_a_changed_one_are_seen(clean: Clean, photo: Pixels) -> None:
    source = file("tiff", photo)
    finding = found(clean, source, file("tiff", photo, pages=1))
    assert "page 2/samples" in finding.unexplained_differences
    result, promise = clean(source)
    places = tifffile.TiffFile(io.BytesIO(result)).pages[1].aspage().dataoffsets
    spoiled = bytearray(result)
    spoiled[places[0]] ^= 1
    assert compare(source, bytes(spoiled), promise).unexplained_differences == ["page 2/samples"]


def test_a_tag_that_is_no_number_is_the_same_as_itself(photo: Pixels) -> None:
    buffer = io.BytesIO()
    tags: list[Any] = [(65000, 12, 2, (float("nan"), 1.5), True)]
    tifffile.imwrite(buffer, photo, photometric="rgb", metadata=None, extratags=tags)
    data = buffer.getvalue()
    assert "EXIF 0/65000" in list_metadata(data).values
    assert unexplained_differences(list_metadata(data), list_metadata(data), "") == []
    other = data.replace(np.float64(1.5).tobytes(), np.float64(2.5).tobytes())
    assert unexplained_differences(list_metadata(data), list_metadata(other), "") == [
        "EXIF 0/65000"
    ]


@pytest.mark.parametrize("segments", ["JFIF", "JFXX with a palette", "JFXX", "EXIF"])
def test_an_uncompressed_preview_does_not_stay_whatever_it_shows(
    clean: Clean, photo: Pixels, segments: str
) -> None:
    small = np.full((20, 30, 3), 200, np.uint8)
    planted = {
        "JFIF": segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1" + bytes([30, 20]) + small.tobytes()),
        "JFXX with a palette": segment(0xE0, b"JFXX\0\x11" + bytes([30, 20]) + small.tobytes()),
        "JFXX": segment(0xE0, b"JFXX\0\x13" + bytes([30, 20]) + small.tobytes()),
        "EXIF": segment(0xE1, b"Exif\0\0" + uncompressed_exif(small)),
    }[segments]
    result, promise = clean(_again(photo))
    problems = compare(_again(photo), result[:2] + planted + result[2:], promise).problems
    name = "EXIF 1/raw samples" if segments == "EXIF" else "JFIF thumbnail"
    assert f"the old picture still shows: {name}" in problems


@pytest.mark.parametrize("before", [b"", b"\xff\xd8\xff\xe0" * 2000])
def test_a_jpeg_is_found_behind_others_that_begin_and_where_its_frame_comes_first(
    photo: Pixels, before: bytes
) -> None:
    small = encoded(photo[:48, :64], format="JPEG")
    at = small.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(small[at + 2 : at + 4])
    frame_first = small[:2] + small[at:end] + small[2:at] + small[end:]
    comment = segment(0xFE, before + frame_first)
    data = _again(photo)
    parts = list_metadata(data[:2] + comment + data[2:])
    assert [(name, each and each.size) for name, each in embedded_pictures(parts)] == [
        ("comment", (64, 48))
    ]


def uncompressed_exif(small: Pixels) -> bytes:
    """A block whose thumbnail are RGB samples in one strip."""
    height, width = small.shape[:2]
    tags = [(256, 4, width), (257, 4, height), (259, 4, 1), (273, 4, 100), (279, 4, small.size)]
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", len(tags)) + rows
    return head.ljust(100, b"\0") + small.tobytes()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_one_changed_sample_is_seen(clean: Clean, photo: Pixels, kind: str) -> None:
    other = photo.copy()
    other[5, 7, 1] ^= 1
    problems = found(clean, file(kind, photo), file(kind, other)).problems
    assert "samples outside the mask changed" in problems


@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_paint_elsewhere_is_seen_in_what_is_coded_again(
    clean: Clean, photo: Pixels, kind: str
) -> None:
    other = photo.copy()
    other[190:230, 10:50] = 255 - other[190:230, 10:50]
    problems = found(clean, file(kind, photo), file(kind, other)).problems
    assert "another picture outside the mask" in problems


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda photo: file("jpeg", photo, quality=89), "JPEG quantisation tables changed"),
        (lambda photo: file("jpeg", photo, quality=60), "JPEG quantisation tables changed"),
        (lambda photo: _again(photo, subsampling="4:4:4"), "JPEG sampling changed"),
        (lambda photo: _again(photo, progressive=True), "JPEG kind changed"),
    ],
)
def test_another_way_to_code_a_jpeg_is_seen(
    clean: Clean, photo: Pixels, make: Callable[[Pixels], bytes], problem: str
) -> None:
    assert problem in found(clean, file("jpeg", photo), make(photo)).problems


def _again(photo: Pixels, **how: Any) -> bytes:
    return encoded(Image.fromarray(photo), format="JPEG", quality=90, **how)


@pytest.mark.parametrize("plane", ["Y", "Cb", "Cr"])
def test_one_flipped_coefficient_is_seen(
    clean: Clean, photo: Pixels, plane: str, tmp_path: Path
) -> None:
    path = tmp_path / "coded.jpg"
    path.write_bytes(_again(photo))
    read = jpeglib.read_dct(str(path))
    read.write_dct(str(path))
    source = path.read_bytes()
    getattr(read, plane)[0, 0, 3, 2] ^= 1
    read.write_dct(str(path))
    assert found(clean, source).problems == []
    problems = found(clean, source, path.read_bytes()).problems
    assert problems == ["coefficients outside the mask changed"]


def test_a_picture_that_cannot_be_decoded_is_no_success(clean: Clean, photo: Pixels) -> None:
    for kind in WITH_EXIF:
        source = file(kind, photo)
        result, promise = clean(source)
        (problem,) = compare(source, result[: len(result) // 2], promise).problems
        assert problem.startswith("the result cannot be decoded"), kind
