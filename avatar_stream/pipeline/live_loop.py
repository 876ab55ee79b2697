"""The live loop: two threads that turn camera frames into avatar pictures, one follows the face and poses the
portrait, one paints.

Each takes the newest there is and drops the rest. A server's sessions and the camera command both run it.
"""

import contextlib
import logging
import math
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.small_faces import FullResolution
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.identity.guard import Guard, GuardThread
from avatar_stream.media.mailbox import Closed, Mailbox
from avatar_stream.media.marking import Marker
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.media.upright import upright
from avatar_stream.pipeline.avatar import Avatar, WarpedPortrait
from avatar_stream.pipeline.quality_ladder import Ladder
from avatar_stream.voice.speaker import VoiceMotion

log = logging.getLogger(__name__)

Motion = ArkitFrame | TrackedFace

CAMERA_SIDE: Final = 640  # larger camera pictures are scaled down before tracking
DETAIL_SIDE: Final = 1920  # the same where a face is too small to be found in that, or is followed so
CAMERA_SILENT: Final = 0.5  # seconds without a frame after which nobody is taken to be there
VOICE_SILENT: Final = 1.0  # seconds without sound after which nobody is taken to speak
# Seconds that a mouth is later than its sound: 0.05 as measured on synthetic speech, half a packet, half a period.
VOICE_BEHIND: Final = 0.08
JOIN: Final = 2.0  # seconds a thread gets to end
FOLLOWING: Final = 0.75  # how following counts beside drawing: it may take longer, down to 20 frames a second
RECENT: Final = 2.0  # seconds that figures of now are about
COMPLAIN: Final = 5.0  # seconds between log lines about frames that fail


@dataclass(frozen=True, slots=True)
class Tag:
    """What travels with a camera frame to the picture that shows its motion."""

    arrived: float
    mark: int | None


class Listener(Protocol):
    """Is told what the loop does, from any of its threads."""

    def frame_received(self, dropped: int) -> None:
        """A camera frame came, and so many gave way to it."""

    def queue_waited(self, stage: str, seconds: float) -> None:
        """A frame waited so long before a stage."""

    def picture_drawn(self, seconds: float) -> None:
        """A picture is finished so long after its camera frame."""

    def failed(self, stage: str) -> None:
        """A frame failed in a stage."""

    def likeness_measured(self, distance: float) -> None:
        """The guard found a picture's face so far from its portrait's."""


class NullListener:
    """A listener that does not care."""

    def frame_received(self, dropped: int) -> None: ...

    def queue_waited(self, stage: str, seconds: float) -> None: ...

    def picture_drawn(self, seconds: float) -> None: ...

    def failed(self, stage: str) -> None: ...

    def likeness_measured(self, distance: float) -> None: ...


