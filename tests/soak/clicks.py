"""Sound in step with pictures, as a viewer meets it: clicks that are made with certain pictures, and found again.

Both streams are compared by when they came, and by the sender's clock: its reports (RFC 3550 section 6.4.1) say how
browsers are to play them in step.
"""

import asyncio
import time
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket

RATE: Final = 48_000  # samples a second
FRAME: Final = 960  # samples: 20 ms
EVERY: Final = 50  # pictures from one with a click to the next, two seconds
LENGTH: Final = 480  # samples of a click
LOUD: Final = 0.1  # of full scale, where a click begins
NEAR: Final = 12  # pictures: how late the one with the click may be missed and still be told by its followers
FARTHEST: Final = 0.9  # seconds between a click and its picture, at most


class ClickingMicrophone(MediaStreamTrack):
    """Silence, and a click at the moment at which each ``EVERY``-th picture of the camera is shown.

    ``shown`` is when the camera's pictures were shown, by number, by ``time.monotonic()``.
    """

    kind = "audio"

    def __init__(self, shown: dict[int, float]) -> None:
        super().__init__()
        self._shown = shown
        self._clicked: dict[int, float] = {}
        self._began: float | None = None
        self._samples = 0

    async def recv(self) -> av.AudioFrame:
        """The sound of the 20 ms that have just gone by."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        start = self._began + self._samples / RATE
        await asyncio.sleep(max(0.0, start + FRAME / RATE - now))
        sound = np.zeros((1, FRAME), np.int16)
        for number, at in list(self._shown.items()):
            if number % EVERY == 0 and self._clicked.get(number) != at and at < start + FRAME / RATE:
                self._clicked[number] = at
                first = min(max(round((at - start) * RATE), 0), FRAME - 1)
                part = sound[0, first : first + LENGTH]
                part[:] = 20_000 * np.sin(np.arange(len(part)) * 0.3 + 1)
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._samples, Fraction(1, RATE)
        self._samples += FRAME
        return frame


class SenderClock:
    """The time, by the sender's clock, of what one receiver gets; None until its sender has reported."""

    def __init__(self, receiver: RTCRtpReceiver, rate: int) -> None:
        self._receiver, self._rate = receiver, rate
        self._report: tuple[float, int] | None = None  # seconds, and the stamp that was sent then
        handle = receiver._handle_rtcp_packet

        async def listen(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                said = packet.sender_info
                self._report = said.ntp_timestamp / 2**32, said.rtp_timestamp
            await handle(packet)

        receiver._handle_rtcp_packet = listen  # type: ignore[method-assign]

    def seconds(self, pts: int) -> float | None:
        """The time of a decoded frame's stamp."""
        origin = self._receiver._RTCRtpReceiver__timestamp_mapper._origin  # type: ignore[attr-defined]
        if self._report is None or origin is None:
            return None
        at, stamp = self._report
        behind = (pts + origin - stamp) & 0xFFFFFFFF
        return at + (behind - (1 << 32 if behind >= 1 << 31 else 0)) / self._rate


class InStep:
    """Pairs clicks with their pictures: how much later each click is than its picture, in seconds."""

    def __init__(self) -> None:
        self._pictures: list[tuple[float, float]] = []  # of those with a click: by the sender's clock, and on coming
        self._last = -1
        self._heard_at = -1.0
        self.by_stamps: list[float] = []
        self.on_coming: list[float] = []

    def saw(self, number: int, at: float | None, came: float, rate: float) -> None:
        """A new picture, its number, and when it was."""
        flash, late = number - number % EVERY, number % EVERY
        if at is not None and flash != self._last and late < NEAR:
            self._pictures = [*self._pictures[-3:], (at - late / rate, came - late / rate)]
        if late < NEAR:
            self._last = flash

    def heard(self, frame: av.AudioFrame, at: float | None, came: float) -> None:
        """A decoded frame of sound, which began at ``at`` and had come whole at ``came``."""
        sound = np.abs(frame.to_ndarray().astype(np.float32).reshape(-1)) / 32768
        loud = np.flatnonzero(sound > LOUD)
        if at is None or not len(loud):
            return
        into = float(loud[0]) / (len(sound) / frame.samples) / frame.sample_rate
        if at + into - self._heard_at < 0.3:
            return
        self._heard_at = at + into
        if self._pictures:
            seen, seen_came = min(self._pictures, key=lambda one: abs(at + into - one[0]))
            if abs(at + into - seen) < FARTHEST:
                self.by_stamps.append(at + into - seen)
                self.on_coming.append(came - frame.samples / frame.sample_rate + into - seen_came)

    def take(self) -> dict[str, list[float]]:
        """What has been measured since the last time."""
        said = {"sync": self.by_stamps, "coming": self.on_coming}
        self.by_stamps, self.on_coming = [], []
        return {name: [round(one, 4) for one in found] for name, found in said.items()}
