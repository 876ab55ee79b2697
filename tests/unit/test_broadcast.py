import asyncio
import random
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RTCP_PSFB_APP, RTCP_PSFB_PLI, RtcpPsfbPacket, RtpPacket, pack_remb_fci

from avatar_stream.media import aiortc_gaps, broadcast
from avatar_stream.media.aiortc_gaps import limit_receive_delay, listen_to_feedback
from avatar_stream.media.broadcast import Broadcast
from avatar_stream.media.decoding import StreamDecoder
from avatar_stream.media.encode import MAX_BITRATE, MIN_BITRATE, OpusEncoder, VideoEncoder
from tests.waiting import within


def picture(level: int, side: int = 128) -> av.VideoFrame:
    image = np.full((side, side, 3), level, np.uint8)
    image[32:96, 32:96] = np.random.default_rng(level).integers(0, 255, (64, 64, 3))
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_an_encoder_makes_a_key_frame_on_request(codec: str) -> None:
    encoder, decoder = VideoEncoder(codec, 25), av.CodecContext.create("vp8" if codec == "VP8" else "h264", "r")
    keys, shown = [], 0
    for number in range(30):
        for packet in encoder.encode(picture(number), 3600 * number, key=number == 20):
            assert packet.pts == 3600 * number
            keys += [number] * packet.is_keyframe
            shown += len(decoder.decode(av.Packet(bytes(packet))))
    assert keys == [0, 20]
    assert shown >= 29
    assert encoder.encode(picture(1, 256), 999_999)[0].is_keyframe  # a new size starts a new stream


def test_an_encoder_ignores_small_changes_of_the_bit_rate() -> None:
    encoder = VideoEncoder("VP8", 25)
    encoder.encode(picture(1), 0)
    for rate, key in (
        (MAX_BITRATE * 0.9, False),
        (MAX_BITRATE * 0.5, True),
        (MAX_BITRATE * 0.6, False),
        (MAX_BITRATE, True),
    ):
        encoder.bitrate = int(rate)
        (packet,) = encoder.encode(picture(2), 3600)
        assert packet.is_keyframe is key, rate


def test_opus_packets_are_20_ms() -> None:
    encoder = OpusEncoder()
    packets: list[Any] = []
    for number in range(25):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48_000
        packets += encoder.encode(frame, 960 * number)
    assert len(packets) >= 23
    assert {packet.time_base.denominator for packet in packets} == {48_000}


async def test_a_feed_that_falls_behind_continues_with_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "MAX_QUEUED_PACKETS", 5)
    monkeypatch.setattr(broadcast, "KEY_FRAME_INTERVAL_SECONDS", 0.1)
    level = 0

    def newest() -> av.VideoFrame:
        nonlocal level
        level = (level + 1) % 200
        return picture(level)

    sender = Broadcast(newest, 50)
    quick, slow = sender.open("video", "VP8"), sender.open("video", "VP8")
    never = sender.open("video", "VP8")  # a peer that never connects: nothing is kept for it
    sending = asyncio.create_task(sender.send_pictures())
    assert (await within(slow.recv())).is_keyframe
    for _ in range(30):
        await within(quick.recv())
    assert slow.dropped > 5
    assert not never._packets
    assert not never.wants_key_frame
    decoder = av.CodecContext.create("vp8", "r")
    first = await within(slow.recv())
    assert decoder.decode(av.Packet(bytes(first)))
    sending.cancel()
    sender.remove(slow)
    slow.stop()
    while slow._packets:
        await slow.recv()
    with pytest.raises(MediaStreamError):
        await within(slow.recv())
    sender.close()


async def test_one_slow_viewer_does_not_lower_the_bit_rate_of_all() -> None:
    sender = Broadcast(lambda: None, 25)
    assert sender._bitrate("VP8", [], MAX_BITRATE, 0) == MAX_BITRATE
    assert sender._bitrate("VP8", [10_000, MAX_BITRATE, MAX_BITRATE], MAX_BITRATE, 0) == MAX_BITRATE
    assert sender._bitrate("VP8", [10_000, 20_000, MAX_BITRATE], MAX_BITRATE, 0) == MIN_BITRATE
    began = sender._began
    assert sender._bitrate("VP8", [MAX_BITRATE], MIN_BITRATE, began + 1) == MIN_BITRATE  # too soon for a change
    assert sender._bitrate("VP8", [MAX_BITRATE], MIN_BITRATE, began + 60) == MAX_BITRATE
    sender.close()


