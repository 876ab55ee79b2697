"""From retargeted landmarks to the finished picture, one frame a call. Live sessions and ``render`` both run this."""

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
from avatar_stream.portrait.interior.closed_lips import close_lips
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.palette import Palette
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.rolling_window import RollingWindow
from avatar_stream.portrait.turned_view import TurnedTexture
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.runtime.networks import Networks

CELL_PIXELS: Final = 16  # side of a cell of the aligned face
REPAINT_GREY_LEVELS: Final = 8.0
"""The network runs again when the mean of one cell has changed by this much since its last run. Below that, another
run would change the picture by 0.3 levels on average, and by more than 8 in at most one pixel of a thousand. This
skips a third of the runs while somebody talks."""


@dataclass
class StageTimes:
    """Milliseconds spent by stage, summed over frames."""

    totals: dict[str, float] = field(default_factory=dict)
    on_stage: Callable[[str, float], None] | None = None
    """Called with every stage and its seconds."""

    def measure(self, stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``work`` with ``arguments``, add its wall time to ``stage``, and return its result."""
        began = time.perf_counter()
        result = work(*arguments)
        seconds = time.perf_counter() - began
        self.totals[stage] = self.totals.get(stage, 0.0) + seconds * 1e3
        if self.on_stage is not None:
            self.on_stage(stage, seconds)
        return result


@dataclass(frozen=True, slots=True)
class WarpedCrop:
    """The portrait's moved region, warped, with mouth and eyes drawn in, before the network paints it."""

    quality: DrawingQuality
    image: Image
    aligned: AlignedInput | None
    """What the network gets; None where it does not run."""
    tag: Any


@dataclass(frozen=True, slots=True)
class Frame:
    """A finished picture RGB ``(H, W, 3)`` and the tag that came with its landmarks."""

    picture: Image
    tag: Any


class PortraitRenderer:
    """Animates one portrait. Without ``networks`` it shows the warp alone, with nothing drawn in.

    ``warp_to`` keeps no state and ``paint`` keeps the window, so each may have its own thread. ``quality`` says how
    much to compute (see ``avatar_stream.pipeline.quality_ladder``); any thread may set it at any time.
    """

    def __init__(self, portrait: Portrait, networks: Networks | None) -> None:
        self._palette = Palette(portrait.crop, portrait.landmarks)
        self.portrait = _toned(portrait, self._palette)
        self.times = StageTimes()
        self._networks = networks
        self._scaled: dict[float, _ScaledPortrait] = {1: _ScaledPortrait.of(self.portrait, 1, networks is not None)}
        self.rest_face: Image = self._scaled[1].rest.image
        """The portrait's own aligned face, RGB ``(192, 192, 3)``."""
        self._identity = networks.refer(self.rest_face) if networks else None
        self.quality = DrawingQuality("full", networks.slots if networks else 0)
        self.warp_only = False
        """Show the warp alone, whatever ``quality`` is. Any thread may set it."""
        self._reset_due = False
        self._window: RollingWindow | None = None
        self._in_flight: deque[WarpedCrop] = deque()
        self._frames = 0
        self._residual: Floats | None = None
        self._residual_for: Image | None = None  # the aligned face that the residual was computed for
        self._finished: tuple[Image, AlignedInput] | None = None  # the last painted crop, and its network input

    @property
    def delay(self) -> int:
        """Frames from the landmarks of a picture until it is finished."""
        return max(self.quality.slots - 1, 0)

    def warp_to(
        self, target: Floats, tag: Any = None, view: Floats | None = None, torso: Torso | None = None
    ) -> WarpedCrop:
        """Warp the portrait to landmarks ``(478, 3)`` (crop pixels), and draw mouth and eyes, which no warp can show.

        ``view`` is what a camera sees of the driver's mouth (see ``avatar_stream.face.mouth_view``), and ``torso``
        is how their shoulders have moved.
        """
        quality = DRAWING_QUALITIES[-1] if self.warp_only and self._networks is not None else self.quality
        scaled = self._at_scale(quality.scale)
        target = target if quality.scale == 1 else (target * np.float32(quality.scale)).astype(np.float32)
        warped = self.times.measure("warp", scaled.warp, target, torso)
        if self._networks is not None:
            for texture in scaled.turned:
                self.times.measure("warp", texture.draw, warped.image, target)
            self.times.measure("interior", scaled.interior.draw, warped.image, target, view)
        if quality.slots == 0:
            return WarpedCrop(quality, warped.image, None, tag)
        aligned = self.times.measure("align", aligned_input, warped, target, scaled.rest)
        return WarpedCrop(quality, warped.image, aligned, tag)

    def paint(self, crop: WarpedCrop) -> Frame:
        """Push a warped crop into the window, and return the frame that is finished now.

        With a window of several slots that is the crop of ``delay`` calls ago. The first calls return the first
        frame, so every call returns a picture. A change of quality drops the frames in flight.
        """
        measure = self.times.measure
        if self._reset_due:
            self._reset_due, self._window = False, None
        if crop.aligned is None:
            self._window = None
            self._finished = None
            return Frame(measure("compose", self._paste, crop.image), crop.tag)
        assert self._networks is not None
        slots = crop.quality.slots if crop.quality.slots in self._networks.tickers else self._networks.slots
        if self._window is None or self._window.slots != slots or not self._window.is_current:
            assert self._identity is not None
            self._window = RollingWindow(self._networks, self._identity, slots)
            self._in_flight.clear()
            self._residual, self._frames = None, 0
        first = self._window.empty
        if self._residual is None or (
            self._frames % crop.quality.network_every == 0 and self._changed(crop.aligned.shown)
        ):
            self._residual = measure("network", self._window.push, crop.aligned.shown, crop.aligned.raster)
            self._residual_for = crop.aligned.shown
        self._frames += 1
        # The first frame fills every slot of the window, so it comes out once for each slot.
        self._in_flight.extend([crop] * (self._window.slots if first else 1))
        return measure("compose", self._compose, self._in_flight.popleft(), self._residual)

    def __call__(self, target: Floats, tag: Any = None, view: Floats | None = None) -> Frame:
        """``warp_to``, then ``paint``."""
        return self.paint(self.warp_to(target, tag, view))

    def flush(self) -> list[Frame]:
        """Finish the frames still in flight, by painting the last one again."""
        return [self.paint(self._in_flight[-1]) for _ in range(self.delay if self._in_flight else 0)]

    def last_faces(self) -> tuple[Image, Image] | None:
        """The last picture's aligned face as painted, and before painting (then every pixel is the portrait's).

        RGB ``(192, 192, 3)`` each; None where the warp alone is shown.
        """
        finished = self._finished
        return None if finished is None else (to_aligned(finished[0], finished[1].matrix), finished[1].shown)

    def is_intact(self) -> bool:
        """The window's state is finite, and its conditioning is still the portrait's."""
        window = self._window
        return window is None or window.is_intact()

    def reset_window(self) -> None:
        """Embed the portrait again, and start the next picture with an empty window. From any thread."""
        if self._networks is not None:
            self._identity = self._networks.refer(self.rest_face)
        self._reset_due = True

    def _changed(self, shown: Image) -> bool:
        """The aligned face has changed enough to run the network. A window of several slots always runs."""
        if self._residual_for is None or self._window is None or self._window.slots > 1:
            return True
        cells = (ALIGNED_SIZE // CELL_PIXELS, ALIGNED_SIZE // CELL_PIXELS)
        change = cv2.resize(cv2.absdiff(shown, self._residual_for), cells, interpolation=cv2.INTER_AREA)
        return float(change.max()) >= REPAINT_GREY_LEVELS

    def _at_scale(self, scale: float) -> "_ScaledPortrait":
        if scale not in self._scaled:
            self._scaled[scale] = _ScaledPortrait.of(self.portrait, scale, self._networks is not None)
        return self._scaled[scale]

    def _compose(self, warped: WarpedCrop, residual: Floats) -> Frame:
        assert warped.aligned is not None
        residual = self._palette.toned_change(residual, warped.aligned.shown)
        crop = add_residual(warped.image, warped.aligned, residual)
        self._finished = crop, warped.aligned
        return Frame(self._paste(crop), warped.tag)

    def _paste(self, crop: Image) -> Image:
        _, _, width, height = self.portrait.box
        if crop.shape[:2] != (height, width):
            crop = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.ascontiguousarray(paste_back(self.portrait, crop))


def _toned(portrait: Portrait, palette: Palette) -> Portrait:
    """The portrait, with the person's other pictures brought to its hues."""
    if palette.colourfulness == 1:
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
class _ScaledPortrait:
    """A portrait's moved region at one resolution, and what warps and draws it."""

    warp: PortraitWarp
    interior: Interior
    rest: RestFace
    turned: tuple[TurnedTexture, ...]

    @staticmethod
    def of(portrait: Portrait, scale: float, drawn: bool) -> "_ScaledPortrait":
        """``drawn``: mouth and eyes will be drawn in."""
        crop, plate, matte, landmarks = portrait.crop, portrait.plate, portrait.matte, portrait.landmarks
        if scale != 1:
            size = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
            crop, plate, matte = (
                np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
                for image in (crop, plate, matte)
            )
            landmarks = (landmarks * np.float32(scale)).astype(np.float32)
        shoulders = None if portrait.shoulders is None else portrait.shoulders * np.float32(scale)
        closed_lips = close_lips(crop, landmarks) if drawn else None
        warp = PortraitWarp(crop, plate, matte, landmarks, shoulders, closed_lips)
        turned = TurnedTexture.all_of(crop, landmarks, portrait.turned) if drawn else ()
        interior = Interior(crop, landmarks, portrait.teeth, portrait.asleep)
        return _ScaledPortrait(warp, interior, rest_face(crop, landmarks), turned)
