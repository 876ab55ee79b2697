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
from avatar_stream.portrait.warp import PortraitWarp
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
class _InFlight:
    crop: Image
    aligned: Image
    seen: AlignedInput
    tag: Any


@dataclass(frozen=True, slots=True)
class Frame:
    """A finished picture RGB ``(H, W, 3)`` and the tag its landmarks came with."""

    picture: Image
    tag: Any


class PortraitEngine:
    """Animates one portrait. ``networks`` None shows the warp alone."""

    def __init__(self, portrait: Portrait, networks: Networks | None) -> None:
        self.portrait = portrait
        self.times = StageTimes()
        self._warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
        self._rest = rest_face(portrait.crop, portrait.landmarks)
        self._window = RollingWindow(networks, self._rest.image) if networks else None
        self._in_flight: deque[_InFlight] = deque()

    @property
    def delay(self) -> int:
        """Frames between the landmarks of a picture and its being finished."""
        return self._window.slots - 1 if self._window else 0

    def __call__(self, target: Floats, tag: Any = None) -> Frame:
        """Take in landmarks ``(478, 3)`` (crop pixels) and return the frame that is finished now.

        With a window that is the one taken in ``delay`` calls ago; the first calls return the first frame, so every
        call returns a picture.
        """
        measure = self.times.measure
        warped = measure("warp", self._warp, target)
        if self._window is None:
            return Frame(measure("compose", paste_back, self.portrait, warped.image), tag)
        seen = measure("align", aligned_input, warped, target, self._rest)
        aligned = measure("align", to_aligned, warped.image, seen.matrix)
        first = self._window.empty
        residual = measure("network", self._window.push, seen.shown, seen.raster)
        newest = _InFlight(warped.image, aligned, seen, tag)
        if first:
            # The window was filled with this frame: it is in every slot, and comes out of every slot.
            self._in_flight.extend([newest] * self._window.slots)
        else:
            self._in_flight.append(newest)
        return measure("compose", self._compose, self._in_flight.popleft(), residual)

    def flush(self, target: Floats) -> list[Frame]:
        """The frames still in flight, finished by repeating the last landmarks."""
        return [self(target) for _ in range(self.delay)]

    def _compose(self, frame: _InFlight, residual: Floats) -> Frame:
        crop = add_residual(frame.crop, frame.aligned, frame.seen, residual)
        return Frame(np.ascontiguousarray(paste_back(self.portrait, crop)), frame.tag)
