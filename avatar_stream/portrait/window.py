"""The rolling latent window: N frames in flight at staggered noise levels, one in and one out per tick.

The denoising itself is the exported tick network; this class owns the state it carries. The frame that comes out of a
tick went in N - 1 ticks earlier.
"""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.runtime.batcher import Batcher
from avatar_stream.runtime.choose import load
from avatar_stream.runtime.network import Arrays, Network, Ticker

WEIGHTS = Path(__file__).parent.parent / "weights"


class Networks:
    """The two networks of a tier, loaded once and shared by all sessions (see ``avatar_stream.runtime.choose``)."""

    def __init__(
        self,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        threads: int = 2,
        folder: Path = WEIGHTS,
    ) -> None:
        self._set(*load(folder, runtime=runtime, precision=precision, threads=threads))

    @classmethod
    def of(cls, reference: Network, tick: Ticker) -> "Networks":
        """Of networks that are already loaded."""
        made = cls.__new__(cls)
        made._set(reference, tick)
        return made

    def _set(self, reference: Network, tick: Ticker) -> None:
        self.reference, self.tick, self.ticks = reference, tick, Batcher(tick)
        self._lock = threading.Lock()

    def refer(self, face: npt.NDArray[np.uint8]) -> Arrays:
        """What a portrait's aligned face, RGB ``uint8 (192, 192, 3)``, says: ``z_id`` and what every tick needs."""
        with self._lock:
            return self.reference.run({"reference": face[None]})

    @property
    def slots(self) -> int:
        """N, the frames in the window."""
        return self.tick.slots


class RollingWindow:
    """One session's window on one portrait; cost and memory of a tick never change."""

    def __init__(self, networks: Networks, reference: npt.NDArray[np.uint8]) -> None:
        """``reference`` is the portrait's aligned face, RGB ``uint8 (192, 192, 3)``.

        ``z_id`` is then its identity vector, ``(512,)``, unit length.
        """
        self.slots = networks.slots
        self._ticks = networks.ticks
        identity = networks.refer(reference)
        self.z_id = np.asarray(identity.pop("z_id")[0], np.float32)
        self._lane = networks.tick.open(identity)
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
