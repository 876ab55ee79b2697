"""Imported libraries send no telemetry."""

import subprocess
import sys

PROGRAM = """
import avatar_stream.runtime.openvino_cpu as runtime
runtime.openvino_core()
import sys
sent = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module is not None]
sys.exit(", ".join(sent) or 0)
"""


def test_openvino_sends_no_telemetry() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
