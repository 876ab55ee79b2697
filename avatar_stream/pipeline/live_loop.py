"""The live loop: one thread follows the driver's face and warps the portrait, another paints the avatar picture.

Each takes the newest input and drops older ones. A server's sessions and the camera command both run it.
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
from avatar_stream.media.mailbox import Mailbox, MailboxClosed
from avatar_stream.media.marking import Marker
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.media.upright import upright
from avatar_stream.pipeline.avatar import Avatar, WarpedPortrait
from avatar_stream.pipeline.quality_ladder import QualityLadder
from avatar_stream.voice.speaker import VoiceMotion

log = logging.getLogger(__name__)

Motion = ArkitFrame | TrackedFace

TRACKING_SIDE_PIXELS: Final = 640  # longer side; larger camera frames are scaled down to it
DETAIL_SIDE_PIXELS: Final = 1920  # longer side of the frame that is read again while the face is small
CAMERA_TIMEOUT_SECONDS: Final = 0.5  # without a camera frame, before the avatar goes to rest
VOICE_TIMEOUT_SECONDS: Final = 1.0  # without sound, before the voice stops moving the mouth
# The mouth's delay behind its sound: 0.05 s measured on synthetic speech, half a packet, and half a frame's period.
VOICE_DELAY_SECONDS: Final = 0.08
JOIN_TIMEOUT_SECONDS: Final = 2.0  # for a thread to end
FOLLOW_TIME_WEIGHT: Final = 0.75
"""Weight of the following thread's time beside the drawing thread's: it may fall to 20 frames a second."""
STATISTICS_SECONDS: Final = 2.0  # the window of rates and delays in status reports
LOG_INTERVAL_SECONDS: Final = 5.0  # between log lines about failed frames


@dataclass(frozen=True, slots=True)
class Tag:
    """Data that follows a camera frame to the avatar picture with its motion."""

    arrived: float  # monotonic seconds
    mark: int | None


class Listener(Protocol):
    """Receives the loop's events, from any of its threads."""

    def frame_received(self, dropped: int) -> None:
        """A camera frame arrived, and replaced ``dropped`` older ones."""

    def queue_waited(self, stage: str, seconds: float) -> None:
        """A frame waited ``seconds`` before ``stage``."""

    def picture_drawn(self, seconds: float) -> None:
        """A picture is finished, ``seconds`` after its camera frame arrived."""

    def failed(self, stage: str) -> None:
        """A frame failed in ``stage``."""

    def likeness_measured(self, distance: float) -> None:
        """The guard measured the ``distance`` between a picture's face and the portrait's."""


class NullListener:
    """A listener that does nothing."""

    def frame_received(self, dropped: int) -> None: ...

    def queue_waited(self, stage: str, seconds: float) -> None: ...

    def picture_drawn(self, seconds: float) -> None: ...

    def failed(self, stage: str) -> None: ...

    def likeness_measured(self, distance: float) -> None: ...


