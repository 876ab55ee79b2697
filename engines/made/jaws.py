"""Teeth, gums and tongue of one person, varied at random, and lips that open as real lips do."""

from typing import Final

import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from engines.made.head import GUMS, LOWER_TEETH, UPPER_TEETH, HeadModel

# Eye distances of the lower teeth that show above the lower lip: at rest, and more when the lip is pulled down or
# stretched. Measured on 500 open mouths (see ``avatar_stream.portrait.interior.teeth``).
LOWER_TEETH_SHOWN, SHOWN_PER_LIP_DOWN, SHOWN_PER_STRETCH = 0.014, 0.14, 0.05
ROUND_MOUTH_GAPS: Final = (0.05, 0.15)  # eye distances between the lips: no rounding below, full rounding above
LIP_COLUMNS: Final = 15  # across the mouth, in which the lips' edges are searched
MIN_LIP_WEIGHT: Final = 0.6  # of a vertex that may be an edge; 0.6 is six millimetres from the line of the lips
SEALED_LIP_GAPS: Final = (
    0.012,
    0.03,
)  # eye distances: lips are closed fully up to the first, not at all from the second
LIP_OVERLAP: Final = 0.01  # eye distances by which closed lips overlap
# Eye distances of the upper teeth that each coefficient bares, in addition to the person's own amount.
BARED_PER_JAW_OPEN, BARED_PER_LIP_RAISE, BARED_PER_SMILE = 0.05, 0.16, 0.1
MAX_ARCH_RAISE: Final = 0.1  # eye distances that the upper arch may be raised to limit bared teeth


