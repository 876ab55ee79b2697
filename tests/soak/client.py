"""One client process of the bench: sends numbered camera frames, receives the avatar, prints one JSON line a second.

``python -m tests.soak.client URL [--role both|view] [--light] [--loss 0.05] [--delay 0.1] [--jitter 0.02]
[--seconds 30] [--token TOKEN] [--clip FILE]``

The first line has the status of its offer and the server's media addresses: ``{"status": 201, "answered":
seconds, "ports": [[address, port], ...], "users": [the server's ICE user fragment, its own]}``.
"""

import argparse
import asyncio
import contextlib
import json
import pickle
import re
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from unittest import mock

import av
import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from avatar_stream.media.aiortc_gaps import limit_receive_delay
from avatar_stream.media.encode import VIDEO_CLOCK_RATE, VideoEncoder
from avatar_stream.media.marks import NUMBER_BITS, read_mark
from avatar_stream.server.rtc.signalling import ice_ufrag
from tests.soak.clicks import SAMPLE_RATE, ClickingMicrophone, SenderClock, SyncMeter
from tests.soak.lossy_link import LossyLink
from tests.soak.numbered import numbered_frames

FRAME_RATE = 25
KEY_FRAME_INTERVAL = 50
"""Frames; a usual setting in OBS. A decoder that lost a picture recovers within two seconds."""


class EncodedCamera(MediaStreamTrack):
    """The sample clip, numbered and encoded beforehand, so that the bench's encoder does not load the machine."""

    kind = "video"

    def __init__(self, packets: list[Any] | None = None) -> None:
        """``packets`` may come from another instance, which saves encoding them again."""
        super().__init__()
        self.packets = packets or _encoded()
        self.shown: dict[int, float] = {}
        self._count = 0
        self._began: float | None = None

    async def recv(self) -> Any:
        """The next packet, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        await asyncio.sleep(max(0.0, self._began + self._count / FRAME_RATE - now))
        number = self._count % len(self.packets)
        packet = self.packets[number]
        packet.pts = round((time.monotonic() - self._began) * VIDEO_CLOCK_RATE)
        self.shown[number] = time.monotonic()
        self._count += 1
        return packet


def _encoded() -> list[Any]:
    encoder = VideoEncoder("VP8", FRAME_RATE)
    encoder.bitrate = 700_000
    frames = enumerate(numbered_frames())
    return [packet for n, frame in frames for packet in encoder.encode(frame, n, key=n % KEY_FRAME_INTERVAL == 0)]


def cached_clip(path: Path) -> list[Any]:
    """The encoded clip, cached in the file ``path``: encoding it takes four processor seconds."""
    if not path.exists():
        path.write_bytes(pickle.dumps([bytes(packet) for packet in _encoded()]))
    packets = [av.Packet(data) for data in pickle.loads(path.read_bytes())]
    for packet in packets:
        packet.time_base = Fraction(1, VIDEO_CLOCK_RATE)
    return packets


class PictureCounter:
    """Counts new pictures and measures their delays by the numbers drawn in them."""

    def __init__(self, camera: EncodedCamera | None) -> None:
        self._camera = camera
        self.sync = SyncMeter()
        self.clocks: dict[str, SenderClock] = {}
        self._last = -1
        self.new = 0
        self.pictures = 0
        self.delays: list[float] = []

    async def listen(self, track: Any) -> None:
        """Receive sound until the track ends."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self.sync.add_sound(frame, self.clocks["audio"].seconds(frame.pts), time.monotonic())

    async def run(self, track: Any) -> None:
        """Receive a track until it ends."""
        if track.kind == "audio":
            await self.listen(track)
            return
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.pictures += 1
            number = read_mark(_brightness(frame))
            if number is None or number == self._last:
                continue
            self._last = number
            if "video" in self.clocks:
                self.sync.add_picture(number, self.clocks["video"].seconds(frame.pts), time.monotonic(), FRAME_RATE)
            self.new += 1
            if self._camera and number in self._camera.shown:
                self.delays.append(time.monotonic() - self._camera.shown[number])

    def take(self) -> dict[str, Any]:
        """Return and clear what has arrived since the last call."""
        counts = {"new": self.new, "pictures": self.pictures, "delays": [round(d, 4) for d in self.delays]}
        self.new, self.pictures, self.delays = 0, 0, []
        return counts | (self.sync.take() if self.clocks else {})


def _brightness(frame: av.VideoFrame) -> Any:
    """The Y plane, ``(height, width)``: marks are black and white, and converting to RGB costs more than decoding."""
    plane = frame.planes[0]
    rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