class LiveLoop:
    """Camera frames enter by :meth:`add_frame`; ``newest`` is the newest avatar picture.

    The threads run from :meth:`start` to :meth:`stop`.

    While the camera is silent the loop runs ``fps`` times a second. With ``marks`` it copies the numbers that a test
    drew into its camera frames to the avatar pictures.
    """

    def __init__(
        self,
        fps: float,
        ladder: QualityLadder | None,
        *,
        listener: Listener | None = None,
        log: "logging.Logger | logging.LoggerAdapter[Any]" = log,
        name: str = "",
        marks: bool = False,
        marker: Marker | None = None,
    ) -> None:
        self.avatar: Avatar | None = None
        self.marker = marker or Marker()
        """Marks every picture as generated."""
        self.newest: av.VideoFrame | None = None
        self.newest_mark: int | None = None
        """The number in the newest camera frame, with ``marks``."""
        self.commands: queue.SimpleQueue[Callable[[Avatar], None]] = queue.SimpleQueue()
        """Calls that the ``follow`` thread makes with its avatar before the next frame."""
        self.last_input_at = time.monotonic()
        """When camera, motion or sound last arrived, in monotonic seconds."""
        self.last_drawn_at = time.monotonic()
        """When a picture was last finished, in monotonic seconds."""
        self.threads: list[threading.Thread] = []
        self._fps, self._ladder, self._log, self._name, self._marks = fps, ladder, log, name, marks
        self._listener = listener or NullListener()
        self._camera: Mailbox[tuple[av.VideoFrame | Motion, float]] = Mailbox()
        self._warped: Mailbox[tuple[WarpedPortrait, float]] = Mailbox()  # and the seconds it took
        self._drawn: deque[tuple[float, float]] = deque(maxlen=150)  # when, and seconds after its camera frame
        self._voice = VoiceMotion()
        self._last_audio_at = -math.inf
        self._guard_thread: GuardThread | None = None
        self._stopped = threading.Event()
        self._failure_logged_at = 0.0

    @property
    def dropped(self) -> int:
        """Camera frames that newer ones replaced."""
        return self._camera.dropped

    def add_frame(self, frame: av.VideoFrame | Motion) -> None:
        """Take in a camera frame, or motion instead of one."""
        self.last_input_at = time.monotonic()
        before = self._camera.dropped
        self._camera.put((frame, self.last_input_at))
        self._listener.frame_received(self._camera.dropped - before)

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Take in the driver's sound, which moves the mouth while there is no camera."""
        self.last_input_at = self._last_audio_at = time.monotonic()
        self._voice.add_audio(frame)

    def start(self, avatar: Avatar) -> None:
        """Start the threads that follow and draw with ``avatar``."""
        self.avatar = avatar
        self.last_input_at = self.last_drawn_at = time.monotonic()
        self._start(self._follow, "follow", avatar)
        self._start(self._draw, "draw", avatar)
        if avatar.networks is not None:
            self._guard_thread = GuardThread(lambda: avatar.renderer, self, self._listener.likeness_measured)

    @property
    def guard(self) -> Guard | None:
        """The guard on the avatar's identity; None for the warp alone, which cannot drift."""
        return self._guard_thread.guard if self._guard_thread else None

    def reduce_expression(self, gain: float) -> None:
        """See ``avatar_stream.identity.guard.ExpressionControl``."""
        self.commands.put(lambda avatar: avatar.reduce_expression(gain))

    def stop(self) -> bool:
        """End both threads and free the avatar; blocks. False if a thread hangs, which then keeps its avatar."""
        self._stopped.set()
        if self._guard_thread:
            self._guard_thread.stop()
        self._camera.close()
        self._warped.close()
        for thread in self.threads:
            thread.join(JOIN_TIMEOUT_SECONDS)
        if any(thread.is_alive() for thread in self.threads):
            return False
        if self.avatar is not None:
            self.avatar.close()
        self.avatar = self.newest = None
        return True

    def delays(self) -> list[float]:
        """Seconds from camera frame to picture, for the pictures of the last ``STATISTICS_SECONDS``."""
        now = time.monotonic()
        return [delay for at, delay in list(self._drawn) if now - at < STATISTICS_SECONDS]

    def delay(self) -> float | None:
        """The median of :meth:`delays`; None without any."""
        delays = self.delays()
        return statistics.median(delays) if delays else None

    def _follow(self, avatar: Avatar) -> None:
        period, silent = 1 / self._fps, CAMERA_TIMEOUT_SECONDS
        while True:
            image: npt.NDArray[np.uint8] | Motion | None = None
            mark, arrived, detail = None, time.monotonic(), None
            try:
                frame, arrived = self._camera.take(silent)
                self._listener.queue_waited("camera", time.monotonic() - arrived)
                silent = CAMERA_TIMEOUT_SECONDS
                if isinstance(frame, av.VideoFrame):
                    image, detail = camera_image(frame), camera_detail(frame)
                else:
                    image = frame
                if self._marks and isinstance(image, np.ndarray):
                    mark = self.newest_mark = read_mark(image)
            except TimeoutError:
                silent = period
                arrived = time.monotonic()
                if arrived - self._last_audio_at < VOICE_TIMEOUT_SECONDS:
                    image = self._voice.frame(arrived)
                    # The sound is delayed until its picture: this makes it wait for the mouth, too.
                    arrived -= VOICE_DELAY_SECONDS
            with contextlib.suppress(queue.Empty):
                while True:
                    self.commands.get_nowait()(avatar)
            began = time.monotonic()
            face = avatar.follow(image, arrived, Tag(arrived, mark), detail)
            if self._ladder:
                face.renderer.quality = self._ladder.quality
            # This thread warps, because the drawing thread waits for the network, which sessions share.
            self._warped.put((avatar.warp(face), time.monotonic() - began))

    def _draw(self, avatar: Avatar) -> None:
        while True:
            warped, followed = self._warped.take()
            began = time.monotonic()
            try:
                finished = avatar.paint(warped)
            except Exception:
                # The warp needs no network, so the avatar goes on with it.
                self._log_failure("the engine failed: showing the warp alone")
                self._listener.failed("draw")
                finished = avatar.paint(warped.unpainted())
            picture = self.marker.labelled(finished.picture)
            if self._marks and finished.tag.mark is not None:
                picture = picture.copy()
                draw_mark(picture, finished.tag.mark)
            self.newest = self.marker.framed(picture, warped.renderer)
            now = self.last_drawn_at = time.monotonic()
            if self._ladder and self._ladder.observe(max(now - began, FOLLOW_TIME_WEIGHT * followed), now):
                self._log.info("drawing at quality %s", self._ladder.quality.name)
            self._drawn.append((now, now - finished.tag.arrived))
            self._listener.picture_drawn(now - finished.tag.arrived)

    def _start(self, work: Callable[[Avatar], None], name: str, avatar: Avatar) -> None:
        def run() -> None:
            while not self._stopped.is_set():
                try:
                    work(avatar)
                except MailboxClosed:
                    return
                except Exception:
                    # One bad frame must not end a session.
                    self._log_failure(f"a frame failed in {name}")
                    self._listener.failed(name)

        thread = threading.Thread(target=run, name=f"{name}-{self._name[:6]}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _log_failure(self, what: str) -> None:
        """Log the exception being handled, but not for every frame of a lasting fault."""
        now = time.monotonic()
        if now - self._failure_logged_at > LOG_INTERVAL_SECONDS:
            self._failure_logged_at = now
            self._log.exception(what)


def camera_image(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """The camera frame as upright RGB, no larger than tracking needs."""
    return upright(frame, TRACKING_SIDE_PIXELS)


def camera_detail(frame: av.VideoFrame) -> FullResolution:
    """Returns the same frame with more pixels, for a small face; None where it has no more."""
    return (
        partial(upright, frame, DETAIL_SIDE_PIXELS) if max(frame.width, frame.height) > TRACKING_SIDE_PIXELS else None
    )
