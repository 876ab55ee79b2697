"""A mouth that follows a voice, and an idle face."""

import time
import wave
from itertools import count
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from avatar_stream.errors import BadClip
from avatar_stream.face import geometry
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.media.sound import open_sound
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.pipeline.live_loop import LiveLoop
from avatar_stream.pipeline.render import render
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.voice.idle import BLINK_INTERVAL_SECONDS, BLINK_SECONDS, IdleMotion
from avatar_stream.voice.mel import MEL_BANDS, SAMPLE_RATE, MelBands
from avatar_stream.voice.speaker import VoiceFile, VoiceMotion
from avatar_stream.voice.visemes import MOUTH_SHAPES, LipSync
from tests.waiting import TEST_TIMEOUT

pytestmark = pytest.mark.slow

SPEECH_FILE = SAMPLES / "speech.ogg"


def speech() -> npt.NDArray[np.float32]:
    with av.open(str(SPEECH_FILE)) as container:
        mono = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in mono.resample(frame)]
    return np.concatenate(parts).astype(np.float32) / 32768


def noise(seconds: float, level: float) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(1).normal(0, level, round(seconds * SAMPLE_RATE))).astype(np.float32)


def test_visemes_are_independent_of_the_chunk_size() -> None:
    sound = speech()[: 3 * SAMPLE_RATE]
    whole, ear = MelBands()(sound), MelBands()
    pieces = np.concatenate([ear(part) for part in np.array_split(sound, 37)])
    assert whole.shape == pieces.shape == ((len(sound) - 400) // 160 + 1, MEL_BANDS + 1)
    assert np.allclose(whole, pieces, atol=1e-3)


def test_visemes_are_independent_of_loudness() -> None:
    sound = speech()[: 4 * SAMPLE_RATE] + noise(4, 1e-4)
    loud, soft = (LipSync()(sound * np.float32(gain)) for gain in (1.0, 0.1))
    assert np.abs(loud - soft)[50:].mean() < 0.05


@pytest.mark.parametrize("level", [0.0, 1e-4, 3e-3, 5e-2])
def test_noise_does_not_move_the_mouth(level: float) -> None:
    shapes = LipSync()(noise(4, level))
    assert shapes[100:, MOUTH_SHAPES.index("open")].mean() < 0.12


def test_a_voice_opens_and_closes_the_mouth() -> None:
    lips = LipSync()
    lips(noise(1, 1e-4))
    shapes = lips(speech() + noise(len(speech()) / SAMPLE_RATE, 1e-4)[: len(speech())])
    opened = shapes[:, MOUTH_SHAPES.index("open")]
    assert np.quantile(opened, 0.9) > 0.3
    assert np.quantile(opened, 0.1) < 0.1
    # Several times a second, with the syllables.
    turns = np.diff(np.sign(np.diff(opened[::4])))
    assert (turns != 0).sum() / (len(opened) / 100) > 3
    after = lips(noise(1.5, 1e-4))
    assert after[-50:, MOUTH_SHAPES.index("open")].max() < 0.12


def test_a_voice_is_followed_at_any_sample_rate_and_layout() -> None:
    motion, sound = VoiceMotion(seed=1), (speech() * 32767).astype(np.int16)
    stereo = np.repeat(np.repeat(sound, 3), 2)[None]  # 48 kHz, stereo
    jaws = []
    for k in range(100):
        frame = av.AudioFrame.from_ndarray(stereo[:, 3840 * k : 3840 * (k + 1)], format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 1920 * k
        motion.add_audio(frame)
        jaws.append(motion.frame(k / 25).shapes["jawOpen"])
    assert max(jaws) > 0.25
    assert min(jaws[10:]) < 0.1


def test_an_idle_face_blinks_sways_and_looks_at_the_camera() -> None:
    idle, poses = IdleMotion(seed=4), []
    for k in range(60 * 25):
        poses.append(idle(k / 25, 0.0))
    shut = np.array([pose.blink > 0.5 for pose in poses])
    blinks = int((np.diff(shut.astype(int)) == 1).sum())
    assert 60 / (BLINK_INTERVAL_SECONDS[1] + BLINK_SECONDS) - 1 <= blinks <= 60 / BLINK_INTERVAL_SECONDS[0] + 1
    assert shut.mean() < 0.1
    turns = np.array([pose.turn for pose in poses])
    assert (turns.std(0) > 0.005).all()
    assert np.abs(turns).max() < 0.12
    assert np.abs(np.diff(turns, axis=0)).max() < 0.004  # no sudden movement
    looks = np.array([pose.look for pose in poses])
    assert (np.abs(looks).max(1) < 0.02).mean() > 0.5
    assert np.abs(looks).max() > 0.05


def test_the_head_nods_at_stressed_syllables() -> None:
    calm, stressed = IdleMotion(seed=4), IdleMotion(seed=4)
    for k in range(50):
        calm(k / 25, 0.1)
        stressed(k / 25, 0.1)
    a, b = [calm(2 + k / 25, 0.1) for k in range(6)][-1], [stressed(2 + k / 25, 1.0) for k in range(6)][-1]
    assert b.turn[0] > a.turn[0] + 0.02
    assert b.brows > a.brows + 0.1


def test_speech_is_rendered_with_its_sound(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = render(Portrait.open(sample_pictures()["felix"], 256), SPEECH_FILE, out, networks=None)
    clip = Clip(out)
    assert open_sound(out) is not None
    faces = [picture for _, picture in clip.frames()]
    seconds = len(speech()) / SAMPLE_RATE
    assert abs(done.frames / 25 - seconds) < 0.2
    assert len(faces) == done.frames
    assert np.abs(np.diff(np.stack(faces).astype(int)[::5], axis=0)).mean() > 0.3
    clip.close()


@pytest.mark.parametrize(("content", "word"), [(None, "no such file"), (b"nonsense", "not a")])
def test_files_that_are_not_audio_are_refused(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "voice.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadClip, match=word):
        VoiceFile(path)
    with pytest.raises(BadClip, match=word):
        render(Portrait.open(sample_pictures()["felix"], 256), path, tmp_path / "out.mp4", networks=None)


def test_silence_is_rendered(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22_050)
        file.writeframes(bytes(2 * 22_050))
    source = VoiceFile(path)
    jaws = [frame.shapes["jawOpen"] for _, frame in source.frames()]
    source.close()
    assert len(jaws) == 25
    assert max(jaws) < 0.1


def test_a_loop_without_a_camera_follows_the_voice() -> None:
    portrait = prepare(read_picture(sample_pictures()["felix"]), 256)
    loop = LiveLoop(25, None)
    openings: list[float] = []
    avatar = Avatar(portrait, None)
    follow = avatar.follow

    def watched(image: object, at: float, *more: object) -> object:
        moved = follow(image, at, *more)  # type: ignore[arg-type]
        openings.append(geometry.mouth_opening(moved.target))
        return moved

    avatar.follow = watched  # type: ignore[method-assign, assignment]
    loop.start(avatar)
    sound = (speech() * 32767).astype(np.int16)

    pieces = len(sound) // 320  # of 20 ms
    end = time.monotonic() + TEST_TIMEOUT
    for number in count():
        if len(openings) > 30 and max(openings) > min(openings) + 0.05:
            break
        assert time.monotonic() < end, "the mouth did not follow"
        k = number % pieces
        frame = av.AudioFrame.from_ndarray(sound[None, 320 * k : 320 * (k + 1)], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 320 * number
        loop.add_audio(frame)
        time.sleep(0.02)
    assert loop.stop()