async def test_an_error_in_encoding_sound_loses_only_that_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Broadcast(lambda: None, 25)
    feed = sender.open("audio", "opus")
    sending = asyncio.create_task(sender.send_sound())
    waiting = asyncio.create_task(feed.recv())
    await asyncio.sleep(0)
    good = OpusEncoder.encode

    def once(self: OpusEncoder, frame: av.AudioFrame, pts: int) -> list[Any]:
        monkeypatch.setattr(OpusEncoder, "encode", good)
        raise ValueError("no such layout")

    monkeypatch.setattr(OpusEncoder, "encode", once)
    for _ in range(6):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48_000
        sender.add_audio(frame)
    await within(waiting)
    sending.cancel()
    sender.close()


async def test_rtcp_feedback_reaches_its_feed() -> None:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = Broadcast(lambda: None, 25)
    feed = sender.open("video", "VP8")
    rtp = pc.addTrack(feed)
    listen_to_feedback(rtp, feed)
    feed.wants_key_frame = False
    await rtp._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=rtp._ssrc))
    assert feed.wants_key_frame
    remb = pack_remb_fci(700_000, [rtp._ssrc])
    await rtp._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=remb))
    assert feed.bitrate == pytest.approx(700_000, rel=0.01)
    await rtp._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=b"nonsense"))
    sender.close()
    await pc.close()


class Receiver:
    """An aiortc receiver with its jitter buffer, without transport and decoder."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.asked: list[list[int]] = []
        self.keys = 0
        codec = SimpleNamespace(name="VP8", parameters={})
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.receiver: Any = cast(Any, pc.addTransceiver("video").receiver)
        self.receiver._RTCRtpReceiver__codecs[96] = codec
        self.buffer: JitterBuffer = self.receiver._RTCRtpReceiver__jitter_buffer
        self.queue = self.receiver._RTCRtpReceiver__decoder_queue

        async def handle(packet: Any, arrival_time_ms: int) -> None:
            # The part of aiortc's handling that concerns order.
            if packet.payload_type not in self.receiver._RTCRtpReceiver__codecs:
                return
            self.receiver._RTCRtpReceiver__nack_generator.add(packet)
            packet._data = packet.payload
            _, frame = self.buffer.add(packet)
            if frame is not None:
                frame.timestamp = self.receiver._RTCRtpReceiver__timestamp_mapper.map(frame.timestamp)
                self.queue.put((codec, frame))

        async def nack(ssrc: int, lost: list[int]) -> None:
            self.asked.append(lost)

        async def pli(ssrc: int) -> None:
            self.keys += 1

        self.receiver._handle_rtp_packet, self.receiver._send_rtcp_nack = handle, nack
        self.receiver._send_rtcp_pli = pli
        limit_receive_delay(self.receiver)

    async def send(self, *numbers: int, per_frame: int = 1, marked: int = -1) -> None:
        """Send packets; ``marked`` is the index of a frame's packet that has the marker bit."""
        for number in numbers:
            packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=number // per_frame * 3600)
            packet.ssrc, packet.payload = 7, bytes([number % 256])
            packet.marker = int(number % per_frame == marked)
            await self.receiver._handle_rtp_packet(packet, arrival_time_ms=0)

    def out(self) -> list[int]:
        found = []
        while not self.queue.empty():
            found += list(self.queue.get()[1].data)
        return found


async def test_packets_of_unknown_codecs_are_ignored() -> None:
    receiver = Receiver()
    packet = RtpPacket(payload_type=13, sequence_number=1, timestamp=0)
    packet.ssrc, packet.payload = 7, b""
    await receiver.receiver._handle_rtp_packet(packet, arrival_time_ms=0)
    await receiver.send(2, 3)
    assert receiver.out() == [2]


