"""Carry a PNG's metadata over to its edited successor, chunk by chunk (PNG, third edition)."""

from __future__ import annotations

from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Ancillary chunks that say nothing about particular pixels, though the specification marks some
#: of them as unsafe to copy blindly.
_KEPT = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs sPLT eXIf tEXt zTXt iTXt tIME".split()
)

#: Of these, the ones that are written in the samples' own mode.
_BOUND_TO_MODE = frozenset({b"sBIT", b"bKGD"})


def with_chunks_of(source: bytes, coded: bytes, *, same_mode: bool) -> bytes:
    """Return ``coded`` with the metadata of ``source`` in the place of its own.

    Args:
        source: the original file.
        coded: the edited one.
        same_mode: whether both have the same colour type and depth.
    """
    before: list[bytes] = []
    after: list[bytes] = []
    image: list[bytes] = []
    seen_pixels = False
    for name, chunk in _chunks(source):
        seen_pixels |= name == b"IDAT"
        if _is_kept(name, same_mode=same_mode):
            (after if seen_pixels else before).append(chunk)
    for name, chunk in _chunks(coded):
        if name[:1].isupper() or name == b"tRNS":
            image.append(chunk)
    return b"".join([_SIGNATURE, image[0], *before, *image[1:-1], *after, image[-1]])


def _is_kept(name: bytes, *, same_mode: bool) -> bool:
    if name in _BOUND_TO_MODE and not same_mode:
        return False
    is_ancillary, safe_to_copy = name[:1].islower(), name[3:].islower()
    return name in _KEPT or (is_ancillary and safe_to_copy and name != b"tRNS")


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, whole chunk), up to and with IEND."""
    position = len(_SIGNATURE)
    while position + 12 <= len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4], "big")
        name = png[position + 4 : position + 8]
        yield name, png[position:end]
        if name == b"IEND":
            return
        position = end
