"""The face packet: a tracked face in about a hundred bytes, which privacy mode sends instead of a picture.

The 478 landmarks are transformed to the face's own axes and encoded as 64 coefficients of a basis that was fitted to
many faces (``engines.data.face_code``). With the head pose and the thirty cells of the mouth view (see
``avatar_stream.face.mouth_view``), a packet has 108 bytes: 22 kbit/s at 25 faces a second. For people outside the
training data, decoded landmarks are accurate to 0.002 eye distances. ``client_demo/face/packet.js`` implements the
same format in JavaScript.

Little-endian: kind (0: no face, and nothing follows; 1: a face); whether a mouth view follows the coefficients; the
rotation's quaternion x, y, z (w is positive) in shares of 32767; the distance between the eyes' outer corners in
32768ths of the picture's height; the middle between them, from the picture's top left corner, in 8192ths of its
height; 64 signed bytes of coefficients; and 60 values of four bits for the mouth view.
"""

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadInput
from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import MAX_CELL_VALUE, VIEW_COLUMNS, VIEW_ROWS
from avatar_stream.face.tracked_face import PACKET_PICTURE_HEIGHT, TrackedFace

_HEADER: Final = struct.Struct("<BB3hH2h")
_ROTATION_UNITS, _SIZE_UNITS, _POSITION_UNITS = 32767, 32768, 8192
_OUTER_EYE_CORNERS: Final = (33, 263)
# The face's vertical axis runs from the mean of the upper landmarks to the mean of the lower ones.
_UPPER_AXIS_POINTS, _LOWER_AXIS_POINTS = (9, 8, 168), (2, 94, 164)


@dataclass(frozen=True, slots=True)
class FaceCode:
    """The basis: a face in its own axes is ``mean (1434,)`` plus coefficients times ``moves (64, 1434)``.

    ``weight (1434,)`` is each coordinate's weight in the encoding.
    """

    mean: Floats
    moves: Floats
    weight: Floats

    def encode(self, face: Floats) -> Floats:
        """The integer coefficients ``(64,)``, -127 to 127, that fit ``face (478, 3)`` best."""
        weighed = (face.reshape(-1) - self.mean) * self.weight
        size = (self.moves**2 * self.weight).sum(1)
        return np.asarray(np.clip(np.round(self.moves @ weighed / size), -127, 127), np.float32)

    def decode(self, coefficients: Floats) -> Floats:
        """The face ``(478, 3)`` for these coefficients ``(64,)``."""
        return np.asarray(self.mean + coefficients @ self.moves, np.float32).reshape(-1, 3)


def code_file() -> Path:
    """Path of the basis: two sizes (``int32``), then mean, weight and scale (``float32``), then moves (``int16``)."""
    return Path(__file__).parent / "face_code.bin"


@cache
def face_code() -> FaceCode:
    """The shipped basis."""
    stored = code_file().read_bytes()
    count, size = np.frombuffer(stored, np.int32, 2)
    mean, weight = np.frombuffer(stored, np.float32, 2 * size, 8).reshape(2, size)
    scale = np.frombuffer(stored, np.float32, count, 8 + 8 * size)
    moves = np.frombuffer(stored, np.int16, count * size, 8 + 8 * size + 4 * count).reshape(count, size)
    return FaceCode(mean, (moves * scale[:, None]).astype(np.float32), weight)


def face_axes(landmarks: Floats) -> tuple[Floats, Floats, float]:
    """The face's own axes ``(3, 3)``, the middle between the outer eye corners ``(3,)``, and their distance."""
    right, left = (landmarks[k].astype(np.float64) for k in _OUTER_EYE_CORNERS)
    size = max(float(np.linalg.norm(left - right)), 1e-6)
    x = (left - right) / size
    y = landmarks[list(_LOWER_AXIS_POINTS)].mean(0) - landmarks[list(_UPPER_AXIS_POINTS)].mean(0)
    y = y - (y @ x) * x
    y /= max(float(np.linalg.norm(y)), 1e-6)
    return np.stack([x, y, np.cross(x, y)], 1).astype(np.float32), ((right + left) / 2).astype(np.float32), size


def pack(face: TrackedFace) -> bytes:
    """Encode a face as a packet."""
    height = face.height
    if face.landmarks is None:
        return b"\0"
    axes, middle, size = face_axes(face.landmarks)
    numbers = face_code().encode((face.landmarks - middle) @ axes / np.float32(size))
    turn = Rotation.from_matrix(axes.astype(np.float64)).as_quat(canonical=True)[:3] * _ROTATION_UNITS
    place = np.clip(middle[:2] / height * _POSITION_UNITS, -32768, 32767)
    head = _HEADER.pack(
        1,
        face.view is not None,
        *(round(float(x)) for x in turn),
        min(round(size / height * _SIZE_UNITS), 65535),
        *(round(float(x)) for x in place),
    )
    packet = head + numbers.astype(np.int8).tobytes()
    if face.view is None:
        return packet
    cells = np.clip(np.round(face.view.reshape(-1, 2) / MAX_CELL_VALUE * 15), 0, 15).astype(np.uint8)
    return packet + (cells[:, 0] << 4 | cells[:, 1]).tobytes()


def unpack(packet: bytes) -> TrackedFace:
    """Decode a packet to a face in a picture 480 pixels high; raises :class:`BadInput` if it is not valid."""
    if packet == b"\0":
        return TrackedFace(None)
    code = face_code()
    count, cells = len(code.moves), VIEW_ROWS * VIEW_COLUMNS
    if len(packet) < _HEADER.size or packet[0] != 1:
        raise BadInput("a packet of a face must begin with the byte 1; a packet without a face is the single byte 0")
    _, seen, *turn, size, x, y = _HEADER.unpack_from(packet)
    if len(packet) != _HEADER.size + count + (cells if seen else 0) or size == 0:
        raise BadInput(
            f"a packet of a face must have {_HEADER.size + count} bytes, and {cells} more with a mouth view"
        )
    quaternion = np.array([*turn, 0.0]) / _ROTATION_UNITS
    quaternion[3] = np.sqrt(max(1 - float(quaternion @ quaternion), 0.0))
    axes = Rotation.from_quat(quaternion).as_matrix().astype(np.float32)
    face = code.decode(np.frombuffer(packet, np.int8, count, _HEADER.size).astype(np.float32))
    middle = np.array([x, y, 0], np.float32) * np.float32(PACKET_PICTURE_HEIGHT / _POSITION_UNITS)
    landmarks = face @ axes.T * np.float32(size / _SIZE_UNITS * PACKET_PICTURE_HEIGHT) + middle
    view = None
    if seen:
        pairs = np.frombuffer(packet, np.uint8, cells, _HEADER.size + count)
        view = np.stack([pairs >> 4, pairs & 15], -1).astype(np.float32).reshape(VIEW_ROWS, VIEW_COLUMNS, 2)
        view *= np.float32(MAX_CELL_VALUE / 15)
    return TrackedFace(np.asarray(landmarks, np.float32), view)
