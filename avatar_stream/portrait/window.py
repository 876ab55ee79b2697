"""The rolling latent window: N frames in flight at staggered noise levels, one in and one out per tick.

The denoising itself is the exported tick network; this class owns the state it carries. The frame that comes out of a
tick went in N - 1 ticks earlier.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.runtime.batcher import Batcher
from avatar_stream.runtime.choose import load
from avatar_stream.runtime.network import WINDOWS, Arrays, Network, Ticker

WEIGHTS = Path(__file__).parent.parent / "weights"


class Networks:
    """The networks of a tier, loaded once and shared by all sessions (see ``avatar_stream.runtime.choose``).

    ``slots`` are the lengths of window to load, longest first; the first is the one that runs by default.
    """

    def __init__(
        self,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        threads: int = 2,
        folder: Path = WEIGHTS,
        slots: Sequence[int] = WINDOWS[:1],
    ) -> None:
        self._how: dict[str, Any] = {"folder": folder, "runtime": runtime, "precision": precision, "threads": threads}
        reference, ticker = load(**self._how, slots=slots[0])
        self._set(reference, {slots[0]: ticker})
        self.add(*slots[1:])

    @classmethod
    def of(cls, reference: Network, tickers: dict[int, Ticker]) -> "Networks":
        """Of networks that are already loaded."""
        made = cls.__new__(cls)
        made._set(reference, tickers)
        return made

    def add(self, *lengths: int) -> None:
        """Load the tick networks of more lengths of window, on the runtime that is in use."""
        for slots in lengths:
            if slots not in self.tickers:
                _, ticker = load(**self._how, slots=slots)
                self.batchers[slots] = Batcher(ticker)
                self.tickers[slots] = ticker

    def _set(self, reference: Network, tickers: dict[int, Ticker]) -> None:
        self.reference, self.tickers = reference, tickers
        self.slots = next(iter(tickers))
        self.name = tickers[self.slots].name
        self.batchers = {n: Batcher(ticker) for n, ticker in tickers.items()}
        self._lock = threading.Lock()

    def refer(self, face: npt.NDArray[np.uint8]) -> Arrays:
        """What a portrait's aligned face, RGB ``uint8 (192, 192, 3)``, says: ``z_id`` and what every tick needs."""
        with self._lock:
            return self.reference.run({"reference": face[None]})


class RollingWindow:
    """One session's window on one portrait; cost and memory of a tick never change."""

    def __init__(self, networks: Networks, identity: Arrays, slots: int | None = None) -> None:
        """``identity`` is what ``networks`` said of the portrait's face."""
        self.slots = slots or networks.slots
        self._ticks = networks.batchers[self.slots]
        wanted = {name: value for name, value in identity.items() if name != "z_id"}
        # A shorter window runs the last, the noisiest, of the levels.
        wanted["modulation"] = wanted["modulation"][:, -self.slots :]
        self._lane = networks.tickers[self.slots].open(wanted)
        self.empty = True
        """No frame is in flight."""

    def reset(self) -> None:
        """Empty the window."""
        self._lane.reset()
        self.empty = True

    def push(self, shown: npt.NDArray[np.uint8], raster: npt.NDArray[np.uint8]) -> Floats:
        """Push a frame (see ``AlignedInput``) and return the oldest slot's residual ``float32 (192, 192, 3)``.

        An empty window is first filled with the same frame, so that what comes out is always a real result.
        """
        frame = {"shown": shown, "raster": raster}
        for _ in range(self.slots if self.empty else 1):
            residual = self._ticks.run(self._lane, frame)
        self.empty = False
        return residual
