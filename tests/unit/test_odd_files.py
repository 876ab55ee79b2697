"""Unusual media files: timing, sound, and errors without tracebacks from every command."""

import itertools
import resource
import signal
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.identity.library import sample_pictures
from avatar_stream.media.camera import Camera
from avatar_stream.media.clock import PresentationClock
from avatar_stream.media.files import Clip
from avatar_stream.media.output import atomic_file
from avatar_stream.media.recorder import Recorder
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.voice.speaker import VoiceFile
from tests.odd_files import FILE_MAKERS, PICTURE_SIDE, make_all, steady

pytestmark = pytest.mark.slow

PORTRAIT = sample_pictures()["noor"]
FRAME_SECONDS = 0.041  # slightly more than a frame at 25 a second
EXPECTED_TIMES = {
    "plain.mp4": steady(25, 3),
    "browser.webm": steady(10, 3.4),
    "stays.mp4": [*steady(25, 1), *steady(25, 1, 3)],
    "fast.mp4": steady(120, 1.2),
    "late.mp4": steady(25, 2, 1),
    "late-sound.mkv": steady(25, 3),
    "transport.ts": steady(25, 3),
    "joined.ts": steady(25, 4),
    "same-stamp.mkv": steady(25, 2),
    "squeezed.mp4": steady(25, 1),
    "take:2.mp4": steady(25, 1),
} | {f"sound-{rate}.mov": steady(25, 2) for rate in (4_000, 37_800, 176_400, 192_000)}
"""When each file's pictures are shown, in seconds from its first picture or sound."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_all(tmp_path_factory.mktemp("odd"))


def timeline(path: Path) -> tuple[list[tuple[float, float]], list[float]]:
    """(seconds, brightness) of a file's pictures and the times of its clicks, by the timestamps that players use."""
    clicks: list[float] = []
    with av.open(f"file:{path}") as container:
        pictures = [
            (float(frame.time or 0), float(frame.to_ndarray(format="gray").mean()))
            for frame in (container.decode(video=0) if container.streams.video else ())
        ]
    with av.open(f"file:{path}") as container:
        for frame in container.decode(audio=0) if container.streams.audio else ():
            sound = np.abs(frame.to_ndarray().astype(float)).reshape(frame.to_ndarray().shape[0], -1).max(0)
            loud = np.nonzero(sound > 0.2)[0]
            if len(loud):
                at = float(frame.time or 0) + loud[0] / frame.sample_rate
                if not clicks or at - clicks[-1] > 0.3:
                    clicks.append(at)
    return sorted(pictures), clicks


def copy_video(source: Path, path: Path) -> None:
    """Copy a video's pictures and sound like ``render`` does, without a face."""
    clip = Clip(source)
    recorder = Recorder(path, clip.rate, (PICTURE_SIDE, PICTURE_SIDE), clip)
    for _, picture in clip.frames():
        level = float(picture.mean())
        recorder.write(np.full((PICTURE_SIDE, PICTURE_SIDE, 3), level, np.uint8))
    recorder.close()
    clip.close()


@pytest.mark.parametrize("name", EXPECTED_TIMES)
def test_output_has_the_same_duration_and_stays_in_sync(name: str, odd: dict[str, Path], tmp_path: Path) -> None:
    wanted = EXPECTED_TIMES[name]
    copy_video(odd[name], tmp_path / "out.mp4")
    pictures, clicks = timeline(tmp_path / "out.mp4")
    assert len(pictures) == len(wanted)
    begin = pictures[0][0]
    off = [abs(at - begin - (time - wanted[0])) for (at, _), time in zip(pictures, wanted, strict=True)]
    assert max(off) < FRAME_SECONDS
    flashes = [at for at, level in pictures if level > 150]
    for flash in flashes:
        if clicks and clicks[0] - FRAME_SECONDS < flash < clicks[-1] + FRAME_SECONDS:
            assert min(abs(flash - click) for click in clicks) < FRAME_SECONDS
    assert len(clicks) >= 1
    if name in ("late.mp4", "late-sound.mkv"):
        ahead = wanted[0] if name == "late.mp4" else 0.0
        assert begin == pytest.approx(ahead, abs=FRAME_SECONDS)


@pytest.mark.parametrize(("name", "wanted"), [
    ("speech.mp3", [0, 1, 2]), ("speech.mp2", [0, 1, 2]), ("speech.wav", [0, 1, 2]), ("gap.mka", [0, 1, 4]),
])  # fmt: skip
def test_speech_keeps_its_sound_and_gaps_close_the_mouth(
    name: str, wanted: list[float], odd: dict[str, Path], tmp_path: Path
) -> None:
    voice = VoiceFile(odd[name])
    recorder = Recorder(tmp_path / "out.mp4", voice.rate, (PICTURE_SIDE, PICTURE_SIDE), voice)
    frames = 0
    for _ in voice.frames():
        frames += 1
        recorder.write(np.zeros((PICTURE_SIDE, PICTURE_SIDE, 3), np.uint8))
    recorder.close()
    voice.close()
    assert frames == pytest.approx(25 * (5 if name == "gap.mka" else 3), abs=2)
    _, clicks = timeline(tmp_path / "out.mp4")
    assert clicks == pytest.approx(wanted, abs=FRAME_SECONDS)


