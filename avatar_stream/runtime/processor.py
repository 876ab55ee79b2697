"""Identifies the processor, and the instructions that OpenVINO may use on it."""

import hashlib
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Final

ISA_SETTINGS: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS")
"""Environment variables that limit the instructions of OpenVINO's kernels."""


def processor_name() -> str:
    """The processor's name, from the operating system."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_key() -> str:
    """A key of all properties of the processor and of OpenVINO on which a compiled network depends.

    The processor's name is not enough: virtual machines and environment variables may disable some instructions.
    """
    isa_settings = " ".join(f"{name}={os.environ[name]}" for name in ISA_SETTINGS if name in os.environ)
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    digest = hashlib.sha256(f"{flags} {isa_settings}".encode()).hexdigest()[:12]
    return f"{processor_name()}, {digest}, openvino {version('openvino')}"


def _cpuinfo(name: str) -> str:
    """A field of the first processor in Linux's ``/proc/cpuinfo``; empty on other systems."""
    try:
        found = re.search(rf"^{name}\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip() if found else ""
