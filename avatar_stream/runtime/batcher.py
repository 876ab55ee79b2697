"""Ticks of several sessions, run together where the runtime gains by it, one after the other where it does not."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.runtime.network import Arrays, Job, Ticker

MAX_BATCH_WAIT_SECONDS = 0.005  # seconds a tick waits at most for others to run with
MAX_FAILURES = 3  # in a row, after which the engine counts as on_failure
ACTIVE_SECONDS = 0.5  # seconds since its last tick for which a session counts as company to wait for

Residual = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _PendingTick:
    job: Job
    result: "Future[Residual]"
    since: float


class Batcher:
    """The one thread that runs a ticker. First come, first served: no session can hold up another's turn.

    A tick waits up to ``MAX_BATCH_WAIT_SECONDS`` for the sessions that have been ticking lately, so that
    what is due together runs together; alone, or where the ticker serves one session at a time, it waits for nobody.
    """

    def __init__(self, ticker: Ticker, on_failure: Callable[[Exception], None] | None = None) -> None:
        """``on_failure`` is told when ``MAX_FAILURES`` runs have failed in a row."""
        self._ticker = ticker
        self._on_failure, self._failures = on_failure, 0
        self._queue: deque[_PendingTick] = deque()
        self._last_requests: dict[int, float] = {}  # stream -> when it last asked
        self._wake = threading.Condition()
        self._stopped = False
        self.sizes: deque[int] = deque(maxlen=500)
        """How many sessions each of the last runs served."""
        self._running: list[_PendingTick] = []
        self._run_began = 0.0
        self._thread = threading.Thread(target=self._run_batches, name="ticks", daemon=True)
        self._thread.start()

    def run(self, stream: Any, frame: Arrays) -> Residual:
        """One tick of a stream's window; blocks until it is done and raises what the ticker raised."""
        result: Future[Residual] = Future()
        now = time.monotonic()
        with self._wake:
            if self._stopped:
                raise RuntimeError("the engine was closed")
            self._last_requests[id(stream)] = now
            self._queue.append(_PendingTick(Job(stream, frame), result, now))
            self._wake.notify()
        return result.result()

    def close(self) -> None:
        """Finish what is waiting and end the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def is_hanging(self, limit: float) -> bool:
        """A run has been going on for more than ``limit`` seconds."""
        with self._wake:
            return bool(self._running) and time.monotonic() - self._run_began > limit

    def abandon(self, error: Exception) -> None:
        """Give up a run that is_hanging: who waits gets ``error``, and the thread ends if the run ever does."""
        with self._wake:
            self._stopped = True
            left = [*self._running, *self._queue]
            self._running = []
            self._queue.clear()
            self._wake.notify()
        for waiting in left:
            waiting.result.set_exception(error)
        if self._on_failure is not None:
            self._on_failure(error)

    def _run_batches(self) -> None:
        while chosen := self._next_batch():
            self.sizes.append(len(chosen))
            with self._wake:
                self._running, self._run_began = chosen, time.monotonic()
            try:
                residuals = self._ticker.run([waiting.job for waiting in chosen])
            except Exception as error:
                if not self._finish_run():
                    return
                for waiting in chosen:
                    waiting.result.set_exception(error)
                self._failures += 1
                if self._failures >= MAX_FAILURES and self._on_failure is not None:
                    self._on_failure(error)
                continue
            if not self._finish_run():
                return
            self._failures = 0
            for waiting, residual in zip(chosen, residuals, strict=True):
                waiting.result.set_result(residual)

    def _finish_run(self) -> bool:
        """The run is over; False if it had been given up."""
        with self._wake:
            kept, self._running = bool(self._running), []
            return kept

    def _next_batch(self) -> list[_PendingTick]:
        """The ticks to run now, oldest first; empty when it is time to stop."""
        with self._wake:
            while not self._queue:
                if self._stopped:
                    return []
                self._wake.wait()
            largest = self._ticker.batches[-1]
            until = self._queue[0].since + MAX_BATCH_WAIT_SECONDS
            while not self._stopped:
                now = time.monotonic()
                self._last_requests = {
                    stream: at for stream, at in self._last_requests.items() if now - at < ACTIVE_SECONDS
                }
                if len(self._queue) >= min(largest, len(self._last_requests)) or now >= until:
                    break
                self._wake.wait(until - now)
            # A window has one tick at a time, so that the streams in the queue are distinct.
            size = max(n for n in self._ticker.batches if n <= len(self._queue))
            return [self._queue.popleft() for _ in range(size)]
