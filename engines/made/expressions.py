"""What a made person does: recorded motion, and the corners that recordings lack."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, COEFFICIENT_NAMES, coefficient_indices
from avatar_stream.face.motion import RELATIVE_COEFFICIENTS, MotionEstimator
from engines.data.packs import load_packs
from engines.made.person import Look

EYES: Final = coefficient_indices("eye")
KEPT_FROM_A_CLIP: Final = 60  # frames
MOST_ASIDE: Final = 30.0  # degrees of gaze to either side; 20 up or down
MOST_TURNED: Final = 25.0  # degrees of yaw


class Recorded:
    """Frames of the training clips as the live path reads them, those far from calm first."""

    def __init__(self, coefficients_: Floats, looks: Floats) -> None:
        """``coefficients_ (n, 45)`` and ``looks (n, 2)`` radians right and down."""
        self.coefficients, self.looks = coefficients_, looks

    @staticmethod
    def read(packs: Path, cache: Path) -> "Recorded":
        """Of all training clips; what was read is kept in ``cache``."""
        if not cache.exists():
            rows, looks = [], []
            for clip in load_packs(packs, "train", "clip"):
                driver, found = MotionEstimator(), []
                for face, good in zip(clip.landmarks, clip.good, strict=True):
                    if not good:
                        continue
                    motion = driver(face)
                    w = motion.coefficients.copy()
                    # Trackers read a shut eye as one that is half shut: the measured opening says more.
                    w[[COEFFICIENT_INDEX["eyeBlinkRight"], COEFFICIENT_INDEX["eyeBlinkLeft"]]] = np.clip(
                        1.05 - motion.lids, 0, 1
                    )
                    found.append((w, motion.look.mean(0)))
                far = np.array([np.abs(w).sum() for w, _ in found])
                chosen = np.argsort(far)[:: -max(len(found) // KEPT_FROM_A_CLIP, 1)]
                rows += [found[k][0] for k in chosen]
                looks += [found[k][1] for k in chosen]
            cache.parent.mkdir(parents=True, exist_ok=True)
            partial = cache.with_suffix(".part.npz")
            np.savez(
                partial, coefficients=np.stack(rows).astype(np.float32), looks=np.stack(looks).astype(np.float32)
            )
            partial.rename(cache)
        with np.load(cache) as stored:
            return Recorded(stored["coefficients"], stored["looks"])

    def draw(self, random: np.random.Generator) -> tuple[Floats, tuple[float, float]]:
        """Coefficients and gaze of a frame, exaggerated a little or a lot."""
        k = int(random.integers(len(self.coefficients)))
        gain = float(random.uniform(0.9, 1.6))
        right, down = np.clip(self.looks[k], -0.4, 0.4)
        return np.clip(gain * self.coefficients[k], -0.5, 1).astype(np.float32), (float(right), float(down))


def looks_of(own: Floats, recorded: Recorded, random: np.random.Generator) -> list[Look]:
    """Everything one person does, whose photograph shows ``own (45,)``; the first ones may serve as portraits."""

    def some(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    def with_(name: str, upper: Floats | None = None, **named: float) -> Look:
        """An expression of the mouth over the photograph's own eyes and brows, uneven as faces are."""
        w = _own_upper(own) if upper is None else upper.copy()
        for key, value in named.items():
            for full in (key, f"{key}Left", f"{key}Right"):
                if full in COEFFICIENT_INDEX:
                    w[COEFFICIENT_INDEX[full]] = value * (some(0.85, 1.15) if full != key else 1)
        return Look(np.clip(w, -0.5, 1).astype(np.float32), name=name)

    def aside() -> tuple[float, float]:
        angle, size = some(0, 2 * np.pi), some(0.4, 1.0)
        return (
            float(np.radians(MOST_ASIDE) * size * np.cos(angle)),
            float(np.radians(20) * size * np.sin(angle)),
        )

    def turned() -> tuple[float, float, float]:
        sign = 1 if random.random() < 0.5 else -1
        yaw = sign * np.radians(some(8, MOST_TURNED))
        return (float(random.normal(0, 0.08)), float(yaw), float(random.normal(0, 0.06)))

    opening = {
        "jawOpen": some(0.35, 1.0),
        "mouthLowerDown": some(0, 0.6),
        "mouthUpperUp": some(0, 0.6),
        "mouthSmile": some(0, 0.6) if random.random() < 0.4 else 0.0,
        "browInnerUp": some(0, 0.5),
    }
    tongue = (some(-0.6, 1.2), 0.0)
    opened = with_("open", None, **opening)
    out = [
        with_("neutral", mouthPress=some(0, 0.15)),
        with_(
            "smile", mouthSmile=some(0.5, 1.0), mouthUpperUp=some(0.15, 0.6), mouthLowerDown=some(0, 0.4),
            cheekSquint=some(0.2, 0.6), jawOpen=some(0, 0.15),
        ),
        with_("slight", mouthSmile=some(0.1, 0.5), jawOpen=some(0, 0.1), mouthUpperUp=some(0, 0.2)),
    ]  # fmt: skip
    # Closed to open in steps, the tongue wherever it is.
    base = out[0].coefficients
    for step in (some(0.2, 0.45), some(0.5, 0.8), 1.0):
        w = base + step * (opened.coefficients - base)
        out.append(Look(w.astype(np.float32), tongue=tongue, name=f"open{step:.1f}"))
    out.append(replace(opened, tongue=(some(-0.6, 1.2), 0.0), name="tongue"))
    pout = some(0.45, 1.0)
    out += [
        replace(
            with_("o", jawOpen=some(0.22, 0.6), mouthFunnel=some(0.55, 1.0), mouthPucker=some(0, 0.5)),
            tongue=(some(-0.4, 0.5), 0.0),
        ),
        with_("oo", mouthPucker=pout, jawOpen=some(0.0, 0.12), mouthFunnel=some(0, 0.3)),
        with_(
            "clench", mouthStretch=some(0.2, 0.8), mouthUpperUp=some(0.3, 0.8), mouthLowerDown=some(0.3, 0.9),
            noseSneer=some(0, 0.5), browDown=some(0, 0.6), mouthSmile=some(0, 0.5),
        ),
    ]  # fmt: skip
    if random.random() < 0.35:
        jaw = some(0.35, 0.7)
        out.append(
            replace(with_("tongueOut", jawOpen=jaw, mouthLowerDown=some(0, 0.3)), tongue=(0.2, some(0.6, 1.0)))
        )
    for name, low, high in (("half", 0.3, 0.7), ("shut", 0.9, 1.0), ("shut", 0.95, 1.0)):
        blink = some(low, high)
        look = with_(name, upper=_over(own, recorded.draw(random)[0]), eyeBlink=blink, eyeSquint=some(0, 0.5))
        if name == "half":
            look = replace(look, gaze=(aside()[0] * 0.4, some(0, 0.25)))
        elif random.random() < 0.15:
            side = "eyeBlinkLeft" if random.random() < 0.5 else "eyeBlinkRight"
            look.coefficients[COEFFICIENT_INDEX[side]] = own[COEFFICIENT_INDEX[side]]  # a wink
        out.append(look)
    for _ in range(2):
        w, _ = recorded.draw(random)
        out.append(Look(_over(own, w) if random.random() < 0.5 else out[0].coefficients, gaze=aside(), name="aside"))
    for k in range(3):
        w, gaze = recorded.draw(random)
        w = _relative(own, w)
        out.append(Look(w, gaze=gaze, name="recorded", tongue=(some(-0.3, 0.6), 0.0)))
        if k == 0:
            out[-1] = replace(out[-1], turn=turned(), name="turned")
    out.append(replace(out[int(random.integers(3, 9))], turn=turned(), name="turned"))
    return [replace(look, turn=_sway(look.turn, random)) for look in out]


