"""The shipped sample driver: a composite face that talks, opens its mouth wide, blinks, glances, turns and smiles.

``python -m engines.data.sample_clip PACKS avatar_stream/samples/driver.mp4 --face felix --track clips/p0001-1.mp4``.
The speech is the motion of a recorded clip (numbers only, no pictures); the rest is scripted here, since people in
front of a camera rarely do it.
"""

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, model
from avatar_stream.face.motion import Motion, MotionEstimator
from avatar_stream.face.retarget import Retargeter
from avatar_stream.identity.library import SAMPLES
from avatar_stream.media.recorder import Recorder
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks
from engines.data.packs import load_packs

WIDTH, HEIGHT, FRAME_RATE = 640, 480, 25
SPEECH_SECONDS = (0.8, 5.0)  # the face is at rest before, so that the live path can calibrate
WIDE_MOUTH_SECONDS = (5.2, 6.1)
GLANCES = ((6.3, 7.0, 0.4), (7.1, 7.8, -0.4))  # from second, to second, radians
SMILE_SECONDS = (8.1, 9.6)
BLINK_TIMES = (1.5, 3.1, 4.4, 6.2, 7.9, 9.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--face", default="felix")
    parser.add_argument("--track", default="clips/p0001-1.mp4")
    parser.add_argument("--frames", type=int, default=250)
    arguments = parser.parse_args()
    (clip,) = (f for f in load_packs(arguments.packs, "train", "clip") if f.name == arguments.track)
    driver = MotionEstimator()
    spoken = [driver(face) for face in clip.landmarks[clip.has_face]]

    portrait = prepare(read_picture(SAMPLES / f"{arguments.face}.jpg"), HEIGHT, square=True)
    renderer = PortraitRenderer(portrait, Networks())
    retarget = Retargeter(portrait.landmarks)
    recorder = Recorder(arguments.out, Fraction(FRAME_RATE), (WIDTH, HEIGHT))
    for number in range(arguments.frames):
        recorder.write(_webcam(renderer(retarget(motion_at(number / FRAME_RATE, spoken))).picture))
    for frame in renderer.flush():
        recorder.write(_webcam(frame.picture))
    recorder.close()


def motion_at(at: float, spoken: list[Motion]) -> Motion:
    """The face's motion at ``at`` seconds."""
    talking, wide, smiling = (_envelope(at, span) for span in (SPEECH_SECONDS, WIDE_MOUTH_SECONDS, SMILE_SECONDS))
    recorded = spoken[min(int(max(at - SPEECH_SECONDS[0], 0) * FRAME_RATE), len(spoken) - 1)]
    coefficients = 0.9 * talking * recorded.coefficients
    coefficients += wide * model.coefficients(jawOpen=0.85, mouthUpperUp=0.35, mouthLowerDown=0.3, browInnerUp=0.3)
    coefficients += smiling * model.coefficients(mouthSmile=0.75, mouthUpperUp=0.35, cheekSquint=0.4)
    arc = np.sin(np.linspace(0, np.pi, len(recorded.gap)))[:, None] ** 0.7 * np.array([0, 1, 0])
    gap = 0.9 * talking * recorded.gap + (0.38 * wide + 0.07 * smiling) * arc
    shut = max(float(np.exp(-(((at - blink) / 0.07) ** 2))) for blink in BLINK_TIMES)
    glance = sum(_envelope(at, (start, end)) * angle for start, end, angle in GLANCES)
    awake = _envelope(at, (0.5, 1e9))
    return replace(
        recorded,
        turn=awake
        * np.array([0.10 * np.sin(1.1 * at), 0.28 * np.sin(0.9 * at), 0.06 * np.sin(0.7 * at)], np.float32),
        shift=np.zeros(2, np.float32),
        scale=0.0,
        coefficients=np.clip(coefficients, 0, 1).astype(np.float32),
        gap=gap.astype(np.float32),
        lids=np.full(2, 1 - shut, np.float32),
        lid_shape=0 * recorded.lid_shape,
        look=np.tile(np.array([glance, 0.1 * abs(glance)], np.float32), (2, 1)),
        fit_residual=talking * recorded.fit_residual,
    )


def _envelope(at: float, span: tuple[float, float]) -> float:
    """1 within a span of seconds, 0 outside, with smooth edges of 0.2 seconds."""
    return geometry.smoothstep(0, 0.2, min(at - span[0], span[1] - at))


def _webcam(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The square picture in a webcam's frame, with its backdrop extended to the sides."""
    side = (WIDTH - HEIGHT) // 2
    wide = cv2.copyMakeBorder(picture, 0, 0, side, side, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(wide, (0, 0), 12)
    wide[:, :side], wide[:, -side:] = soft[:, :side], soft[:, -side:]
    return np.ascontiguousarray(wide, np.uint8)


if __name__ == "__main__":
    main()
