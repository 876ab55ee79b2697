"""One peer: its connection, its two worker threads and everything that ends with it."""

import asyncio
import contextlib
import logging
import queue
import secrets
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from avatar_stream.errors import BadOffer
from avatar_stream.identity.library import Library
from avatar_stream.media.files import upright
from avatar_stream.media.mailbox import Closed, Mailbox
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.media.tracks import AvatarTrack, pump
from avatar_stream.portrait.avatar import Avatar, Moved
from avatar_stream.portrait.engine import PortraitEngine
from avatar_stream.portrait.ladder import Ladder
from avatar_stream.portrait.window import Networks
from avatar_stream.server.control import ChoosePortrait, Command, SetGain, SetMirror, SetNeutral
from avatar_stream.server.signalling import hint_bitrate
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

CAMERA_SIDE = 640  # larger camera pictures are scaled down before tracking
CAMERA_SILENT = 0.5  # seconds without a frame after which nobody is taken to be there


@dataclass(frozen=True, slots=True)
class Tag:
    """What travels with a camera frame to the picture that shows its motion."""

    arrived: float
    mark: int | None


class Session:
    """Camera up, avatar down. Made on the event loop; :meth:`close` ends every task, thread and track."""

    def __init__(self, settings: Settings, networks: Networks | None, library: Library, portrait: str) -> None:
        self.id = secrets.token_urlsafe(12)
        self.settings = settings
        self.portrait = portrait
        self.closed = asyncio.Event()
        self.last_control = 0.0  # when the last control channel closed; 0: there was none, or one is open
        self._networks = networks
        self._library = library
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._avatar: Avatar | None = None
        self._camera: Mailbox[tuple[av.VideoFrame, float]] = Mailbox()
        self._moved: Mailbox[Moved] = Mailbox()
        self._orders: queue.SimpleQueue[Callable[[Avatar], None]] = queue.SimpleQueue()
        self._newest: av.VideoFrame | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: list[threading.Thread] = []
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._ladder = Ladder(1 / settings.fps) if networks else None
        self._drawn: deque[float] = deque(maxlen=60)  # when pictures were finished
        self._delays: deque[float] = deque(maxlen=60)  # camera frame in, picture finished
        self._changed_state = time.monotonic()

    async def answer(self, offer: str) -> str:
        """Answer an SDP offer that :func:`check_offer` let through; raises ``BadOffer``, ``UnknownPortrait``."""
        portrait = await self._in_background(self._library.get, self.portrait)
        self._avatar = await self._in_background(Avatar, portrait, self._networks)
        self._newest = _video_frame(portrait.picture)
        pc = self._pc
        pc.on("track", self._on_track)
        pc.on("connectionstatechange", self._on_state)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            pc.addTrack(AvatarTrack(self._picture, self.settings.fps))
            _prefer_vp8(pc)
            await pc.setLocalDescription(await pc.createAnswer())
        except Exception as error:
            log.info("offer refused: %s", error)
            raise BadOffer("the offer cannot be answered: is it a complete WebRTC offer?") from error
        self._start(self._follow, "follow")
        self._start(self._draw, "draw")
        self._spawn(self._watch())
        return hint_bitrate(pc.localDescription.sdp)

    async def obey(self, command: Command) -> None:
        """Carry out a control command; raises ``UnknownPortrait``, ``BadPicture``."""
        match command:
            case ChoosePortrait(id=key):
                portrait = await self._in_background(self._library.get, key)
                engine = await self._in_background(PortraitEngine, portrait, self._networks)
                self._orders.put(lambda avatar: avatar.change_portrait(engine))
                self.portrait = key
            case SetNeutral():
                self._orders.put(lambda avatar: avatar.recalibrate())
            case SetGain(value=gain):
                self._orders.put(lambda avatar: avatar.set_gain(gain))
            case SetMirror(value=mirror):
                self._orders.put(lambda avatar: avatar.set_mirror(mirror))

    def status(self) -> dict[str, Any]:
        """What the page shows: pictures a second, milliseconds from camera frame to picture, the face."""
        now = time.monotonic()
        recent = [at for at in list(self._drawn) if now - at < 2]
        delays = list(self._delays)
        return {
            "type": "status",
            "fps": round(len(recent) / 2, 1),
            "server_ms": round(statistics.median(delays) * 1e3) if delays else None,
            "face": str(self._avatar.face) if self._avatar else "searching",
            "calibrated": bool(self._avatar and self._avatar.calibrated),
            "engine": self._networks.name if self._networks else "warp",
            "rung": self._ladder.rung.name if self._ladder else "warp",
            "portrait": self.portrait,
            "dropped": self._camera.dropped,
        }

    async def close(self) -> None:
        """End the session: peer connection, tasks, threads, networks' state. Safe to call twice."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._camera.close()
        self._moved.close()
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._pc.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._preparer.shutdown(wait=False, cancel_futures=True)
        if self._avatar is not None:
            self._avatar.close()
        log.info("session closed")

    # Connection

    def _on_track(self, track: Any) -> None:
        if track.kind == "video":
            self._spawn(pump(track, lambda frame: self._camera.put((frame, time.monotonic()))))
        else:
            self._spawn(pump(track, lambda frame: None))

    def _on_state(self) -> None:
        self._changed_state = time.monotonic()

    async def _watch(self) -> None:
        """Close when the peer fails, never comes, stays away, or its page has gone."""
        settings = self.settings
        while True:
            await asyncio.sleep(0.25)
            now, state = time.monotonic(), self._pc.connectionState
            since = now - self._changed_state
            ice = self._pc.iceConnectionState
            if state in ("failed", "closed"):
                break
            if state != "connected" and since > settings.connect_timeout:
                break
            if ice == "disconnected" and since > settings.disconnect_timeout:
                break
            if self.last_control and now - self.last_control > settings.control_timeout:
                break
        # Not here: closing waits for this very task.
        self._closing = asyncio.get_running_loop().create_task(self.close())

    def _picture(self) -> av.VideoFrame:
        assert self._newest is not None
        return self._newest

    # Worker threads

    def _follow(self, avatar: Avatar) -> None:
        period, silent = 1 / self.settings.fps, CAMERA_SILENT
        while True:
            image, mark, arrived = None, None, time.monotonic()
            try:
                frame, arrived = self._camera.take(silent)
                silent = CAMERA_SILENT
                image = _camera_image(frame)
                if self.settings.frame_marks:
                    mark = read_mark(image)
            except TimeoutError:
                silent = period
                arrived = time.monotonic()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._orders.get_nowait()(avatar)
            self._moved.put(avatar.follow(image, arrived, Tag(arrived, mark)))

    def _draw(self, avatar: Avatar) -> None:
        while True:
            moved = self._moved.take()
            began = time.monotonic()
            if self._ladder:
                moved.engine.rung = self._ladder.rung
            finished = avatar.draw(moved)
            picture = finished.picture
            if self.settings.frame_marks and finished.tag.mark is not None:
                picture = picture.copy()
                draw_mark(picture, finished.tag.mark)
            self._newest = _video_frame(picture)
            now = time.monotonic()
            if self._ladder and self._ladder.observe(now - began, now):
                log.info("drawing at rung %s", self._ladder.rung.name)
            self._drawn.append(now)
            self._delays.append(now - finished.tag.arrived)

    def _start(self, work: Callable[[Avatar], None], name: str) -> None:
        avatar = self._avatar
        assert avatar is not None

        def run() -> None:
            while not self.closed.is_set():
                try:
                    work(avatar)
                except Closed:
                    return
                except Exception:
                    # One bad frame must not end a call; a fault on every frame must not fill the log in a second.
                    log.exception("a frame failed in %s", name)
                    time.sleep(0.2)

        thread = threading.Thread(target=run, name=f"{name}-{self.id[:6]}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_background(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._preparer, work, *arguments)


def _camera_image(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    longest = max(frame.width, frame.height)
    if longest > CAMERA_SIDE:
        scale = CAMERA_SIDE / longest
        frame = frame.reformat(width=round(frame.width * scale / 2) * 2, height=round(frame.height * scale / 2) * 2)
    return upright(frame)


def _video_frame(picture: npt.NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def _prefer_vp8(pc: RTCPeerConnection) -> None:
    """VP8 first: on a CPU aiortc encodes it three to four times cheaper than H264."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    ordered = sorted(codecs, key=lambda codec: codec.mimeType != "video/VP8")
    for transceiver in pc.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(ordered)
