"""One driver and one portrait: tracking, retargeting, warping and painting, in steps that may run on two threads.

Live sessions and ``render`` both run this class, so offline measurements are true of live sessions.
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
from avatar_stream.face.arkit import ArkitFrame, HeadPoseCalibration, mirrored_frame, to_arkit, to_motion
from avatar_stream.face.body import Torso, TorsoTracker
from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import ViewFilter, mirrored_view, read_mouth
from avatar_stream.face.retarget import DEFAULT_KEEP, Retargeter
from avatar_stream.face.small_faces import FullResolution
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.face.tracker import FaceState, FaceTracker, LandmarkFilter
from avatar_stream.pipeline.prefetch import prefetched
from avatar_stream.portrait.background import OWN_BACKGROUND, on_background
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.portrait.interior.mouth import FIT_ERROR_RANGE
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.renderer import Frame, PortraitRenderer, StageTimes, WarpedCrop
from avatar_stream.runtime.networks import Networks

Image = npt.NDArray[np.uint8]
Driven = Image | ArkitFrame | TrackedFace | None
"""What may drive an avatar: a camera's RGB frame ``(h, w, 3)``, motion, a face tracked elsewhere, or nobody."""


@dataclass(frozen=True, slots=True)
class RetargetedFace:
    """The retargeted landmarks ``target (478, 3)`` for a driver's frame, and the renderer of their portrait."""

    renderer: PortraitRenderer
    target: Floats
    tag: Any
    view: Floats | None = None
    """What the camera sees of the driver's mouth (see ``avatar_stream.face.mouth_view``)."""
    torso: Torso | None = None
    """How the driver's shoulders have moved."""


@dataclass(frozen=True, slots=True)
class WarpedPortrait:
    """The portrait warped for a driver's frame, and the renderer that will paint it."""

    renderer: PortraitRenderer
    crop: WarpedCrop

    def unpainted(self) -> "WarpedPortrait":
        """The warp alone, for when the network fails."""
        return WarpedPortrait(self.renderer, WarpedCrop(DRAWING_QUALITIES[-1], self.crop.image, None, self.crop.tag))


