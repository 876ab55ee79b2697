"""Motion from a voice alone, as a stream of ARKit frames: lips from the sound, the rest of the face idles."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadClip
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.media.files import opened
from avatar_stream.voice.idle import Idle, Pose
from avatar_stream.voice.mel import RATE, Floats
from avatar_stream.voice.visemes import SHAPES, Lips

HELD: Final = 100  # frames of sound that wait at most, about two seconds
LOUD: Final = (1.5, 7.0)  # nepers over the quietest: whisper and full voice
FPS: Final = 25


class VoiceMotion:
    """Hears one speaker. ``hear`` may be called from another thread than :meth:`frame`."""

    def __init__(self, seed: int | None = None) -> None:
        self._waiting: deque[av.AudioFrame] = deque(maxlen=HELD)
        self._mono = _to_mono()
        self._lips, self._idle = Lips(), Idle(seed)
        self._shape = np.zeros(len(SHAPES), np.float32)

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Take in sound of any rate and layout, in order."""
        self._waiting.append(frame)

    def frame(self, time: float) -> ArkitFrame:
        """What the face does now, at ``time`` seconds."""
        heard = []
        while self._waiting:
            heard += [_samples(frame) for frame in self._mono.resample(self._waiting.popleft())]
        return self.follow(np.concatenate(heard) if heard else np.zeros(0, np.float32), time)

    def follow(self, samples: Floats, time: float) -> ArkitFrame:
        """The same for ``samples`` (16 kHz, -1 to 1) that came since the last call."""
        shapes = self._lips(samples)
        if len(shapes):
            self._shape = shapes[-1]
        loudness = min(max((self._lips.loudness - LOUD[0]) / (LOUD[1] - LOUD[0]), 0.0), 1.0)
        return arkit_frame(self._shape, self._idle(time, loudness))


class VoiceFile:
    """Speech in a file, as motion; iterate :meth:`frames` once. ``audio`` packets pass as with ``Clip``."""

    def __init__(self, path: Path) -> None:
        self._container = opened(path, "a sound")
        if not self._container.streams.audio:
            self._container.close()
            raise BadClip(f"{path} has neither pictures nor sound")
        self.audio = self._container.streams.audio[0]
        self.rate = Fraction(FPS)
        self.expected = int(FPS * float(self._container.duration or 0) / av.time_base)
        self.packets: list[Any] = []

    def frames(self) -> Iterator[tuple[float, ArkitFrame]]:
        """(seconds, motion), 25 times a second."""
        mono, motion = _to_mono(), VoiceMotion(seed=1)
        waiting, number = np.zeros(0, np.float32), 0
        step = RATE // FPS
        for packet in self._container.demux(self.audio):
            if packet.dts is not None:
                self.packets.append(packet)
            for decoded in [*packet.decode(), *([None] if packet.dts is None else [])]:
                waiting = np.concatenate([waiting, *(_samples(frame) for frame in mono.resample(decoded))])
            while len(waiting) >= step or (packet.dts is None and len(waiting) > step // 2):
                yield number / FPS, motion.follow(waiting[:step], number / FPS)
                waiting, number = waiting[step:], number + 1

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def arkit_frame(shape: Floats, pose: Pose) -> ArkitFrame:
    """Lips of a shape (see ``SHAPES``) in a face that idles."""
    opened, wide, rounded, pucker, closed = (float(value) for value in shape)
    jaw = 0.95 * opened * (1 - 0.85 * closed)
    shapes = {
        "jawOpen": jaw,
        "mouthClose": min(closed, 1.0) * jaw,
        "mouthFunnel": 0.9 * rounded,
        "mouthPucker": 0.9 * pucker,
        "browInnerUp": pose.brows,
    }
    right, down = pose.look
    for side, inwards in (("Left", 1), ("Right", -1)):
        shapes |= {
            f"mouthStretch{side}": 0.45 * wide,
            f"mouthSmile{side}": 0.12 * wide + 0.05,
            f"mouthUpperUp{side}": 0.25 * wide + 0.12 * opened,
            f"mouthLowerDown{side}": 0.3 * wide * (1 - closed) + 0.2 * opened,
            f"mouthPress{side}": 0.25 * closed,
            f"eyeBlink{side}": pose.blink,
            f"eyeLookIn{side}": max(-right * inwards, 0.0),
            f"eyeLookOut{side}": max(right * inwards, 0.0),
            f"eyeLookDown{side}": max(down, 0.0),
            f"eyeLookUp{side}": max(-down, 0.0),
        }
    nod, turn, tilt = pose.turn
    x, y, z, w = Rotation.from_rotvec([nod, turn, tilt]).as_quat()
    return ArkitFrame(
        {name: min(value, 1.0) for name, value in shapes.items()}, (float(x), float(y), float(z), float(w))
    )


def _to_mono() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="mono", rate=RATE)


def _samples(frame: av.AudioFrame) -> Floats:
    return np.asarray(frame.to_ndarray().reshape(-1), np.float32) / np.float32(32768)