class CountingDecoder:
    """Replaces a decoder and only counts pictures: decoding is most of a client's load."""

    def __init__(self, watch: PictureCounter) -> None:
        self._watch = watch

    def decode(self, encoded: Any) -> list[Any]:
        """See ``aiortc.codecs.base.Decoder``."""
        self._watch.pictures += 1
        return []


async def connect(arguments: argparse.Namespace, pc: RTCPeerConnection, link: LossyLink | None) -> httpx.Response:
    """Send the offer by HTTP and apply the answer; media go through ``link`` if there is one."""
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    if link is not None:
        # Without candidates the server learns the link's address from the connectivity checks that come through it.
        offer = re.sub(r"^a=(candidate:|end-of-candidates)[^\r\n]*\r\n", "", offer, flags=re.MULTILINE)
    async with httpx.AsyncClient(timeout=20) as client:
        headers = {"Content-Type": "application/sdp"} | authorization(arguments.token)
        response = await client.post(arguments.url, content=offer, headers=headers)
    if response.status_code == 201:
        answer = response.text if link is None else await link.redirect(response.text)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return response


def authorization(token: str) -> dict[str, str]:
    """The Authorization header for a token; empty without a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def ports(answer: str) -> list[tuple[str, int]]:
    """The server's IPv4 addresses and UDP ports in an SDP answer."""
    found = re.findall(r"^a=candidate:\S+ \d+ udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host", answer, re.MULTILINE)
    return [(host, int(port)) for host, port in found]


async def run(arguments: argparse.Namespace) -> int:
    """Connect, print a line every second, leave; returns the exit code."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    clip = cached_clip(arguments.clip) if arguments.clip else None
    camera = EncodedCamera(clip) if arguments.role == "both" else None
    pc.addTransceiver(camera or "video", direction="sendrecv" if camera else "recvonly")
    if arguments.clicks:
        sound = ClickingMicrophone(camera.shown) if camera else "audio"
        pc.addTransceiver(sound, direction="sendonly" if camera else "recvonly")
    watch, tracks = PictureCounter(camera), []
    pc.on("track", lambda track: tracks.append(asyncio.ensure_future(watch.run(track))))
    if arguments.light:
        mock.patch("aiortc.rtcrtpreceiver.get_decoder", return_value=CountingDecoder(watch)).start()
    for receiver in pc.getReceivers():
        limit_receive_delay(receiver)  # as browsers do
        if arguments.clicks and camera is None:
            kind = receiver._RTCRtpReceiver__kind  # type: ignore[attr-defined]
            watch.clocks[kind] = SenderClock(receiver, VIDEO_CLOCK_RATE if kind == "video" else SAMPLE_RATE)
    lossy = arguments.loss or arguments.delay or arguments.jitter
    link = LossyLink(arguments.loss, arguments.delay, arguments.jitter) if lossy else None
    began = time.monotonic()
    response = await connect(arguments, pc, link)
    users = [ice_ufrag(text) for text in (response.text, pc.localDescription.sdp)]
    where = {"ports": ports(response.text), "users": users}
    print_line({"status": response.status_code, "answered": round(time.monotonic() - began, 3)} | where)
    if response.status_code != 201:
        return 3
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    due = time.monotonic()
    end = due + arguments.seconds
    while time.monotonic() < end and pc.connectionState not in ("closed", "failed") and not told_to_stop.is_set():
        due = max(due + 1, time.monotonic())  # rows of whole seconds can be compared
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told_to_stop.wait(), due - time.monotonic())
        print_line(watch.take() | {"state": pc.connectionState})
    async with httpx.AsyncClient() as client:
        place = httpx.URL(arguments.url).join(response.headers["location"])
        await client.delete(place, headers=authorization(arguments.token))
    await pc.close()
    if link is not None:
        link.close()
    return 0


def print_line(line: dict[str, Any]) -> None:
    """Print one JSON line for the bench."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the client of the command line; see the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--role", choices=("both", "view"), default="both")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--light", action="store_true", help="decode nothing")
    parser.add_argument(
        "--clicks",
        action="store_true",
        help="send sound with a click at every 50th picture; a viewer measures the offset",
    )
    parser.add_argument("--loss", type=float, default=0, help="share of packets lost, each way")
    parser.add_argument("--delay", type=float, default=0, help="seconds, each way")
    parser.add_argument("--jitter", type=float, default=0, help="at most so many seconds more; reorders packets")
    parser.add_argument("--token", default="")
    parser.add_argument("--clip", type=Path, help="file that caches the encoded clip")
    return asyncio.run(run(parser.parse_args()))


assert NUMBER_BITS == 11  # numbers wrap where numbered_frames ends
if __name__ == "__main__":
    sys.exit(main())
