"""One session: its avatar, the publisher, the viewers, and their tasks and threads."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from avatar_stream.errors import NotFound
from avatar_stream.identity.guard import MAX_LIKENESS_DISTANCE
from avatar_stream.media.broadcast import Broadcast
from avatar_stream.media.marking import Marker, label_for
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.pipeline.live_loop import STATISTICS_SECONDS, LiveLoop
from avatar_stream.pipeline.quality_ladder import QualityLadder
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.heap import trim_heap
from avatar_stream.server.metrics import SessionMetrics
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.session.control import (
    ChoosePortrait,
    Command,
    Move,
    SetBackground,
    SetExpression,
    SetGain,
    SetKeep,
    SetMirror,
    SetNeutral,
)
from avatar_stream.server.session.shown_portrait import PortraitSource, ShownPortrait
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

CHECK_PERIOD: Final = 0.25  # seconds between checks of timeouts
CHANGE_PAUSE_FACTOR: Final = 2.0  # minimum pause between portrait changes, relative to the duration of the last


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What defines a new session. ``visible_owner`` owns the characters it may show (None: all owners)."""

    id: str
    portrait: str
    background: str
    visible_owner: str | None


class Session:
    """Runs in :meth:`run`, which ends with the publisher and frees every task, thread and track.

    ``id`` is its public name for viewers and logs; a later session may have the same. ``instance_id`` is unique.
    Clients need ``publisher.key`` to change the session.
    """

    def __init__(
        self,
        spec: SessionSpec,
        publisher: Peer,
        settings: Settings,
        networks: Networks | None,
        library: PortraitSource,
        metrics: SessionMetrics,
    ) -> None:
        self.id, self.instance_id = spec.id, new_instance_id()
        self.publisher = publisher
        self.viewers: dict[str, Peer] = {}
        self.listeners = 0  # of its motion
        self.settings = settings
        self.shown = ShownPortrait(
            library, spec.portrait, settings.keep_expression, publisher.owner, f"session {spec.id}",
            background=spec.background, owner=spec.visible_owner,
        )  # fmt: skip
        self.began = time.monotonic()
        self.closed = asyncio.Event()
        self._control_closed_at = 0.0  # when the last control channel closed; 0: none was open yet, or one is open
        self.log = logging.LoggerAdapter(log, {"session": spec.id})
        self._ladder = QualityLadder(1 / settings.fps) if networks else None
        self.live_loop = LiveLoop(
            settings.fps,
            self._ladder,
            listener=metrics,
            log=self.log,
            name=spec.id,
            marks=settings.frame_marks,
            marker=Marker(
                label_for(settings.label, settings.label_position, settings.unlabelled), watermark=settings.watermark
            ),
        )
        self.broadcast = Broadcast(lambda: self.live_loop.newest, settings.fps)
        self._networks = networks
        self._metrics = metrics
        self._group: asyncio.TaskGroup | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._next_change_at = 0.0  # earliest time for another portrait or background, by the event loop's clock
        self._reported = 0, 0  # pictures sent and dropped, as last reported to the metrics

    @property
    def live(self) -> bool:
        """The publisher is connected."""
        return self.publisher.connected.is_set() and not self.closed.is_set()

    @property
    def level(self) -> int:
        """The quality level of its pictures; 0 is the best."""
        return self._ladder.qualities.index(self._ladder.quality) if self._ladder else 0

    def control_opened(self) -> None:
        """A control channel was opened."""
        self._control_closed_at = 0.0

    def control_closed(self) -> None:
        """The control channel was closed. Without a new one before ``control_timeout``, the session ends."""
        self._control_closed_at = time.monotonic()

    def motion(self) -> "tuple[float, dict[str, Any]] | None":
        """The time of the driver's last motion, and the motion as JSON; None if there is no avatar."""
        avatar, at = self.live_loop.avatar, self.live_loop.last_input_at
        return None if avatar is None else (at, avatar.motion.to_json(at - self.began))

    async def open(self, offer: str) -> str:
        """Answer the publisher's offer; raises ``BadOffer``. Cheap: the avatar is made when the peer connects."""
        try:
            return await self.publisher.answer(offer, self.broadcast, self._on_frame)
        except BaseException:
            self.publisher.end("refused")
            raise

    async def run(self) -> None:
        """Run until the publisher has left or a task failed; then free everything."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self.publisher.run())
                work = (
                    self._start_avatar(),
                    self._watch(),
                    self.broadcast.send_pictures(),
                    self.broadcast.send_sound(),
                )
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
            await self._release()

    async def view(self, viewer: Peer, offer: str) -> str:
        """Answer a viewer's offer; raises ``BadOffer``."""
        try:
            answer = await viewer.answer(offer, self.broadcast, lambda kind, frame: None)
        except BaseException:
            viewer.end("refused")
            await self._run_viewer(viewer)
            raise
        self.viewers[viewer.key] = viewer
        if self._group is None or self.publisher.ended.is_set():
            viewer.end("the session ended")
            await self._run_viewer(viewer)
            raise NotFound("no such session: it may have ended")
        self._group.create_task(self._run_viewer(viewer))
        return answer

    async def end(self, reason: str) -> None:
        """End the session and wait until everything is freed. Safe to call twice."""
        self.publisher.end(reason)
        await self.closed.wait()

    async def handle(self, command: Command) -> None:
        """Carry out a control command; raises ``UnknownPortrait``, ``BadPicture``."""
        match command:
            case Move(frame=frame):
                self.live_loop.add_frame(frame)
            case ChoosePortrait(id=key):
                had = self.shown.has_settings
                await self._change(self.shown.choose, key)
                if had or self.shown.has_settings:
                    self.live_loop.commands.put(self.shown.apply_settings)
            case SetBackground(value=background):
                await self._change(self.shown.set_background, background)
            case SetNeutral():
                self.live_loop.commands.put(lambda avatar: avatar.recalibrate())
            case SetGain(value=gain):
                self.live_loop.commands.put(lambda avatar: avatar.set_gain(gain))
            case SetKeep(value=keep):
                self.live_loop.commands.put(lambda avatar: avatar.set_keep(keep))
            case SetExpression(value=expression):
                self.live_loop.commands.put(lambda avatar: avatar.set_expression(expression))
            case SetMirror(value=mirror):
                self.live_loop.commands.put(lambda avatar: avatar.set_mirror(mirror))

    async def _change(self, choose: Callable[[str], Portrait], key: str) -> None:
        """Show another portrait. Pauses between changes, which leaves processor time for other sessions.

        Raises :class:`NotFound` if the session ends in the meantime.
        """
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.publisher.ended.wait(), max(0.0, self._next_change_at - clock()))
        if self.publisher.ended.is_set():
            raise NotFound("the session has ended")
        began = clock()
        renderer = await self._in_thread(PortraitRenderer, await self._in_thread(choose, key), self._networks)
        self._next_change_at = clock() + CHANGE_PAUSE_FACTOR * (clock() - began)
        renderer.times.on_stage = self._metrics.stage
        self.live_loop.commands.put(lambda avatar: avatar.change_portrait(renderer))

    def status(self) -> dict[str, Any]:
        """The status message for the page: pictures a second, milliseconds from camera frame to picture, and more."""
        delay, avatar = self.live_loop.delay(), self.live_loop.avatar
        return {
            "type": "status",
            "fps": round(len(self.live_loop.delays()) / STATISTICS_SECONDS, 1),
            "server_ms": round(delay * 1e3) if delay is not None else None,
            "face": str(avatar.face) if avatar else "searching",
            "faces": avatar.faces if avatar else 0,
            "keep": avatar.keep if avatar else self.settings.keep_expression,
            "calibrated": bool(avatar and avatar.calibrated),
            "engine": self._networks.name if self._networks else "warp",
            "quality": self._ladder.quality.name if self._ladder else "warp",
            "portrait": self.shown.portrait,
            "background": self.shown.background,
            "dropped": self.live_loop.dropped,
            "identity": self._identity(),
            "session": self.id,
            "notice": self.publisher.notice,
            "viewers": sum(viewer.connected.is_set() for viewer in self.viewers.values()),
            "ai_generated": True,
        }

    def _identity(self) -> dict[str, Any] | None:
        """The identity guard's state: the distance of the last face from the portrait's, and its reaction."""
        guard = self.live_loop.guard
        if guard is None or guard.distance is None:
            return None
        return {
            "distance": round(guard.distance, 3),
            "limit": MAX_LIKENESS_DISTANCE,
            "step": guard.step.name.lower(),
            "faults": guard.faults,
        }

    # On the event loop

    def _on_frame(self, kind: str, frame: Any) -> None:
        if kind == "audio":
            self.broadcast.add_audio(frame)
            self.live_loop.add_audio(frame)
        else:
            self.live_loop.add_frame(frame)

    async def _run_viewer(self, viewer: Peer) -> None:
        try:
            await viewer.run()
        except Exception:
            self.log.exception("a viewer's connection failed")  # does not end the session
        self.viewers.pop(viewer.key, None)
        self._peer_ended(viewer)

    def _peer_ended(self, peer: Peer) -> None:
        for feed in peer.feeds:
            self.broadcast.remove(feed)
        self._report_packets(peer)
        self._metrics.ended(peer.role, peer.reason)
        self.log.info("%s ended: %s", "session" if peer is self.publisher else "viewer", peer.reason)

    async def _start_avatar(self) -> None:
        """Make the avatar when the publisher has connected: a peer that never connects costs nothing."""
        await self.publisher.connected.wait()
        self.log.info("connected")
        portrait = await self._in_thread(self.shown.open)
        self.live_loop.newest = self.live_loop.marker(portrait.picture)
        avatar = await self._in_thread(Avatar, portrait, self._networks)
        self.shown.apply_settings(avatar)
        for times in (avatar.times, avatar.renderer.times):
            times.on_stage = self._metrics.stage
        self.live_loop.start(avatar)

    async def _watch(self) -> None:
        """End the session if its page is gone, if no video arrives, or if it hangs."""
        settings = self.settings
        while True:
            await asyncio.sleep(CHECK_PERIOD)
            now = time.monotonic()
            if (delay := self.live_loop.delay()) is not None:
                # A picture waits half a frame period on average before it is sent.
                self.broadcast.delay = delay + 0.5 / settings.fps
            self._report_counts()
            if self._control_closed_at and now - self._control_closed_at > settings.control_timeout:
                self.publisher.end("page gone")
            elif self.live_loop.threads and now - self.live_loop.last_input_at > settings.silence_timeout:
                self.publisher.end("picture too large" if self.publisher.notice else "no video")
            elif self.live_loop.threads and now - self.live_loop.last_drawn_at > 2 * settings.watchdog:
                # A hanging engine is replaced after half of this time (see Networks.watch).
                self.publisher.end("stalled")

    def _report_packets(self, peer: Peer) -> None:
        for reason, count in peer.take_dropped().items():
            self._metrics.packets_dropped(reason, count)

    def _report_counts(self) -> None:
        peers = (self.publisher, *self.viewers.values())
        feeds = [feed for peer in peers for feed in peer.feeds]
        for peer in peers:
            self._report_packets(peer)
        now = self.broadcast.sent, sum(feed.dropped for feed in feeds)
        self._metrics.sent(now[0] - self._reported[0])
        if now[1] > self._reported[1]:
            self._metrics.dropped("slow viewer", now[1] - self._reported[1])
        self._reported = now

    async def _release(self) -> None:
        self._report_counts()
        self.broadcast.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
        if not await asyncio.to_thread(self.live_loop.stop):
            self.log.error("a thread of the session hangs: abandoned")
        await asyncio.to_thread(trim_heap)
        self._peer_ended(self.publisher)
        self.closed.set()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        except (RuntimeError, asyncio.CancelledError):
            task = asyncio.current_task()
            if self.publisher.ended.is_set() and not (task and task.cancelling()):
                raise NotFound("the session has ended") from None  # the executor was shut down
            raise


def new_id() -> str:
    """A public name for a session without one."""
    return secrets.token_hex(6)


def new_instance_id() -> str:
    """A unique id of one session; session names can recur."""
    return secrets.token_hex(8)
