"""Tell at which quality a lossy WebP was coded, from its frame header (RFC 6386).

libwebp turns a quality of 0 to 100 into a base quantiser of 0 to 127 by a formula of its own
(``QualityToCompression`` in ``quant_enc.c``); that is turned round here. Parts of a picture may be
coded finer or coarser: the finest counts, so that nothing is coded more coarsely than it was.
"""

from __future__ import annotations


class _BoolDecoder:
    """RFC 6386, section 7; only for flags and numbers of even odds."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value = int.from_bytes(data[:2], "big")
        self._next, self._range, self._bits = 2, 255, 0

    def flag(self) -> bool:
        split = 1 + (((self._range - 1) * 128) >> 8)
        is_set = self._value >= split << 8
        if is_set:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._bits += 1
            if self._bits == 8:
                self._bits = 0
                self._value |= self._data[self._next] if self._next < len(self._data) else 0
                self._next += 1
        return is_set

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.flag()
        return value

    def signed(self, bits: int) -> int:
        """An optional number with a sign behind it; 0 if it is left out."""
        if not self.flag():
            return 0
        value = self.number(bits)
        return -value if self.flag() else value


def quality_of(vp8: bytes) -> int | None:
    """The quality, 1 to 100, that libwebp would code a ``VP8`` chunk's picture at; None: unknown.

    Args:
        vp8: the chunk's content: frame tag, start code, size, and the first partition.
    """
    is_key_frame = len(vp8) > 10 and not vp8[0] & 1 and vp8[3:6] == b"\x9d\x01\x2a"
    if not is_key_frame:
        return None
    bits = _BoolDecoder(vp8[10:])
    bits.number(2)  # colour space, clamping
    segments, absolute = _segment_quantisers(bits)
    bits.number(1 + 6 + 3)  # loop filter: kind, level, sharpness
    if bits.flag() and bits.flag():  # its adjustments, and whether they are told
        for _ in range(8):
            bits.signed(6)
    bits.number(2)  # how many partitions of coefficients
    base = bits.number(7)
    finest = min(segments, default=0) + (0 if absolute and segments else base)
    # Turned round: q = 127 (1 - c), c = cube root of linear, linear = 2/3 x up to x = 0.75, then
    # 2 x - 1.
    linear = (1 - min(max(finest, 0), 127) / 127) ** 3
    share = linear * 1.5 if linear < 0.5 else (linear + 1) / 2
    return min(max(round(100 * share), 1), 100)


def _segment_quantisers(bits: _BoolDecoder) -> tuple[list[int], bool]:
    """The segments' quantisers, and whether they are absolute; none if there is one segment."""
    found: list[int] = []
    absolute = False
    if bits.flag():
        new_map, new_data = bits.flag(), bits.flag()
        if new_data:
            absolute = bits.flag()
            found = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)
        if new_map:
            for _ in range(3):
                if bits.flag():
                    bits.number(8)
    return found, absolute
