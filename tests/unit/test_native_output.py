"""Messages of native libraries are hidden, and all other output is shown."""

import subprocess
import sys

import pytest

from avatar_stream.identity.library import SAMPLES, sample_pictures
from tests.waiting import TEST_TIMEOUT

pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys
from avatar_stream.native_output import quiet_native_logs
quiet_native_logs()
os.write(2, b"W0000 00:00:1795258154.949726   12581 inference_feedback_manager.cc:114] Feedback\\n")
os.write(2, b"a native library has something to say\\n")
os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
print("an error of ours", file=sys.stderr)
os.write(2, b"and no newline at the end")
"""


def test_only_known_library_messages_are_suppressed() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True
    )
    for message in ("a native library has something to say\n", "an error of ours\n", "and no newline at the end"):
        assert message in run.stderr
    assert "W0000" not in run.stderr
    assert "INFO" not in run.stderr


def test_a_command_prints_its_errors_and_no_library_messages(tmp_path: object) -> None:
    command = [sys.executable, "-m", "avatar_stream.cli", "render", str(next(iter(sample_pictures().values())))]
    driver = str(SAMPLES / "driver.mp4")
    run = subprocess.run(
        [*command, driver, "-o", f"{tmp_path}/out.mp4", "--engine", "warp", "--size", "128"],
        capture_output=True,
        text=True,
        timeout=TEST_TIMEOUT,
        check=True,
    )
    assert run.stderr == ""
    wrong = subprocess.run(
        [*command, driver, "-o", "out.avi"], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("avatar-stream: the output must be an MP4 file")


LIBRARY_PROGRAM = """
import os, subprocess, sys, threading
import numpy as np
from avatar_stream.face.tracker import FaceTracker, detect_faces, landmarks_of_still
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import read_picture, segment_person
from avatar_stream.native_output import quiet_graph

nobody = np.zeros((240, 320, 3), np.uint8)
somebody = np.pad(read_picture(sample_pictures()["robin"]), ((0, 0), (60, 60), (0, 0)))
tracker = FaceTracker()
tracker.update(nobody, 0.0)
assert tracker.update(somebody, 0.1).landmarks is not None
tracker.close()
tracker = FaceTracker()
two = np.concatenate((somebody, somebody), 1)
assert len(detect_faces(two)) == 2
assert tracker.update(two, 0.2).landmarks is not None
landmarks_of_still(nobody)
segment_person(nobody)
tracker.close()

class Graph:
    def process(self, picture):
        os.write(2, b"W0000 00:00:1795258154.949726   12581 inference_feedback_manager.cc:114] Feedback\\n")
        other = threading.Thread(target=lambda: print("of another thread", file=sys.stderr, flush=True))
        other.start()
        other.join()
        subprocess.run([sys.executable, "-c", "import sys; print('of a process', file=sys.stderr)"], check=True)
        os.write(2, b"without an end")

for _ in range(2):
    quiet_graph(Graph)
    print(", and after", file=sys.stderr, flush=True)
os.write(2, b"W0000 00:00:1 2 afterwards the descriptor is the program's\\n")
"""


def test_a_program_with_the_package_keeps_its_own_output() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIBRARY_PROGRAM], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True
    )
    graph = "of another thread\nof a process\nwithout an end, and after\n"
    assert run.stderr == 2 * graph + "W0000 00:00:1 2 afterwards the descriptor is the program's\n"


def test_mediapipe_works_without_stderr() -> None:
    program = """
import os
from avatar_stream.face.tracker import FaceTracker
os.close(2)
FaceTracker().close()
print("made")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=TEST_TIMEOUT, check=False
    )
    assert run.stdout == "made\n"
