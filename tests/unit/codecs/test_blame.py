"""A fault of this program is never recorded as the user's damaged file, nor the other way round."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from manifests.schema import LineageRow
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from tests.support import encoded
from tests.support.files import corpus

BOX = "[[60, 40, 30, 24]]"


def ending(folder: Path, image: bytes, mask: bytes | None = None, *options: str) -> tuple[str, str]:
    """How a row ends: its code, ``ok`` if there is none, and its error."""
    (folder / "photo").write_bytes(image)
    row = LineageRow(id="1", image_uri=str(folder / "photo"))
    if mask is None:
        row.marks = '{"boxes": ' + BOX + "}"
    else:
        (folder / "mask").write_bytes(mask)
        row.mask_uri = str(folder / "mask")
    photo = Photo(row)
    recipe = Recipe.load("telea", list(options))
    Pipeline.of(recipe, str(folder / "out")).run(photo)
    return row.error_code or "ok", row.error or ""


def broken(*_: object, **__: object) -> None:
    raise AttributeError("planted")


def broken_lookup(*_: object, **__: object) -> None:
    {}["planted"]  # type: ignore[index]


def broken_arrays(*_: object, **__: object) -> None:
    np.zeros(3).reshape(2, 2)  # raised by NumPy, for which no file can be blamed


#: What breaks, and a photo that gets there.
PLACES = [
    ("stages.codecs.pillow_io.to_displayed", "jpeg-444-q80-progressive", ()),
    ("stages.codecs.pillow_io.to_displayed", "webp-lossless", ()),
    ("stages.codecs.pillow_io.to_displayed", "avif-rgb", ()),
    ("stages.codecs.png.codec.to_displayed", "png-16-bit-rgb", ()),
    ("stages.codecs.png.codec.raw_chunks", "png-rgb", ()),
    ("stages.codecs.png.chunks.chunks", "png-rgb", ()),
    ("stages.codecs.orientation.exif_orientation", "jpeg-exif-thumbnail-turned", ()),
    ("stages.codecs.tiff.codec.to_displayed", "tiff-lzw", ()),
    ("stages.codecs.tiff.codec._kind", "tiff-lzw", ()),
    ("stages.codecs.tiff.codec._segments", "tiff-zstd-tiles", ()),
    ("stages.codecs.tiff.codec.update_tags", "tiff-photoshop-and-xmp", ()),
    ("stages.codecs.heif.codec._is_deep", "heic-8-bit", ()),
    ("stages.codecs.encode.to_stored", "png-rgb", ()),
    ("stages.codecs.encode.convert", "png-rgb", ("output.format=webp",)),
    ("stages.codecs.convert._as_target_can_hold", "png-rgb", ("output.format=jpeg",)),
    ("stages.codecs.pillow_io.writing_options", "png-rgb", ("output.format=avif",)),
    ("stages.codecs.pillow_io.refresh_exif", "avif-rgb", ()),
]


@pytest.mark.parametrize(
    "how", [broken, broken_lookup, broken_arrays], ids=lambda how: how.__name__
)
@pytest.mark.parametrize(("place", "kind", "options"), PLACES)
def test_a_fault_of_ours_is_an_internal_error(
    place: str,
    kind: str,
    options: tuple[str, ...],
    how: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = corpus.small_files()[kind]
    assert ending(tmp_path, photo, None, *options)[0] == "ok"
    monkeypatch.setattr(place, how)
    code, error = ending(tmp_path, photo, None, *options)
    assert code == "internal.error"
    assert how.__name__ in error


def test_a_fault_of_ours_in_a_mask_is_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = corpus.small_files()["png-rgb"]
    mask = np.zeros((112, 150), np.uint8)
    mask[40:60, 50:70] = 255
    assert ending(tmp_path, photo, encoded(mask))[0] == "ok"
    monkeypatch.setattr("stages.codecs.mask_file.orientation_of", broken)
    assert ending(tmp_path, photo, encoded(mask))[0] == "internal.error"


@pytest.mark.parametrize("kind", ["jpeg-444-q80-progressive", "png-rgb", "tiff-lzw", "avif-rgb"])
@pytest.mark.parametrize("error", [AttributeError, TypeError, KeyError, RuntimeError, EOFError])
def test_whatever_a_library_raises_about_a_file_is_its_damage(
    kind: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.startswith("tiff"):
        monkeypatch.setattr(tifffile.tifffile, "TiffPages", raising_like(tifffile.TiffFile, error))
    else:
        monkeypatch.setattr(Image, "preinit", raising_like(PngImagePlugin.PngImageFile, error))
    code, text = ending(tmp_path, corpus.small_files()[kind])
    assert code in ("image.corrupt", "image.truncated")
    assert "met damage" in text


def raising_like(what: type, error: type[Exception]) -> Callable[..., None]:
    """A function that raises, as one of the library's module that a class is from."""
    names = dict(vars(sys.modules[what.__module__])) | {"error": error}
    source = "def raising(*_, **__):\n    raise error('met damage')"
    exec(compile(source, "library", "exec"), names)  # noqa: S102
    made: Callable[..., None] = names["raising"]
    return made


def test_a_photo_of_no_bytes_too_few_for_a_head_is_not_our_fault(tmp_path: Path) -> None:
    heads: list[npt.NDArray[np.uint8] | bytes] = []
    for kind in ("png-rgb", "jpeg-grey", "webp-q80", "tiff-lzw", "avif-rgb", "heic-8-bit"):
        heads += [corpus.small_files()[kind][:length] for length in (*range(4, 40), 60, 100)]
    for head in heads:
        code, _ = ending(tmp_path, bytes(head))
        assert code.startswith("image."), head
