"""From retargeted landmarks to the finished picture, one frame per call: the code of live and of ``render``."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cv2
import numpy as np

from avatar_stream.face.body import Torso
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import (
    ALIGNED_SIZE,
    AlignedInput,
    Image,
    RestFace,
    aligned_input,
    rest_face,
    to_aligned,
)
from avatar_stream.portrait.compositor import add_residual, paste_back
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES, DrawingQuality
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.lip_edges import lips_meeting
from avatar_stream.portrait.interior.palette import Palette
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.rolling_window import RollingWindow
from avatar_stream.portrait.turned_view import TurnedTexture
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.runtime.networks import Networks

CELL: Final = 16  # pixels of the aligned face
STILL: Final = 8.0
"""Grey levels by which no cell of a face has changed, on average, since the network last looked at it. What it would
paint anew differs by 0.3 levels then, by at most 8 in one pixel of a thousand; talkers spare a third of the runs."""


@dataclass
class StageTimes:
    """Milliseconds spent by stage, summed over frames."""

    totals: dict[str, float] = field(default_factory=dict)
    on_stage: Callable[[str, float], None] | None = None
    """Told of every stage and its seconds."""

    def measure(self, stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run ``work`` and charge its wall time to ``stage``."""
        began = time.perf_counter()
        result = work(*arguments)
        seconds = time.perf_counter() - began
        self.totals[stage] = self.totals.get(stage, 0.0) + seconds * 1e3
        if self.on_stage is not None:
            self.on_stage(stage, seconds)
        return result


@dataclass(frozen=True, slots=True)
class Posed:
    """A warped portrait on its way to the network: the crop, and what is known of it."""

    quality: DrawingQuality
    crop: Image
    seen: AlignedInput | None
    tag: Any


@dataclass(frozen=True, slots=True)
class Frame:
    """A finished picture RGB ``(H, W, 3)`` and the tag its landmarks came with."""

    picture: Image
    tag: Any


