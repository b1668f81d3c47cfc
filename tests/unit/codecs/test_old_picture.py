"""No copy of the old picture is left in a file, whatever block it is in; or the file is refused.

Each file holds the old picture, small and bright, in one place that is not its main picture. The
results are searched for its bytes, not read by the code under test.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.codecs.decode import decode_mask, decode_photo
from tests.hostile.formats import chunk, riff
from tests.support import encoded
from tests.support.files.editing import edited, tiff
from tests.support.files.turned_files import profile, segment

Pixels = npt.NDArray[np.uint8]

#: A small old picture in several formats, and bytes from the middle of each.
OLD = np.random.default_rng(3).integers(0, 256, (40, 40, 3), np.uint8)
COPIES = {
    "jpeg": encoded(OLD, format="JPEG", quality=90),
    "png": encoded(OLD),
    "webp": encoded(OLD, format="WEBP", lossless=True),
    "avif": encoded(OLD, format="AVIF"),
    "gif": encoded(OLD, format="GIF"),
    "photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 40, 40, 8, 3) + OLD.tobytes(),
    "jpeg-2000": b"\0\0\0\x0cjP  \r\n\x87\n" + OLD.tobytes(),
}
NAMES = list(COPIES)


def layers() -> bytes:
    """Photoshop's ImageSourceData, the samples raw."""
    block = b"8BIMLayr" + struct.pack(">I", OLD.nbytes) + OLD.tobytes()
    return b"Adobe Photoshop Document Data Block\0" + block


def inside(data: bytes, copy: bytes) -> bool:
    """Whether a part from the middle of a copy is in a file."""
    middle = len(copy) // 2
    return copy[middle : middle + 200] in data


def refuses(source: bytes, spot: BoolMask) -> bool:
    try:
        edited(source, spot, "metadata.stale_preview=refuse")
    except RowError as error:
        return error.code == "image.stale_preview"
    return False


def check_gone(source: bytes, copy: bytes, spot: BoolMask, note: str) -> None:
    """Dropped with a note under two policies, refused under the third."""
    assert inside(source, copy)
    for policy in ("rebuild", "drop"):
        _, made = edited(source, spot, f"metadata.stale_preview={policy}")
        assert not inside(made.data, copy)
        assert any(note in each for each in made.metadata_notes), made.metadata_notes
    assert refuses(source, spot)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_layers_in_a_tiff_go(photo: Pixels, spot: BoolMask, byteorder: str) -> None:
    copy = layers()
    extra = [(37724, 7, len(copy), copy, True), (270, 2, 7, b"A bowl\0", True)]
    source = tiff(photo, photometric="rgb", byteorder=byteorder, extratags=extra)
    check_gone(source, copy, spot, "layers dropped")
    _, made = edited(source, spot)
    with tifffile.TiffFile(io.BytesIO(made.data)) as reader:
        tags = reader.pages[0].aspage().tags
        assert 37724 not in tags
        assert tags.valueof(270) == "A bowl"
    assert b"Adobe Photoshop Document Data Block" not in made.data


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_in_an_unknown_tag_of_a_tiff_goes(
    photo: Pixels, spot: BoolMask, name: str
) -> None:
    content = b"Maker" + COPIES[name]
    extra = [(50_937, 7, len(content), content, True), (50_938, 7, 5, b"plain", True)]
    source = tiff(photo, photometric="rgb", extratags=extra)
    check_gone(source, COPIES[name], spot, "tag 50937 with a picture dropped")
    _, made = edited(source, spot)
    with tifffile.TiffFile(io.BytesIO(made.data)) as reader:
        assert reader.pages[0].aspage().tags.valueof(50_938) == b"plain"


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_a_tiff_with_a_picture_that_no_tag_names_is_refused(
    photo: Pixels, spot: BoolMask, name: str
) -> None:
    with pytest.raises(
        RowError, match="a picture outside its pages, or in tags of a further one"
    ) as error:
        edited(tiff(photo, photometric="rgb") + COPIES[name], spot)
    assert error.value.code == "image.unsupported"


