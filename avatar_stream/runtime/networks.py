"""The networks of a tier, loaded once for all sessions. If their runtime fails, the next best one takes over."""

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

CLOSE_DELAY_SECONDS = 5.0  # a replaced batcher still completes ticks for so long
MAX_RELOADS = 3  # of a failed runtime, if there is no other
WEIGHTS = Path(__file__).parent.parent / "weights"


class Networks:
    """The networks of a tier, loaded once and shared by all sessions (see ``avatar_stream.runtime.choose``).

    ``slots`` are the window lengths to load; the first is the default.
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
        """The networks on the best runtime of this machine, loaded once, on first use."""
        return Networks()

    @classmethod
    def of(cls, reference: Network, tickers: dict[int, Ticker]) -> "Networks":
        """Wrap networks that are already loaded."""
        made = cls.__new__(cls)
        made._load_options = {}
        made._install(reference, tickers)
        return made

    @property
    def runtime(self) -> str | None:
        """The runtime that was asked for; None if the best one is chosen automatically."""
        return self._load_options.get("runtime")

    def add(self, *lengths: int) -> None:
        """Load the tick networks of more window lengths on the current runtime."""
        for slots in lengths:
            if slots not in self.tickers:
                _, ticker = load(**self._load_options, slots=slots)
                self.batchers[slots] = Batcher(ticker, self._failed)
                self.tickers[slots] = ticker

    def switch(self, runtime: str) -> None:
        """Run on another runtime from the next frame on. Sessions continue; their windows are refilled.

        Raises :class:`EngineUnavailable`, and changes nothing, if that runtime cannot run here.
        """
        options = self._load_options | {"runtime": runtime, "precision": None}
        _, ticker = load(**options, slots=self.slots)
        before = list(self.batchers.values())
        self._load_options = options
        # Only the default length. Other lengths are used again after ``add`` has loaded them.
        self.batchers, self.tickers = {self.slots: Batcher(ticker, self._failed)}, {self.slots: ticker}
        self.name = ticker.name
        # A session that just got an old batcher must still get its result.
        for batcher in before:
            timer = threading.Timer(CLOSE_DELAY_SECONDS, batcher.close)
            timer.daemon = True
            timer.start()

    def watch(self, limit: float) -> bool:
        """Replace the runtime if a tick takes more than ``limit`` seconds; returns whether one did."""
        hanging = [batcher for batcher in list(self.batchers.values()) if batcher.is_hanging(limit)]
        for batcher in hanging:
            batcher.abandon(EngineUnavailable(f"no answer for {limit:g} seconds"))
        return bool(hanging)

    def _failed(self, error: Exception) -> None:
        """Let the next best runtime take over, after consecutive failed ticks."""
        with self._lock:
            if not self._load_options or self._falling_back:
                return
            self._falling_back = True
        threading.Thread(target=self._fall_back, args=(error,), daemon=True).start()

    def _fall_back(self, error: Exception) -> None:
        current, available = self._load_options["runtime"] or available_runtimes()[0], available_runtimes()
        others = available[available.index(current) + 1 :] if current in available else available
        if not others and self._reloads < MAX_RELOADS:
            self._reloads += 1
            others = [current]
        for runtime in others:
            try:
                self.switch(runtime)
                log.warning("the engine %s failed (%s): %s takes over", current, error, self.name)
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
        """Run the reference network on a portrait's aligned face, RGB ``uint8 (192, 192, 3)``.

        Returns ``z_id`` and the identity inputs of every tick.
        """
        with self._lock:
            return self.reference.run({"reference": face[None]})


def networks_for(engine: str, threads: int = 2) -> Networks | None:
    """The networks on the chosen engine (``auto``: the best runtime that works here); None for ``warp``."""
    if engine == "warp":
        return None
    return Networks(runtime=None if engine == "auto" else engine, threads=threads)


def engine_name(networks: Networks | None) -> str:
    """Runtime and precision, as ``status`` shows them; ``warp`` without networks."""
    return networks.name if networks else "warp"