class LiveLoop:
    """Frames in by :meth:`add_frame`, pictures out as ``newest``. Its threads run from :meth:`start` to :meth:`stop`.

    ``fps`` is how often it looks for a camera that fell silent; with ``marks`` the numbers that a test drew into its
    camera pictures are drawn into the avatar's.
    """

    def __init__(
        self,
        fps: float,
        ladder: Ladder | None,
        *,
        listener: Listener | None = None,
        log: "logging.Logger | logging.LoggerAdapter[Any]" = log,
        name: str = "",
        marks: bool = False,
        marker: Marker | None = None,
    ) -> None:
        self.avatar: Avatar | None = None
        self.marker = marker or Marker()
        """What marks every picture as generated."""
        self.newest: av.VideoFrame | None = None
        self.newest_mark: int | None = None
        """The number in the newest camera picture, with ``frame_marks``."""
        self.commands: queue.SimpleQueue[Callable[[Avatar], None]] = queue.SimpleQueue()
        """What the following thread is to do with its avatar before the next frame."""
        self.seen_at = time.monotonic()
        """When a camera frame last came."""
        self.progress = time.monotonic()
        """When a picture was last finished."""
        self.threads: list[threading.Thread] = []
        self._fps, self._ladder, self._log, self._name, self._marks = fps, ladder, log, name, marks
        self._listener = listener or NullListener()
        self._camera: Mailbox[tuple[av.VideoFrame | Motion, float]] = Mailbox()
        self._warped: Mailbox[tuple[WarpedPortrait, float]] = Mailbox()  # and the seconds that it took to get there
        self._drawn: deque[tuple[float, float]] = deque(maxlen=150)  # when, and how long after its camera frame
        self._voice = VoiceMotion()
        self._heard_at = -math.inf
        self._watching: GuardThread | None = None
        self._stopped = threading.Event()
        self._complained = 0.0

    @property
    def dropped(self) -> int:
        """Camera frames that gave way to newer ones."""
        return self._camera.dropped

    def add_frame(self, frame: av.VideoFrame | Motion) -> None:
        """Take in a camera frame, or what moves the avatar in its place."""
        self.seen_at = time.monotonic()
        before = self._camera.dropped
        self._camera.put((frame, self.seen_at))
        self._listener.frame_received(self._camera.dropped - before)

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Take in the driver's sound: without a camera it moves the mouth."""
        self.seen_at = self._heard_at = time.monotonic()
        self._voice.add_audio(frame)

    def start(self, avatar: Avatar) -> None:
        """Follow and draw with ``avatar``."""
        self.avatar = avatar
        self.seen_at = self.progress = time.monotonic()
        self._start(self._follow, "follow", avatar)
        self._start(self._draw, "draw", avatar)
        if avatar.networks is not None:
            self._watching = GuardThread(lambda: avatar.renderer, self, self._listener.likeness_measured)

    @property
    def guard(self) -> Guard | None:
        """Who watches that the avatar stays who it is; None for the warp alone, which cannot drift."""
        return self._watching.guard if self._watching else None

    def reduce_expression(self, gain: float) -> None:
        """See ``avatar_stream.identity.guard.ExpressionControl``."""
        self.commands.put(lambda avatar: avatar.reduce_expression(gain))

    def stop(self) -> bool:
        """End both threads and free the avatar; blocks. False if a thread hangs: it is left with its avatar."""
        self._stopped.set()
        if self._watching:
            self._watching.stop()
        self._camera.close()
        self._warped.close()
        for thread in self.threads:
            thread.join(JOIN)
        if any(thread.is_alive() for thread in self.threads):
            return False
        if self.avatar is not None:
            self.avatar.close()
        self.avatar = self.newest = None
        return True

    def delays(self) -> list[float]:
        """Seconds from camera frame to picture, of the pictures of the last ``RECENT`` seconds."""
        now = time.monotonic()
        return [delay for at, delay in list(self._drawn) if now - at < RECENT]

    def delay(self) -> float | None:
        """Their median."""
        delays = self.delays()
        return statistics.median(delays) if delays else None

    def _follow(self, avatar: Avatar) -> None:
        period, silent = 1 / self._fps, CAMERA_SILENT
        while True:
            image: npt.NDArray[np.uint8] | Motion | None = None
            mark, arrived, detail = None, time.monotonic(), None
            try:
                frame, arrived = self._camera.take(silent)
                self._listener.queue_waited("camera", time.monotonic() - arrived)
                silent = CAMERA_SILENT
                if isinstance(frame, av.VideoFrame):
                    image, detail = camera_image(frame), camera_detail(frame)
                else:
                    image = frame
                if self._marks and isinstance(image, np.ndarray):
                    mark = self.newest_mark = read_mark(image)
            except TimeoutError:
                silent = period
                arrived = time.monotonic()
                if arrived - self._heard_at < VOICE_SILENT:
                    image = self._voice.frame(arrived)
                    # So that sound, which waits for its picture, waits for the mouth.
                    arrived -= VOICE_BEHIND
            with contextlib.suppress(queue.Empty):
                while True:
                    self.commands.get_nowait()(avatar)
            began = time.monotonic()
            face = avatar.follow(image, arrived, Tag(arrived, mark), detail)
            if self._ladder:
                face.renderer.quality = self._ladder.quality
            # Warped here, because the thread that draws has to wait for the network, which sessions share.
            self._warped.put((avatar.pose(face), time.monotonic() - began))

    def _draw(self, avatar: Avatar) -> None:
        while True:
            warped, followed = self._warped.take()
            began = time.monotonic()
            try:
                finished = avatar.paint(warped)
            except Exception:
                # The avatar goes on: the warp needs no network.
                self._complain("the engine failed: the warp goes on")
                self._listener.failed("draw")
                finished = avatar.paint(warped.unpainted())
            picture = self.marker.labelled(finished.picture)
            if self._marks and finished.tag.mark is not None:
                picture = picture.copy()
                draw_mark(picture, finished.tag.mark)
            self.newest = self.marker.framed(picture, warped.renderer)
            now = self.progress = time.monotonic()
            if self._ladder and self._ladder.observe(max(now - began, FOLLOWING * followed), now):
                self._log.info("drawing at quality %s", self._ladder.quality.name)
            self._drawn.append((now, now - finished.tag.arrived))
            self._listener.picture_drawn(now - finished.tag.arrived)

    def _start(self, work: Callable[[Avatar], None], name: str, avatar: Avatar) -> None:
        def run() -> None:
            while not self._stopped.is_set():
                try:
                    work(avatar)
                except Closed:
                    return
                except Exception:
                    # One bad frame must not end a call.
                    self._complain(f"a frame failed in {name}")
                    self._listener.failed(name)

        thread = threading.Thread(target=run, name=f"{name}-{self._name[:6]}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _complain(self, what: str) -> None:
        """Log the exception being handled; a fault on every frame must not fill the log in a second."""
        now = time.monotonic()
        if now - self._complained > COMPLAIN:
            self._complained = now
            self._log.exception(what)


def camera_image(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """RGB of a camera's frame, upright, no larger than tracking needs."""
    return upright(frame, CAMERA_SIDE)


def camera_detail(frame: av.VideoFrame) -> FullResolution:
    """What makes the same picture with more pixels, for a face that is small in it; None where it has no more."""
    return partial(upright, frame, DETAIL_SIDE) if max(frame.width, frame.height) > CAMERA_SIDE else None
