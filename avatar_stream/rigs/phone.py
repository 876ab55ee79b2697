"""Reads datagrams of face tracking apps on phones, iFacialMocap and Facemotion3d: a line of text per frame.

Formats: https://www.ifacialmocap.com/for-developer and https://www.facemotion3d.net. A line has ``name-0..100`` (or
``name&0..100``) with ``|`` between, ``_L`` and ``_R`` for sides, then ``=head#`` with Euler angles in degrees and the
position in metres, in ARKit's axes.
"""

import math
import re
from typing import Final

from scipy.spatial.transform import Rotation

from avatar_stream.face.arkit import BLEND_SHAPES, ArkitFrame

PHONE_PORT: Final = 49983
GREETING: Final = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"
"""The app sends nothing until it has received this at its port 49983."""
MAX_PACKET_BYTES: Final = 4096
_BLEND_SHAPE_SET: Final = frozenset(BLEND_SHAPES)
_SHAPE_PATTERN: Final = re.compile(r"([A-Za-z]+?)(_[LR])?[-&](\d{1,3})(?:\.\d+)?")


def parse_phone(packet: bytes) -> ArkitFrame | None:
    """The frame in a datagram, or None if the datagram has another format."""
    if len(packet) > MAX_PACKET_BYTES or b"=head#" not in packet:
        return None
    shapes_text, _, rest = packet.decode("ascii", "replace").partition("=head#")
    shapes = {}
    for part in shapes_text.split("|"):
        if (found := _SHAPE_PATTERN.fullmatch(part)) is None:
            continue
        name = found[1] + {"_L": "Left", "_R": "Right", None: ""}[found[2]]
        if name in _BLEND_SHAPE_SET:
            shapes[name] = min(int(found[3]) / 100, 1.0)
    try:
        numbers = [float(x) for x in rest.split("|")[0].split(",")]
    except ValueError:
        return None
    if len(numbers) != 6 or not all(math.isfinite(x) and abs(x) < 1000 for x in numbers):
        return None
    x, y, z, w = (float(v) for v in Rotation.from_euler("xyz", numbers[:3], degrees=True).as_quat())
    return ArkitFrame(shapes, (x, y, z, w), (numbers[3], numbers[4], numbers[5]))
