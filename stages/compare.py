"""Hold a result against its source: what is the same outside the mask, and what still shows it.

Reads both files anew and trusts nothing that the pipeline recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stages.codecs import pillow_io
from stages.codecs.decode import decode_photo
from stages.codecs.errors import DamagedError, RefusedError
from stages.codecs.formats import format_of
from stages.codecs.heif import metadata_of
from stages.codecs.jpeg_header import read_header
from stages.codecs.jpeg_splice import coefficients_of
from stages.codecs.metadata.compare import comparable
from stages.codecs.metadata.exif import find_thumbnails
from stages.codecs.metadata.previews import previews
from stages.codecs.picture import Decoded, as_pillow, to_stored
from stages.codecs.png_chunks import chunks, raw_profile
from stages.codecs.tiff import smaller_copies
from stages.codecs.tiff_file import TiffFile
from stages.colour import view
from stages.masks import Bits

#: Tags of a TIFF: the kind of page, where its strips lie, and those that an edit may change.
_SUBFILE, _STRIPS, _STRIP_SIZES = 254, 273, 279
_MOVING = {273, 279, 324, 325, 305, 330, 700, 33723, 34377, 34665, 52545}

#: What a segment of a JPEG can hold.
_SEGMENT = 65_534

#: A preview counts as old if the picture changed there by more levels than this.
_VISIBLE = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two files have in common.

    Attributes:
        format: of the source, and of the result if that is another.
        outside: what is the same outside the mask.
        kept: whether that is all of it: samples, or the coefficients of all untouched blocks.
        levels: how far the samples outside the mask are apart on average, 0 to 255; infinite if
            the pictures have different sizes.
        differing: names of metadata blocks that are not the same.
        previews: what became of the pictures inside the file.
        stale: those that show the old one, or vouch for it.
    """

    format: str
    outside: str
    kept: bool
    levels: float
    differing: list[str]
    previews: str
    stale: int


def compare(source: bytes, result: bytes, changed: Bits, *, marked: bool) -> Comparison:
    """Compare a result with its source.

    Args:
        source: the original file.
        result: the new one.
        changed: ``(h, w)`` bool, displayed frame: the mask, grown and feathered.
        marked: whether the edit was marked in the metadata on purpose.

    Raises:
        RowError: one of them cannot be decoded.
    """
    own, made = format_of(source) or "other", format_of(result) or "other"
    shown = own if own == made else f"{own} to {made}"
    if source == result:
        return Comparison(shown, "whole file identical", True, 0, [], "as they were", 0)
    before, after = (decode_photo(data, float("inf"), "file") for data in (source, result))
    levels = _levels_apart(before, after, changed)
    outside, kept = _outside(source, result, levels, to_stored(changed, before.orientation))
    differing = _metadata(source, marked=marked) ^ _metadata(result, marked=marked)
    names = sorted({name for name, _ in differing})
    old, new = list(_previews(source)), list(_previews(result))
    stale = sum(_is_stale(picture, before, after) for picture in new)
    return Comparison(
        shown,
        outside,
        kept,
        levels,
        names,
        _told(rebuilt=len(new) - stale, dropped=max(len(old) - len(new), 0), stale=stale),
        stale,
    )


def _told(**counts: int) -> str:
    """``1 rebuilt, 2 dropped``."""
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"


def _outside(source: bytes, result: bytes, levels: float, stored: Bits) -> tuple[str, bool]:
    if format_of(source) == format_of(result) == "jpeg":
        try:
            kept = _kept_blocks(source, result, stored)
        except (DamagedError, RefusedError) as error:
            return f"cannot tell: {error}", False
        if kept is not None:
            return f"coefficients of {kept:,} blocks identical", True
    if levels == float("inf"):
        return "another size", False
    if not levels:
        return "all samples identical", True
    return f"coded again: {levels:.2f} of 255 levels apart", False


def _levels_apart(before: Decoded, after: Decoded, changed: Bits) -> float:
    """Mean difference outside the mask; of samples of different kinds, as a viewer shows them."""
    if (before.width, before.height) != (after.width, after.height):
        return float("inf")
    old, new = before.pixels, after.pixels
    if old.shape != new.shape or old.dtype != new.dtype:
        old, new = view(old, before.space), view(new, after.space)
    difference = np.abs(old.astype(np.int32) - new)[~changed]
    return float(difference.mean() * 255 / np.iinfo(old.dtype).max) if difference.size else 0.0


