"""Run targets of the Makefile one after the other, all of them whatever fails, and say at the end which did.

``python -m tests.stages lint types …``: what each says is shown and kept in ``build/test/TARGET.log``. Ends with 1 if
one failed. What a target has started ends with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.leftovers import LeftBehind, nothing_left

LOGS: Final = Path("build/test")


@dataclass
class Stage:
    """How a target went."""

    name: str
    passed: bool
    seconds: float
    log: Path


def run(name: str) -> Stage:
    """Run one target."""
    log = LOGS / f"{name}.log"
    print(f"\n==== {name}", flush=True)
    began = time.monotonic()
    with log.open("wb") as kept:
        try:
            with nothing_left():
                status = _make(name, kept)
        except LeftBehind as error:
            status = 1
            _show(f"{error}\n".encode(), kept)
    return Stage(name, status == 0, time.monotonic() - began, log)


def _make(name: str, kept: IO[bytes]) -> int:
    """The exit status of ``make name``, in a group of its own and without the flags of the make that runs this."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    make = subprocess.Popen(
        ["make", "--no-print-directory", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )

    def read() -> None:
        while data := os.read(said, 65536):
            _show(data, kept)

    assert make.stdout
    said = make.stdout.fileno()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        status = make.wait()
        reader.join(1)  # longer where something that was left behind holds it open
        return status
    except KeyboardInterrupt:
        os.killpg(make.pid, signal.SIGINT)
        make.wait()
        raise


def _show(data: bytes, kept: IO[bytes]) -> None:
    with contextlib.suppress(ValueError):  # closed
        kept.write(data)
        kept.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def main(names: list[str]) -> int:
    """Run all and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl+C
    LOGS.mkdir(parents=True, exist_ok=True)
    stages = [run(name) for name in names]
    print("\n stage      result   seconds")
    for stage in stages:
        result = "passed" if stage.passed else "FAILED"
        print(f" {stage.name:10} {result} {stage.seconds:9.0f}" + ("" if stage.passed else f"   {stage.log}"))
    return 0 if all(stage.passed for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
