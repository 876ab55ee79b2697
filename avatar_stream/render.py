"""Drive a portrait with a clip: the live path, frame by frame, without dropping any."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from avatar_stream.errors import BadClip
from avatar_stream.face.retarget import KEEP
from avatar_stream.face.tracker import FaceState
from avatar_stream.media.files import Clip, Recorder
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.window import Networks

T = TypeVar("T")
AHEAD = 4  # frames a stage may run ahead of the next: memory stays small, no core waits


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a rendering did."""

    frames: int
    fps: float
    engine: str
    output: str
    face_found: float  # share of the driving frames
    stages: dict[str, float]  # milliseconds a frame


def render(
    portrait: Path,
    driving: Path,
    output: Path,
    *,
    networks: Networks | None,
    size: int = 1024,
    gain: float = 1.0,
    keep: float = KEEP,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Animate ``portrait`` with the motion of ``driving`` into the MP4 ``output``.

    ``networks`` None shows the warp alone. The output has the portrait's own size, at most ``size`` pixels on its
    longer side, the clip's frame rate and its sound. ``gain`` scales the expression, ``keep`` says how much of the
    portrait's own stays. Raises :class:`~avatar_stream.errors.BadInput`.
    """
    prepared = prepare(read_picture(portrait), size, name=portrait.name)
    clip = Clip(driving)
    avatar = Avatar(prepared, networks, gain=gain, keep=keep)
    unfinished = output.with_name(output.name + ".part")
    seen = 0
    frames = 0
    began = time.perf_counter()
    try:
        height, width = prepared.picture.shape[:2]
        recorder = Recorder(unfinished, clip.rate, (width, height), clip)
        skip = avatar.engine.delay

        def follow() -> Iterator[Any]:
            nonlocal seen
            for at, image in clip.frames():
                moved = avatar.follow(image, at)
                seen += avatar.face in (FaceState.FOUND, FaceState.HELD)
                yield avatar.pose(moved)

        def draw() -> Iterator[Any]:
            # The first ``delay`` pictures repeat the first frame; the last ones are fetched at the end.
            for number, warped in enumerate(ahead(follow())):
                picture = avatar.paint(warped).picture
                if number >= skip:
                    yield picture
            yield from (frame.picture for frame in avatar.engine.flush())

        for picture in ahead(draw()):
            recorder.write(picture)
            frames += 1
            if progress:
                progress(frames, clip.expected)
        recorder.close()
        if frames == 0:
            raise BadClip(f"{driving} has no readable video frames")
        if seen == 0:
            raise BadClip(f"no face found in {driving}: the driving clip must show one, facing the camera")
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
        clip.close()
        avatar.close()
    took = time.perf_counter() - began
    totals = avatar.times.totals | avatar.engine.times.totals
    engine = networks.name if networks else "warp"
    stages = {name: round(total / frames, 2) for name, total in totals.items()}
    return Rendered(frames, round(frames / took, 2), engine, str(output), round(seen / frames, 4), stages)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Run an iterator on its own thread, a few items ahead; its exceptions arrive where it is consumed."""
    buffer: queue.Queue[tuple[bool, Any]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def offer(entry: tuple[bool, Any]) -> bool:
        while not stopped.is_set():
            try:
                buffer.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((True, item)):
                    return
            offer((False, None))
        except BaseException as error:
            offer((False, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            more, item = buffer.get()
            if more:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        stopped.set()
        worker.join()