class Avatar:
    """A portrait that does what a driver does.

    ``avatar(frame)`` runs the whole loop for one frame, :meth:`stream` for many. Its steps are ``follow`` (camera
    frame, or motion, to landmarks), ``pose`` (landmarks to the warped portrait) and ``paint`` (to the picture). Call
    each of them from one thread only.
    """

    def __init__(
        self,
        portrait: "Portrait | str | os.PathLike[str] | bytes | Image",
        networks: Networks | Literal["auto"] | None = "auto",
        *,
        gain: float = 1.0,
        keep: float = DEFAULT_KEEP,
        mirror: bool = False,
        background: str | Image = OWN_BACKGROUND,
    ) -> None:
        """``portrait`` is a prepared one, or a picture that ``Portrait.open`` can prepare.

        ``networks`` default to this machine's best engine; None shows the warp alone. ``gain`` (0 to 2) scales the
        expression. ``keep`` (0 to 1) is how much of the portrait's own smile or frown stays. ``mirror`` moves the
        avatar like a mirror image of the driver. ``background`` is ``own``, ``blur`` (its own, blurred), a colour
        such as ``#00ff00``, or a picture RGB ``(h, w, 3)``.
        """
        if not isinstance(portrait, Portrait):
            portrait = Portrait.open(portrait)
        portrait = on_background(portrait, background)
        self.networks = Networks.shared() if networks == "auto" else networks
        self.times = StageTimes()
        self.face = FaceState.SEARCHING
        self._tracker, self._mouth_filter = FaceTracker(), ViewFilter()
        self._landmark_filter = LandmarkFilter()  # for faces tracked elsewhere; the tracker has its own
        self._mouth_view: Floats | None = None
        self._torso = TorsoTracker()
        self._animator = Animator(Retargeter(portrait.landmarks, portrait.box[2:], gain=gain, keep=keep))
        self._animator.mirror = mirror
        self._gain, self._guard_gain = gain, 1.0
        self._driver_kind: type | None = None  # ArkitFrame, or TrackedFace for camera frames, too
        self._rest = HeadPoseCalibration()
        self._renderer = PortraitRenderer(portrait, self.networks)

    def __call__(self, image: Driven, time: float | None = None) -> Image:
        """The avatar's picture RGB ``(H, W, 3)`` for a camera frame RGB ``(h, w, 3)`` taken at ``time`` seconds.

        ``image`` may also be a frame of motion, or a face tracked elsewhere; None means nobody is there. ``time`` is
        now by default. With a window of several slots the picture is ``renderer.delay`` frames older.
        """
        now = clock.monotonic() if time is None else time
        return self.draw(self.follow(image, now)).picture

    def stream(self, frames: Iterable[tuple[float, Driven]]) -> Iterator[Image]:
        """A picture for each of ``frames``, which are pairs of seconds and camera frame.

        Following, painting and the caller's own work run on three threads at once, so ``frames`` is read a little
        ahead.
        """
        skip = self.renderer.delay

        def followed() -> Iterator[WarpedPortrait]:
            for at, image in frames:
                yield self.warp(self.follow(image, at))

        def drawn() -> Iterator[Image]:
            # The first ``delay`` pictures repeat the first frame; ``flush`` brings the last ones.
            for number, warped in enumerate(prefetched(followed())):
                picture = self.paint(warped).picture
                if number >= skip:
                    yield picture
            yield from (frame.picture for frame in self.renderer.flush())

        yield from prefetched(drawn())

    def __enter__(self) -> "Avatar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def renderer(self) -> PortraitRenderer:
        """The renderer of the portrait shown now."""
        return self._renderer

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the avatar's pictures."""
        height, width = self._renderer.portrait.picture.shape[:2]
        return width, height

    @property
    def keep(self) -> float:
        """How much of the portrait's own smile or frown stays, 0 to 1."""
        return self._animator.retargeter.keep

    @property
    def calibrated(self) -> bool:
        """The driver's face at rest is known."""
        return self._animator.estimator.calibrated or self._rest.calibrated

    @property
    def faces(self) -> int:
        """How many faces the camera showed at the last count."""
        return self._tracker.faces

    @property
    def too_small(self) -> int:
        """Width in pixels of a face that is too small to be tracked; 0 where there is none."""
        return self._tracker.too_small

    @property
    def motion(self) -> ArkitFrame:
        """The driver's last motion, as ARKit's blend shapes."""
        return to_arkit(self._animator.motion)

    def follow(self, image: Driven, time: float, tag: Any = None, detail: FullResolution = None) -> RetargetedFace:
        """Track the face in an RGB frame taken at ``time`` seconds, and retarget its landmarks to the portrait.

        ``image`` may also be motion, or a face tracked elsewhere; None means that the camera sends nothing, so nobody
        is there. Where ``image`` was scaled down and its face may be small, ``detail`` returns the frame with more
        pixels.
        """
        if image is not None:
            kind = ArkitFrame if isinstance(image, ArkitFrame) else TrackedFace
            if kind is not self._driver_kind and self._driver_kind is not None:
                self._animator.change_source()
            self._driver_kind = kind
        if isinstance(image, ArkitFrame):
            return self._follow_motion(image, time, tag)
        if isinstance(image, TrackedFace):
            return self._follow_tracked(image, time, tag)
        landmarks = crop = None
        if image is None:
            self.face = FaceState.LOST
        else:
            found = self.times.measure("track", self._tracker.update, image, time, detail)
            self.face, landmarks, crop = found.state, found.landmarks, found.crop
        target = self.times.measure("retarget", self._animator, landmarks, time)
        # While the tracker only assumes a face, also on its way to rest, the last view of the mouth stays.
        if landmarks is not None and crop is not None:
            self._update_mouth_view(
                self.times.measure("track", read_mouth, crop.image, crop.to_crop(landmarks)), time
            )
        return self._retargeted(target, tag, image)

    def _follow_tracked(self, face: TrackedFace, time: float, tag: Any) -> RetargetedFace:
        landmarks = face.landmarks
        if landmarks is None:
            self.face = FaceState.LOST
            self._landmark_filter.reset()
        else:
            self.face = FaceState.FOUND
            landmarks = self._landmark_filter(landmarks, time)
        target = self.times.measure("retarget", self._animator, landmarks, time)
        if landmarks is not None:
            self._update_mouth_view(face.view, time)
        return self._retargeted(target, tag)

    def _update_mouth_view(self, view: Floats | None, time: float) -> None:
        """Filter a new view of the driver's mouth; none counts while something covers the mouth."""
        fit = self._animator.estimator.fit
        covered = fit is None or fit.mouth_error > FIT_ERROR_RANGE[1]
        view = self._mouth_filter(None if covered else view, time)
        self._mouth_view = mirrored_view(view) if view is not None and self._animator.mirror else view

    def _retargeted(self, target: Floats, tag: Any, image: Image | None = None) -> RetargetedFace:
        """``image`` is the camera's, if there is one; without it the shoulders come to rest."""
        torso = None
        # The driver's shoulders matter only where the portrait shows shoulders.
        if self._renderer.portrait.shoulders is not None:
            torso = self.times.measure("track", self._torso.update, image)
            torso = torso.mirrored if self._animator.mirror else torso
        return RetargetedFace(self._renderer, target, tag, self._mouth_view, torso)

    def _follow_motion(self, frame: ArkitFrame, time: float, tag: Any) -> RetargetedFace:
        self.face, self._mouth_view = FaceState.FOUND, None
        rested = self._rest(mirrored_frame(frame) if self._animator.mirror else frame)
        target = self.times.measure("retarget", self._animator.follow_motion, to_motion(rested), time)
        return self._retargeted(target, tag)

    def warp(self, face: RetargetedFace) -> WarpedPortrait:
        """Warp the portrait to the retargeted landmarks, with mouth and eyes drawn in."""
        return WarpedPortrait(face.renderer, face.renderer.warp_to(face.target, face.tag, face.view, face.torso))

    def paint(self, warped: WarpedPortrait) -> Frame:
        """Paint; the picture returned is ``renderer.delay`` frames older (see ``PortraitRenderer.paint``)."""
        return warped.renderer.paint(warped.crop)

    def draw(self, face: RetargetedFace) -> Frame:
        """``warp``, then ``paint``."""
        return self.paint(self.warp(face))

    def change_portrait(self, renderer: PortraitRenderer) -> None:
        """Show another portrait from the next frame on. Call it on the thread that calls ``follow``."""
        self._animator.change_portrait(Retargeter(renderer.portrait.landmarks, renderer.portrait.box[2:]))
        self._renderer = renderer

    def recalibrate(self) -> None:
        """Learn the driver's face at rest again, from the next frames."""
        self._tracker.follow_largest()
        self._animator.recalibrate()
        self._rest.recalibrate()
        self._torso.recalibrate()

    def set_gain(self, gain: float) -> None:
        """Scale the expression; 1 leaves it as the driver shows it."""
        self._gain = gain
        self._animator.retargeter.gain = gain * self._guard_gain

    def reduce_expression(self, gain: float) -> None:
        """Scale the gain of :meth:`set_gain` once more; 1 leaves it. The guard uses this."""
        self._guard_gain = gain
        self.set_gain(self._gain)

    def set_keep(self, keep: float) -> None:
        """Set how much of the portrait's own smile or frown stays, 0 to 1."""
        self._animator.retargeter.keep = keep

    def set_expression(self, expression: Expression) -> None:
        """Bound what the face may do, whatever its driver does: hold parts, limit movements, scale regions."""
        self._animator.expression = expression

    def set_mirror(self, mirror: bool) -> None:
        """Move like a mirror image of the driver. A change learns the driver's rest again."""
        if mirror != self._animator.mirror:
            self._animator.mirror = mirror
            self.recalibrate()

    def close(self) -> None:
        """Free the trackers."""
        self._tracker.close()
        self._torso.close()
