"""The face states of a made person: recorded motion, and rare states that recordings lack."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, COEFFICIENT_NAMES, coefficient_indices
from avatar_stream.face.motion import RELATIVE_COEFFICIENTS, MotionEstimator
from engines.data.packs import load_packs
from engines.made.person import FaceState

EYE_INDICES: Final = coefficient_indices("eye")
FRAMES_PER_CLIP: Final = 60
MAX_GAZE_DEGREES: Final = 30.0  # to either side; 20 up or down
MAX_YAW_DEGREES: Final = 25.0


class RecordedMotion:
    """Motion of the training clips as the live path estimates it; per clip, the most expressive frames come first."""

    def __init__(self, coefficients_: Floats, looks: Floats) -> None:
        """``coefficients_ (n, 45)`` and ``looks (n, 2)`` radians right and down."""
        self.coefficients, self.gazes = coefficients_, looks

    @staticmethod
    def read(packs: Path, cache: Path) -> "RecordedMotion":
        """Read all training clips of ``packs``, or ``cache`` if that file exists; write ``cache`` otherwise."""
        if not cache.exists():
            rows, looks = [], []
            for clip in load_packs(packs, "train", "clip"):
                driver, found = MotionEstimator(), []
                for face, good in zip(clip.landmarks, clip.has_face, strict=True):
                    if not good:
                        continue
                    motion = driver(face)
                    w = motion.coefficients.copy()
                    # Trackers report a shut eye as half shut; use the measured opening instead.
                    w[[COEFFICIENT_INDEX["eyeBlinkRight"], COEFFICIENT_INDEX["eyeBlinkLeft"]]] = np.clip(
                        1.05 - motion.lids, 0, 1
                    )
                    found.append((w, motion.look.mean(0)))
                far = np.array([np.abs(w).sum() for w, _ in found])
                chosen = np.argsort(far)[:: -max(len(found) // FRAMES_PER_CLIP, 1)]
                rows += [found[k][0] for k in chosen]
                looks += [found[k][1] for k in chosen]
            cache.parent.mkdir(parents=True, exist_ok=True)
            partial = cache.with_suffix(".part.npz")
            np.savez(
                partial, coefficients=np.stack(rows).astype(np.float32), looks=np.stack(looks).astype(np.float32)
            )
            partial.rename(cache)
        with np.load(cache) as stored:
            return RecordedMotion(stored["coefficients"], stored["looks"])

    def draw(self, random: np.random.Generator) -> tuple[Floats, tuple[float, float]]:
        """Coefficients ``(45,)`` and gaze (right, down, radians) of a random frame, scaled by 0.9 to 1.6."""
        k = int(random.integers(len(self.coefficients)))
        gain = float(random.uniform(0.9, 1.6))
        right, down = np.clip(self.gazes[k], -0.4, 0.4)
        return np.clip(gain * self.coefficients[k], -0.5, 1).astype(np.float32), (float(right), float(down))


def face_states(own: Floats, recorded: RecordedMotion, random: np.random.Generator) -> list[FaceState]:
    """All face states of one person, whose photograph shows ``own (45,)``; the first ones may serve as portraits."""

    def uniform(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    def mouth_state(name: str, upper: Floats | None = None, **named: float) -> FaceState:
        """A mouth expression with the photograph's own eyes and brows, slightly asymmetric as real faces are."""
        w = _photo_upper_face(own) if upper is None else upper.copy()
        for key, value in named.items():
            for full in (key, f"{key}Left", f"{key}Right"):
                if full in COEFFICIENT_INDEX:
                    w[COEFFICIENT_INDEX[full]] = value * (uniform(0.85, 1.15) if full != key else 1)
        return FaceState(np.clip(w, -0.5, 1).astype(np.float32), name=name)

    def random_gaze() -> tuple[float, float]:
        angle, size = uniform(0, 2 * np.pi), uniform(0.4, 1.0)
        return (
            float(np.radians(MAX_GAZE_DEGREES) * size * np.cos(angle)),
            float(np.radians(20) * size * np.sin(angle)),
        )

    def random_turn() -> tuple[float, float, float]:
        sign = 1 if random.random() < 0.5 else -1
        yaw = sign * np.radians(uniform(8, MAX_YAW_DEGREES))
        return (float(random.normal(0, 0.08)), float(yaw), float(random.normal(0, 0.06)))

    opening = {
        "jawOpen": uniform(0.35, 1.0),
        "mouthLowerDown": uniform(0, 0.6),
        "mouthUpperUp": uniform(0, 0.6),
        "mouthSmile": uniform(0, 0.6) if random.random() < 0.4 else 0.0,
        "browInnerUp": uniform(0, 0.5),
    }
    tongue = (uniform(-0.6, 1.2), 0.0)
    opened = mouth_state("open", None, **opening)
    out = [
        mouth_state("neutral", mouthPress=uniform(0, 0.15)),
        mouth_state(
            "smile", mouthSmile=uniform(0.5, 1.0), mouthUpperUp=uniform(0.15, 0.6), mouthLowerDown=uniform(0, 0.4),
            cheekSquint=uniform(0.2, 0.6), jawOpen=uniform(0, 0.15),
        ),
        mouth_state("slight", mouthSmile=uniform(0.1, 0.5), jawOpen=uniform(0, 0.1), mouthUpperUp=uniform(0, 0.2)),
    ]  # fmt: skip
    # From closed to open in steps, with the tongue at a random height.
    base = out[0].coefficients
    for step in (uniform(0.2, 0.45), uniform(0.5, 0.8), 1.0):
        w = base + step * (opened.coefficients - base)
        out.append(FaceState(w.astype(np.float32), tongue=tongue, name=f"open{step:.1f}"))
    out.append(replace(opened, tongue=(uniform(-0.6, 1.2), 0.0), name="tongue"))
    pout = uniform(0.45, 1.0)
    out += [
        replace(
            mouth_state("o", jawOpen=uniform(0.22, 0.6), mouthFunnel=uniform(0.55, 1.0), mouthPucker=uniform(0, 0.5)),
            tongue=(uniform(-0.4, 0.5), 0.0),
        ),
        mouth_state("oo", mouthPucker=pout, jawOpen=uniform(0.0, 0.12), mouthFunnel=uniform(0, 0.3)),
        mouth_state(
            "clench", mouthStretch=uniform(0.2, 0.8), mouthUpperUp=uniform(0.3, 0.8),
            mouthLowerDown=uniform(0.3, 0.9), noseSneer=uniform(0, 0.5), browDown=uniform(0, 0.6),
            mouthSmile=uniform(0, 0.5),
        ),
    ]  # fmt: skip
    if random.random() < 0.35:
        jaw = uniform(0.35, 0.7)
        out.append(
            replace(
                mouth_state("tongueOut", jawOpen=jaw, mouthLowerDown=uniform(0, 0.3)), tongue=(0.2, uniform(0.6, 1.0))
            )
        )
    for name, low, high in (("half", 0.3, 0.7), ("shut", 0.9, 1.0), ("shut", 0.95, 1.0)):
        blink = uniform(low, high)
        state = mouth_state(
            name, upper=_with_photo_eyes(own, recorded.draw(random)[0]), eyeBlink=blink, eyeSquint=uniform(0, 0.5)
        )
        if name == "half":
            state = replace(state, gaze=(random_gaze()[0] * 0.4, uniform(0, 0.25)))
        elif random.random() < 0.15:
            side = "eyeBlinkLeft" if random.random() < 0.5 else "eyeBlinkRight"
            state.coefficients[COEFFICIENT_INDEX[side]] = own[COEFFICIENT_INDEX[side]]  # a wink
        out.append(state)
    for _ in range(2):
        w, _ = recorded.draw(random)
        out.append(
            FaceState(
                _with_photo_eyes(own, w) if random.random() < 0.5 else out[0].coefficients,
                gaze=random_gaze(),
                name="aside",
            )
        )
    for k in range(3):
        w, gaze = recorded.draw(random)
        w = _relative_to_photo(own, w)
        out.append(FaceState(w, gaze=gaze, name="recorded", tongue=(uniform(-0.3, 0.6), 0.0)))
        if k == 0:
            out[-1] = replace(out[-1], turn=random_turn(), name="turned")
    out.append(replace(out[int(random.integers(3, 9))], turn=random_turn(), name="turned"))
    return [replace(state, turn=_add_sway(state.turn, random)) for state in out]


