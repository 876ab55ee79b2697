"""The shipped sample driver: a composite face moved by a recorded motion track.

``python -m engines.data.sample_clip PACKS avatar_stream/samples/driver.mp4 --face felix --track clips/p0001-1.mp4``.
Only landmarks of the recorded clip are used; head turns are added, since the recording hardly has any.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.retarget import Motion, Neutral, Retargeter, motion_between
from avatar_stream.identity.library import SAMPLES
from avatar_stream.media.files import Recorder
from avatar_stream.portrait.engine import PortraitEngine
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.window import Networks
from engines.data.packs import load_packs

WIDTH, HEIGHT, RATE = 640, 480, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--face", default="felix")
    parser.add_argument("--track", default="clips/p0001-1.mp4")
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--gain", type=float, default=0.8)
    arguments = parser.parse_args()
    (landmarks,) = (f.landmarks for f in load_packs(arguments.packs, "train", "clip") if f.name == arguments.track)
    landmarks = landmarks[np.isfinite(landmarks).all((1, 2))][: arguments.frames]
    opening = np.array([geometry.mouth_opening(face) for face in landmarks])
    eyes = np.array([np.mean(geometry.eye_openings(face)) for face in landmarks])
    calm = np.flatnonzero((opening < np.quantile(opening, 0.3)) & (eyes > np.quantile(eyes, 0.4)))
    neutral = Neutral()
    for index in calm[:8]:
        neutral.add(landmarks[index].astype(np.float32))

    portrait = prepare(read_picture(SAMPLES / f"{arguments.face}.jpg"), HEIGHT, square=True)
    engine = PortraitEngine(portrait, Networks())
    retarget = Retargeter(portrait.landmarks, gain=arguments.gain)
    recorder = Recorder(arguments.out, Fraction(RATE), (WIDTH, HEIGHT))
    for number, face in enumerate(landmarks):
        motion = motion_between(neutral.mean, face.astype(np.float32))
        at = number / RATE
        # Starts at rest, so that the first frames are a good neutral.
        wake = float(np.clip((at - 0.6) / 0.6, 0, 1))
        turn = np.array([0.10 * np.sin(1.1 * at), 0.24 * np.sin(0.9 * at), 0.06 * np.sin(0.7 * at)], np.float32)
        motion = motion.times(wake).plus(Motion(turn * wake, np.zeros(2, np.float32), 0.0, 0 * motion.expression))
        picture = engine(retarget(motion, neutral.mean[0])).picture
        if number >= engine.delay:
            recorder.write(_webcam(picture))
    for frame in engine.flush():
        recorder.write(_webcam(frame.picture))
    recorder.close()


def _webcam(picture: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The square picture in a webcam's frame, its backdrop continued to the sides."""
    side = (WIDTH - HEIGHT) // 2
    wide = cv2.copyMakeBorder(picture, 0, 0, side, side, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(wide, (0, 0), 12)
    wide[:, :side], wide[:, -side:] = soft[:, :side], soft[:, -side:]
    return np.ascontiguousarray(wide, np.uint8)


if __name__ == "__main__":
    main()
