"""What processor this is, and which of its instructions OpenVINO may use."""

import hashlib
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Final

ISA_SETTINGS: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS")
"""Environment variables by which OpenVINO's kernels are isa_settings to use other instructions than the best."""


def processor() -> str:
    """The processor's name, as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """All of the processor and of OpenVINO that what OpenVINO makes of a network depends on.

    A processor's name is not enough: a virtual machine may hide some of its instructions, and a variable may too.
    """
    isa_settings = " ".join(f"{name}={os.environ[name]}" for name in ISA_SETTINGS if name in os.environ)
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    digest = hashlib.sha256(f"{flags} {isa_settings}".encode()).hexdigest()[:12]
    return f"{processor()}, {digest}, openvino {version('openvino')}"


def _cpuinfo(name: str) -> str:
    """What Linux says of its first processor under this name; empty elsewhere."""
    try:
        found = re.search(rf"^{name}\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip() if found else ""
