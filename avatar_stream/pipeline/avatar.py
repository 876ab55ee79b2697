"""One driver and one portrait: tracking, retargeting and painting, in two halves that may run on two threads.

The live session and ``render`` both run this and nothing else, so what is measured offline is what users get.
"""

import os
import time as clock
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from avatar_stream.face.animator import Animator
from avatar_stream.face.arkit import ArkitFrame, Rest, mirrored_frame, to_arkit, to_motion
from avatar_stream.face.body import Torso, TorsoTracker
from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import ViewFilter, mirrored_view, read_mouth
from avatar_stream.face.retarget import KEEP, Retargeter
from avatar_stream.face.small_faces import Detail
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.face.tracker import FaceState, FaceTracker, LandmarkFilter
from avatar_stream.pipeline.prefetch import ahead
from avatar_stream.portrait.background import OWN, on_background
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.portrait.engine import Frame, PortraitEngine, Posed, StageTimes
from avatar_stream.portrait.interior.mouth import UNTRUSTED
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.runtime.networks import Networks

Image = npt.NDArray[np.uint8]
Driven = Image | ArkitFrame | TrackedFace | None
"""What may move an avatar: a camera's RGB frame ``(h, w, 3)``, motion, a face found elsewhere, or nobody."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a driver's frame moves the portrait's landmarks, and the engine of that portrait."""

    engine: PortraitEngine
    target: Floats
    tag: Any
    view: Floats | None = None
    """What the driver's mouth shows."""
    torso: Torso | None = None
    """How the driver's shoulders have moved."""


@dataclass(frozen=True, slots=True)
class Warped:
    """The portrait posed after a driver's frame, ready to be painted by its engine."""

    engine: PortraitEngine
    posed: Posed

    def unpainted(self) -> "Warped":
        """The same for an engine that fails: to be shown as it is."""
        return Warped(self.engine, Posed(DRAWING_QUALITIES[-1], self.posed.crop, None, self.posed.tag))