class PortraitEngine:
    """Animates one portrait. ``networks`` None shows the warp alone, with nothing drawn in.

    ``pose`` keeps no state and ``paint`` keeps the window, so each may have its own thread. ``quality`` says how much
    to spend (see ``avatar_stream.pipeline.quality_ladder``); it may be set at any time, from any thread.
    """

    def __init__(self, portrait: Portrait, networks: Networks | None) -> None:
        self._palette = Palette(portrait.crop, portrait.landmarks)
        self.portrait = _toned(portrait, self._palette)
        self.times = StageTimes()
        self._networks = networks
        self._views: dict[float, _View] = {1: _View.of(self.portrait, 1, networks is not None)}
        self.rest_face: Image = self._views[1].rest.image
        """The portrait's own aligned face, RGB ``(192, 192, 3)``."""
        self._identity = networks.refer(self.rest_face) if networks else None
        self.quality = DrawingQuality("full", networks.slots if networks else 0)
        self.plain = False
        """Show the warp alone, whatever the quality says; may be set from any thread."""
        self._anchor = False
        self._window: RollingWindow | None = None
        self._in_flight: deque[Posed] = deque()
        self._frames = 0
        self._residual: Floats | None = None
        self._looked_at: Image | None = None  # the face that the residual was painted for
        self._finished: tuple[Image, AlignedInput] | None = None  # the last crop, and what it was painted over

    @property
    def delay(self) -> int:
        """Frames between the landmarks of a picture and its being finished."""
        return max(self.quality.slots - 1, 0)

    def pose(self, target: Floats, tag: Any = None, view: Floats | None = None, torso: Torso | None = None) -> Posed:
        """Warp the portrait to landmarks ``(478, 3)`` (crop pixels) and see what the warp cannot know.

        ``view`` is what the driver's mouth shows (see ``avatar_stream.face.mouth_view``), where it is seen, and
        ``torso`` how their shoulders have moved.
        """
        quality = DRAWING_QUALITIES[-1] if self.plain and self._networks is not None else self.quality
        at_scale = self._view(quality.scale)
        target = target if quality.scale == 1 else (target * np.float32(quality.scale)).astype(np.float32)
        warped = self.times.measure("warp", at_scale.warp, target, torso)
        if self._networks is not None:
            for texture in at_scale.turned:
                self.times.measure("warp", texture.draw, warped.image, target)
            self.times.measure("interior", at_scale.interior.draw, warped.image, target, view)
        if quality.slots == 0:
            return Posed(quality, warped.image, None, tag)
        seen = self.times.measure("align", aligned_input, warped, target, at_scale.rest)
        return Posed(quality, warped.image, seen, tag)

    def paint(self, posed: Posed) -> Frame:
        """Take a posed frame into the window and return the frame that is finished now.

        With a window that is the one taken in ``delay`` calls ago; the first calls return the first frame, so every
        call returns a picture. Where the quality changes, frames in flight are dropped.
        """
        measure = self.times.measure
        if self._anchor:
            self._anchor, self._window = False, None
        if posed.seen is None:
            self._window = None
            self._finished = None
            return Frame(measure("compose", self._paste, posed.crop), posed.tag)
        assert self._networks is not None
        slots = posed.quality.slots if posed.quality.slots in self._networks.tickers else self._networks.slots
        if self._window is None or self._window.slots != slots or not self._window.current:
            assert self._identity is not None
            self._window = RollingWindow(self._networks, self._identity, slots)
            self._in_flight.clear()
            self._residual, self._frames = None, 0
        first = self._window.empty
        if self._residual is None or (self._frames % posed.quality.every == 0 and self._changed(posed.seen.shown)):
            self._residual = measure("network", self._window.push, posed.seen.shown, posed.seen.raster)
            self._looked_at = posed.seen.shown
        self._frames += 1
        # A first frame fills the window: it is in every slot, and comes out of every slot.
        self._in_flight.extend([posed] * (self._window.slots if first else 1))
        return measure("compose", self._compose, self._in_flight.popleft(), self._residual)

    def __call__(self, target: Floats, tag: Any = None, view: Floats | None = None) -> Frame:
        """Both halves, one after the other."""
        return self.paint(self.pose(target, tag, view))

    def flush(self) -> list[Frame]:
        """The frames still in flight, finished by repeating the last one."""
        return [self.paint(self._in_flight[-1]) for _ in range(self.delay if self._in_flight else 0)]

    def faces(self) -> tuple[Image, Image] | None:
        """The last picture's aligned face, and the same before it was painted, which is all the portrait's: RGB
        ``(192, 192, 3)`` each. None where the warp alone is shown.
        """
        finished = self._finished
        return None if finished is None else (to_aligned(finished[0], finished[1].matrix), finished[1].shown)

    def sound(self) -> bool:
        """The window's state is finite, and its conditioning is still what the portrait gave."""
        window = self._window
        return window is None or window.sound()

    def anchor(self) -> None:
        """Fill the window anew from the portrait, at the next picture. From any thread."""
        if self._networks is not None:
            self._identity = self._networks.refer(self.rest_face)
        self._anchor = True

    def _changed(self, shown: Image) -> bool:
        """The aligned face has changed enough to be painted anew. A window of several slots is always moved on."""
        if self._looked_at is None or self._window is None or self._window.slots > 1:
            return True
        cells = (ALIGNED_SIZE // CELL, ALIGNED_SIZE // CELL)
        change = cv2.resize(cv2.absdiff(shown, self._looked_at), cells, interpolation=cv2.INTER_AREA)
        return float(change.max()) >= STILL

    def _view(self, scale: float) -> "_View":
        if scale not in self._views:
            self._views[scale] = _View.of(self.portrait, scale, self._networks is not None)
        return self._views[scale]

    def _compose(self, frame: Posed, residual: Floats) -> Frame:
        assert frame.seen is not None
        residual = self._palette.toned_change(residual, frame.seen.shown)
        crop = add_residual(frame.crop, frame.seen, residual)
        self._finished = crop, frame.seen
        return Frame(self._paste(crop), frame.tag)

    def _paste(self, crop: Image) -> Image:
        _, _, width, height = self.portrait.box
        if crop.shape[:2] != (height, width):
            crop = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.ascontiguousarray(paste_back(self.portrait, crop))


def _toned(portrait: Portrait, palette: Palette) -> Portrait:
    """The portrait, what it borrows from other pictures of the person in its own hues."""
    if palette.colourful == 1:
        return portrait

    def toned(other: tuple[Image, Floats]) -> tuple[Image, Floats]:
        return palette.toned_picture(other[0]), other[1]

    return replace(
        portrait,
        teeth=portrait.teeth and toned(portrait.teeth),
        asleep=portrait.asleep and toned(portrait.asleep),
        turned=tuple(toned(other) for other in portrait.turned),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A portrait's moved region at one resolution."""

    warp: PortraitWarp
    interior: Interior
    rest: RestFace
    turned: tuple[TurnedTexture, ...]

    @staticmethod
    def of(portrait: Portrait, scale: float, drawn: bool) -> "_View":
        """With ``drawn`` the inside of its mouth will be."""
        crop, plate, matte, landmarks = portrait.crop, portrait.plate, portrait.matte, portrait.landmarks
        if scale != 1:
            size = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
            crop, plate, matte = (
                np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
                for image in (crop, plate, matte)
            )
            landmarks = (landmarks * np.float32(scale)).astype(np.float32)
        shoulders = None if portrait.shoulders is None else portrait.shoulders * np.float32(scale)
        meeting = lips_meeting(crop, landmarks) if drawn else None
        warp = PortraitWarp(crop, plate, matte, landmarks, shoulders, meeting)
        turned = TurnedTexture.all_of(crop, landmarks, portrait.turned) if drawn else ()
        interior = Interior(crop, landmarks, portrait.teeth, portrait.asleep)
        return _View(warp, interior, rest_face(crop, landmarks), turned)