def test_a_tiff_with_a_jpeg_thumbnail_beside_its_page_is_refused(
    photo: Pixels, spot: BoolMask
) -> None:
    copy = COPIES["jpeg"]
    plain = tiff(photo, photometric="rgb", extratags=[(513, 4, 1, 0, True), (514, 4, 1, 0, True)])
    with tifffile.TiffFile(io.BytesIO(plain)) as reader:
        tags = reader.pages[0].aspage().tags
        places = [tags[513].valueoffset, tags[514].valueoffset]
    data = bytearray(plain + copy)
    for place, value in zip(places, (len(plain), len(copy)), strict=True):
        data[place : place + 4] = struct.pack("<I", value)
    with pytest.raises(
        RowError, match="a picture outside its pages, or in tags of a further one"
    ) as error:
        edited(bytes(data), spot)
    assert error.value.code == "image.unsupported"


def with_sub_ifds(photo: Pixels, *below: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", metadata=None, subifds=len(below))
        for each in below:
            writer.write(each, photometric="rgb", metadata=None)
    return buffer.getvalue()


def test_all_pages_below_a_tiffs_page_are_copies_of_it(photo: Pixels, spot: BoolMask) -> None:
    """Full-size ones are layers, as SketchBook has them."""
    larger = cv2.resize(photo, None, fx=1.5, fy=1.5)
    small = cv2.resize(photo, (76, 60), interpolation=cv2.INTER_AREA)
    source = with_sub_ifds(photo, photo, larger, small)
    _, made = edited(source, spot)
    with tifffile.TiffFile(io.BytesIO(made.data)) as reader:
        assert not reader.pages[0].aspage().pages
    row = photo[100, 90:170].tobytes()  # inside the spot
    assert source.count(row) == 2
    assert row not in made.data
    assert refuses(source, spot)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("marker", [0xE4, 0xEC, 0xFE], ids=["APP4", "APP12", "comment"])
def test_a_picture_in_an_unknown_segment_of_a_jpeg_goes(
    photo: Pixels, spot: BoolMask, name: str, marker: int
) -> None:
    plain = encoded(photo, format="JPEG")
    source = plain[:20] + segment(b"Maker\0" + COPIES[name], marker) + plain[20:]
    check_gone(source, COPIES[name], spot, "with a picture dropped")


def test_a_picture_that_goes_on_in_further_segments_goes_whole(
    photo: Pixels, spot: BoolMask
) -> None:
    large = np.random.default_rng(4).integers(0, 256, (250, 250, 3), np.uint8)
    copy = encoded(large, format="JPEG", quality=95)
    assert len(copy) > 65_000
    parts = [segment(copy[at : at + 30_000], 0xE3) for at in range(0, len(copy), 30_000)]
    plain = encoded(photo, format="JPEG")
    source = plain[:20] + b"".join(parts) + segment(b"kept", 0xE5) + plain[20:]
    check_gone(source, copy, spot, "APP3 with a picture dropped")
    _, made = edited(source, spot)
    assert not inside(made.data, copy[60_000:])
    assert segment(b"kept", 0xE5) in made.data


def test_the_segment_that_states_the_colours_stays_beside_one_with_a_picture(
    photo: Pixels, spot: BoolMask
) -> None:
    plain = encoded(Image.fromarray(photo).convert("CMYK"), format="JPEG")
    (adobe,) = re.findall(rb"\xff\xee\0\x0eAdobe.{7}", plain, re.DOTALL)
    source = plain[:2] + segment(b"Maker\0" + COPIES["jpeg"], 0xEE) + plain[2:]
    check_gone(source, COPIES["jpeg"], spot, "APP14 with a picture dropped")
    decoded, made = edited(source, spot)
    assert adobe in made.data
    after = decode_photo(made.data, 100, "x")
    assert np.abs(after.pixels[~spot].astype(int) - decoded.pixels[~spot]).mean() < 1


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_behind_a_jpeg_goes(photo: Pixels, spot: BoolMask, name: str) -> None:
    source = encoded(photo, format="JPEG") + b"MAKER" + COPIES[name]
    check_gone(source, COPIES[name], spot, "dropped")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_in_the_exif_of_any_format_goes(photo: Pixels, spot: BoolMask, name: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    exif.get_ifd(0x8769)[0x927C] = b"Maker\0" + COPIES[name] + b"end"
    for kind in ("JPEG", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        source = encoded(photo, format=kind, exif=exif, **options)
        check_gone(source, COPIES[name], spot, "tag 37500 with a picture dropped")
        _, made = edited(source, spot)
        with Image.open(io.BytesIO(made.data)) as after:
            assert after.getexif()[0x010F] == "A maker"


def around(photo: Pixels, *chunks: bytes) -> bytes:
    plain = encoded(photo)
    return plain[:33] + b"".join(chunks) + plain[33:]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk_name", [b"mkTs", b"prVw", b"mkBT"])
def test_a_picture_in_a_private_chunk_of_a_png_goes(
    photo: Pixels, spot: BoolMask, name: str, chunk_name: bytes
) -> None:
    source = around(photo, chunk(chunk_name, COPIES[name]), chunk(b"teSt", b"plain"))
    assert inside(source, COPIES[name])
    for policy in ("rebuild", "drop"):
        _, made = edited(source, spot, f"metadata.stale_preview={policy}")
        assert not inside(made.data, COPIES[name])
        assert any(chunk_name.decode() in each for each in made.metadata_notes)
        assert chunk(b"teSt", b"plain") in made.data
    assert refuses(source, spot)


def shows_old(text: bytes, copy: bytes) -> bool:
    return inside(text, copy) or inside(text, copy.hex().encode())


def resources() -> bytes:
    """Photoshop's thumbnail, as ImageMagick carries it from a JPEG into a PNG."""
    copy = COPIES["jpeg"]
    head = struct.pack(">6I2H", 1, 40, 40, 120, 4800, len(copy), 24, 1)
    content = head + copy + bytes(len(copy) % 2)
    return b"8BIM" + struct.pack(">HHI", 1036, 0, len(head) + len(copy)) + content


def iptc() -> bytes:
    copy = COPIES["jpeg"]
    title = b"\x1c\x02\x05\0\5Bowls"
    return title + b"\x1c\x02\xca" + struct.pack(">H", len(copy)) + copy


PROFILES: dict[str, Callable[[], bytes]] = {
    "8bim": resources,
    "iptc": iptc,
    "xyz": lambda: COPIES["png"],
    "APP12": lambda: b"Maker" + COPIES["jpeg"],
}


@pytest.mark.parametrize("kind", PROFILES)
@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_picture_in_a_raw_profile_of_a_png_goes(
    photo: Pixels, spot: BoolMask, kind: str, name: bytes
) -> None:
    copy = COPIES["png" if kind == "xyz" else "jpeg"]
    source = around(photo, profile(name, kind, PROFILES[kind]()))
    _, made = edited(source, spot)
    assert made.metadata_notes == [f"chunk {name.decode()} with a picture dropped"]
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(made.data)) as after:
        text = str(before.info[f"Raw profile type {kind}"]).replace("\n", "")
        assert shows_old(text.encode(), copy)
        assert f"Raw profile type {kind}" not in after.info
    assert refuses(source, spot)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_picture_in_base64_in_a_text_goes(photo: Pixels, spot: BoolMask, kind: str) -> None:
    text = base64.b64encode(COPIES[kind])
    for source in (
        around(photo, chunk(b"tEXt", b"Thumbnail\0" + text)),
        around(photo, chunk(b"zTXt", b"Thumbnail\0\0" + zlib.compress(text))),
        encoded(photo, format="JPEG", comment=text),
    ):
        _, made = edited(source, spot)
        assert text[100:300] not in made.data
        with Image.open(io.BytesIO(made.data)) as after:
            assert "Thumbnail" not in after.info
            assert "comment" not in after.info
        assert made.metadata_notes
        assert refuses(source, spot)


def test_a_further_chunk_of_a_webp_is_dropped_with_a_note(photo: Pixels, spot: BoolMask) -> None:
    plain = encoded(photo, format="WEBP", lossless=True)
    height, width = photo.shape[:2]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    source = riff((b"VP8X", bytes(4) + size), (b"VP8L", plain[20:]), (b"THMB", COPIES["png"]))
    _, made = edited(source, spot)
    assert not inside(made.data, COPIES["png"])
    assert made.metadata_notes == ["chunk THMB with a picture dropped"]


def test_compressed_samples_that_happen_to_begin_like_a_picture_stay(spot: BoolMask) -> None:
    """What lies in a page's own strips is never searched."""
    pixels = np.zeros((*spot.shape, 3), np.uint8)
    pixels[200:, :100].reshape(-1)[: len(COPIES["jpeg"])] = 0
    flat = pixels[200:].reshape(-1)
    copy = np.frombuffer(COPIES["jpeg"], np.uint8)[: len(flat)]
    flat[: len(copy)] = copy
    source = tiff(pixels, photometric="rgb")
    _, made = edited(source, spot)
    assert made.metadata_notes == []
    assert inside(made.data, COPIES["jpeg"])


UNREADABLE = b"neither of the two byte orders" * 3


def with_unreadable_exif(photo: Pixels, kind: str) -> bytes:
    block = struct.pack("<2sHIHHHI4xI", b"II", 42, 8, 1, 270, 2, 60, 0) + b"A bowl of figs" * 5
    options = {"lossless": True} if kind == "WEBP" else {}
    named = block if kind in ("PNG", "AVIF") else b"Exif\0\0" + block
    plain = encoded(photo, format=kind, exif=named, **options)
    assert plain.count(block[20:60]) == 1
    place = plain.index(block[20:60]) - 20
    source = plain[:place] + b"junk" + plain[place + 4 :]
    if kind == "PNG":  # its checksum
        at = source.index(b"eXIf")
        size = struct.unpack(">I", source[at - 4 : at])[0]
        whole = chunk(b"eXIf", source[at + 4 : at + 4 + size])
        source = source[: at - 4] + whole + source[at + 8 + size :]
    return source


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read_goes_in_every_format(
    photo: Pixels, spot: BoolMask, kind: str
) -> None:
    source = with_unreadable_exif(photo, kind)
    decoded, made = edited(source, spot)
    assert decoded.orientation == 1
    assert made.metadata_notes == ["EXIF that cannot be read dropped"]
    assert b"bowl of figs" not in made.data
    assert refuses(source, spot)


def test_an_avif_with_exif_that_cannot_be_read_is_refused(photo: Pixels, spot: BoolMask) -> None:
    with pytest.raises(RowError) as error:
        edited(with_unreadable_exif(photo, "AVIF"), spot)
    assert error.value.code == "image.corrupt"


def test_a_mask_with_exif_that_cannot_be_read_is_a_mask() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 5:9] = 255
    source = around(mask, chunk(b"eXIf", UNREADABLE))
    assert np.array_equal(decode_mask(source, 1, "x").values, mask)


def test_private_chunks_and_signatures_go_with_a_note(photo: Pixels, spot: BoolMask) -> None:
    for name in (b"mkBS", b"prVW", b"caBX"):
        source = around(photo, chunk(name, b"packed in a way of its own"))
        _, made = edited(source, spot)
        assert len(made.metadata_notes) == 1
        assert refuses(source, spot) == (name == b"caBX")