async def test_a_frame_is_complete_with_its_last_packet() -> None:
    receiver = Receiver()
    await receiver.send(0, 1, 2, per_frame=3, marked=2)
    assert receiver.out() == [0, 1, 2]
    await receiver.send(3, 5, per_frame=3, marked=2)
    assert receiver.out() == []
    await receiver.send(4, per_frame=3, marked=2)
    assert receiver.out() == [3, 4, 5]
    await receiver.send(4, 5, per_frame=3, marked=2)  # duplicates, which are late
    await receiver.send(6, 7, 8, per_frame=3, marked=2)
    assert receiver.out() == [6, 7, 8]


async def test_wrong_marker_bits_are_trusted_only_once() -> None:
    receiver = Receiver()
    await receiver.send(*range(12), per_frame=3, marked=1)
    assert receiver.out()[:2] == [0, 1]
    await receiver.send(*range(12, 18), per_frame=3, marked=1)
    assert receiver.out()[-3:] == [12, 13, 14]


async def test_padding_after_a_frame_is_ignored() -> None:
    receiver = Receiver()
    await receiver.send(0, 1, 2, per_frame=3, marked=2)
    padding = RtpPacket(payload_type=96, sequence_number=3, timestamp=0)
    padding.ssrc, padding.payload = 7, b""
    await receiver.receiver._handle_rtp_packet(padding, arrival_time_ms=0)
    assert receiver.out() == [0, 1, 2]
    for number in (4, 5, 6):
        packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=3600, marker=int(number == 6))
        packet.ssrc, packet.payload = 7, bytes([number])
        await receiver.receiver._handle_rtp_packet(packet, arrival_time_ms=0)
    assert receiver.out() == [4, 5, 6]
    decoder = StreamDecoder("video")
    decoder.put((receiver.receiver._RTCRtpReceiver__codecs[96], JitterFrame(data=b"", timestamp=0)))
    assert decoder._queue == deque()


async def test_each_audio_packet_is_a_frame() -> None:
    buffer = JitterBuffer(capacity=16, prefetch=4)
    ended = aiortc_gaps._FrameCollector(buffer)
    packet = RtpPacket(payload_type=111, sequence_number=5, timestamp=960)
    packet._data = b"sound"  # type: ignore[attr-defined]
    buffer.add(packet)
    frame = ended.take_frame()
    assert frame
    assert (frame.data, frame.timestamp) == (b"sound", 960)
    assert ended.take_frame() is None


async def test_frames_behind_a_lost_packet_come_at_once_when_it_arrives() -> None:
    receiver = Receiver()
    await receiver.send(0, 1, 2)
    assert receiver.out() == [0, 1]
    await receiver.send(4, 5, 6, 7, 8)
    assert receiver.out() == [2] or receiver.out() == []
    await receiver.send(3)
    assert receiver.out()[-1] == 7  # all but the newest, which may not be complete
    await receiver.send(9)
    assert receiver.out() == [8]


async def test_lost_packets_are_requested_again_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(aiortc_gaps, "time", SimpleNamespace(monotonic=lambda: now))
    receiver = Receiver()
    await receiver.send(0, 1, 2, 3)
    await receiver.send(5)
    now += 1.5 * aiortc_gaps.NACK_REPEAT_SECONDS
    await receiver.send(6)
    assert receiver.asked[-1] == [4]
    now += 1.1 * aiortc_gaps.MAX_LOSS_WAIT_SECONDS
    await receiver.send(7, 8, 9)
    assert receiver.keys == 1
    assert receiver.out()[-1] >= 7
    await receiver.send(10, 11)
    assert receiver.out()[-1] == 10
    assert receiver.keys == 1


async def test_frames_stay_in_order_for_any_order_and_loss_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc_gaps, "MAX_LOSS_WAIT_SECONDS", 0.0)
    chance = random.Random(5)
    for _ in range(40):
        receiver = Receiver()
        numbers = [n for n in range(120) if chance.random() > 0.15]
        for k in range(len(numbers) - 1):
            if chance.random() < 0.2:
                numbers[k], numbers[k + 1] = numbers[k + 1], numbers[k]
        await receiver.send(*numbers, per_frame=3)
        found = receiver.out()
        assert found == sorted(found)
        assert found[-1] > 100
