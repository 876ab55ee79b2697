"""One avatar: the peer that drives it, the peers that watch it, and everything that ends with it."""

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
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.identity.library import Library
from avatar_stream.media.broadcast import Broadcast
from avatar_stream.media.files import upright
from avatar_stream.media.mailbox import Closed, Mailbox
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.portrait.avatar import Avatar, Moved
from avatar_stream.portrait.engine import PortraitEngine
from avatar_stream.portrait.ladder import RUNGS, Ladder
from avatar_stream.portrait.window import Networks
from avatar_stream.server.control import ChoosePortrait, Command, SetGain, SetMirror, SetNeutral
from avatar_stream.server.heap import trim
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.peer import Peer
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

CAMERA_SIDE: Final = 640  # larger camera pictures are scaled down before tracking
CAMERA_SILENT: Final = 0.5  # seconds without a frame after which nobody is taken to be there
LOOK: Final = 0.25  # seconds between looks at whether all is well
JOIN: Final = 2.0  # seconds a worker thread gets to end
RECENT: Final = 2.0  # seconds that figures of now are about
COMPLAIN: Final = 5.0  # seconds between log lines about frames that fail


@dataclass(frozen=True, slots=True)
class Tag:
    """What travels with a camera frame to the picture that shows its motion."""

    arrived: float
    mark: int | None


