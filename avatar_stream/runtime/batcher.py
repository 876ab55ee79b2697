"""Runs the ticks of several sessions: as batches if the runtime supports them, else one after the other."""

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

MAX_BATCH_WAIT_SECONDS = 0.005
MAX_FAILURES = 3  # consecutive ones, after which the runtime counts as broken
ACTIVE_SECONDS = 0.5  # batches do not wait for sessions whose last tick was earlier

Residual = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _PendingTick:
    job: Job
    result: "Future[Residual]"
    since: float


class Batcher:
    """The only thread that runs a ticker, first come, first served.

    A tick waits up to ``MAX_BATCH_WAIT_SECONDS`` for the other active sessions, so that they run as one batch. It
    does not wait if its session is the only active one, or if the ticker serves one session at a time.
    """

    def __init__(self, ticker: Ticker, on_failure: Callable[[Exception], None] | None = None) -> None:
        """``on_failure`` is called after ``MAX_FAILURES`` consecutive failed runs."""
        self._ticker = ticker
        self._on_failure, self._failures = on_failure, 0
        self._queue: deque[_PendingTick] = deque()
        self._last_requests: dict[int, float] = {}  # id of a stream: time of its last tick
        self._wake = threading.Condition()
        self._stopped = False
        self.sizes: deque[int] = deque(maxlen=500)
        """Number of sessions in each of the last runs."""
        self._running: list[_PendingTick] = []
        self._run_began = 0.0
        self._thread = threading.Thread(target=self._run_batches, name="ticks", daemon=True)
        self._thread.start()

    def run(self, stream: Any, frame: Arrays) -> Residual:
        """Run one tick of a stream's window. Blocks until it is done; raises the ticker's exception if it failed."""
        result: Future[Residual] = Future()
        now = time.monotonic()
        with self._wake:
            if self._stopped:
                raise RuntimeError("the networks were closed")
            self._last_requests[id(stream)] = now
            self._queue.append(_PendingTick(Job(stream, frame), result, now))
            self._wake.notify()
        return result.result()

    def close(self) -> None:
        """Finish the queued ticks and end the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def is_hanging(self, limit: float) -> bool:
        """Whether the current run has taken more than ``limit`` seconds."""
        with self._wake:
            return bool(self._running) and time.monotonic() - self._run_began > limit

    def abandon(self, error: Exception) -> None:
        """Give up a hanging run: all waiting callers get ``error``; the thread ends if the run ever returns."""
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
        """Note that the run is over; False if it had been abandoned."""
        with self._wake:
            kept, self._running = bool(self._running), []
            return kept

    def _next_batch(self) -> list[_PendingTick]:
        """The ticks of the next run, oldest first; empty to stop the thread."""
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
            # Each stream has at most one tick in the queue, so that the streams of a batch are distinct.
            size = max(n for n in self._ticker.batches if n <= len(self._queue))
            return [self._queue.popleft() for _ in range(size)]
