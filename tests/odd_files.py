"""Generated unusual media files: irregular timestamps, rare audio formats, damage, unusual names. They show no face.

Sound has a click at each full second, and the picture of that moment is bright.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

PICTURE_SIDE = 64  # pixels
FILE_MAKERS: dict[str, Callable[[Path], object]] = {}
"""The function that makes each file, by file name."""


def maker(name: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Decorator that registers the maker of a file."""

    def enter(make: Callable[[Path], object]) -> Callable[[Path], object]:
        FILE_MAKERS[name] = make
        return make

    return enter


def picture(seconds: float) -> NDArray[np.uint8]:
    """A grey picture, bright at full seconds."""
    level = 230 if seconds % 1 < 0.02 else 60
    return np.full((PICTURE_SIDE, PICTURE_SIDE, 3), level, np.uint8)


def clicks(rate: int, seconds: float, begin: float = 0.0) -> NDArray[np.float32]:
    """Mono sound that begins at second ``begin``: silence, and a tone of 5 ms at each full second."""
    times = begin + np.arange(round(rate * seconds)) / rate
    sound = np.where(times % 1 < 0.005, np.sin(times * 2 * np.pi * 1200), 0) * 0.8
    return np.asarray(sound, np.float32)


def write(
    path: Path,
    times: Iterable[float],
    *,
    codec: str = "libx264",
    sound: str = "aac",
    rate: int = 48_000,
    seconds: float | None = None,
    sound_from: float = 0.0,
    aspect: Fraction | None = None,
    **container: Any,
) -> None:
    """Write a file with pictures at ``times`` and ``seconds`` of sound that begin at ``sound_from``."""
    times = list(times)
    with av.open(str(path), "w", **container) as out:
        video: Any = out.add_stream(codec, rate=25)
        video.width = video.height = PICTURE_SIDE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        audio: Any = out.add_stream(sound, rate=rate) if sound else None
        for at in times:
            frame = av.VideoFrame.from_ndarray(picture(at), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(at * 90_000), Fraction(1, 90_000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            _write_sound(out, audio, rate, (times[-1] + 0.04) if seconds is None else seconds, sound_from)


def write_sound(path: Path, codec: str, rate: int, pieces: Iterable[tuple[float, float]], **container: Any) -> None:
    """Write a file with sound only; ``pieces`` are (begin, duration) in seconds, with timestamps to match."""
    with av.open(str(path), "w", **container) as out:
        audio: Any = out.add_stream(codec, rate=rate)
        for begin, seconds in pieces:
            _write_sound(out, audio, rate, seconds, begin, last=False)
        out.mux(audio.encode(None))


def _write_sound(out: Any, audio: Any, rate: int, seconds: float, begin: float, last: bool = True) -> None:
    sound, step = clicks(rate, seconds, begin), max(rate // 50, 1)
    for k in range(0, len(sound), step):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None, k : k + step]), "fltp", "mono")
        frame.sample_rate, frame.pts = rate, round(begin * rate) + k
        frame.time_base = Fraction(1, rate)
        out.mux(audio.encode(frame))
    if last:
        out.mux(audio.encode(None))


def steady(rate: float, seconds: float, begin: float = 0.0) -> list[float]:
    """The times of ``rate`` frames a second, for ``seconds`` from ``begin`` on."""
    return [begin + k / rate for k in range(round(rate * seconds))]


maker("plain.mp4")(lambda path: write(path, steady(25, 3)))
maker("browser.webm")(lambda path: write(path, steady(10, 3.4), codec="libvpx", sound="libopus"))
maker("stays.mp4")(lambda path: write(path, [*steady(25, 1), *steady(25, 1, 3)]))
maker("fast.mp4")(lambda path: write(path, steady(120, 1.2)))
maker("late.mp4")(lambda path: write(path, steady(25, 2, 1), seconds=3))
maker("late-sound.mkv")(lambda path: write(path, steady(25, 3), seconds=2, sound_from=1))
maker("transport.ts")(lambda path: write(path, steady(25, 3)))
maker("uneven.mkv")(lambda path: write(path, sorted(t + 0.013 * (k % 3) for k, t in enumerate(steady(25, 3)))))
maker("silent.mp4")(lambda path: write(path, steady(25, 1), sound=""))
maker("squeezed.mp4")(lambda path: write(path, steady(25, 1), aspect=Fraction(4, 3)))
for _rate in (4_000, 37_800, 176_400, 192_000):
    maker(f"sound-{_rate}.mov")(partial(write, times=steady(25, 2), sound="pcm_s16le", rate=_rate))
