"""The rolling latent window: N frames in flight at staggered noise levels, one in and one out per tick.

The exported tick network denoises; this class owns the state between ticks. The frame that comes out of a tick went
in N - 1 ticks earlier.
"""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.runtime.network import Arrays
from avatar_stream.runtime.networks import Networks


class RollingWindow:
    """One session's window for one portrait. Every tick takes the same time and memory."""

    def __init__(self, networks: Networks, identity: Arrays, slots: int | None = None) -> None:
        """``identity`` is what ``networks.refer`` returned for the portrait's face."""
        self.slots = slots or networks.slots
        self._networks = networks
        self._ticks = networks.batchers[self.slots]
        conditioning = {name: value for name, value in identity.items() if name != "z_id"}
        # A shorter window runs the last of the levels, which are the noisiest.
        conditioning["modulation"] = conditioning["modulation"][:, -self.slots :]
        self._stream = networks.tickers[self.slots].open(conditioning)
        on_host: Arrays = getattr(self._stream, "identity", {})  # empty where it lives on a device
        self._conditioning = [(value, value.copy()) for value in on_host.values() if isinstance(value, np.ndarray)]
        self.empty = True
        """No frame is in flight."""

    @property
    def is_current(self) -> bool:
        """The networks still use the runtime that this window was opened on."""
        return self._networks.batchers.get(self.slots) is self._ticks

    def reset(self) -> None:
        """Empty the window."""
        self._stream.reset()
        self.empty = True

    def is_intact(self) -> bool:
        """The state is finite, and the conditioning is unchanged."""
        kept = all(np.array_equal(now, given) for now, given in self._conditioning)
        return kept and all(bool(np.isfinite(value).all()) for value in self._stream.state().values())

    def push(self, shown: npt.NDArray[np.uint8], raster: npt.NDArray[np.uint8]) -> Floats:
        """Push a frame (see ``AlignedInput``) and return the oldest slot's residual ``float32 (192, 192, 3)``.

        An empty window is first filled with the same frame, so every result belongs to a real frame.
        """
        frame = {"shown": shown, "raster": raster}
        for _ in range(self.slots if self.empty else 1):
            residual = self._ticks.run(self._stream, frame)
        self.empty = False
        return residual
