"""The networks of a tier, loaded once for all sessions, with the next best runtime behind the one in use."""

import functools
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.errors import EngineUnavailable
from avatar_stream.runtime.batcher import Batcher
from avatar_stream.runtime.choose import available_runtimes, load
from avatar_stream.runtime.network import WINDOW_SLOTS, Arrays, Network, Ticker

log = logging.getLogger(__name__)

CLOSE_DELAY_SECONDS = 5.0  # seconds an engine that was replaced still answers
MAX_RELOADS = 3  # of an engine that failed where there is no other
WEIGHTS = Path(__file__).parent.parent / "weights"


class Networks:
    """The networks of a tier, loaded once and shared by all sessions (see ``avatar_stream.runtime.choose``).

    ``slots`` are the lengths of window to load; the first is the one that runs by default.
    """

    reference: Network
    tickers: dict[int, Ticker]
    batchers: dict[int, Batcher]
    slots: int
    name: str  # of the runtime and its precision
    _load_options: dict[str, Any]
    _lock: threading.Lock
    _falling_back: bool
    _reloads: int

    def __init__(
        self,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        threads: int = 2,
        folder: Path = WEIGHTS,
        slots: Sequence[int] = WINDOW_SLOTS[:1],
    ) -> None:
        self._load_options = {"folder": folder, "runtime": runtime, "precision": precision, "threads": threads}
        reference, ticker = load(**self._load_options, slots=slots[0])
        self._install(reference, {slots[0]: ticker})
        self.add(*slots[1:])

    @staticmethod
    @functools.cache
    def shared() -> "Networks":
        """The networks on the best engine that this machine has, loaded on first use and only once."""
        return Networks()

    @classmethod
    def of(cls, reference: Network, tickers: dict[int, Ticker]) -> "Networks":
        """Of networks that are already loaded."""
        made = cls.__new__(cls)
        made._load_options = {}
        made._install(reference, tickers)
        return made

    @property
    def runtime(self) -> str | None:
        """The runtime that was chosen; None while the best one is taken."""
        return self._load_options.get("runtime")

    def add(self, *lengths: int) -> None:
        """Load the tick networks of more lengths of window, on the runtime that is in use."""
        for slots in lengths:
            if slots not in self.tickers:
                _, ticker = load(**self._load_options, slots=slots)
                self.batchers[slots] = Batcher(ticker, self._failed)
                self.tickers[slots] = ticker

    def switch(self, runtime: str) -> None:
        """Run on another runtime from the next frame on; windows in flight are refilled, nobody is cut off.

        Raises :class:`EngineUnavailable`, and changes nothing, where that runtime cannot run here.
        """
        options = self._load_options | {"runtime": runtime, "precision": None}
        _, ticker = load(**options, slots=self.slots)
        before = list(self.batchers.values())
        self._load_options = options
        # Only the length in use: the ladder asks for others when it is told that they are there.
        self.batchers, self.tickers = {self.slots: Batcher(ticker, self._failed)}, {self.slots: ticker}
        self.name = ticker.name
        # Whoever took hold of an old one a moment ago still gets an answer.
        for batcher in before:
            leave = threading.Timer(CLOSE_DELAY_SECONDS, batcher.close)
            leave.daemon = True
            leave.start()

    def watch(self, limit: float) -> bool:
        """Give up an engine whose tick takes more than ``limit`` seconds: the next best takes over. True if so."""
        hanging = [batcher for batcher in list(self.batchers.values()) if batcher.is_hanging(limit)]
        for batcher in hanging:
            batcher.abandon(EngineUnavailable(f"no answer for {limit:g} seconds"))
        return bool(hanging)

    def _failed(self, error: Exception) -> None:
        """A tick failed; after a few in a row the next best runtime takes over."""
        with self._lock:
            if not self._load_options or self._falling_back:
                return
            self._falling_back = True
        threading.Thread(target=self._fall_back, args=(error,), daemon=True).start()

    def _fall_back(self, error: Exception) -> None:
        now, known = self._load_options["runtime"] or available_runtimes()[0], available_runtimes()
        others = known[known.index(now) + 1 :] if now in known else known
        if not others and self._reloads < MAX_RELOADS:
            self._reloads += 1
            others = [now]
        for runtime in others:
            try:
                self.switch(runtime)
                log.warning("the engine %s failed (%s): %s goes on", now, error, self.name)
                break
            except EngineUnavailable as other:
                log.warning("%s", other)
        self._falling_back = False

    def _install(self, reference: Network, tickers: dict[int, Ticker]) -> None:
        self.reference, self.tickers = reference, tickers
        self.slots = next(iter(tickers))
        self.name = tickers[self.slots].name
        self.batchers = {n: Batcher(ticker, self._failed) for n, ticker in tickers.items()}
        self._lock = threading.Lock()
        self._falling_back = False
        self._reloads = 0

    def refer(self, face: npt.NDArray[np.uint8]) -> Arrays:
        """What a portrait's aligned face, RGB ``uint8 (192, 192, 3)``, says: ``z_id`` and what every tick needs."""
        with self._lock:
            return self.reference.run({"reference": face[None]})


def networks_for(engine: str, threads: int = 2) -> Networks | None:
    """The networks on the chosen engine (``auto``: the best that works here); None for ``warp``."""
    if engine == "warp":
        return None
    return Networks(runtime=None if engine == "auto" else engine, threads=threads)
