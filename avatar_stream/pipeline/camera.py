"""The camera command: webcam in, avatar out as a virtual camera that video calls can choose.

Everything runs on this machine, or, with a server's address, the server draws the avatar.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.client import ClientSession, connect, portraits, upload
from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.mouth_view import read_mouth
from avatar_stream.face.retarget import DEFAULT_KEEP
from avatar_stream.face.small_faces import FullResolution
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.face.tracker import FaceState, FaceTracker
from avatar_stream.identity.find_portrait import find_portrait
from avatar_stream.identity.records import default_library
from avatar_stream.media.marking import Marker
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.pipeline.live_loop import STATISTICS_SECONDS, LiveLoop, camera_detail, camera_image
from avatar_stream.pipeline.quality_ladder import QualityLadder
from avatar_stream.portrait.background import OWN_BACKGROUND, on_background
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.rigs.vmc import VmcSender
from avatar_stream.runtime.networks import Networks

Image = npt.NDArray[np.uint8]
HOTKEYS_HELP: Final = "n: next portrait, r: recalibrate, p: pause the picture, h: hide it, q: quit"
STATUS_INTERVAL_SECONDS: Final = 2.0  # between status lines


class Output(Protocol):
    """A virtual camera, a window or a file that shows avatar pictures."""

    name: str

    def show(self, picture: Image) -> None:
        """Show an RGB picture."""

    def close(self) -> None:
        """Close it."""


@dataclass
class Options:
    """The command's settings. ``portraits`` are picture files or names; the first is shown first."""

    portraits: list[str]
    size: int = 512
    fps: float = 25
    gain: float = 1.0
    keep: float = DEFAULT_KEEP
    mirror: bool = False
    seconds: float | None = None
    """Stop after this time; None runs until stopped."""
    background: str | Image = OWN_BACKGROUND
    marker: Marker = field(default_factory=Marker)
    library: Path | None = None
    """The folder of enrolled characters."""


@dataclass
class Switches:
    """What the user changes while the command runs. Any thread may set it."""

    frozen: bool = False
    hidden: bool = False
    portrait: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    recalibrate: threading.Event = field(default_factory=threading.Event)

    def press(self, key: str) -> None:
        """Handle a hotkey (see ``HOTKEYS_HELP``)."""
        match key:
            case "n":
                self.portrait += 1
            case "r":
                self.recalibrate.set()
            case "p":
                self.frozen = not self.frozen
            case "h":
                self.hidden = not self.hidden
            case "q" | "\x03" | "\x1b":
                self.stopped.set()


Report = Callable[[str], None]


class LocalCamera:
    """The loop on this machine: :meth:`add_frame` takes camera frames or motion, :meth:`run` shows pictures."""

    def __init__(self, options: Options, networks: Networks | None, *, rig: VmcSender | None = None) -> None:
        self.options, self.switches = options, Switches()
        self._networks, self._rig = networks, rig
        library = options.library or default_library()
        opened = [
            find_portrait(name, options.size, square=True, library=library, use="camera")
            for name in options.portraits
        ]
        self._portraits = [on_background(portrait, options.background) for portrait in opened]
        self._shown_index = 0
        self._avatar = Avatar(
            self._portraits[0], networks, gain=options.gain, keep=options.keep, mirror=options.mirror
        )
        ladder = QualityLadder(1 / options.fps) if networks else None
        self.loop = LiveLoop(options.fps, ladder, name="camera", marker=options.marker)
        self.shown_count = 0
        """Pictures shown so far."""

    def add_frame(self, frame: av.VideoFrame | ArkitFrame) -> None:
        """Take in a camera frame, or motion."""
        self.loop.add_frame(frame)

    def run(self, output: Output, report: Report = print) -> None:
        """Show pictures on ``output``, ``fps`` a second, until stopped; ``report`` gets status lines."""
        options, switches = self.options, self.switches
        self.loop.start(self._avatar)
        picture: Image = self.loop.marker.labelled(self._portraits[0].picture)
        began = reported = due = time.monotonic()
        try:
            while not switches.stopped.is_set():
                self._apply()
                newest = self.loop.newest
                if newest is not None and not switches.frozen:
                    picture = np.asarray(newest.to_ndarray(format="rgb24"), np.uint8)
                output.show(_blank_like(picture) if switches.hidden else picture)
                self.shown_count += 1
                now = time.monotonic()
                if self._rig is not None and self._avatar.face in (FaceState.FOUND, FaceState.HELD):
                    self._rig.send(self._avatar.motion, now - began)
                if now - reported > STATUS_INTERVAL_SECONDS:
                    reported = now
                    report(self._status_line())
                if options.seconds is not None and now - began > options.seconds:
                    return
                due = max(due + 1 / options.fps, now - 1 / options.fps)
                switches.stopped.wait(max(0.0, due - now))
        finally:
            self.loop.stop()

    def _apply(self) -> None:
        switches = self.switches
        if switches.recalibrate.is_set():
            switches.recalibrate.clear()
            self.loop.commands.put(lambda avatar: avatar.recalibrate())
        wanted = switches.portrait % len(self._portraits)
        if wanted != self._shown_index:
            self._shown_index = wanted
            renderer = PortraitRenderer(self._portraits[wanted], self._networks)
            self.loop.commands.put(lambda avatar: avatar.change_portrait(renderer))

    def _status_line(self) -> str:
        delay = self.loop.delay()
        if delay is None:
            return "waiting for the camera"
        rate = len(self.loop.delays()) / STATISTICS_SECONDS
        return f"{rate:.0f} pictures a second, {delay * 1e3:.0f} ms, face {self._avatar.face}"