def _photo_upper_face(own: Floats) -> Floats:
    """The photograph's eyes and brows with a neutral mouth."""
    out = np.zeros(len(COEFFICIENT_NAMES), np.float32)
    kept = [*EYE_INDICES, *RELATIVE_COEFFICIENTS]
    out[kept] = own[kept]
    return out


def _with_photo_eyes(own: Floats, w: Floats) -> Floats:
    """The mouth of ``w`` with the photograph's own eyes and brows."""
    out = np.clip(w, 0, 1)
    kept = [*EYE_INDICES, *RELATIVE_COEFFICIENTS]
    out[kept] = own[kept]
    return np.asarray(out, np.float32)


def _relative_to_photo(own: Floats, w: Floats) -> Floats:
    """A recorded expression on this face: the mouth absolute, brows and lids relative to the photograph's."""
    out = np.clip(w, 0, 1)
    out[RELATIVE_COEFFICIENTS] = np.clip(own[RELATIVE_COEFFICIENTS] + w[RELATIVE_COEFFICIENTS], 0, 1)
    lids = [COEFFICIENT_INDEX["eyeBlinkLeft"], COEFFICIENT_INDEX["eyeBlinkRight"]]
    out[EYE_INDICES] = own[EYE_INDICES]
    out[lids] = np.maximum(own[lids], w[lids])
    return np.asarray(out, np.float32)


def _add_sway(turn: tuple[float, float, float], random: np.random.Generator) -> tuple[float, float, float]:
    """Add a small random head rotation."""
    small = random.normal(0, [0.02, 0.03, 0.02])
    return (float(turn[0] + small[0]), float(turn[1] + small[1]), float(turn[2] + small[2]))
