"""The terminal shows what is for a user, and all of it."""

import subprocess
import sys

import pytest

from avatar_stream.identity.library import SAMPLES, sample_pictures
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys
from avatar_stream.quiet import quiet_native_logs
quiet_native_logs()
os.write(2, b"W0000 00:00:1795258154.949726   12581 inference_feedback_manager.cc:114] Feedback\\n")
os.write(2, b"a native library has something to say\\n")
os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
print("an error of ours", file=sys.stderr)
os.write(2, b"and no newline at the end")
"""


def test_only_chatter_is_dropped() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    for said in ("a native library has something to say\n", "an error of ours\n", "and no newline at the end"):
        assert said in run.stderr
    assert "W0000" not in run.stderr
    assert "INFO" not in run.stderr


def test_a_command_is_quiet_and_its_errors_are_not(tmp_path: object) -> None:
    command = [sys.executable, "-m", "avatar_stream.cli", "render", str(next(iter(sample_pictures().values())))]
    driver = str(SAMPLES / "driver.mp4")
    run = subprocess.run(
        [*command, driver, "-o", f"{tmp_path}/out.mp4", "--engine", "warp", "--size", "128"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert run.stderr == ""
    wrong = subprocess.run(
        [*command, driver, "-o", "out.avi"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("avatar-stream: the output is an MP4 file")