def test_channels_in_opposite_phase_do_not_cancel() -> None:
    from avatar_stream.voice.speaker import to_mono

    sound = np.sin(np.arange(1600) * 0.1).astype(np.float32)
    assert np.abs(to_mono(np.stack([sound, -sound]))).max() > 0.9
    assert np.abs(to_mono(np.stack([sound, sound])) - sound).max() < 1e-6
    assert to_mono(np.zeros((2, 0), np.float32)).shape == (0,)


def test_an_undecodable_sound_gives_a_silent_video(odd: dict[str, Path], tmp_path: Path) -> None:
    clip = Clip(odd["unknown-sound.mp4"])
    recorder = Recorder(tmp_path / "out.mp4", clip.rate, (PICTURE_SIDE, PICTURE_SIDE), clip)
    for _, picture in clip.frames():
        recorder.write(picture)
    recorder.close()
    clip.close()
    assert recorder.silenced
    pictures, clicks = timeline(tmp_path / "out.mp4")
    assert (len(pictures), clicks) == (50, [])


def test_repaired_timestamps_only_increase() -> None:
    clock = PresentationClock(10.0, 0.04)
    times = [clock(stamp) for stamp in (10.0, 10.04, 10.04, 10.03, None, float("nan"), 10.3, 3.0, 3.04, 500.0)]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert times[6] == pytest.approx(0.3)
    assert times[7:9] == pytest.approx([0.34, 0.38])
    assert times[9] == pytest.approx(0.38 + 496.96)
    jumping = PresentationClock(0.0, 0.04, jumps=True)
    assert [jumping(0.0), jumping(90_000.0), jumping(90_000.04)] == pytest.approx([0.0, 0.04, 0.08])


COMMANDS: dict[str, list[str]] = {
    "render": ["render", str(PORTRAIT), "{}", "-o", "{out}.mp4", "--engine", "warp", "--size", "128"],
    "portrait": ["render", "{}", str(PORTRAIT), "-o", "{out}.mp4", "--engine", "warp"],
    "background": [
        "render",
        str(PORTRAIT),
        "missing.mp4",
        "-o",
        "{out}.mp4",
        "--background",
        "{}",
        "--engine",
        "warp",
    ],
    "record-motion": ["record-motion", "{}", "-o", "{out}.jsonl"],
    "inspect": ["inspect", "{}"],
    "identity add": ["identity", "add", "{}", "--name", "a", "--consent", "b", "--library", "{out}-library"],
    "identity import": ["identity", "import", "{}", "--library", "{out}-library"],
    "bench": ["bench", "--compare", "{}", "--engine", "warp", "--frames", "30"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_raises_for_odd_files(
    command: str,
    odd: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Portrait, "open", staticmethod(cache(Portrait.open)))
    for name in FILE_MAKERS:
        words = [word.format(odd[name], out=tmp_path / "out") for word in COMMANDS[command]]
        code = main(words)  # raises anything other than an AvatarError
        errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("avatar-stream:")]
        assert code in (0, 1, 2), name
        if code:
            assert len(errors) == 1, (name, errors)
            assert len(errors[0]) > 25
    left = [path.name for path in tmp_path.iterdir() if path.name != "out-library"]
    assert set(left) <= {"out.mp4", "out.jsonl"}


def test_an_invalid_motion_file_is_refused(odd: dict[str, Path], tmp_path: Path) -> None:
    for name in ("empty.mp4", "noise.mp4", "plain.mp4"):
        broken = tmp_path / "broken.jsonl"
        broken.write_bytes(odd[name].read_bytes())
        assert main(["render", str(PORTRAIT), str(broken), "-o", str(tmp_path / "o.mp4"), "--engine", "warp"]) == 2


def test_a_camera_file_that_is_no_video_is_refused_at_once(odd: dict[str, Path]) -> None:
    for name in ("speech.wav", "speech.mp3", "empty.mp4", "noise.mp4", "text.mp4", "folder.mp4"):
        with pytest.raises(BadInput):
            Camera(str(odd[name]), lambda frame: None)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Limit files to 20 kB, which gives the errors of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_gives_one_line_and_leaves_no_file(
    odd: dict[str, Path], tmp_path: Path, small_disk: None
) -> None:
    def record() -> None:
        with atomic_file(tmp_path / "o.mp4") as path:
            recorder = Recorder(path, Fraction(25), (256, 256))
            chance = np.random.default_rng(1)
            try:
                for _ in range(100):
                    recorder.write(chance.integers(0, 255, (256, 256, 3)).astype(np.uint8))
                recorder.close()
            finally:
                recorder.abandon()

    with pytest.raises(AvatarError, match="cannot write"):
        record()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs_are_refused(odd: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(odd["plain.mp4"].read_bytes())
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(film)
    for output, word in (
        ("folder.mp4", "it is a folder"), ("no/o.mp4", "create it first"), ("film.mp4", "is also an input"),
        ("link.mp4", "is also an input"), ("x" * 300 + ".mp4", "cannot write"),
    ):  # fmt: skip
        code = main(["render", str(PORTRAIT), str(film), "-o", str(tmp_path / output), "--engine", "warp"])
        assert code == 2
        assert word in capsys.readouterr().err
    assert film.read_bytes() == odd["plain.mp4"].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "folder.mp4", "link.mp4"]
