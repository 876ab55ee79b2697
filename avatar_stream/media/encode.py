"""Encoders whose packets go to any number of peers. aiortc would encode once per peer.

``libvpx`` and ``libx264`` are configured for low delay: no look-ahead, constant bit rate, key frames on request only.
"""

from fractions import Fraction
from typing import Any, Final, cast

import av
from av.video.frame import PictureType

from avatar_stream.media.resampler import Resampler

VIDEO_CLOCK_RATE: Final = 90_000  # Hz, RFC 6184 and RFC 7741
AUDIO_SAMPLE_RATE: Final = 48_000  # Hz, RFC 7587
OPUS_FRAME_SAMPLES: Final = 960  # samples: 20 ms

Packet = Any
"""``av.Packet``. PyAV makes it generic over a stream, and these packets have none."""

MIN_BITRATE, MAX_BITRATE = 250_000, 1_500_000  # bit/s of video


H264_CODEC, H264_SINGLE_NAL = "H264", "H264/0"
"""H.264 in packetization mode 1, and in mode 0, where each NAL unit fits into a packet (RFC 6184 section 6.2)."""

MAX_NAL_UNIT_BYTES: Final = 1100
"""In mode 0: with the headers of RTP, SRTP and UDP it stays below 1,280 bytes, which every path carries."""


class VideoEncoder:
    """One codec, ``VP8``, ``H264`` or ``H264/0``, at one size. Not thread-safe."""

    def __init__(self, codec: str, fps: int) -> None:
        self._codec, self._fps = codec, fps
        self._context: Any = None
        self.bitrate = MAX_BITRATE

    def encode(self, frame: av.VideoFrame, pts: int, key: bool = False) -> list[Packet]:
        """Packets of ``frame`` (yuv420p) with timestamp ``pts`` on the 90 kHz clock; ``key`` forces a key frame."""
        made = self._context
        if (
            made is None
            or (made.width, made.height) != (frame.width, frame.height)
            or self._needs_new_encoder(made.bit_rate)
        ):
            self._context = made = self._open(frame.width, frame.height)
        # The same picture may be encoded again, and for two codecs: each needs its own timestamp and type.
        own = av.VideoFrame(frame.width, frame.height, "yuv420p")
        for target, plane in zip(own.planes, frame.planes, strict=True):
            target.update(cast(Any, plane))  # any buffer will do
        own.pts, own.time_base = pts, Fraction(1, VIDEO_CLOCK_RATE)
        own.pict_type = PictureType.I if key else PictureType.NONE
        packets = list(made.encode(own))
        for packet in packets:
            # The frame's own timestamp: codecs round it to their clock.
            packet.pts, packet.time_base = pts, Fraction(1, VIDEO_CLOCK_RATE)
        return packets

    def _needs_new_encoder(self, bitrate: int) -> bool:
        """Whether the bit rate has changed enough: a new encoder costs a key frame."""
        return self.bitrate < 0.85 * bitrate or self.bitrate > 1.4 * bitrate

    def _open(self, width: int, height: int) -> Any:
        made: Any = av.CodecContext.create("libvpx" if self._codec == "VP8" else "libx264", "w")
        made.width, made.height, made.pix_fmt = width, height, "yuv420p"
        made.bit_rate = self.bitrate
        made.framerate, made.time_base = Fraction(self._fps), Fraction(1, VIDEO_CLOCK_RATE)
        made.gop_size = 3000
        made.thread_count = 1 if width * height <= 640 * 480 else 2
        rate = str(self.bitrate)
        if self._codec == "VP8":
            made.qmin, made.qmax = 2, 56
            made.options = {
                "deadline": "realtime",
                "cpu-used": "-6",
                "lag-in-frames": "0",
                "minrate": rate,
                "maxrate": rate,
                "bufsize": rate,
                "undershoot-pct": "100",
                "overshoot-pct": "15",
                "noise-sensitivity": "0",
                "static-thresh": "1",
            }
        else:
            # x264's default preset, which aiortc uses, costs three times as much as VP8; this one costs the same.
            made.options = {
                "preset": "veryfast",
                "tune": "zerolatency",
                "forced-idr": "1",
                "maxrate": rate,
                "bufsize": rate,
                "level": "31",
            }
            if self._codec == H264_SINGLE_NAL:
                made.options |= {"slice-max-size": str(MAX_NAL_UNIT_BYTES)}
            made.profile = "Baseline"
        return made


class OpusEncoder:
    """Encodes sound as 20 ms Opus packets, 48 kHz stereo. Not thread-safe."""

    def __init__(self) -> None:
        self._context: Any = av.CodecContext.create("libopus", "w")
        self._context.bit_rate = 64_000
        self._context.format, self._context.layout = "s16", "stereo"
        self._context.sample_rate = AUDIO_SAMPLE_RATE
        self._context.time_base = Fraction(1, AUDIO_SAMPLE_RATE)
        self._context.options = {"application": "voip"}
        self._resampler = Resampler(
            format="s16", layout="stereo", rate=AUDIO_SAMPLE_RATE, frame_size=OPUS_FRAME_SAMPLES
        )
        self._samples = 0

    def encode(self, frame: av.AudioFrame, pts: int) -> list[Packet]:
        """Packets of ``frame``; the first has timestamp ``pts`` on the 48 kHz clock."""
        packets: list[Packet] = []
        frame.pts = None
        for part in self._resampler.resample(frame):
            part.pts = self._samples
            self._samples += part.samples
            packets += self._context.encode(part)
        for k, packet in enumerate(packets):
            packet.pts, packet.time_base = pts + k * OPUS_FRAME_SAMPLES, Fraction(1, AUDIO_SAMPLE_RATE)
        return packets
