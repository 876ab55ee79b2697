"""Finds the fastest accurate precision of the tick network on this processor by measurement, and caches the result.

The instructions of a processor do not tell which precision is fast: there are Xeons whose bf16 instructions take
twice the time of fp32's, and three times that of int8's. Nor do they tell which is accurate: without VNNI, sums of
8-bit products saturate (see :mod:`.saturation`). So each precision is compared with fp32 over a few ticks, and
rejected if it differs too much, however fast it is.
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
from avatar_stream.runtime.processor import processor_key
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

INT8_MAX_TIME_RATIO: Final = 0.9  # int8, the least accurate, is only preferred below this share of the other's time
CLEAR_TIME_RATIO: Final = 1.3  # a smaller difference is not cached: other processes may have caused it
PROBE_TICKS: Final = 4  # for the comparison with fp32
TIMED_RUNS: Final = 7


@dataclass(frozen=True, slots=True)
class Measurement:
    """A precision on this processor: ``ms`` per run, and PSNR to fp32 over the probe frames in dB."""

    ms: float
    psnr: float


@cache
def ranked_precisions(folder: Path, threads: int, slots: int = WINDOW_SLOTS[0]) -> dict[str, Measurement]:
    """Measurements of the accurate precisions of the tick network of ``slots`` on OpenVINO, best first.

    The result is never empty: fp32 is always accurate.
    """
    exact = openvino_cpu.openvino_precision()
    found = measurements(folder, threads, slots)
    accurate = {name: one for name, one in found.items() if is_accurate(name, one.psnr)}
    for name in found.keys() - accurate.keys():
        log.warning("%s is not used: it is inaccurate on this processor (%.1f dB from fp32)", name, found[name].psnr)
    if not accurate:
        return {"fp32": Measurement(0.0, IDENTICAL_PSNR)}
    prefers_int8 = exact not in accurate or (
        "int8" in accurate and accurate["int8"].ms < INT8_MAX_TIME_RATIO * accurate[exact].ms
    )
    return dict(sorted(accurate.items(), key=lambda one: (one[0] == "int8") != prefers_int8))


@cache
def measurements(folder: Path, threads: int, slots: int = WINDOW_SLOTS[0]) -> dict[str, Measurement]:
    """Measurements of all precisions that OpenVINO could use here, accurate or not. Do not modify the result."""
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
    """Measure each precision over the probe frames: PSNR to fp32, and the median time of interleaved runs.

    A precision that cannot run gets an infinite time and 0 dB.
    """
    frames = probe_frames(PROBE_TICKS)
    reference = openvino_cpu.OpenVinoNetwork(folder / "reference.onnx", threads, full_precision=True)
    identity = identity_inputs(reference, {"reference": frames[0]["shown"][None]}, slots)
    exact = openvino_cpu.OpenVinoTicker(tick_path(folder, slots), threads, full_precision=True)
    tickers = {"fp32": exact} if "fp32" in paths else {}
    for name in paths.keys() - tickers.keys():
        try:
            tickers[name] = openvino_cpu.OpenVinoTicker(paths[name], threads)
        except RuntimeError as error:  # OpenVINO has no kernels for it on this processor
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
    """Everything that the measurements depend on."""
    networks = " ".join(f"{name} {network_hash(path)}" for name, path in paths.items())
    return f"{processor_key()}, {networks}, {threads} threads"


def _read_measurements(file: Path) -> dict[str, dict[str, Measurement]]:
    try:
        return {
            key: {name: Measurement(float(one["ms"]), float(one["psnr"])) for name, one in entry.items()}
            for key, entry in json.loads(file.read_text()).items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError):
        return {}


def _write_measurements(file: Path, found: dict[str, dict[str, Measurement]]) -> None:
    """Write the file atomically. If the folder cannot be written, the next start measures again for a second."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(found, indent=1, default=asdict))
        part.replace(file)
