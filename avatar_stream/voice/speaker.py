"""Motion from a voice alone, as ARKit frames: the sound moves the lips, and idle motion the rest of the face."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadClip
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.media.resampler import Resampler
from avatar_stream.media.sound import Sound
from avatar_stream.voice.idle import IdleFrame, IdleMotion
from avatar_stream.voice.mel import SAMPLE_RATE, Floats
from avatar_stream.voice.visemes import MOUTH_SHAPES, LipSync

MAX_WAITING_FRAMES: Final = 100  # of sound: about two seconds
LOUDNESS_RANGE_NEPERS: Final = (1.5, 7.0)  # above the noise floor: whisper and full voice
FRAMES_PER_SECOND: Final = 25
# If the mean of both channels has less than this share of the louder channel's power, they cancel each other.
CANCELLED_POWER_SHARE: Final = 0.1


class VoiceMotion:
    """Face motion from one voice. :meth:`add_audio` may be called from another thread than :meth:`frame`."""

    def __init__(self, seed: int | None = None) -> None:
        self._waiting: deque[av.AudioFrame] = deque(maxlen=MAX_WAITING_FRAMES)
        self._resampler = _stereo_resampler()
        self._lips, self._idle = LipSync(), IdleMotion(seed)
        self._shape = np.zeros(len(MOUTH_SHAPES), np.float32)

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Add the next piece of sound, of any sample rate and layout."""
        self._waiting.append(frame)

    def frame(self, time: float) -> ArkitFrame:
        """The face's motion at ``time`` seconds, after the sound added so far."""
        samples = []
        while self._waiting:
            samples += [_samples(frame) for frame in self._resampler.resample(self._waiting.popleft())]
        return self.follow(np.concatenate(samples) if samples else np.zeros(0, np.float32), time)

    def follow(self, samples: Floats, time: float) -> ArkitFrame:
        """The face's motion at ``time`` seconds, after ``samples`` (16 kHz, -1 to 1) since the last call."""
        shapes = self._lips(samples)
        if len(shapes):
            self._shape = shapes[-1]
        whisper, full = LOUDNESS_RANGE_NEPERS
        loudness = min(max((self._lips.loudness - whisper) / (full - whisper), 0.0), 1.0)
        return arkit_frame(self._shape, self._idle(time, loudness))


class VoiceFile:
    """Motion from speech in a file; iterate :meth:`frames` once, on one thread.

    Raises :class:`BadClip` if the file's sound cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.source = path
        """Path of the file."""
        self._sound = Sound(path)
        if self._sound.stream is None:
            self._sound.close()
            raise BadClip(f"the sound of {path} cannot be decoded here: convert it, to WAV or MP3 say")
        self.start = self._sound.start
        """When the sound begins, in seconds of the file's own clock."""
        self.rate = Fraction(FRAMES_PER_SECOND)
        self.expected = int(FRAMES_PER_SECOND * self._sound.duration)

    def frames(self) -> Iterator[tuple[float, ArkitFrame]]:
        """Yields (time in seconds, motion), 25 times a second."""
        motion = VoiceMotion(seed=1)
        waiting, number = np.zeros(0, np.float32), 0
        step = SAMPLE_RATE // FRAMES_PER_SECOND
        for piece in self._sound.samples(SAMPLE_RATE, "stereo"):
            waiting = np.concatenate([waiting, to_mono(piece)])
            begin = 0
            while len(waiting) - begin >= step:
                yield (
                    number / FRAMES_PER_SECOND,
                    motion.follow(waiting[begin : begin + step], number / FRAMES_PER_SECOND),
                )
                begin, number = begin + step, number + 1
            waiting = waiting[begin:]
        if len(waiting) > step // 2:
            yield number / FRAMES_PER_SECOND, motion.follow(waiting, number / FRAMES_PER_SECOND)

    def next_time(self) -> float | None:
        """None: frames come at a steady rate."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._sound.close()


def arkit_frame(shape: Floats, idle: IdleFrame) -> ArkitFrame:
    """The ARKit frame for mouth shapes ``(5,)`` (see ``MOUTH_SHAPES``) and an idle frame."""
    opened, wide, rounded, pucker, closed = (float(value) for value in shape)
    jaw = 0.95 * opened * (1 - 0.85 * closed)
    shapes = {
        "jawOpen": jaw,
        "mouthClose": min(closed, 1.0) * jaw,
        "mouthFunnel": 0.9 * rounded,
        "mouthPucker": 0.9 * pucker,
        "browInnerUp": idle.brows,
    }
    right, down = idle.look
    for side, inwards in (("Left", 1), ("Right", -1)):
        shapes |= {
            f"mouthStretch{side}": 0.45 * wide,
            f"mouthSmile{side}": 0.12 * wide + 0.05,
            f"mouthUpperUp{side}": 0.25 * wide + 0.12 * opened,
            f"mouthLowerDown{side}": 0.3 * wide * (1 - closed) + 0.2 * opened,
            f"mouthPress{side}": 0.25 * closed,
            f"eyeBlink{side}": idle.blink,
            f"eyeLookIn{side}": max(-right * inwards, 0.0),
            f"eyeLookOut{side}": max(right * inwards, 0.0),
            f"eyeLookDown{side}": max(down, 0.0),
            f"eyeLookUp{side}": max(-down, 0.0),
        }
    nod, turn, tilt = idle.turn
    x, y, z, w = Rotation.from_rotvec([nod, turn, tilt]).as_quat()
    return ArkitFrame(
        {name: min(value, 1.0) for name, value in shapes.items()}, (float(x), float(y), float(z), float(w))
    )


def to_mono(stereo: Floats) -> Floats:
    """Mix ``(2, n)`` to ``(n,)``: the channels' mean, or the louder one if they cancel (opposite phase)."""
    mean = stereo.mean(0)
    power = (stereo**2).mean(1) if stereo.size else np.zeros(2)
    cancelled = float((mean**2).mean() if mean.size else 0.0) < CANCELLED_POWER_SHARE * float(power.max())
    return np.asarray(stereo[int(power.argmax())] if cancelled else mean, np.float32)


def _stereo_resampler() -> Resampler:
    return Resampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)


def _samples(frame: av.AudioFrame) -> Floats:
    return to_mono(np.asarray(frame.to_ndarray(), np.float32).reshape(2, -1))
