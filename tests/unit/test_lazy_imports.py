"""Modules that MediaPipe imports without using them are imported on first use."""

import subprocess
import sys

from tests.waiting import TEST_TIMEOUT

PROGRAM = """
import sys
import avatar_stream.face.tracker
from mediapipe.python.solutions import face_mesh
assert type(sys.modules["matplotlib.pyplot"]).__name__ == "_LazyModule"
assert "matplotlib.axes" not in sys.modules
import matplotlib.pyplot
assert callable(matplotlib.pyplot.figure)
assert "matplotlib.axes" in sys.modules
"""


def test_pyplot_is_imported_on_first_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