class Avatar:
    """A portrait that does what a driver does.

    ``avatar(frame)`` is the whole loop for one frame, :meth:`stream` for many. Underneath are ``follow`` (camera
    frame, or motion, to landmarks), ``pose`` (to the warp) and ``paint`` (to the picture), each to be called from one
    thread.
    """

    def __init__(
        self,
        portrait: "Portrait | str | os.PathLike[str] | bytes | Image",
        networks: Networks | Literal["auto"] | None = "auto",
        *,
        gain: float = 1.0,
        keep: float = KEEP,
        mirror: bool = False,
        background: str | Image = OWN,
    ) -> None:
        """Of a prepared portrait, or of a picture that can be one (see ``Portrait.open``).

        ``networks`` are those of this machine's best engine by default; None shows the warp alone. ``gain`` (0 to 2)
        scales expression, ``keep`` (0 to 1) says how much of the portrait's own smile or frown stays, and ``mirror``
        moves it as a mirror would. ``background`` is its ``own``, that one's ``blur``, a colour as
        ``#00ff00``, or a picture RGB ``(h, w, 3)``.
        """
        if not isinstance(portrait, Portrait):
            portrait = Portrait.open(portrait)
        portrait = on_background(portrait, background)
        self.networks = Networks.shared() if networks == "auto" else networks
        self.times = StageTimes()
        self.face = FaceState.SEARCHING
        self._tracker, self._mouth = FaceTracker(), ViewFilter()
        self._steady = LandmarkFilter()  # of landmarks that are found elsewhere
        self._view: Floats | None = None
        self._torso = TorsoTracker()
        self._animator = Animator(Retargeter(portrait.landmarks, portrait.box[2:], gain=gain, keep=keep))
        self._animator.mirror = mirror
        self._gain, self._reduced = gain, 1.0
        self._kind: type | None = None  # of the last driver: its motion, or its face
        self._rest = Rest()
        self._engine = PortraitEngine(portrait, self.networks)

    def __call__(self, image: Driven, time: float | None = None) -> Image:
        """The avatar's picture RGB ``(H, W, 3)`` for a camera frame RGB ``(h, w, 3)`` taken at ``time`` seconds.

        A frame of motion does as well, or a face found elsewhere; None stands for nobody there. Without ``time`` the
        frame is from now. With a window of several slots the picture is ``engine.delay`` frames older.
        """
        now = clock.monotonic() if time is None else time
        return self.draw(self.follow(image, now)).picture

    def stream(self, frames: Iterable[tuple[float, Driven]]) -> Iterator[Image]:
        """A picture for each of ``frames``, (seconds, camera frame) one after the other.

        Following, drawing and what the caller does with the pictures run beside each other on three threads, so
        ``frames`` is read a little ahead.
        """
        skip = self.engine.delay

        def followed() -> Iterator[Warped]:
            for at, image in frames:
                yield self.pose(self.follow(image, at))

        def drawn() -> Iterator[Image]:
            # The first ``delay`` pictures repeat the first frame; the last ones are fetched at the end.
            for number, warped in enumerate(ahead(followed())):
                picture = self.paint(warped).picture
                if number >= skip:
                    yield picture
            yield from (frame.picture for frame in self.engine.flush())

        yield from ahead(drawn())

    def __enter__(self) -> "Avatar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> PortraitEngine:
        """The engine of the portrait shown now."""
        return self._engine

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures."""
        height, width = self._engine.portrait.picture.shape[:2]
        return width, height

    @property
    def keep(self) -> float:
        """How much of the portrait's own mood stays, 0 to 1."""
        return self._animator.retargeter.keep

    @property
    def calibrated(self) -> bool:
        """What the driver is like at rest is known."""
        return self._animator.driver.calibrated or self._rest.calibrated

    @property
    def faces(self) -> int:
        """How many people the driver's picture showed lately."""
        return self._tracker.faces

    @property
    def too_small(self) -> int:
        """Width in pixels of a driver's face that is too small to be followed; 0 where there is none."""
        return self._tracker.too_small

    @property
    def motion(self) -> ArkitFrame:
        """What the driver did last, in ARKit's terms."""
        return to_arkit(self._animator.motion)

    def follow(self, image: Driven, time: float, tag: Any = None, detail: Detail = None) -> Moved:
        """Track an RGB frame taken at ``time`` seconds and say where it moves the portrait's landmarks.

        ``image`` may be motion, or a face that was found elsewhere; None stands for a camera that sends nothing:
        nobody is there. ``detail`` makes the frame with more pixels, where ``image`` was scaled down and its face
        may be small.
        """
        if image is not None:
            kind = ArkitFrame if isinstance(image, ArkitFrame) else TrackedFace
            if kind is not self._kind and self._kind is not None:
                self._animator.hand_over()
            self._kind = kind
        if isinstance(image, ArkitFrame):
            return self._act(image, time, tag)
        if isinstance(image, TrackedFace):
            return self._take(image, time, tag)
        landmarks = part = None
        if image is None:
            self.face = FaceState.LOST
        else:
            found = self.times.measure("track", self._tracker.update, image, time, detail)
            self.face, landmarks, part = found.state, found.landmarks, found.part
        target = self.times.measure("retarget", self._animator, landmarks, time)
        # A face that is only taken to be there still shows what it showed last, also on its way to rest.
        if landmarks is not None and part is not None:
            self._see(self.times.measure("track", read_mouth, part.image, part.inside(landmarks)), time)
        return self._moved(target, tag, image)

    def _take(self, face: TrackedFace, time: float, tag: Any) -> Moved:
        landmarks = face.landmarks
        if landmarks is None:
            self.face = FaceState.LOST
            self._steady.reset()
        else:
            self.face = FaceState.FOUND
            landmarks = self._steady(landmarks, time)
        target = self.times.measure("retarget", self._animator, landmarks, time)
        if landmarks is not None:
            self._see(face.view, time)
        return self._moved(target, tag)

    def _see(self, view: Floats | None, time: float) -> None:
        """Take in what the driver's mouth shows; nothing where a hand lies over it."""
        fit = self._animator.driver.fit
        covered = fit is None or fit.mouth_error > UNTRUSTED[1]
        view = self._mouth(None if covered else view, time)
        self._view = mirrored_view(view) if view is not None and self._animator.mirror else view

    def _moved(self, target: Floats, tag: Any, image: Image | None = None) -> Moved:
        """``image`` is the camera's, where there is one: shoulders come to rest where none is."""
        torso = None
        # Only a portrait that shows shoulders is worth looking for the driver's.
        if self._engine.portrait.shoulders is not None:
            torso = self.times.measure("track", self._torso.update, image)
            torso = torso.mirrored if self._animator.mirror else torso
        return Moved(self._engine, target, tag, self._view, torso)

    def _act(self, frame: ArkitFrame, time: float, tag: Any) -> Moved:
        self.face, self._view = FaceState.FOUND, None
        rested = self._rest(mirrored_frame(frame) if self._animator.mirror else frame)
        target = self.times.measure("retarget", self._animator.move, to_motion(rested), time)
        return self._moved(target, tag)

    def pose(self, moved: Moved) -> Warped:
        """Warp the portrait."""
        return Warped(moved.engine, moved.engine.pose(moved.target, moved.tag, moved.view, moved.torso))

    def paint(self, warped: Warped) -> Frame:
        """Paint; the picture that comes back is ``engine.delay`` frames older (see ``PortraitEngine``)."""
        return warped.engine.paint(warped.posed)

    def draw(self, moved: Moved) -> Frame:
        """Pose and paint."""
        return self.paint(self.pose(moved))

    def change_portrait(self, engine: PortraitEngine) -> None:
        """Show another, already prepared portrait from the next frame on; call on the thread of ``follow``."""
        self._animator.change_portrait(Retargeter(engine.portrait.landmarks, engine.portrait.box[2:]))
        self._engine = engine

    def recalibrate(self) -> None:
        """Learn anew, from the next frames, what the driver is like at rest."""
        self._tracker.choose_again()
        self._animator.recalibrate()
        self._rest.recalibrate()
        self._torso.recalibrate()

    def set_gain(self, gain: float) -> None:
        """Scale expression; 1 is as driven."""
        self._gain = gain
        self._animator.retargeter.gain = gain * self._reduced

    def reduce_expression(self, gain: float) -> None:
        """Scale what :meth:`set_gain` asked for; 1 leaves it. For the guard."""
        self._reduced = gain
        self.set_gain(self._gain)

    def set_keep(self, keep: float) -> None:
        """How much of the portrait's own mood stays, 0 to 1."""
        self._animator.retargeter.keep = keep

    def set_expression(self, expression: Expression) -> None:
        """What the face may do, whatever its driver does: parts held, movements limited, regions scaled."""
        self._animator.expression = expression

    def set_mirror(self, mirror: bool) -> None:
        """Move like a mirror image of the driver. Rest is learnt again, on the new side."""
        if mirror != self._animator.mirror:
            self._animator.mirror = mirror
            self.recalibrate()

    def close(self) -> None:
        """Free the trackers."""
        self._tracker.close()
        self._torso.close()
