"""Audio-video synchronisation at a viewer: the publisher sends clicks with certain pictures, the viewer finds them.

The viewer compares both streams by arrival time and by the sender's clock. Browsers synchronise by that clock, which
the sender's reports carry (RFC 3550 section 6.4.1).
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

SAMPLE_RATE: Final = 48_000  # Hz
SAMPLES_PER_FRAME: Final = 960  # 20 ms
PICTURES_PER_CLICK: Final = 50  # two seconds
SAMPLES_PER_CLICK: Final = 480  # 10 ms
CLICK_THRESHOLD: Final = 0.1  # of full scale; louder sound begins a click
MAX_MISSED_PICTURES: Final = 12
"""If the picture with the click is lost, its time is computed from one of so many pictures after it."""
MAX_OFFSET_SECONDS: Final = 0.9  # between a click and its picture


class ClickingMicrophone(MediaStreamTrack):
    """Silence, with a click whenever the camera sends a picture whose number is a multiple of ``PICTURES_PER_CLICK``.

    ``shown`` gives the ``time.monotonic()`` at which the camera sent each picture, by number.
    """

    kind = "audio"

    def __init__(self, shown: dict[int, float]) -> None:
        super().__init__()
        self._shown = shown
        self._clicked: dict[int, float] = {}
        self._began: float | None = None
        self._samples = 0

    async def recv(self) -> av.AudioFrame:
        """The sound of the last 20 ms."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        start = self._began + self._samples / SAMPLE_RATE
        await asyncio.sleep(max(0.0, start + SAMPLES_PER_FRAME / SAMPLE_RATE - now))
        sound = np.zeros((1, SAMPLES_PER_FRAME), np.int16)
        for number, at in list(self._shown.items()):
            if (
                number % PICTURES_PER_CLICK == 0
                and self._clicked.get(number) != at
                and at < start + SAMPLES_PER_FRAME / SAMPLE_RATE
            ):
                self._clicked[number] = at
                first = min(max(round((at - start) * SAMPLE_RATE), 0), SAMPLES_PER_FRAME - 1)
                part = sound[0, first : first + SAMPLES_PER_CLICK]
                part[:] = 20_000 * np.sin(np.arange(len(part)) * 0.3 + 1)
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._samples, Fraction(1, SAMPLE_RATE)
        self._samples += SAMPLES_PER_FRAME
        return frame


class SenderClock:
    """Converts RTP timestamps of one receiver to the sender's clock, once the sender's first report has come."""

    def __init__(self, receiver: RTCRtpReceiver, rate: int) -> None:
        self._receiver, self._rate = receiver, rate
        self._report: tuple[float, int] | None = None  # seconds, and the RTP timestamp of that moment
        handle = receiver._handle_rtcp_packet

        async def listen(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                self._report = info.ntp_timestamp / 2**32, info.rtp_timestamp
            await handle(packet)

        receiver._handle_rtcp_packet = listen  # type: ignore[method-assign]

    def seconds(self, pts: int) -> float | None:
        """The sender's time of a decoded frame's ``pts``; None until the sender has reported."""
        origin = self._receiver._RTCRtpReceiver__timestamp_mapper._origin  # type: ignore[attr-defined]
        if self._report is None or origin is None:
            return None
        at, stamp = self._report
        behind = (pts + origin - stamp) & 0xFFFFFFFF
        return at + (behind - (1 << 32 if behind >= 1 << 31 else 0)) / self._rate


class SyncMeter:
    """Pairs clicks with their pictures and measures by how many seconds each click is later than its picture."""

    def __init__(self) -> None:
        self._pictures: list[tuple[float, float]] = []  # pictures with a click: sender's time, arrival time
        self._last = -1
        self._heard_at = -1.0
        self.offsets_by_clock: list[float] = []
        self.offsets_on_arrival: list[float] = []

    def add_picture(self, number: int, at: float | None, came: float, rate: float) -> None:
        """Add a new picture: its number, its time ``at`` by the sender's clock, and when it ``came``."""
        flash, late = number - number % PICTURES_PER_CLICK, number % PICTURES_PER_CLICK
        if at is not None and flash != self._last and late < MAX_MISSED_PICTURES:
            self._pictures = [*self._pictures[-3:], (at - late / rate, came - late / rate)]
        if late < MAX_MISSED_PICTURES:
            self._last = flash

    def add_sound(self, frame: av.AudioFrame, at: float | None, came: float) -> None:
        """Add a decoded frame of sound, which begins at ``at`` by the sender's clock and was complete at ``came``."""
        sound = np.abs(frame.to_ndarray().astype(np.float32).reshape(-1)) / 32768
        loud = np.flatnonzero(sound > CLICK_THRESHOLD)
        if at is None or not len(loud):
            return
        into = float(loud[0]) / (len(sound) / frame.samples) / frame.sample_rate
        if at + into - self._heard_at < 0.3:
            return
        self._heard_at = at + into
        if self._pictures:
            seen, seen_came = min(self._pictures, key=lambda one: abs(at + into - one[0]))
            if abs(at + into - seen) < MAX_OFFSET_SECONDS:
                self.offsets_by_clock.append(at + into - seen)
                self.offsets_on_arrival.append(came - frame.samples / frame.sample_rate + into - seen_came)

    def take(self) -> dict[str, list[float]]:
        """Return and clear the offsets measured since the last call."""
        offsets = {"sync": self.offsets_by_clock, "coming": self.offsets_on_arrival}
        self.offsets_by_clock, self.offsets_on_arrival = [], []
        return {name: [round(one, 4) for one in found] for name, found in offsets.items()}
