"""One driver and one portrait: tracking, retargeting and painting, in two halves that may run on two threads.

The live session and ``render`` both run this and nothing else, so what is measured offline is what users get.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.face.animator import Animator
from avatar_stream.face.mesh import Floats
from avatar_stream.face.retarget import KEEP, Retargeter
from avatar_stream.face.tracker import FaceState, FaceTracker
from avatar_stream.portrait.engine import Frame, PortraitEngine, Posed, StageTimes
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.window import Networks


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a driver's frame moves the portrait's landmarks, and the engine of that portrait."""

    engine: PortraitEngine
    target: Floats
    tag: Any


@dataclass(frozen=True, slots=True)
class Warped:
    """The portrait posed after a driver's frame, ready to be painted by its engine."""

    engine: PortraitEngine
    posed: Posed


class Avatar:
    """``follow`` (frame to landmarks), ``pose`` (to the warp), ``paint`` (to the picture), each on one thread."""

    def __init__(
        self, portrait: Portrait, networks: Networks | None, *, gain: float = 1.0, keep: float = KEEP
    ) -> None:
        self.networks = networks
        self.times = StageTimes()
        self.face = FaceState.SEARCHING
        self._tracker = FaceTracker()
        self._animator = Animator(Retargeter(portrait.landmarks, gain=gain, keep=keep))
        self._engine = PortraitEngine(portrait, networks)

    @property
    def engine(self) -> PortraitEngine:
        """The engine of the portrait shown now."""
        return self._engine

    @property
    def keep(self) -> float:
        """How much of the portrait's own mood stays, 0 to 1."""
        return self._animator.retargeter.keep

    @property
    def calibrated(self) -> bool:
        """What the driver is like at rest is known."""
        return self._animator.driver.calibrated

    def follow(self, image: npt.NDArray[np.uint8] | None, time: float, tag: Any = None) -> Moved:
        """Track an RGB frame taken at ``time`` seconds and say where it moves the portrait's landmarks.

        ``image`` None stands for a camera that sends nothing: nobody is there.
        """
        landmarks = None
        if image is None:
            self.face = FaceState.LOST
        else:
            found = self.times.measure("track", self._tracker.update, image, time)
            self.face, landmarks = found.state, found.landmarks
        target = self.times.measure("retarget", self._animator, landmarks, time)
        return Moved(self._engine, target, tag)

    def pose(self, moved: Moved) -> Warped:
        """Warp the portrait."""
        return Warped(moved.engine, moved.engine.pose(moved.target, moved.tag))

    def paint(self, warped: Warped) -> Frame:
        """Paint; the picture that comes back is ``engine.delay`` frames older (see ``PortraitEngine``)."""
        return warped.engine.paint(warped.posed)

    def draw(self, moved: Moved) -> Frame:
        """Pose and paint."""
        return self.paint(self.pose(moved))

    def change_portrait(self, engine: PortraitEngine) -> None:
        """Show another, already prepared portrait from the next frame on; call on the thread of ``follow``."""
        self._animator.change_portrait(Retargeter(engine.portrait.landmarks))
        self._engine = engine

    def recalibrate(self) -> None:
        """Learn anew, from the next frames, what the driver is like at rest."""
        self._animator.recalibrate()

    def set_gain(self, gain: float) -> None:
        """Scale expression; 1 is as driven."""
        self._animator.retargeter.gain = gain

    def set_keep(self, keep: float) -> None:
        """How much of the portrait's own mood stays, 0 to 1."""
        self._animator.retargeter.keep = keep

    def set_mirror(self, mirror: bool) -> None:
        """Move like a mirror image of the driver. Rest is learnt again, on the new side."""
        if mirror != self._animator.mirror:
            self._animator.mirror = mirror
            self._animator.recalibrate()

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()
