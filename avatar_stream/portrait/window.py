"""The rolling latent window: N frames in flight at staggered noise levels, one in and one out per tick.

The denoising itself is the exported tick network; this class owns the state it carries. The frame that comes out of a
tick went in N - 1 ticks earlier.
"""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.runtime.network import (
    Arrays,
    Network,
    available_runtimes,
    load_network,
    openvino_precision,
    zeros,
)

CARRIED = ("latents", "conditioning", "guide", "landmarks_0", "landmarks_1")
WEIGHTS = Path(__file__).parent.parent / "weights"


class Networks:
    """The two networks of a tier, loaded once and shared by all sessions, which take turns under ``lock``.

    ``precision`` None takes what is fastest here: bf16 where the CPU has it, else the int8 network. ``"int8"`` asks
    for that one, ``"fp32"`` for the exported network as it was trained.
    """

    def __init__(
        self,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        threads: int = 2,
        folder: Path = WEIGHTS,
    ) -> None:
        self.lock = threading.Lock()
        chosen = runtime or available_runtimes()[0]
        self.reference = load_network(folder / "reference.onnx", runtime=chosen, threads=threads)
        quantised = folder / "tick.int8.onnx"
        if precision is None and chosen == "openvino" and openvino_precision() != "bf16" and quantised.is_file():
            precision = "int8"
        path = quantised if precision == "int8" else folder / "tick.onnx"
        self.tick = load_network(path, runtime=chosen, threads=threads)

    @property
    def slots(self) -> int:
        """N, the frames in the window."""
        return self.tick.shapes["latents"][1] + 1


class RollingWindow:
    """One session's window on one portrait; cost and memory of a tick never change."""

    def __init__(self, networks: Networks, reference: npt.NDArray[np.uint8]) -> None:
        """``reference`` is the portrait's aligned face, RGB ``uint8 (192, 192, 3)``.

        ``z_id`` is then its identity vector, ``(512,)``, unit length.
        """
        self._tick: Network = networks.tick
        self.slots = networks.slots
        self._lock = networks.lock
        with self._lock:
            self._identity: Arrays = networks.reference.run({"reference": reference[None]})
        self.z_id = np.asarray(self._identity.pop("z_id")[0], np.float32)
        self._state: Arrays = {}

    def reset(self) -> None:
        """Empty the window."""
        self._state = {}

    @property
    def empty(self) -> bool:
        """No frame is in flight."""
        return not self._state

    def push(self, shown: npt.NDArray[np.uint8], raster: npt.NDArray[np.uint8]) -> Floats:
        """Push a frame (see ``AlignedInput``) and return the oldest slot's residual ``float32 (192, 192, 3)``.

        An empty window is first filled with the same frame, so that what comes out is always a real result.
        """
        frame: Arrays = {"shown": shown[None], "raster": raster[None]}
        ticks = 1
        if not self._state:
            self._state = zeros(self._tick, list(CARRIED))
            ticks = self.slots
        for _ in range(ticks):
            with self._lock:
                out = self._tick.run(frame | self._identity | self._state)
            self._state = {name: out[f"next_{name}"] for name in CARRIED}
        return np.asarray(out["residual"][0], np.float32)
