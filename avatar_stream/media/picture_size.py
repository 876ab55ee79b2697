"""Reads the size of an encoded picture from its header, without decoding it."""

from collections.abc import Iterator
from typing import Final

Size = tuple[int, int]
"""Width and height, pixels."""

NAL_IDR: Final = 5  # a slice of a key frame (H.264 table 7-1)
NAL_SPS: Final = 7  # a sequence parameter set
# Profiles whose parameter sets have a chroma format (H.264 section 7.3.2.1.1).
CHROMA_PROFILES: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
MAX_SPS: Final = 512  # bytes that are parsed


def vp8_size(frame: bytes) -> Size | None:
    """The size in a VP8 key frame's header (RFC 6386 section 9.1); None for other frames."""
    if len(frame) < 10 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF


def h264_size(stream: bytes) -> Size | None:
    """The largest size in the sequence parameter sets of an H.264 byte stream; None if it has no complete set.

    ``stream`` has start codes (H.264 annex B).
    """
    sizes = [
        _sps_size(unit[1:].replace(b"\x00\x00\x03", b"\x00\x00"))
        for unit in _units(stream)
        if unit[0] & 0x1F == NAL_SPS
    ]
    return max((size for size in sizes if size is not None), key=lambda size: size[0] * size[1], default=None)


def has_h264_key_frame(stream: bytes) -> bool:
    """Whether an H.264 byte stream has a key frame (IDR)."""
    return any(unit[0] & 0x1F == NAL_IDR for unit in _units(stream))


def _units(stream: bytes) -> Iterator[bytes]:
    """The NAL units behind the start codes, at most the first ``MAX_SPS`` bytes of each."""
    at = stream.find(b"\x00\x00\x01")
    while 0 <= at < len(stream) - 3:
        yield stream[at + 3 : at + 3 + MAX_SPS]
        at = stream.find(b"\x00\x00\x01", at + 3)


class _Bits:
    """Reads bits and Exp-Golomb codes (H.264 section 9.1); raises ``EOFError`` at the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _sps_size(sps: bytes) -> Size | None:
    """The size, before cropping, in a sequence parameter set (H.264 section 7.3.2.1.1) without its first byte."""
    bits = _Bits(sps)
    try:
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.golomb()  # id of the set
        if profile in CHROMA_PROFILES:
            _skip_chroma(bits)
        bits.golomb()  # log2 of frame numbers
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(min(bits.golomb(), 255)):
                bits.signed()
        bits.golomb()  # reference frames
        bits.take(1)
        width, height = 16 * (bits.golomb() + 1), 16 * (bits.golomb() + 1)
        return width, height * (2 - bits.take(1))
    except EOFError:
        return None


def _skip_chroma(bits: _Bits) -> None:
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    bits.golomb()  # bit depths of luma and chroma
    bits.golomb()
    bits.take(1)
    if not bits.take(1):
        return
    for number in range(8 if chroma != 3 else 12):
        if bits.take(1):
            last = step = 8
            for _ in range(16 if number < 6 else 64):
                if step:
                    step = (last + bits.signed()) % 256
                last = step or last