class Session:
    """Lives in :meth:`run`, which ends with the publisher and frees every task, thread and track.

    ``id`` is its public name: viewers and logs use it. What may change the session goes by ``publisher.key``.
    """

    def __init__(
        self,
        id: str,
        publisher: Peer,
        settings: Settings,
        networks: Networks | None,
        library: Library,
        portrait: str,
        metrics: Metrics,
    ) -> None:
        self.id = id
        self.publisher = publisher
        self.viewers: dict[str, Peer] = {}
        self.settings = settings
        self.portrait = portrait
        self.began = time.monotonic()
        self.closed = asyncio.Event()
        self.last_control = 0.0  # when the last control channel closed; 0: there was none, or one is open
        self.broadcast = Broadcast(lambda: self._newest, settings.fps)
        self.log = logging.LoggerAdapter(log, {"session": id})
        self._networks = networks
        self._library = library
        self._metrics = metrics
        self._avatar: Avatar | None = None
        self._camera: Mailbox[tuple[av.VideoFrame, float]] = Mailbox()
        self._moved: Mailbox[Moved] = Mailbox()
        self._orders: queue.SimpleQueue[Callable[[Avatar], None]] = queue.SimpleQueue()
        self._newest: av.VideoFrame | None = None
        self._group: asyncio.TaskGroup | None = None
        self._threads: list[threading.Thread] = []
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._ladder = Ladder(1 / settings.fps) if networks else None
        self._drawn: deque[tuple[float, float]] = deque(maxlen=150)  # when, and how long after its camera frame
        self.newest_mark: int | None = None
        """The number in the newest camera picture, with ``frame_marks``."""
        self._video_at = time.monotonic()
        self._progress = time.monotonic()
        self._complained = 0.0

    @property
    def live(self) -> bool:
        """The publisher is connected."""
        return self.publisher.connected.is_set() and not self.closed.is_set()

    @property
    def level(self) -> int:
        """Rungs below the best at which it is drawn."""
        return self._ladder.rungs.index(self._ladder.rung) if self._ladder else 0

    async def open(self, offer: str) -> str:
        """Answer the publisher's offer; raises ``BadOffer``. Costs little: the work begins when the peer comes."""
        return await self.publisher.answer(offer, self.broadcast, self._hear)

    async def run(self) -> None:
        """Live until the publisher has left or something here failed; then free everything."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self.publisher.run())
                work = (self._begin(), self._watch(), self.broadcast.send_pictures(), self.broadcast.send_sound())
                services = [group.create_task(one) for one in work]
                await self.publisher.ended.wait()
                for service in services:
                    service.cancel()
                for viewer in self.viewers.values():
                    viewer.end("the session ended")
        except* Exception:
            self.publisher.end("failed")
            self.log.exception("the session failed")
        finally:
            await self._free()

    async def view(self, viewer: Peer, offer: str) -> str:
        """Answer a viewer's offer; raises ``BadOffer``."""
        answer = await viewer.answer(offer, self.broadcast, lambda kind, frame: None)
        self.viewers[viewer.key] = viewer
        assert self._group is not None
        self._group.create_task(self._show(viewer))
        return answer

    async def end(self, reason: str) -> None:
        """End the session and wait until all of it is gone. Safe to call twice."""
        self.publisher.end(reason)
        await self.closed.wait()

    async def obey(self, command: Command) -> None:
        """Carry out a control command; raises ``UnknownPortrait``, ``BadPicture``."""
        match command:
            case ChoosePortrait(id=key):
                portrait = await self._in_background(self._library.get, key)
                engine = await self._in_background(PortraitEngine, portrait, self._networks)
                engine.times.told = self._metrics.stage
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
        delays = self._recent_delays()
        return {
            "type": "status",
            "fps": round(len(delays) / RECENT, 1),
            "server_ms": round(statistics.median(delays) * 1e3) if delays else None,
            "face": str(self._avatar.face) if self._avatar else "searching",
            "calibrated": bool(self._avatar and self._avatar.calibrated),
            "engine": self._networks.name if self._networks else "warp",
            "rung": self._ladder.rung.name if self._ladder else "warp",
            "portrait": self.portrait,
            "dropped": self._camera.dropped,
            "session": self.id,
            "viewers": sum(viewer.connected.is_set() for viewer in self.viewers.values()),
            "ai_generated": True,
        }

    def similarity(self) -> float | None:
        """How much the last picture looks like the portrait: cosine of identity vectors. Takes a moment."""
        return self._avatar.engine.similarity() if self._avatar and self._newest else None

    def _recent_delays(self) -> list[float]:
        now = time.monotonic()
        return [delay for at, delay in list(self._drawn) if now - at < RECENT]

    # On the event loop

    def _hear(self, kind: str, frame: Any) -> None:
        if kind == "audio":
            self.broadcast.hear(frame)
            return
        self._video_at = time.monotonic()
        before = self._camera.dropped
        self._camera.put((frame, self._video_at))
        self._metrics.came(self._camera.dropped - before)

    async def _show(self, viewer: Peer) -> None:
        try:
            await viewer.run()
        except Exception:
            self.log.exception("a viewer's connection failed")  # its own affair, not the session's
        self.viewers.pop(viewer.key, None)
        self._left(viewer)

    def _left(self, peer: Peer) -> None:
        for feed in peer.feeds:
            self.broadcast.leave(feed)
        self._metrics.ended(peer.role, peer.reason)
        self.log.info("%s ended: %s", "session" if peer is self.publisher else "viewer", peer.reason)

    async def _begin(self) -> None:
        """Make the avatar once the publisher is there: who never comes costs nothing."""
        await self.publisher.connected.wait()
        self.log.info("connected")
        portrait = await self._in_background(self._library.get, self.portrait)
        self._newest = _video_frame(portrait.picture)
        self._avatar = await self._in_background(Avatar, portrait, self._networks)
        for times in (self._avatar.times, self._avatar.engine.times):
            times.told = self._metrics.stage
        self._video_at = self._progress = time.monotonic()
        self._start(self._follow, "follow")
        self._start(self._draw, "draw")

    async def _watch(self) -> None:
        """End the session when its page has gone, when no video comes, or when it hangs."""
        settings = self.settings
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            if delays := self._recent_delays():
                # A picture waits half a period for its turn to be sent.
                self.broadcast.delay = statistics.median(delays) + 0.5 / settings.fps
            if self.last_control and now - self.last_control > settings.control_timeout:
                self.publisher.end("page gone")
            elif self._threads and now - self._video_at > settings.silence_timeout:
                self.publisher.end("no video")
            elif self._threads and now - self._progress > 2 * settings.watchdog:
                # A hanging engine has been replaced after half of this time (see Networks.watch).
                self.publisher.end("stalled")

    async def _free(self) -> None:
        self._camera.close()
        self._moved.close()
        self.broadcast.close()
        self._preparer.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, JOIN)
        if any(thread.is_alive() for thread in self._threads):
            self.log.error("a worker hangs and is left behind")
        elif self._avatar is not None:
            self._avatar.close()
        self._avatar, self._newest = None, None
        await asyncio.to_thread(trim)
        self._left(self.publisher)
        self.closed.set()

    # Worker threads

    def _follow(self, avatar: Avatar) -> None:
        period, silent = 1 / self.settings.fps, CAMERA_SILENT
        while True:
            image, mark, arrived = None, None, time.monotonic()
            try:
                frame, arrived = self._camera.take(silent)
                self._metrics.waited("camera", time.monotonic() - arrived)
                silent = CAMERA_SILENT
                image = _camera_image(frame)
                if self.settings.frame_marks:
                    mark = self.newest_mark = read_mark(image)
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
            try:
                finished = avatar.draw(moved)
            except Exception:
                # The avatar goes on: the warp needs no network.
                self._complain("the engine failed: the warp goes on")
                self._metrics.failed("draw")
                moved.engine.rung = RUNGS[-1]
                finished = avatar.draw(moved)
            picture = finished.picture
            if self.settings.frame_marks and finished.tag.mark is not None:
                picture = picture.copy()
                draw_mark(picture, finished.tag.mark)
            self._newest = _video_frame(picture)
            now = self._progress = time.monotonic()
            if self._ladder and self._ladder.observe(now - began, now):
                self.log.info("drawing at rung %s", self._ladder.rung.name)
            self._drawn.append((now, now - finished.tag.arrived))
            self._metrics.drew(now - finished.tag.arrived)

    def _start(self, work: Callable[[Avatar], None], name: str) -> None:
        avatar = self._avatar
        assert avatar is not None

        def run() -> None:
            while not self.publisher.ended.is_set():
                try:
                    work(avatar)
                except Closed:
                    return
                except Exception:
                    # One bad frame must not end a call.
                    self._complain(f"a frame failed in {name}")
                    self._metrics.failed(name)

        thread = threading.Thread(target=run, name=f"{name}-{self.id[:6]}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _complain(self, what: str) -> None:
        """Log the exception being handled; a fault on every frame must not fill the log in a second."""
        now = time.monotonic()
        if now - self._complained > COMPLAIN:
            self._complained = now
            self.log.exception(what)

    async def _in_background(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._preparer, work, *arguments)


def new_id() -> str:
    """A public name for a session nobody named."""
    return secrets.token_hex(6)


def _camera_image(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    longest = max(frame.width, frame.height)
    if longest > CAMERA_SIDE:
        scale = CAMERA_SIDE / longest
        frame = frame.reformat(width=round(frame.width * scale / 2) * 2, height=round(frame.height * scale / 2) * 2)
    return upright(frame)


def _video_frame(picture: npt.NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
