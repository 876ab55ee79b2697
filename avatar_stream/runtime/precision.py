"""Which precision of the tick network is fastest on this processor: measured once, and kept while nothing changes.

What a processor can do does not tell what it does fast: there are Xeons whose bf16 instructions take twice the time
of fp32's, and three times that of int8's.
"""

import contextlib
import json
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from avatar_stream.runtime import openvino_cpu
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.plans import network_hash

BETTER: Final = 0.9  # of the exact one's time that int8, the least exact, may take to be first
CLEAR: Final = 1.3  # times faster, from which one measurement is believed for good: others may just have been busy


@cache
def fastest(folder: Path, threads: int) -> dict[str, float]:
    """Milliseconds of a run of the tick network on OpenVINO by precision, best first."""
    exact = openvino_cpu.openvino_precision()
    paths = {exact: tick_path(folder), "int8": tick_path(folder, precision="int8")}
    if not paths["int8"].is_file():
        return {exact: 0.0}
    file = user_cache_path("avatar-stream") / "precision.json"
    key = f"{processor()}, openvino {version('openvino')}, {network_hash(paths['int8'])}, {threads} threads"
    known = _read(file)
    found = known.get(key)
    if found is None or set(found) != set(paths):
        found = openvino_cpu.run_times(paths, threads)
        if max(found.values()) > CLEAR * min(found.values()):
            _write(file, known | {key: found})
    better = found["int8"] < BETTER * found[exact]
    return dict(sorted(found.items(), key=lambda one: (one[0] == "int8") != better))


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(file.read_text())
        return {key: {name: float(ms) for name, ms in times.items()} for key, times in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(file: Path, found: dict[str, dict[str, float]]) -> None:
    """Whole or not at all; a folder that cannot be written costs a second at the next start, nothing more."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(found, indent=1))
        part.replace(file)
