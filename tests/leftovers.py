"""Finds processes that a run of tests left behind, and kills them.

An inherited environment variable marks the processes, so that those whose parents have ended are found too.
"""

import contextlib
import os
import time
from collections.abc import Iterator, MutableMapping
from multiprocessing import forkserver, resource_tracker
from typing import Final

import psutil

from tests.waiting import POLL_INTERVAL, TEST_TIMEOUT

RUN_VARIABLE: Final = "AVATAR_TEST_RUN"
END_TIMEOUT: Final = TEST_TIMEOUT / 6  # seconds for processes that are already ending


class LeftBehind(Exception):
    """A test started a process and did not end it."""


@contextlib.contextmanager
def nothing_left(environment: MutableMapping[str, str] = os.environ, name: str = "") -> Iterator[None]:
    """Raises :class:`LeftBehind` at the end if a process that was started meanwhile still runs.

    Such processes inherit ``environment``. ``name`` distinguishes runs that one process starts in parallel.
    """
    before = environment.get(RUN_VARIABLE, "")
    own = environment[RUN_VARIABLE] = f"{before}/{os.getpid()}{name}"
    try:
        yield
    except BaseException:  # interrupted: kill what is left, without a report
        _end(own, 0.0)
        raise
    finally:
        environment[RUN_VARIABLE] = before
    _stop_multiprocessing()
    named = _end(own, END_TIMEOUT)
    if named:
        raise LeftBehind("the tests left processes behind, which were killed now:\n" + "\n".join(named))


def _end(own: str, seconds: float) -> list[str]:
    """Kill processes that do not end by themselves in ``seconds``; returns their ids and commands."""
    until = time.monotonic() + seconds
    while _started_by(own) and time.monotonic() < until:
        time.sleep(POLL_INTERVAL)
    named: dict[int, str] = {}
    while left := _started_by(own):  # repeat, as they may start others meanwhile
        for process in left:
            named.setdefault(process.pid, f"{process.pid}: {_command(process)}")
            with contextlib.suppress(psutil.Error):
                process.kill()
    return list(named.values())


def _started_by(own: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            marked = process.environ().get(RUN_VARIABLE, "") + "/"
            if marked.startswith(own + "/") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _stop_multiprocessing() -> None:
    """Stop the fork server and the resource tracker, which otherwise end with this process."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "?"
