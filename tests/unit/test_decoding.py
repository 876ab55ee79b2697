"""Decoding a peer's video: bounded queues, sizes checked before decoding, and no blocking."""

import asyncio
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from avatar_stream.media.decoding import (
    MAX_PIXELS,
    MAX_QUEUED_BYTES,
    MAX_QUEUED_FRAMES,
    SOUND_TIME_LIMIT,
    StreamDecoder,
)
from avatar_stream.media.encode import OpusEncoder
from avatar_stream.media.picture_size import h264_size, has_h264_key_frame, vp8_size
from tests.waiting import TEST_TIMEOUT

VP8 = RTCRtpCodecParameters("video/VP8", 90_000, payloadType=96)
H264 = RTCRtpCodecParameters("video/H264", 90_000, payloadType=97)


def coded(codec: str, width: int, height: int, count: int = 1) -> list[bytes]:
    """Coded frames of noise; the first is a key frame."""
    encoder: Any = av.CodecContext.create({"VP8": "libvpx", "H264": "libx264"}[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    realtime = {
        "VP8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
        "H264": {"preset": "ultrafast", "tune": "zerolatency"},
    }
    encoder.options = realtime[codec]
    made = []
    for number in range(count):
        picture = np.full((height, width, 3), 40 + number, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        made += [bytes(packet) for packet in encoder.encode(frame)]
    return made


def test_sizes_are_read_from_the_header() -> None:
    for codec, size in (("VP8", vp8_size), ("H264", h264_size)):
        key, other = coded(codec, 320, 192, 2)
        assert size(key) == (320, 192)
        assert size(other) is None
        assert [size(key[:end]) for end in range(6)] == [None] * 6
    assert [has_h264_key_frame(frame) for frame in coded("H264", 64, 64, 2)] == [True, False]
    claims = bytes([0x10, 0, 0, 0x9D, 1, 0x2A]) + (16_000).to_bytes(2, "little") * 2
    assert vp8_size(claims) == (16_000, 16_000)


@pytest.fixture
def thread() -> Iterator[Any]:
    """Starts decoders in threads as aiortc does; all end with the test."""
    decoders: list[StreamDecoder] = []

    def start(decoder: StreamDecoder, output: "asyncio.Queue[Any]", failed: threading.Event) -> threading.Thread:
        made = threading.Thread(target=decoder.run, args=(asyncio.get_running_loop(), output, failed))
        made.start()
        decoders.append(decoder)
        return made

    yield start
    for decoder in decoders:
        decoder.put(None)


async def test_frames_are_decoded_until_the_track_ends(thread: Any) -> None:
    for codec, kind in ((VP8, "VP8"), (H264, "H264")):
        decoder, output, failed = StreamDecoder("video"), asyncio.Queue[Any](), threading.Event()
        thread(decoder, output, failed)
        for number, data in enumerate(coded(kind, 64, 48, 3)):
            decoder.put((codec, JitterFrame(data, number)))
            frame = await asyncio.wait_for(output.get(), TEST_TIMEOUT)
            assert (frame.width, frame.height) == (64, 48)
        decoder.put(None)
        assert await asyncio.wait_for(output.get(), TEST_TIMEOUT) is None
        assert (decoder.skipped_frames, decoder.too_large, failed.is_set()) == (0, None, False)


@pytest.mark.parametrize(("codec", "kind"), [(VP8, "VP8"), (H264, "H264")])
async def test_a_too_large_picture_is_reported_and_the_next_that_fits_is_shown(
    thread: Any, codec: RTCRtpCodecParameters, kind: str
) -> None:
    decoder, output, failed = StreamDecoder("video"), asyncio.Queue[Any](), threading.Event()
    thread(decoder, output, failed)
    large = coded(kind, 2048, 2048, 2)
    for data in (*large, *coded(kind, 64, 64)):
        decoder.put((codec, JitterFrame(data, 0)))
    frame = await asyncio.wait_for(output.get(), TEST_TIMEOUT)
    assert frame.width == 64
    assert (decoder.skipped_frames, decoder.too_large) == (2, None)
    decoder.put((codec, JitterFrame(large[0], 0)))
    while decoder.too_large is None:
        await asyncio.sleep(0.01)
    assert decoder.too_large == (2048, 2048)
    assert not failed.is_set()  # another key frame would have the same size
    assert MAX_PIXELS < 2048 * 2048


async def test_after_damage_a_key_frame_is_requested_and_awaited(thread: Any) -> None:
    decoder, output, failed = StreamDecoder("video"), asyncio.Queue[Any](), threading.Event()
    thread(decoder, output, failed)
    key, other = coded("VP8", 64, 48, 2)
    decoder.put((VP8, JitterFrame(other, 0)))
    decoder.put((VP8, JitterFrame(b"", 0)))
    decoder.put((RTCRtpCodecParameters("video/none", 90_000), JitterFrame(key, 0)))
    decoder.put((VP8, JitterFrame(key, 0)))
    assert (await asyncio.wait_for(output.get(), TEST_TIMEOUT)).width == 64
    assert failed.is_set()


def test_the_decoders_queue_is_bounded_and_never_blocks() -> None:
    decoder = StreamDecoder("video")  # without a thread that decodes
    for _ in range(1000):
        decoder.put((VP8, JitterFrame(bytes(1000), 0)))
        assert len(decoder._queue) <= MAX_QUEUED_FRAMES
    for _ in range(40):
        decoder.put((VP8, JitterFrame(bytes(MAX_QUEUED_BYTES // 8), 0)))
        assert decoder._bytes <= MAX_QUEUED_BYTES
    decoder.put(None)
    assert not decoder._queue
    decoder.put((VP8, JitterFrame(bytes(1000), 0)))
    assert not decoder._queue


async def test_after_a_gap_only_a_key_frame_is_decoded(thread: Any) -> None:
    decoder, output, failed = StreamDecoder("video"), asyncio.Queue[Any](), threading.Event()
    key, other = coded("VP8", 64, 48, 2)
    for _ in range(MAX_QUEUED_FRAMES):
        decoder.put((VP8, JitterFrame(key, 0)))
    decoder.put((VP8, JitterFrame(other, 1)))  # one too many: only this frame is kept
    thread(decoder, output, failed)
    decoder.put((VP8, JitterFrame(key, 2)))
    assert (await asyncio.wait_for(output.get(), TEST_TIMEOUT)).pts == 2
    assert failed.is_set()


async def test_audio_beyond_real_time_is_dropped(thread: Any) -> None:
    """300 packets of 20 ms arrive as fast as they are decoded; audio beyond real time is dropped."""
    encoder = OpusEncoder()
    tone = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
    tone.sample_rate = 48_000
    packet = next(bytes(one) for k in range(5) for one in encoder.encode(tone, 960 * k))
    decoder, output = StreamDecoder("audio"), asyncio.Queue[Any]()
    opus = RTCRtpCodecParameters("audio/opus", 48_000, 2, payloadType=98)
    received, began = 0, time.monotonic()
    thread(decoder, output, threading.Event())
    for sent in range(1, 301):
        decoder.put((opus, JitterFrame(packet, 960 * sent)))
        async with asyncio.timeout(TEST_TIMEOUT):
            while received + decoder.skipped_frames < sent:
                await asyncio.sleep(0)
                while not output.empty():
                    received += output.get_nowait().samples / 960
    seconds = time.monotonic() - began
    assert received * 0.02 <= SOUND_TIME_LIMIT[1] + seconds * SOUND_TIME_LIMIT[0]
    assert received >= SOUND_TIME_LIMIT[1] / 0.02 - 1