maker("speech.mp2")(lambda path: write_sound(path, "mp2", 48_000, [(0, 3)], format="mp2"))
maker("speech.mp3")(lambda path: write_sound(path, "libmp3lame", 44_100, [(0, 3)]))
maker("speech.wav")(lambda path: write_sound(path, "pcm_s16le", 8_000, [(0, 3)]))
maker("gap.mka")(lambda path: write_sound(path, "libopus", 48_000, [(0, 1.5), (3.5, 1.5)]))
maker("Ü 影.mp4")(lambda path: write(path, steady(25, 1)))
maker("empty.mp4")(lambda path: path.write_bytes(b""))
maker("text.mp4")(lambda path: path.write_text("this is no film"))
maker("noise.mp4")(lambda path: path.write_bytes(np.random.default_rng(1).bytes(20_000)))
maker("folder.mp4")(lambda path: path.mkdir())


@maker("take:2.mp4")
def _colon(path: Path) -> None:
    """FFmpeg takes a name's part before a colon for a protocol."""
    plain = path.with_name("t.mp4")
    write(plain, steady(25, 1))
    plain.rename(path)


@maker("joined.ts")
def _joined(path: Path) -> None:
    write(path, steady(25, 2))
    path.write_bytes(path.read_bytes() * 2)


@maker("cut.mp4")
def _cut(path: Path) -> None:
    write(path, steady(25, 3), options={"movflags": "frag_keyframe+empty_moov"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


@maker("headless.mp4")
def _headless(path: Path) -> None:
    """A download that was cut off before its index."""
    write(path, steady(25, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@maker("damaged.mkv")
def _damaged(path: Path) -> None:
    write(path, steady(25, 3))
    _damage(path)


@maker("damaged.mp3")
def _damaged_speech(path: Path) -> None:
    write_sound(path, "libmp3lame", 44_100, [(0, 3)])
    _damage(path)


@maker("unknown-sound.mp4")
def _unknown_sound(path: Path) -> None:
    """Its audio codec is unknown."""
    write(path, steady(25, 2))
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"qzxj").replace(b"esds", b"esdx"))


@maker("same-stamp.mkv")
def _same_stamp(path: Path) -> None:
    """Every tenth audio packet has the timestamp of the packet before it."""
    write(path, steady(25, 2))
    _restamp(path)


def _restamp(path: Path) -> None:
    """Give blocks of a Matroska file the timestamps of the blocks before them (RFC 9559 section 10.2)."""
    data = bytearray(path.read_bytes())
    stamps: list[int] = []
    at = 0
    while (at := data.find(b"\xa3", at)) >= 0 and at + 12 < len(data):  # SimpleBlock
        size = 1 if data[at + 1] & 0x80 else 2 if data[at + 1] & 0x40 else 0
        track = at + 1 + size
        if size and data[track] == 0x82 and data[track + 3] in (0x80, 0x00):
            stamps.append(track + 1)
        at += 1
    for before, after in zip(stamps[10:40:10], stamps[11:41:10], strict=False):
        data[after : after + 2] = data[before : before + 2]
    path.write_bytes(bytes(data))


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    chance = np.random.default_rng(1)
    for at in chance.integers(len(data) // 3, 2 * len(data) // 3, 40):
        data[at] = int(chance.integers(256))
    path.write_bytes(bytes(data))


def make_all(folder: Path) -> dict[str, Path]:
    """Make all files in ``folder``; returns their paths by name."""
    for name, make in FILE_MAKERS.items():
        make(folder / name)
    return {name: folder / name for name in FILE_MAKERS}