class Jaws:
    """How one person's mouth differs from the model's, sampled from ``random``."""

    def __init__(self, head: HeadModel, random: np.random.Generator) -> None:
        self.head = head
        self._offset = np.zeros_like(head.neutral)
        unit = head.unit
        crowded = float(min(random.gamma(1.2, 0.35), 1.3))  # about 0.4; up to 1.3 for irregular teeth
        narrow = float(random.uniform(1.02, 1.12) if random.random() < 0.9 else random.uniform(0.95, 1.0))
        for which in (UPPER_TEETH, LOWER_TEETH):
            lower = which is LOWER_TEETH
            taller, wider = random.uniform(0.82, 1.22), random.uniform(0.92, 1.08)
            gums = np.arange(GUMS.start, GUMS.stop)
            gums = gums[head.lower_jaw[gums] == lower]
            teeth = np.arange(which.start, which.stop)
            # Scale teeth from the gum line, which stays.
            line = np.percentile(head.neutral[teeth, 1], 70 if lower else 30)
            own = head.neutral[teeth]
            self._offset[teeth, 1] += (own[:, 1] - line) * (taller - 1)
            self._offset[teeth, 0] += own[:, 0] * (wider - 1)
            self._offset[gums, 0] += head.neutral[gums, 0] * (wider - 1)
            for tooth in head.teeth:
                if (tooth[0] >= LOWER_TEETH.start) != lower:
                    continue
                self._offset[tooth] += self._vary_tooth(head.neutral[tooth], random, crowded, narrow, unit, lower)
            # This person's arch position in centimetres, down and back.
            down = random.normal(0.16, 0.13) if not lower else random.normal(-0.30, 0.12)
            back = random.normal(0.05 if lower else 0.0, 0.06)
            both = np.concatenate([teeth, gums])
            self._offset[both] += np.array([0, down, back]) / unit
        self._upper = np.flatnonzero(~head.lower_jaw)
        self._upper = self._upper[(self._upper >= GUMS.start) & (self._upper < UPPER_TEETH.stop)]
        self._bared = float(np.clip(random.normal(0.03, 0.02), 0, 0.08))
        self._shown = LOWER_TEETH_SHOWN + float(np.clip(random.normal(0, 0.012), -0.014, 0.03))
        self._front = self._front_edges(head)

    def _vary_tooth(
        self, tooth: Floats, random: np.random.Generator, crowded: float, narrow: float, unit: float, lower: bool
    ) -> Floats:
        """Random change of one tooth's rotation, size and place, ``(n, 3)``."""
        middle = tooth.mean(0)
        angle = random.normal(0, 0.10) * crowded
        cos, sin = np.cos(angle), np.sin(angle)
        local = tooth - middle
        size = np.array([narrow * random.normal(1, 0.03), random.normal(1, 0.035 * (0.6 + crowded)), 1.0])
        turned = (local * size) @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        tilt = random.normal(0, 0.04) * crowded
        turned[:, 0] += tilt * turned[:, 1]
        step = random.normal(0, [0.02, 0.03, 0.05]) * crowded / unit
        # Only lengthen the free end.
        step[1] = abs(step[1]) * (1 if lower else -1) * 0.5
        return np.asarray(turned + step - local, np.float32)

    def _front_edges(self, head: HeadModel) -> tuple[Floats, Floats]:
        """Vertices at the free edges of the lower and the upper front teeth."""
        out = []
        for span, sign in ((LOWER_TEETH, 1), (UPPER_TEETH, -1)):
            at = np.arange(span.start, span.stop)
            front = at[np.abs(head.raw[at, 0]) < 0.8]
            height = sign * head.raw[front, 1]
            out.append(front[height >= np.quantile(height, 0.92)])
        return out[0], out[1]

    def place(self, shape: Floats, w: Floats, tongue: tuple[float, float]) -> None:
        """Place the mouth's inside in a head with coefficients ``w (45,)`` (in place); ``tongue`` = (raised, out)."""
        head = self.head
        shape += self._offset
        above, below = (float(line[LIP_COLUMNS // 2]) for line in lip_edges(head, shape))
        # A smile or a raised lip bares upper teeth, a pout hides them.
        bared = self._bared + BARED_PER_JAW_OPEN * float(w[COEFFICIENT_INDEX["jawOpen"]])
        for name, per in (("mouthUpperUp", BARED_PER_LIP_RAISE), ("mouthSmile", BARED_PER_SMILE)):
            bared += per * float(w[[COEFFICIENT_INDEX[f"{name}Left"], COEFFICIENT_INDEX[f"{name}Right"]]].mean())
        bared *= 1 - 0.8 * min(float(w[COEFFICIENT_INDEX["mouthFunnel"]] + w[COEFFICIENT_INDEX["mouthPucker"]]), 1.0)
        seen = float(shape[self._front[1], 1].mean()) - above
        shape[self._upper, 1] -= float(np.clip(seen - bared, 0, MAX_ARCH_RAISE))
        edge = float(shape[self._front[0], 1].mean())
        allowed = self._shown
        allowed += SHOWN_PER_LIP_DOWN * float(
            w[[COEFFICIENT_INDEX["mouthLowerDownLeft"], COEFFICIENT_INDEX["mouthLowerDownRight"]]].mean()
        )
        allowed += SHOWN_PER_STRETCH * float(
            w[[COEFFICIENT_INDEX["mouthStretchLeft"], COEFFICIENT_INDEX["mouthStretchRight"]]].mean()
        )
        over = max(below - edge - allowed, 0.0)
        lower = head.lower_jaw
        shape[lower, 1] += over
        # Teeth must not intersect: the lower ones close behind the upper ones.
        up = shape[self._front[1], 1].mean()
        low = shape[self._front[0], 1].mean()
        if low < up - 0.02:
            shape[lower, 1] += up - 0.02 - low
        raised, out = tongue
        share = head.tongue[:, None]
        tip = np.clip((head.raw[:, 2] - 5.0) / 4.5, 0, 1)[:, None]
        shape += share * raised * (0.4 + 0.6 * tip) * np.array([0, -1.0, -0.2], np.float32) / head.unit
        if out > 0:
            # The tongue goes over the lower teeth, then down over the lip.
            forward = 3.4 * out * tip**1.5
            beyond = np.maximum(head.raw[:, 2:3] + forward - 11.5, 0)
            moved = np.hstack([np.zeros_like(tip), -1.0 * out * tip + 1.3 * beyond, -forward])
            shape += (share * moved / head.unit).astype(np.float32)


def lip_edges(head: HeadModel, shape: Floats) -> tuple[Floats, Floats]:
    """Visible edges of the lips of ``shape (n, 3)``: lowest point of the upper and highest point of the lower lip,
    ``(LIP_COLUMNS,)`` each from corner to corner.
    """
    near, weight, below = head.around_lips
    right, left = shape[head.landmarks[[78, 308]], 0]
    column = np.floor((shape[near, 0] - right) / max(left - right, 1e-6) * LIP_COLUMNS).astype(int)
    within = (column >= 0) & (column < LIP_COLUMNS) & (weight > MIN_LIP_WEIGHT)
    up, down = (np.full(LIP_COLUMNS, sign * np.inf) for sign in (-1, 1))
    upper, lower = within & (below < 0.4), within & (below > 0.6)
    np.maximum.at(up, column[upper], shape[near[upper], 1])
    np.minimum.at(down, column[lower], shape[near[lower], 1])
    places = np.arange(LIP_COLUMNS)
    filled = [np.interp(places, places[np.isfinite(line)], line[np.isfinite(line)]) for line in (up, down)]
    return filled[0], filled[1]


def round_mouth(head: HeadModel, shape: Floats) -> None:
    """Round a wide open mouth of ``shape (n, 3)``, and close one that is nearly closed (in place).

    The model's open mouth is a lozenge, and its closed lips do not meet on every identity.
    """
    up, down = lip_edges(head, shape)
    gap = down - up
    most = float(gap.max())
    across = (np.arange(LIP_COLUMNS) + 0.5) / LIP_COLUMNS * 2 - 1
    if most > ROUND_MOUTH_GAPS[0]:
        wanted = most * np.sqrt(1 - np.abs(across) ** 2.3)
        missing = np.maximum(wanted - np.maximum(gap, 0), 0) * 0.9 * geometry.smoothstep(*ROUND_MOUTH_GAPS, most)
    else:
        missing = -np.maximum(gap + LIP_OVERLAP, 0) * (1 - geometry.smoothstep(*SEALED_LIP_GAPS, most))
    missing = np.convolve(np.pad(missing, 2, mode="edge"), [0.12, 0.23, 0.3, 0.23, 0.12], "valid")
    near, weight, below = head.around_lips
    right, left = shape[head.landmarks[[78, 308]], 0]
    place = (shape[near, 0] - right) / max(left - right, 1e-6) * LIP_COLUMNS - 0.5
    places = np.concatenate([[-1.0], np.arange(LIP_COLUMNS), [float(LIP_COLUMNS)]])
    step = np.interp(place, places, np.concatenate([[0], missing, [0]]), left=0, right=0)
    # Each lip moves by half, whatever its share of the jaw's motion towards the corners.
    shape[near, 1] += weight * step * 0.5 * np.clip((below - 0.5) / 0.15, -1, 1)