class FaceFinder:
    """Tracks the face in RGB frames ``(h, w, 3)`` here, so that no picture goes to the server; not thread-safe."""

    def __init__(self) -> None:
        self._tracker = FaceTracker(smooth=False, hold=0)

    def __call__(self, image: Image, detail: FullResolution = None) -> TrackedFace:
        """The face and its mouth's view; ``detail`` returns the frame with more pixels (see ``FaceTracker``)."""
        found = self._tracker.update(image, 0.0, detail)
        landmarks, crop = found.landmarks, found.crop
        view = None if landmarks is None or crop is None else read_mouth(crop.image, crop.to_crop(landmarks))
        return TrackedFace(landmarks, view, image.shape[0])

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()


class RemoteCamera:
    """The loop for an avatar that the server at ``url`` draws.

    With ``private`` the face is tracked here and only its landmarks are sent, never a picture.
    """

    def __init__(self, options: Options, url: str, token: str = "", *, private: bool = False) -> None:
        self._face_finder = FaceFinder() if private else None
        self.options, self.switches = options, Switches()
        self.shown_count = 0
        self._url, self._token = url, token
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_frame(self, frame: av.VideoFrame | ArkitFrame) -> None:
        """Send a camera frame, or motion."""
        session, loop = self._session, self._loop
        if session is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if isinstance(frame, ArkitFrame):
                asyncio.run_coroutine_threadsafe(session.move(frame), loop)
            elif self._face_finder is not None:
                found = self._face_finder(camera_image(frame), camera_detail(frame))
                asyncio.run_coroutine_threadsafe(session.move(found), loop)
            else:
                loop.call_soon_threadsafe(session.send, camera_image(frame))

    def run(self, output: Output, report: Report = print) -> None:
        """Show the server's pictures until stopped; raises ``AvatarError`` if the server ends them."""
        try:
            asyncio.run(self._run(output, report))
        finally:
            self._session = None
            if self._face_finder is not None:
                self._face_finder.close()

    async def _run(self, output: Output, report: Report) -> None:
        self._loop = asyncio.get_running_loop()
        ids = [await self._portrait_id(name) for name in self.options.portraits]
        options = self.options
        async with connect(self._url, portrait=ids[0], token=self._token) as session:
            await session.control(
                gain=options.gain, keep=options.keep, mirror=options.mirror, background=options.background
            )
            self._session = session
            began = reported = time.monotonic()
            shown, picture = 0, None
            while not self.switches.stopped.is_set():
                newest = await session.picture()
                picture = newest if picture is None or not self.switches.frozen else picture
                await asyncio.to_thread(output.show, _blank_like(picture) if self.switches.hidden else picture)
                self.shown_count += 1
                if self.switches.recalibrate.is_set():
                    self.switches.recalibrate.clear()
                    await session.recalibrate()
                if (wanted := self.switches.portrait % len(ids)) != shown:
                    shown = wanted
                    await session.control(portrait=ids[wanted])
                now = time.monotonic()
                if now - reported > STATUS_INTERVAL_SECONDS:
                    reported = now
                    report(f"{session.status.get('fps', 0):.0f} pictures a second, face {session.status.get('face')}")
                if options.seconds is not None and now - began > options.seconds:
                    break
            self._session = None

    async def _portrait_id(self, name: str) -> str:
        """The server's id of the portrait ``name``, or of the picture file ``name`` after uploading it."""
        known = [one["id"] for one in await portraits(self._url, token=self._token)]
        if name in known:
            return name
        if not Path(name).is_file():
            raise BadInput(
                f"there is no picture {name}, and the server has no portrait of this name: it has {', '.join(known)}"
            )
        return await upload(self._url, name, token=self._token)


class Outputs:
    """Several outputs as one."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self.name = " and ".join(output.name for output in outputs)

    def show(self, picture: Image) -> None:
        """Show a picture on every output."""
        for output in self._outputs:
            output.show(picture)

    def close(self) -> None:
        """Close every output."""
        for output in self._outputs:
            output.close()


def _blank_like(picture: Image) -> Image:
    """A plain dark picture of the same size, shown while the avatar is hidden."""
    return np.full_like(picture, 24)
