"""The registry of formats, the walkers of containers, and the settings of libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

import stages
from manifests.errors import RowError
from stages.codecs.base import Format
from stages.codecs.decode import check_photo, decode_mask, decode_photo
from stages.codecs.formats import CODECS, detect_format
from stages.codecs.repair import repaired
from stages.recipe.options import OutputOptions
from tests.hostile.formats import chunk, riff
from tests.support.files.corpus import segment, small_files


def test_every_format_has_an_entry_and_what_can_be_asked_for_has_a_writer() -> None:
    assert set(CODECS) == set(get_args(Format))
    wanted = set(get_args(OutputOptions.model_fields["format"].annotation)) - {"source"}
    assert {name for name, codec in CODECS.items() if codec.writer} == wanted


def test_each_file_of_the_corpus_is_recognised_by_its_first_bytes() -> None:
    for name, data in small_files().items():
        assert detect_format(data) == name.partition("-")[0]


def jpeg_of(segments: bytes) -> bytes:
    plain = small_files()["jpeg-444-q55"]
    return plain[:2] + segments + plain[2:]


def png_of(chunks: bytes) -> bytes:
    plain = small_files()["png-grey"]
    return plain[:33] + chunks + plain[33:]


ENDLESS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg-segments": (lambda: jpeg_of(segment(0xFE, b"") * 10_000), "segments"),
    "jpeg-fill": (lambda: jpeg_of(b"\xff" * 5000), "fill a gap"),
    "jpeg-fill-without-a-marker": (lambda: jpeg_of(b"\xff" * 5000 + b"\0"), "fill a gap"),
    "png-chunks": (lambda: png_of(chunk(b"tEXt", b"") * 10_000), "chunks"),
    "png-pieces": (lambda: png_of(chunk(b"IDAT", b"") * 200_001), "chunks"),
    "webp-chunks": (
        lambda: riff((b"VP8 ", b""), *[(b"junk", b"")] * 10_000),
        "chunks",
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_file_of_endless_parts_is_refused_before_a_library_sees_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = ENDLESS[kind]
    data = make()
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("a library read it"))
    for read in (decode_photo, check_photo, decode_mask):
        with pytest.raises(RowError, match=message) as caught:
            read(data, 100, "x")
        assert caught.value.code.endswith(".unsupported")
    assert repaired(data) == (data, [])


def test_what_fills_a_gap_in_metadata_or_samples_is_no_fill() -> None:
    full = segment(0xE7, b"\xff" * 9000)
    assert decode_photo(jpeg_of(full), 100, "x").width == 150


def test_importing_codecs_changes_no_setting_of_a_library_and_decoding_does() -> None:
    code = """
import sys
from PIL import Image
before = Image.MAX_IMAGE_PIXELS
from stages.codecs import decode, encode
assert before == Image.MAX_IMAGE_PIXELS is not None
from pathlib import Path
decode.decode_photo(Path(sys.argv[1]).read_bytes(), 100, "x")
assert Image.MAX_IMAGE_PIXELS is None
"""
    photo = next(Path("manifests/examples/demo/photos").glob("*.jpg"))
    subprocess.run([sys.executable, "-c", code, str(photo)], check=True)


def test_pixels_know_no_codec_and_codecs_know_no_recipe_but_its_options() -> None:
    root = Path(stages.__file__).parent
    for path in (root / "pixels").glob("*.py"):
        assert "stages.codecs" not in path.read_text(), path
    for path in (root / "codecs").rglob("*.py"):
        assert "from stages.recipe import" not in path.read_text(), path
