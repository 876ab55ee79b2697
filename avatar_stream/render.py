"""Drive a portrait with a clip or with recorded motion: the live path, frame by frame, without dropping any."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar_stream.errors import BadClip
from avatar_stream.face.closer import no_face_in
from avatar_stream.face.retarget import KEEP
from avatar_stream.face.tracker import FaceState
from avatar_stream.media import provenance
from avatar_stream.media.files import Clip, Recorder, only_sounds
from avatar_stream.media.marking import Marker
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.background import OWN
from avatar_stream.portrait.portrait import Image, Portrait
from avatar_stream.portrait.window import Networks
from avatar_stream.rigs.files import SUFFIX, MotionFile
from avatar_stream.voice.speaker import VoiceFile


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a rendering did."""

    frames: int
    fps: float
    engine: str
    output: str
    face_found: float  # share of the driving frames
    stages: dict[str, float]  # milliseconds a frame


def driver(path: Path) -> Clip | VoiceFile | MotionFile:
    """What is in the file: a video, speech, or recorded motion; raises ``BadClip``."""
    if path.suffix == SUFFIX:
        return MotionFile(path)
    return VoiceFile(path) if only_sounds(path) else Clip(path)


def render(
    portrait: Portrait,
    driving: Path,
    output: Path,
    *,
    networks: Networks | None,
    gain: float = 1.0,
    keep: float = KEEP,
    background: str | Image = OWN,
    marker: Marker | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Animate ``portrait`` with ``driving``, a video, speech or recorded motion, into the MP4 ``output``.

    ``networks`` None shows the warp alone. The output has the portrait's own size, the clip's frame rate and its
    sound. ``gain`` scales the expression, ``keep`` says how much of the portrait's own stays, ``background`` what is
    behind it (see ``Avatar``), ``marker`` how the pictures say that they are generated. Raises
    :class:`~avatar_stream.errors.BadInput`.
    """
    # What cannot be signed is said before the work, not after it.
    credentials = provenance.certificate() if provenance.installed() else None
    source = driver(driving)
    clip = None if isinstance(source, MotionFile) else source
    unfinished, signed = (output.with_name(f"{output.name}{end}") for end in (".part.mp4", ".signed.mp4"))
    seen = frames = 0
    began = time.perf_counter()
    avatar = Avatar(portrait, networks, gain=gain, keep=keep, background=background)
    try:
        height, width = portrait.picture.shape[:2]
        recorder = Recorder(unfinished, source.rate, (width, height), clip, marker=marker or Marker())

        def counted() -> Iterator[tuple[float, Any]]:
            nonlocal seen
            for at, image in source.frames():
                yield at, image
                # Asked for the next frame, the loop has followed this one.
                seen += avatar.face in (FaceState.FOUND, FaceState.HELD)

        for picture in avatar.stream(counted()):
            recorder.write(picture)
            frames += 1
            if progress:
                progress(frames, source.expected)
        recorder.close()
        if frames == 0:
            raise BadClip(f"{driving} has no readable frames")
        if seen == 0:
            raise BadClip(no_face_in(driving, avatar.too_small))
        if credentials:
            provenance.sign(unfinished, signed, output.name, *credentials)
            signed.replace(unfinished)
        unfinished.replace(output)
    finally:
        for left in (unfinished, signed):
            left.unlink(missing_ok=True)
        if clip is not None:
            clip.close()
        avatar.close()
    took = time.perf_counter() - began
    totals = avatar.times.totals | avatar.engine.times.totals
    engine = networks.name if networks else "warp"
    stages = {name: round(total / frames, 2) for name, total in totals.items()}
    return Rendered(frames, round(frames / took, 2), engine, str(output), round(seen / frames, 4), stages)
