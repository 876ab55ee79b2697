"""Time every stage of the loop on this machine, and the loop itself."""

import time
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from aiortc.codecs import vpx
from aiortc.jitterbuffer import JitterFrame

from avatar_stream.face.mesh import Floats
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.encode import VideoEncoder
from avatar_stream.media.files import Clip
from avatar_stream.media.marking import Marker
from avatar_stream.portrait.ahead import ahead
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.engine import PortraitEngine, StageTimes
from avatar_stream.portrait.ladder import RUNGS
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.portrait.window import WEIGHTS, Networks
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.work import multiply_adds, product_ceiling

RUNG_FRAMES = 60
STAGES = ("decode", "track", "retarget", "warp", "interior", "align", "network", "compose", "encode")


def bench(networks: Networks | None, *, size: int, frames: int, threads: int) -> dict[str, Any]:
    """Run the whole loop, VP8 in to VP8 out, over the shipped sample clip.

    First stage by stage on one thread, for the table; then as ``render`` runs it, tracking and painting on two
    threads, for the frames a second. ``share_of_ceiling`` is the network's arithmetic rate over that of a plain
    matrix product on the same runtime, precision and threads.
    """
    portrait = prepare(read_picture(next(iter(sample_pictures().values()))), size, square=True)
    packets = _camera_packets(frames)
    avatar = Avatar(portrait, networks)
    decoder, encoder, times = vpx.Vp8Decoder(), VideoEncoder("VP8", 25), StageTimes()
    marker = Marker()
    targets: list[Floats] = []

    def decode(packet: bytes) -> npt.NDArray[np.uint8]:
        frame: Any = decoder.decode(JitterFrame(packet, 0))[0]
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)

    def encode(number: int, picture: npt.NDArray[np.uint8]) -> None:
        encoder.encode(marker(picture), number * 3600)

    def one(number: int) -> None:
        image = times.measure("decode", decode, packets[number])
        moved = avatar.follow(image, number / 25)
        targets.append(moved.target)
        times.measure("encode", encode, number, avatar.draw(moved).picture)

    warm = min(10, frames // 3)
    for number in range(warm):
        one(number)
    for counted in (times, avatar.times, avatar.engine.times):
        counted.totals.clear()
    for number in range(warm, frames):
        one(number)
    totals = times.totals | avatar.times.totals | avatar.engine.times.totals
    stages = {name: round(totals[name] / (frames - warm), 2) for name in STAGES if name in totals}

    decoder = vpx.Vp8Decoder()
    began = time.perf_counter()
    posed = (avatar.pose(avatar.follow(decode(packet), n / 25)) for n, packet in enumerate(packets))
    for number, warped in enumerate(ahead(posed)):
        encode(number, avatar.paint(warped).picture)
    fps = frames / (time.perf_counter() - began)
    avatar.close()

    report: dict[str, Any] = {
        "engine": networks.name if networks else "warp",
        "size": size,
        "frames": frames,
        "threads": threads,
        "stages": stages,
        "sum_ms": round(sum(stages.values()), 2),
        "fps": round(fps, 1),
        "warp_alone_ms": round(_warp_alone(portrait, targets), 2),
    }
    if networks:
        report["rungs"] = _rungs(portrait, networks, targets)
        rate = 2 * multiply_adds(tick_path(WEIGHTS)) / (stages["network"] * 1e-3)
        ceiling = product_ceiling(threads, networks.name)
        report |= {
            "network_gmacs": round(multiply_adds(tick_path(WEIGHTS)) / 1e9, 2),
            "network_gflops": round(rate / 1e9, 1),
            "ceiling_gflops": round(ceiling / 1e9, 1),
            "share_of_ceiling": round(rate / ceiling, 3),
        }
    return report


def table(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [f"engine {report['engine']}, picture {report['size']} x {report['size']}, {report['frames']} frames", ""]
    lines += [f"  {name:<10}{ms:>8.2f} ms" for name, ms in report["stages"].items()]
    lines += [f"  {'sum':<10}{report['sum_ms']:>8.2f} ms", "", f"whole loop: {report['fps']} frames a second"]
    lines.append(f"the warp by itself on one core: {report['warp_alone_ms']} ms")
    if "rungs" in report:
        lines += ["", "drawing a frame, by rung of the quality ladder:"]
        lines += [f"  {name:<10}{ms:>8.2f} ms" for name, ms in report["rungs"].items()]
    if "share_of_ceiling" in report:
        lines.append(
            f"network: {report['network_gmacs']} GMACs a tick at {report['network_gflops']} GFLOP/s, "
            f"{report['share_of_ceiling']:.0%} of a plain matrix product's {report['ceiling_gflops']} here"
        )
    return "\n".join(lines)


def _rungs(portrait: Portrait, networks: Networks, targets: list[Floats]) -> dict[str, float]:
    """Milliseconds a frame of drawing (warp to finished picture) on every rung of the quality ladder."""
    costs = {}
    for rung in RUNGS:
        if rung.slots:
            networks.add(rung.slots)
        engine = PortraitEngine(portrait, networks)
        engine.rung = rung
        for target in targets[:10]:
            engine(target)
        began = time.perf_counter()
        for target in targets[:RUNG_FRAMES]:
            engine(target)
        costs[rung.name] = round((time.perf_counter() - began) / len(targets[:RUNG_FRAMES]) * 1e3, 2)
    return costs


def _warp_alone(portrait: Portrait, targets: list[Floats]) -> float:
    """Milliseconds a frame of the warp with nothing else running, on one core."""
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
    """The sample clip as a browser would send it: VP8 frames, 640 x 480, played back and forth to ``count``."""
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in clip.frames()]
    clip.close()
    encoder, packets = VideoEncoder("VP8", 25), []
    for number in range(count):
        lap, at = divmod(number, len(pictures))
        frame = av.VideoFrame.from_ndarray(pictures[at if lap % 2 == 0 else -1 - at], format="rgb24")
        packets += [bytes(packet) for packet in encoder.encode(frame.reformat(format="yuv420p"), number * 3600)]
    return packets
