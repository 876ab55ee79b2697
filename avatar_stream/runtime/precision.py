"""Which precision of the tick network is the fastest on this processor that computes it right: measured, and kept.

What a processor can do does not tell what it does fast: there are Xeons whose bf16 instructions take twice the time
of fp32's, and three times that of int8's. Nor does it tell what it does right: without VNNI, sums of 8-bit products
saturate (see :mod:`.saturation`). So every precision is compared with fp32 over a few ticks, and one that is too far
away is passed over, however fast it is.
"""

import contextlib
import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from platformdirs import user_cache_path

from avatar_stream.runtime import openvino_cpu
from avatar_stream.runtime.network import WINDOW_SLOTS, Job, tick_path
from avatar_stream.runtime.plans import network_hash
from avatar_stream.runtime.processor import instructions
from avatar_stream.runtime.rollout import (
    IDENTICAL_PSNR,
    identity_inputs,
    is_accurate,
    probe_frames,
    psnr,
    roll_out,
    squared_errors,
)

log = logging.getLogger(__name__)

INT8_MAX_TIME_RATIO: Final = 0.9  # of the exact one's time that int8, the least exact, may take to be first
CLEAR_TIME_RATIO: Final = (
    1.3  # times faster, from which one measurement is believed for good: others may just have been busy
)
PROBE_TICKS: Final = 4  # over which a precision is compared with fp32
TIMED_RUNS: Final = 7


@dataclass(frozen=True, slots=True)
class Measurement:
    """A precision on this processor: ``ms`` of a run, and its distance from fp32 over the probe in dB."""

    ms: float
    psnr: float


@cache
def ranked_precisions(folder: Path, threads: int, slots: int = WINDOW_SLOTS[0]) -> dict[str, Measurement]:
    """What was measured of the tick network of ``slots`` on OpenVINO by precision, best first.

    Only what computes right is there; fp32 always does.
    """
    exact = openvino_cpu.openvino_precision()
    found = measurements(folder, threads, slots)
    right = {name: one for name, one in found.items() if is_accurate(name, one.psnr)}
    for name in found.keys() - right.keys():
        log.warning("%s is passed over: it is wrong on this processor (%.1f dB from fp32)", name, found[name].psnr)
    if not right:
        return {"fp32": Measurement(0.0, IDENTICAL_PSNR)}
    better = exact not in right or ("int8" in right and right["int8"].ms < INT8_MAX_TIME_RATIO * right[exact].ms)
    return dict(sorted(right.items(), key=lambda one: (one[0] == "int8") != better))


@cache
def measurements(folder: Path, threads: int, slots: int = WINDOW_SLOTS[0]) -> dict[str, Measurement]:
    """What was measured of every precision that OpenVINO could use here, right or wrong; not to be changed."""
    exact = openvino_cpu.openvino_precision()
    paths = {exact: tick_path(folder, slots)}
    if (quantised := tick_path(folder, slots, "int8")).is_file():
        paths["int8"] = quantised
    if list(paths) == ["fp32"]:
        return {"fp32": Measurement(0.0, IDENTICAL_PSNR)}
    file = user_cache_path("avatar-stream") / "precision.json"
    known = _read_measurements(file)
    key = _key(paths, threads)
    found = known.get(key)
    if found is None or set(found) != set(paths):
        found = measure(folder, paths, threads, slots)
        times = [one.ms for one in found.values()]
        if max(times) > CLEAR_TIME_RATIO * min(times):
            _write_measurements(file, known | {key: found})
    return found


def measure(folder: Path, paths: dict[str, Path], threads: int, slots: int) -> dict[str, Measurement]:
    """Each precision over the probe: its distance from fp32, and the median time of some runs, taking turns.

    One that cannot run takes for ever and is 0 dB away.
    """
    frames = probe_frames(PROBE_TICKS)
    reference = openvino_cpu.OpenVinoNetwork(folder / "reference.onnx", threads, full_precision=True)
    identity = identity_inputs(reference, {"reference": frames[0]["shown"][None]}, slots)
    exact = openvino_cpu.OpenVinoTicker(tick_path(folder, slots), threads, full_precision=True)
    tickers = {"fp32": exact} if "fp32" in paths else {}
    for name in paths.keys() - tickers.keys():
        try:
            tickers[name] = openvino_cpu.OpenVinoTicker(paths[name], threads)
        except RuntimeError as error:  # OpenVINO's kernels for it do not fit this processor
            log.warning("%s cannot run here: %s", name, str(error).strip().splitlines()[-1])
    wanted = roll_out(exact, identity, frames)
    decibels = {
        name: psnr(squared_errors(wanted if ticker is exact else roll_out(ticker, identity, frames), wanted))
        for name, ticker in tickers.items()
    }
    streams = {name: ticker.open(identity) for name, ticker in tickers.items()}
    times: dict[str, list[float]] = {name: [] for name in tickers}
    for run in range(TIMED_RUNS):
        for name, ticker in tickers.items():
            began = time.perf_counter()
            ticker.run([Job(streams[name], frames[run % PROBE_TICKS])])
            times[name].append(1e3 * (time.perf_counter() - began))
    none = Measurement(math.inf, 0.0)
    return {
        name: Measurement(float(np.median(times[name])), decibels[name]) if name in tickers else none
        for name in paths
    }


def _key(paths: dict[str, Path], threads: int) -> str:
    """All that the measured figures depend on."""
    networks = " ".join(f"{name} {network_hash(path)}" for name, path in paths.items())
    return f"{instructions()}, {networks}, {threads} threads"


def _read_measurements(file: Path) -> dict[str, dict[str, Measurement]]:
    try:
        return {
            key: {name: Measurement(float(one["ms"]), float(one["psnr"])) for name, one in entry.items()}
            for key, entry in json.loads(file.read_text()).items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError):
        return {}


def _write_measurements(file: Path, found: dict[str, dict[str, Measurement]]) -> None:
    """Whole or not at all; a folder that cannot be written costs a second at the next start, nothing more."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(found, indent=1, default=asdict))
        part.replace(file)
