"""From retargeted landmarks to the finished picture, one frame per call: the code of live and of ``render``."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import AlignedInput, Image, aligned_input, rest_face, to_aligned
from avatar_stream.portrait.compositor import add_residual, paste_back
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.warp import PortraitWarp, Warped
from avatar_stream.portrait.window import Networks, RollingWindow


@dataclass
class StageTimes:
    """Milliseconds spent by stage, summed over frames."""

    totals: dict[str, float] = field(default_factory=dict)

    def measure(self, stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run ``work`` and charge its wall time to ``stage``."""
        began = time.perf_counter()
        result = work(*arguments)
        self.totals[stage] = self.totals.get(stage, 0.0) + (time.perf_counter() - began) * 1e3
        return result


@dataclass(frozen=True, slots=True)
class Posed:
    """A warped portrait on its way to the network: the crop, the same aligned, and what is known of it."""

    crop: Image
    aligned: Image | None
    seen: AlignedInput | None
    tag: Any


@dataclass(frozen=True, slots=True)
class Frame:
    """A finished picture RGB ``(H, W, 3)`` and the tag its landmarks came with."""

    picture: Image
    tag: Any


class PortraitEngine:
    """Animates one portrait. ``networks`` None shows the warp alone.

    ``pose`` keeps no state and ``paint`` keeps the window, so each may have a thread of its own.
    """

    def __init__(self, portrait: Portrait, networks: Networks | None) -> None:
        self.portrait = portrait
        self.times = StageTimes()
        self._warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
        self._rest = rest_face(portrait.crop, portrait.landmarks)
        self._window = RollingWindow(networks, networks.refer(self._rest.image)) if networks else None
        self._in_flight: deque[Posed] = deque()

    @property
    def delay(self) -> int:
        """Frames between the landmarks of a picture and its being finished."""
        return self._window.slots - 1 if self._window else 0

    def pose(self, target: Floats, tag: Any = None) -> Posed:
        """Warp the portrait to landmarks ``(478, 3)`` (crop pixels) and see what the warp cannot know."""
        warped = self.times.measure("warp", self._warp, target)
        if self._window is None:
            return Posed(warped.image, None, None, tag)
        return self.times.measure("align", self._align, warped, target, tag)

    def paint(self, posed: Posed) -> Frame:
        """Take a posed frame into the window and return the frame that is finished now.

        With a window that is the one taken in ``delay`` calls ago; the first calls return the first frame, so every
        call returns a picture.
        """
        measure = self.times.measure
        if self._window is None or posed.seen is None:
            return Frame(measure("compose", paste_back, self.portrait, posed.crop), posed.tag)
        first = self._window.empty
        residual = measure("network", self._window.push, posed.seen.shown, posed.seen.raster)
        # A first frame fills the window: it is in every slot, and comes out of every slot.
        self._in_flight.extend([posed] * (self._window.slots if first else 1))
        return measure("compose", self._compose, self._in_flight.popleft(), residual)

    def __call__(self, target: Floats, tag: Any = None) -> Frame:
        """Both halves, one after the other."""
        return self.paint(self.pose(target, tag))

    def flush(self) -> list[Frame]:
        """The frames still in flight, finished by repeating the last one."""
        return [self.paint(self._in_flight[-1]) for _ in range(self.delay if self._in_flight else 0)]

    def _align(self, warped: Warped, target: Floats, tag: Any) -> Posed:
        seen = aligned_input(warped, target, self._rest)
        return Posed(warped.image, to_aligned(warped.image, seen.matrix), seen, tag)

    def _compose(self, frame: Posed, residual: Floats) -> Frame:
        assert frame.seen is not None
        assert frame.aligned is not None
        crop = add_residual(frame.crop, frame.aligned, frame.seen, residual)
        return Frame(np.ascontiguousarray(paste_back(self.portrait, crop)), frame.tag)
