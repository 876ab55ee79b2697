"""Drive a portrait with a video, speech or recorded motion: as live sessions do, but without dropping frames."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar_stream.errors import BadClip
from avatar_stream.face.retarget import DEFAULT_KEEP
from avatar_stream.face.small_faces import no_face_message
from avatar_stream.face.tracker import FaceState
from avatar_stream.media import provenance
from avatar_stream.media.files import Clip
from avatar_stream.media.marking import Marker
from avatar_stream.media.output import atomic_file
from avatar_stream.media.recorder import Recorder
from avatar_stream.media.sound import has_only_sound
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.background import OWN_BACKGROUND
from avatar_stream.portrait.portrait import Image, Portrait
from avatar_stream.rigs.files import MOTION_FILE_SUFFIX, MotionFile
from avatar_stream.runtime.networks import Networks
from avatar_stream.voice.speaker import VoiceFile


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result of a rendering."""

    frames: int
    fps: float
    engine: str
    output: str
    face_found: float  # share of the driving frames in which a face was tracked
    stages: dict[str, float]  # milliseconds a frame
    notes: list[str]  # sentences on what the output lacks of the input


def open_driving_source(path: Path) -> Clip | VoiceFile | MotionFile:
    """Open a video, speech, or recorded motion; raises ``BadClip`` if the file is none of them."""
    if path.suffix == MOTION_FILE_SUFFIX:
        return MotionFile(path)
    return VoiceFile(path) if has_only_sound(path) else Clip(path)


def render(
    portrait: Portrait,
    driving: Path,
    output: Path,
    *,
    networks: Networks | None,
    gain: float = 1.0,
    keep: float = DEFAULT_KEEP,
    background: str | Image = OWN_BACKGROUND,
    marker: Marker | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Animate ``portrait`` with ``driving``, a video, speech or recorded motion, into the MP4 ``output``.

    Without ``networks`` it shows the warp alone. The output has the portrait's size, and the clip's frame times and
    sound. See ``Avatar`` for ``gain``, ``keep`` and ``background``; ``marker`` marks the pictures as generated, and
    ``progress`` is called with the frames done and expected. Raises :class:`~avatar_stream.errors.BadInput`.
    """
    # If the output cannot be signed, this fails before the work, not after it.
    credentials = provenance.certificate() if provenance.installed() else None
    source = open_driving_source(driving)
    began = time.perf_counter()
    avatar = Avatar(portrait, networks, gain=gain, keep=keep, background=background)
    try:
        with atomic_file(output, driving) as unfinished:
            done = _write_frames(avatar, source, unfinished, marker or Marker(), progress)
            if done.frames == 0:
                raise BadClip(f"{driving} has no readable frames: use another file, or convert it")
            if done.seen == 0:
                raise BadClip(no_face_message(driving, avatar.too_small))
            if credentials:
                signed = unfinished.with_suffix(".signed.mp4")
                try:
                    provenance.sign(unfinished, signed, output.name, *credentials)
                    signed.replace(unfinished)
                finally:
                    signed.unlink(missing_ok=True)
    finally:
        if not isinstance(source, MotionFile):
            source.close()
        avatar.close()
    took = time.perf_counter() - began
    totals = avatar.times.totals | avatar.renderer.times.totals
    engine = networks.name if networks else "warp"
    stages = {name: round(total / done.frames, 2) for name, total in totals.items()}
    notes = [f"the sound of {driving} cannot be decoded here: the film is silent"] if done.silenced else []
    return Rendered(
        done.frames,
        round(done.frames / took, 2),
        engine,
        str(output),
        round(done.seen / done.frames, 4),
        stages,
        notes,
    )


@dataclass
class _Counts:
    frames: int = 0
    seen: int = 0  # frames in which the driver's face was tracked
    silenced: bool = False


def _write_frames(
    avatar: Avatar,
    source: Clip | VoiceFile | MotionFile,
    path: Path,
    marker: Marker,
    progress: Callable[[int, int], None] | None,
) -> _Counts:
    """Drive ``avatar`` with ``source``, and write its pictures into the MP4 file ``path``."""
    height, width = avatar.renderer.portrait.picture.shape[:2]
    clip = None if isinstance(source, MotionFile) else source
    recorder = Recorder(path, source.rate, (width, height), clip, marker=marker)
    count, times = _Counts(silenced=recorder.silenced), deque[float]()

    def counted() -> Iterator[tuple[float, Any]]:
        for at, image in source.frames():
            times.append(at)
            yield at, image
            # When the next frame is requested, this one has been followed.
            count.seen += avatar.face in (FaceState.FOUND, FaceState.HELD)

    try:
        for picture in avatar.stream(counted()):
            recorder.write(picture, times.popleft())
            count.frames += 1
            if progress:
                progress(count.frames, source.expected)
        recorder.close()
    except BaseException:
        recorder.abandon()
        raise
    return count