def _own_upper(own: Floats) -> Floats:
    """The photograph's eyes and brows, a calm mouth."""
    out = np.zeros(len(COEFFICIENT_NAMES), np.float32)
    kept = [*EYES, *RELATIVE_COEFFICIENTS]
    out[kept] = own[kept]
    return out


def _over(own: Floats, w: Floats) -> Floats:
    """The mouth of ``w`` under the photograph's own eyes and brows."""
    out = np.clip(w, 0, 1)
    kept = [*EYES, *RELATIVE_COEFFICIENTS]
    out[kept] = own[kept]
    return np.asarray(out, np.float32)


def _relative(own: Floats, w: Floats) -> Floats:
    """A recorded face on this one: mouths in absolute terms, brows and lids from the photograph's own."""
    out = np.clip(w, 0, 1)
    out[RELATIVE_COEFFICIENTS] = np.clip(own[RELATIVE_COEFFICIENTS] + w[RELATIVE_COEFFICIENTS], 0, 1)
    lids = [COEFFICIENT_INDEX["eyeBlinkLeft"], COEFFICIENT_INDEX["eyeBlinkRight"]]
    out[EYES] = own[EYES]
    out[lids] = np.maximum(own[lids], w[lids])
    return np.asarray(out, np.float32)


def _sway(turn: tuple[float, float, float], random: np.random.Generator) -> tuple[float, float, float]:
    """Nobody holds their head still."""
    small = random.normal(0, [0.02, 0.03, 0.02])
    return (float(turn[0] + small[0]), float(turn[1] + small[1]), float(turn[2] + small[2]))
