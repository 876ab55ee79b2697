"""Likeness: a face embedding of 128 numbers, by which faces are compared.

The network has no part in drawing. ``engines.likeness`` trained it to reproduce the embeddings of dlib's face
recognition.
"""

import threading
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats

Image = npt.NDArray[np.uint8]

FACE_SIZE: Final = 96  # pixels, the network's input


def likeness_face(picture: Image, landmarks: Floats) -> Image:
    """The face with ``landmarks (478, 3)`` in RGB ``picture``, aligned for the network: RGB ``(96, 96, 3)``."""
    matrix = geometry.aligned_frame(landmarks, FACE_SIZE)
    # A large face is blurred before it is scaled down, against aliasing.
    scale = float(np.linalg.norm(matrix[0, :2]))
    if scale < 0.5:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.35 / scale), np.uint8)
    found = cv2.warpAffine(
        picture, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.uint8)


def shrink_aligned(face: Image) -> Image:
    """An aligned face (see ``avatar_stream.portrait.aligned``), RGB ``(192, 192, 3)``, at the network's size."""
    return np.asarray(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)


class Likeness:
    """The network, on one core. Thread-safe."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        path = Path(__file__).parent / "likeness.onnx"
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._lock = threading.Lock()

    @staticmethod
    @cache
    def shared() -> "Likeness":
        """The instance of this process, loaded on first use."""
        return Likeness()

    def __call__(self, face: Image) -> Floats:
        """The likeness ``(128,)`` of a face (see :func:`likeness_face`). Those of one person are close."""
        with self._lock:
            return np.asarray(self._session.run(None, {"face": face[None].astype(np.float32)})[0][0], np.float32)

    def of(self, picture: Image, landmarks: Floats) -> Floats:
        """The likeness ``(128,)`` of the face with ``landmarks (478, 3)`` in RGB ``picture``."""
        return self(likeness_face(picture, landmarks))


def likeness_distance(a: Floats, b: Floats) -> float:
    """Euclidean distance of two likenesses; 0 for the same picture."""
    return float(np.linalg.norm(a - b))
