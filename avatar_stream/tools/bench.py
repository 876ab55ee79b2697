"""Measure the time of every stage of the loop, and of the whole loop, on this machine."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt
from aiortc.codecs import vpx
from aiortc.jitterbuffer import JitterFrame

from avatar_stream.face.mesh import Floats
from avatar_stream.identity.library import FIRST_SPEECH_FRAME, SAMPLES, sample_pictures
from avatar_stream.media.encode import VideoEncoder
from avatar_stream.media.files import Clip
from avatar_stream.media.marking import Marker
from avatar_stream.media.upright import upright
from avatar_stream.pipeline.avatar import Avatar, WarpedPortrait
from avatar_stream.pipeline.prefetch import prefetched
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer, StageTimes
from avatar_stream.portrait.rolling_window import RollingWindow
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.networks import WEIGHTS, Networks
from avatar_stream.runtime.processor import processor_name
from avatar_stream.runtime.work import MatrixProduct, multiply_adds
from avatar_stream.tools.parity import recorded_ticks

ROUNDS: Final = 5
PAIRS_PER_ROUND: Final = 12  # measurements of a network tick and a matrix product
FRAMES_PER_QUALITY: Final = 60
STAGES: Final = ("decode", "track", "retarget", "warp", "interior", "align", "network", "compose", "encode")


def bench(networks: Networks | None, *, size: int, frames: int, threads: int) -> dict[str, Any]:
    """Run the whole loop, VP8 in to VP8 out, on the shipped sample clip, in :data:`ROUNDS` rounds.

    Each round has three parts. The loop runs stage by stage on one thread, for the table. It runs as ``render`` runs
    it, with tracking and painting on two threads, for the frames a second. And the network runs alternately with a
    plain matrix product on the same runtime, precision and threads.

    Every figure is the median of the rounds; ``spread`` holds its minimum and maximum. The stage ``network`` is an
    average over all frames, though the network runs only when the face has changed. ``share_of_ceiling`` is the
    network's arithmetic rate over the matrix product's. ``processor_ms`` is processor time per frame of the loop,
    summed over all threads.
    """
    portrait = prepare(read_picture(next(iter(sample_pictures().values()))), size, square=True)
    frames_per_round = frames // ROUNDS
    packets = _camera_packets(frames_per_round)
    stage_timer, loop_timer = _StageTimer(portrait, networks, packets), _LoopTimer(portrait, networks, packets)
    network_and_product = (_network_timer(networks), MatrixProduct(threads, networks.name)) if networks else None
    operations = 2 * multiply_adds(tick_path(WEIGHTS))
    stage_timer.run(min(10, frames_per_round))
    loop_timer.run(min(10, frames_per_round))
    rounds = []
    for _ in range(ROUNDS):
        stages = stage_timer.run(frames_per_round)
        fps, processor_ms = loop_timer.run(frames_per_round)
        found = stages | {"sum_ms": sum(stages.values()), "fps": fps, "processor_ms": processor_ms}
        if network_and_product:
            tick_seconds, product = network_and_product
            pairs = [(operations / tick_seconds(), product.rate()) for _ in range(PAIRS_PER_ROUND)]
            rate, ceiling = np.median(pairs, axis=0)
            found |= {
                "network_gflops": rate / 1e9,
                "ceiling_gflops": ceiling / 1e9,
                "share_of_ceiling": rate / ceiling,
            }
        rounds.append(found)
    loop_timer.close()
    stage_timer.avatar.close()

    medians = {name: round(float(np.median([one[name] for one in rounds])), 3) for name in rounds[0]}
    report: dict[str, Any] = {
        "processor": processor_name(),
        "engine": networks.name if networks else "warp",
        "size": size,
        "frames": frames,
        "threads": threads,
        "rounds": ROUNDS,
        "stages": {name: medians.pop(name) for name in STAGES if name in medians},
        **medians,
        "spread": {name: [round(pick(one[name] for one in rounds), 3) for pick in (min, max)] for name in rounds[0]},
        "warp_alone_ms": round(_warp_alone(portrait, stage_timer.targets), 2),
    }
    if networks:
        report["qualities"] = _quality_costs(portrait, networks, stage_timer.targets)
        report["network_gmacs"] = round(operations / 2e9, 2)
    return report


class _StageTimer:
    """Runs the loop stage by stage on one thread."""

    def __init__(self, portrait: Portrait, networks: Networks | None, packets: list[bytes]) -> None:
        self.avatar = Avatar(portrait, networks)
        self.targets: list[Floats] = []
        self._packets, self._drawn = packets, 0
        self._encoder, self._marker, self._times = VideoEncoder("VP8", 25), Marker(), StageTimes()

    def run(self, frames: int) -> dict[str, float]:
        """Milliseconds per frame of each stage, over the first ``frames``."""
        counted = (self._times, self.avatar.times, self.avatar.renderer.times)
        for one in counted:
            one.totals.clear()
        decoder = vpx.Vp8Decoder()
        for packet in self._packets[:frames]:
            image = self._times.measure("decode", _decode, decoder, packet)
            moved = self.avatar.follow(image, self._drawn / 25)
            self.targets.append(moved.target)
            picture = self.avatar.draw(moved).picture
            self._times.measure("encode", _encode, self._encoder, self._marker, self._drawn, picture)
            self._drawn += 1
        totals = {name: ms for one in counted for name, ms in one.totals.items()}
        return {name: totals[name] / frames for name in STAGES if name in totals}


class _LoopTimer:
    """Runs the loop as ``render`` does: another thread does all before painting, some frames ahead."""

    def __init__(self, portrait: Portrait, networks: Networks | None, packets: list[bytes]) -> None:
        self._avatar = Avatar(portrait, networks)
        self._packets, self._drawn = packets, 0
        self._encoder, self._marker = VideoEncoder("VP8", 25), Marker()

    def run(self, frames: int) -> tuple[float, float]:
        """Frames a second, and milliseconds of processor time per frame, over the first ``frames``."""
        began, used = time.perf_counter(), time.process_time()
        for warped in prefetched(self._warped(frames, self._drawn)):
            _encode(self._encoder, self._marker, self._drawn, self._avatar.paint(warped).picture)
            self._drawn += 1
        seconds, used = time.perf_counter() - began, time.process_time() - used
        return frames / seconds, 1e3 * used / frames

    def _warped(self, frames: int, since: int) -> Iterator[WarpedPortrait]:
        decoder = vpx.Vp8Decoder()
        for number, packet in enumerate(self._packets[:frames], since):
            yield self._avatar.warp(self._avatar.follow(_decode(decoder, packet), number / 25))

    def close(self) -> None:
        self._avatar.close()


def _decode(decoder: vpx.Vp8Decoder, packet: bytes) -> npt.NDArray[np.uint8]:
    frame: Any = decoder.decode(JitterFrame(packet, 0))[0]
    return upright(frame)


def _network_timer(networks: Networks) -> Callable[[], float]:
    """A function that runs the network once and returns the seconds it took."""
    face, (frame,) = recorded_ticks(1)
    window = RollingWindow(networks, networks.refer(face["reference"][0]))

    def seconds() -> float:
        began = time.perf_counter()
        window.push(frame["shown"], frame["raster"])
        return time.perf_counter() - began

    seconds()  # the first call fills the window
    return seconds


def _encode(encoder: VideoEncoder, marker: Marker, number: int, picture: npt.NDArray[np.uint8]) -> None:
    encoder.encode(marker(picture), number * 3600)


def _quality_costs(portrait: Portrait, networks: Networks, targets: list[Floats]) -> dict[str, float]:
    """Milliseconds per frame of drawing, from warp to finished picture, at every drawing quality."""
    costs = {}
    for quality in DRAWING_QUALITIES:
        if quality.slots:
            networks.add(quality.slots)
        renderer = PortraitRenderer(portrait, networks)
        renderer.quality = quality
        renderer(targets[0])
        began = time.perf_counter()
        for target in targets[:FRAMES_PER_QUALITY]:
            renderer(target)
        costs[quality.name] = round((time.perf_counter() - began) / len(targets[:FRAMES_PER_QUALITY]) * 1e3, 2)
    return costs


def _warp_alone(portrait: Portrait, targets: list[Floats]) -> float:
    """Milliseconds per frame of the warp alone, on one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
    began = time.perf_counter()
    for target in targets:
        warp(target)
    took = time.perf_counter() - began
    cv2.setNumThreads(threads)
    return took / len(targets) * 1e3


def _camera_packets(count: int) -> list[bytes]:
    """``count`` VP8 frames of the sample clip as a browser sends them, 640 x 480.

    The clip is played back and forth from where its driver speaks.
    """
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in islice(clip.frames(), FIRST_SPEECH_FRAME, None)]
    clip.close()
    encoder, packets = VideoEncoder("VP8", 25), []
    for number in range(count):
        lap, at = divmod(number, len(pictures))
        frame = av.VideoFrame.from_ndarray(pictures[at if lap % 2 == 0 else -1 - at], format="rgb24")
        packets += [bytes(packet) for packet in encoder.encode(frame.reformat(format="yuv420p"), number * 3600)]
    return packets