def _kept_blocks(source: bytes, result: bytes, changed: Bits) -> int | None:
    """How many blocks the mask does not touch; None if any of them changed."""
    header = read_header(source)
    kept = 0
    for number, (old, new) in enumerate(
        zip(coefficients_of(source), coefficients_of(result), strict=True)
    ):
        across, down = header.step(number)
        rows, columns = old.shape[:2]
        grid = np.zeros((rows * 8 * down, columns * 8 * across), np.bool_)
        grid[: changed.shape[0], : changed.shape[1]] = changed[: len(grid), : len(grid[0])]
        hit = grid.reshape(rows, 8 * down, columns, 8 * across).any(axis=(1, 3))
        if not np.array_equal(old[~hit], new[~hit]):
            return None
        kept += int((~hit).sum())
    return kept


def _metadata(data: bytes, *, marked: bool) -> set[tuple[str, object]]:
    if format_of(data) == "tiff":
        return set(comparable(data, marked=marked).items()) | set(_further_pages(data))
    if format_of(data) not in ("avif", "heic"):
        return set(comparable(data, marked=marked).items())
    info = dict(_heif_metadata(data))
    exif = info.get("exif") or b""
    if 0 < len(exif) < _SEGMENT:
        # Previews and marks may change; comparable knows them where JPEG keeps EXIF.
        framed = b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + b"\xff\xd9"
        info["exif"] = str(comparable(framed, marked=marked))
    return {(key, info.get(key)) for key in ("exif", "icc_profile", "xmp") if info.get(key)}


def _further_pages(data: bytes) -> Iterator[tuple[str, str]]:
    """A hash for each page of a TIFF that is neither edited nor a smaller copy; of its tags, too.

    Of a BigTIFF, which ``comparable`` cannot read, the edited page's tags as well.
    """
    file = TiffFile(data)
    for number, directory in enumerate(file.directories(), 1):
        entries = file.entries(directory)
        is_copy = _SUBFILE in entries and file.integer(entries[_SUBFILE]) & 1
        if is_copy or (number == 1 and data[2:4] not in (b"+\0", b"\0+")):
            continue
        digest = hashlib.sha256()
        for tag, entry in sorted(entries.items()):
            if number > 1 or tag not in _MOVING:
                digest.update(f"{tag} {entry.kind} {entry.count} ".encode() + file.content(entry))
        if number > 1 and _STRIPS in entries and _STRIP_SIZES in entries:
            for start, size in zip(
                file.integers(entries[_STRIPS]), file.integers(entries[_STRIP_SIZES]), strict=False
            ):
                digest.update(data[start : start + size])
        yield f"page {number}", digest.hexdigest()


def _heif_metadata(data: bytes) -> Mapping[Any, Any]:
    if format_of(data) == "heic":
        return metadata_of(data)
    with pillow_io.opened(data) as picture:
        return picture.info


def _previews(data: bytes) -> Iterator[Image.Image | None]:
    yield from (picture for _, picture in previews(data))
    if format_of(data) == "png":
        for raw in (raw_profile(*chunk) for chunk in chunks(data)):
            block = raw[1].removeprefix(b"Exif\0\0") if raw else b""
            yield from (thumbnail.read(block) for thumbnail in find_thumbnails(block))
    if format_of(data) in ("avif", "heic"):
        exif = bytes(_heif_metadata(data).get("exif") or b"").removeprefix(b"Exif\0\0")
        yield from (thumbnail.read(exif) for thumbnail in find_thumbnails(exif))
    if format_of(data) == "tiff":
        for samples in smaller_copies(data):
            yield None if samples is None else as_pillow(samples[..., :1], "grey")


def _is_stale(picture: Image.Image | None, before: Decoded, after: Decoded) -> bool:
    """Whether a preview shows the picture before rather than after."""
    if picture is None:
        return True  # a signature, a video: never right after an edit
    shown = picture.convert("L")
    old, new = (_as_small(decoded, shown.size) for decoded in (before, after))
    moved = np.abs(old - new) > _VISIBLE
    if not moved.any():
        return False
    small = np.asarray(shown, np.float32)
    return bool(np.abs(small - old)[moved].mean() < np.abs(small - new)[moved].mean())


def _as_small(decoded: Decoded, size: tuple[int, int]) -> np.ndarray:
    stored = to_stored(view(decoded.pixels, decoded.space), decoded.orientation)
    picture = Image.fromarray(stored).convert("L")
    return np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)
