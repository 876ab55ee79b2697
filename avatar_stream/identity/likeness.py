"""Whether a face still looks like its person: 128 numbers of it, by a network that conditions nothing.

Trained by ``engines.likeness`` to say what dlib's face recognition says.
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

FACE_SIZE: Final = 96


def likeness_face(picture: Image, landmarks: Floats) -> Image:
    """The face of landmarks ``(478, 3)`` in RGB ``picture``, where the network wants it: RGB ``(96, 96, 3)``."""
    matrix = geometry.aligned_frame(landmarks, FACE_SIZE)
    # Every pixel of a large face counts.
    scale = float(np.linalg.norm(matrix[0, :2]))
    if scale < 0.5:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.35 / scale), np.uint8)
    found = cv2.warpAffine(
        picture, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.uint8)


def shrink_aligned(face: Image) -> Image:
    """An aligned face (see ``avatar_stream.portrait.aligned``), RGB ``(192, 192, 3)``, as the network wants it."""
    return np.asarray(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)


class Likeness:
    """The network on one core. Thread-safe."""

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
        """One for all, loaded on first use."""
        return Likeness()

    def __call__(self, face: Image) -> Floats:
        """128 numbers of a face (see :func:`likeness_face`); two of one person differ by little."""
        with self._lock:
            return np.asarray(self._session.run(None, {"face": face[None].astype(np.float32)})[0][0], np.float32)

    def of(self, picture: Image, landmarks: Floats) -> Floats:
        """The same for the face of landmarks ``(478, 3)`` in RGB ``picture``."""
        return self(likeness_face(picture, landmarks))


def distance(a: Floats, b: Floats) -> float:
    """Between what is said of two faces: 0 for the same picture."""
    return float(np.linalg.norm(a - b))
