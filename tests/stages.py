"""Run targets of the Makefile in sequence, even if some fail, and list the results at the end.

``python -m tests.stages lint types … --beside unit``: shows each target's output and keeps it in
``build/test/TARGET.log``. Targets after ``--beside`` run in parallel with the others; their output is shown at their
end. The exit code is 1 if a target failed. Processes that a target started end with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.leftovers import LeftBehind, nothing_left

LOG_FOLDER: Final = Path("build/test")
BESIDE_FLAG: Final = "--beside"

_running: set[int] = set()  # process groups of the running targets


@dataclass
class Stage:
    """The result of a target."""

    name: str
    passed: bool
    seconds: float
    log: Path


def run(name: str, *, at_once: bool = True) -> Stage:
    """Run one target and show its output at once, or at its end."""
    log = LOG_FOLDER / f"{name}.log"
    if at_once:
        print(f"\n==== {name}", flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    began = time.monotonic()
    with log.open("wb") as kept:
        shown: list[IO[bytes]] = [kept, sys.stdout.buffer] if at_once else [kept]
        try:
            with nothing_left(environment, name):
                status = _make(name, environment, shown)
        except LeftBehind as error:
            status = 1
            _show(f"{error}\n".encode(), shown)
    if not at_once:
        _show(f"\n==== {name}\n".encode() + log.read_bytes(), [sys.stdout.buffer])
    return Stage(name, status == 0, time.monotonic() - began, log)


def _make(name: str, environment: dict[str, str], shown: list[IO[bytes]]) -> int:
    """Run ``make name`` in its own process group; returns its exit status."""
    make = subprocess.Popen(
        ["make", "--no-print-directory", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )

    _running.add(make.pid)

    def read() -> None:
        while data := os.read(output, 65536):
            _show(data, shown)

    assert make.stdout
    output = make.stdout.fileno()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        status = make.wait()
        reader.join(1)  # a process that was left behind may keep the pipe open
        return status
    except KeyboardInterrupt:
        _interrupt()
        make.wait()
        raise
    finally:
        _running.discard(make.pid)


def _interrupt() -> None:
    """Send SIGINT to all targets."""
    for group in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGINT)


def _show(data: bytes, shown: list[IO[bytes]]) -> None:
    for one in shown:
        with contextlib.suppress(ValueError):  # closed
            one.write(data)
            one.flush()


def main(words: list[str]) -> int:
    """Run all targets and print the table of results."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl+C
    LOG_FOLDER.mkdir(parents=True, exist_ok=True)
    at = words.index(BESIDE_FLAG) if BESIDE_FLAG in words else len(words)
    with ThreadPoolExecutor(1) as other:
        beside = [other.submit(run, name, at_once=False) for name in words[at + 1 :]]
        try:
            stages = [run(name) for name in words[:at]]
            stages += [one.result() for one in beside]
        except KeyboardInterrupt:
            _interrupt()
            raise
    print("\n stage      result   seconds")
    for stage in stages:
        result = "passed" if stage.passed else "FAILED"
        print(f" {stage.name:10} {result} {stage.seconds:9.0f}" + ("" if stage.passed else f"   {stage.log}"))
    return 0 if all(stage.passed for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
