"""Whose face moves how: the driver's motion, relative to their own neutral, put on the portrait's face.

Pose and expression are separated by a rigid fit of the points that do not move with expression. Expression is added
to the portrait's own rest face before that face is turned ("expression before rotation", PerformRecast), so a turned
head opens its mouth along its own axis.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats

# Limits beyond which the portrait stops being plausible. Soft: motion flattens towards them.
MAX_TURN = np.radians([20.0, 30.0, 25.0])  # pitch, yaw, roll away from the portrait's own
MAX_SHIFT = 0.45  # of the face width
SCALE_RANGE = 1.16
MAX_EXPRESSION = 0.55  # of the eye distance, any landmark
# Trackers leave a gap between the lids of a closed eye. Of the portrait's own opening: shut below, as driven above.
SHUT, AS_DRIVEN = 0.3, 0.6

AHEAD = 25.0  # degrees a face may be turned and still count as looking ahead
CLOSED = 0.02  # mouth opening up to which lips count as closed
EASE_SECONDS = 0.6  # between a followed face and rest
BREATH_SECONDS = 4.2

_STABLE = list(mesh.STABLE)
_LIDS = (
    (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER, mesh.RIGHT_IRIS),
    (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER, mesh.LEFT_IRIS),
)
_MOUTH_POINTS = sorted({*mesh.MOUTH_RING, *mesh.LIPS_RING})


@dataclass(frozen=True, slots=True)
class Motion:
    """The driver's change since neutral; all zero at rest."""

    turn: Floats  # rotation vector, radians (3,)
    shift: Floats  # head translation in the image, in face widths (2,)
    scale: float  # log of the size ratio
    expression: Floats  # (478, 3) in the head's own axes, in eye distances

    @staticmethod
    def rest() -> "Motion":
        """No motion."""
        zero = np.zeros(3, np.float32)
        return Motion(zero, zero[:2], 0.0, np.zeros((mesh.LANDMARKS, 3), np.float32))

    def times(self, weight: float) -> "Motion":
        """Scaled towards rest."""
        return Motion(
            np.asarray(self.turn * weight, np.float32),
            np.asarray(self.shift * weight, np.float32),
            self.scale * weight,
            np.asarray(self.expression * weight, np.float32),
        )

    def plus(self, other: "Motion") -> "Motion":
        """Sum of two small motions."""
        return Motion(
            np.asarray(self.turn + other.turn, np.float32),
            np.asarray(self.shift + other.shift, np.float32),
            self.scale + other.scale,
            np.asarray(self.expression + other.expression, np.float32),
        )


@dataclass
class Neutral:
    """The driver at rest: the median of the first good frames in the head's own axes, so that a blink does not count.

    A frame is good when the face looks roughly ahead; after ``patience`` frames that do not, any will do: some people
    have their camera at the side.
    """

    frames: int = 8
    patience: int = 50
    _faces: list[Floats] = field(default_factory=list)
    _poses: list[Pose] = field(default_factory=list)
    _mean: tuple[Floats, Pose] | None = None

    def add(self, landmarks: Floats) -> None:
        """Take one more good frame in, until there are enough."""
        if self.complete:
            return
        pose = geometry.head_pose(landmarks)
        pitch, yaw, _ = geometry.euler_degrees(pose.rotation)
        if max(abs(pitch), abs(yaw)) > AHEAD and self.patience > 0:
            self.patience -= 1
            return
        self._faces.append(pose.undo(landmarks))
        self._poses.append(pose)
        # The mean of rotations this close together is their average made orthogonal again.
        u, _, vt = np.linalg.svd(np.mean([p.rotation for p in self._poses], axis=0))
        self._mean = (
            np.median(self._faces, axis=0).astype(np.float32),
            Pose(
                float(np.mean([p.scale for p in self._poses])),
                (u @ vt).astype(np.float32),
                np.mean([p.translation for p in self._poses], axis=0, dtype=np.float32),
            ),
        )

    @property
    def begun(self) -> bool:
        """At least one frame was taken, so there is a :attr:`mean`."""
        return self._mean is not None

    @property
    def complete(self) -> bool:
        """Enough frames were seen."""
        return len(self._faces) >= self.frames

    @property
    def mean(self) -> tuple[Floats, Pose]:
        """Face in the head's axes (template scale) and its pose; at least one frame must have been added."""
        if self._mean is None:
            raise ValueError("no frame was added to the neutral")
        return self._mean


def motion_between(neutral: tuple[Floats, Pose], landmarks: Floats) -> Motion:
    """The driver's motion from ``neutral`` to ``landmarks`` ``(478, 3)`` in pixels."""
    face, rest = neutral
    now = geometry.similarity(face[_STABLE], landmarks[_STABLE])
    expression = now.undo(landmarks) - face
    turn = geometry.to_rotation_vector(now.rotation @ rest.rotation.T)
    width = rest.scale * float(np.linalg.norm(face[234] - face[454]))
    middle = face[_STABLE].mean(0)
    moved = (now.apply(middle[None])[0] - rest.apply(middle[None])[0])[:2] / width
    unit = float(np.linalg.norm(face[33] - face[263]))
    return Motion(
        turn,
        np.asarray(moved, np.float32),
        math.log(max(now.scale / rest.scale, 1e-3)),
        np.asarray(expression / unit, np.float32),
    )


class Retargeter:
    """Puts a driver's motion on one portrait; one per session and portrait.

    ``rest`` ``(478, 3)``: the portrait's landmarks in crop pixels. ``gain`` scales expression (1 is as driven).
    """

    def __init__(self, rest: Floats, *, gain: float = 1.0) -> None:
        self.rest = rest
        self.gain = gain
        self._pose = geometry.head_pose(rest)
        self._face = self._pose.undo(rest)
        self._eyes = geometry.eye_openings(rest)
        self._unit = float(np.linalg.norm(self._face[33] - self._face[263]))
        self._width = self._pose.scale * float(np.linalg.norm(self._face[234] - self._face[454]))
        self._ratio: Floats | None = None
        self._fitted: Floats | None = None
        self._opening: Floats | None = None
        self._opening_of: Floats | None = None

    def __call__(self, motion: Motion, driver: Floats | None = None) -> Floats:
        """Landmarks ``(478, 3)`` in crop pixels for ``motion``.

        ``driver`` is the driver's neutral face (head axes, template scale): its proportions say how far a lid has to
        travel on this portrait to close as the driver's does.
        """
        expression = motion.expression * (self.gain * self._unit)
        if driver is not None:
            expression = expression * self._proportions(driver)
        limit = MAX_EXPRESSION * self._unit
        expression = limit * np.tanh(expression / limit)
        face = self._face + expression
        _keep_closed_things_closed(face)
        _shut_lids(face, self._eyes)
        turn = _soft(motion.turn, MAX_TURN)
        rotation = geometry.from_rotation_vector(turn) @ self._pose.rotation
        scale = self._pose.scale * math.exp(float(_soft(motion.scale, math.log(SCALE_RANGE))))
        # Turn about the template's origin, between the eyes' corners, then shift as the driver shifted.
        middle = self._face[_STABLE].mean(0)
        where = self._pose.apply(middle[None])[0]
        where[:2] += _soft(motion.shift, MAX_SHIFT) * self._width
        offset = where - scale * rotation @ middle
        return Pose(scale, np.asarray(rotation, np.float32), np.asarray(offset, np.float32)).apply(face)

    def opening_at_neutral(self, driver: Floats) -> Floats:
        """How much further open the driver's neutral mouth is than this portrait's, as expression ``(478, 3)``.

        Somebody who starts to talk while they are calibrated has an open mouth for neutral. Taken as it is, a closed
        portrait would never open: the mouth is therefore followed from where both are equally open.
        """
        if self._opening is not None and self._opening_of is driver:
            return self._opening
        ours, theirs = geometry.mouth_opening(self._face), geometry.mouth_opening(driver)
        share = min(max(theirs - max(ours, CLOSED), 0.0) / max(theirs, 1e-6), 1.0)
        out = np.zeros((mesh.LANDMARKS, 3), np.float32)
        gap = driver[list(mesh.INNER_LIP_LOWER)] - driver[list(mesh.INNER_LIP_UPPER)]
        gap = gap * (share / float(np.linalg.norm(driver[33] - driver[263])))
        for upper, lower in (
            (mesh.INNER_LIP_UPPER, mesh.INNER_LIP_LOWER),
            (mesh.OUTER_LIP_UPPER, mesh.OUTER_LIP_LOWER),
        ):
            out[list(upper[1:-1])] = -0.25 * gap[1:-1]
            out[list(lower[1:-1])] = 0.75 * gap[1:-1]
        out[list(mesh.JAW)] = 0.7 * gap[3:8].mean(0)
        self._opening, self._opening_of = out, driver
        return out

    def _proportions(self, driver: Floats) -> Floats:
        """Per landmark and axis: this portrait's measure over the driver's, ``(478, 3)``."""
        if self._ratio is not None and self._fitted is driver:
            return self._ratio
        ratio = np.ones((mesh.LANDMARKS, 3), np.float32)

        def size(face: Floats, a: int, b: int) -> float:
            return max(float(np.linalg.norm(face[a, :2] - face[b, :2])), 1e-3)

        unit = self._unit / float(np.linalg.norm(driver[33] - driver[263]))
        lips = size(self._face, 61, 291) / size(driver, 61, 291) / unit
        height = size(self._face, 2, 152) / size(driver, 2, 152) / unit
        ratio[_MOUTH_POINTS, 0] = np.clip(lips, 0.7, 1.4)
        lower = driver[:, 1] > driver[mesh.NOSE_BASE, 1]
        ratio[lower, 1] = np.clip(height, 0.75, 1.3)
        for upper, low, iris in _LIDS:
            rings = list(upper[1:-1] + low[1:-1])
            middle = [(upper[k], low[k]) for k in (3, 4, 5)]
            mine = np.mean([size(self._face, a, b) for a, b in middle])
            theirs = np.mean([size(driver, a, b) for a, b in middle])
            ratio[rings, 1] = np.clip(mine / theirs / unit, 0.6, 2.0)
            width = size(self._face, upper[0], upper[-1]) / size(driver, upper[0], upper[-1]) / unit
            ratio[list(iris), :2] = np.clip(width, 0.7, 1.4)
        self._ratio, self._fitted = ratio, driver
        return ratio


class Animator:
    """Driver landmarks in, portrait landmarks out, frame after frame, whatever the driver does.

    While a face is followed its motion is used; when it is lost the motion eases to rest, and back in when it
    returns. A slow breath goes on all the time the driver is away.
    """

    def __init__(self, retargeter: Retargeter) -> None:
        self.retargeter = retargeter
        self.neutral = Neutral()
        self.mirror = False
        self._weight = 0.0
        self._motion = Motion.rest()
        self._time: float | None = None

    def recalibrate(self) -> None:
        """Take the next good frames as the driver's neutral."""
        self.neutral = Neutral(self.neutral.frames)

    def change_portrait(self, retargeter: Retargeter) -> None:
        """Go on with the same driver and neutral on another portrait."""
        retargeter.gain = self.retargeter.gain
        self.retargeter = retargeter

    def __call__(self, landmarks: Floats | None, time: float) -> Floats:
        """Portrait landmarks for driver ``landmarks`` (None: nobody there) at ``time`` seconds."""
        step = 0.0 if self._time is None else min(max(time - self._time, 0.0), 0.25)
        first = self._time is None
        self._time = time
        if landmarks is not None:
            if self.mirror:
                landmarks = mirrored(landmarks)
            self.neutral.add(landmarks)
            if self.neutral.begun:
                neutral = self.neutral.mean
                motion = motion_between(neutral, landmarks)
                opening = self.retargeter.opening_at_neutral(neutral[0])
                self._motion = replace(motion, expression=motion.expression + opening)
        goal = 0.0 if landmarks is None else 1.0
        if first:
            self._weight = goal
        else:
            change = step / EASE_SECONDS
            self._weight += min(max(goal - self._weight, -change), change)
        followed = self._weight * self._weight * (3 - 2 * self._weight)
        motion = self._motion.times(followed).plus(breath(time).times(1 - followed))
        driver = self.neutral.mean[0] if self.neutral.begun else None
        return self.retargeter(motion, driver)


def breath(time: float) -> Motion:
    """A still face breathes: about a pixel up and down and half a degree of nod at 256 pixels."""
    wave = math.sin(2 * math.pi * time / BREATH_SECONDS)
    rest = Motion.rest()
    return Motion(
        np.array([0.008 * wave, 0.0, 0.0], np.float32),
        np.array([0.0, 0.008 * wave], np.float32),
        0.003 * wave,
        rest.expression,
    )


_MIRROR = np.array([-1, 1, 1], np.float32)
_TWINS = np.argmin(np.linalg.norm(mesh.template()[:, None] - (mesh.template() * _MIRROR)[None], axis=-1), axis=1)


def mirrored(landmarks: Floats) -> Floats:
    """The landmarks as a mirror shows them (about x = 0): left and right change places."""
    return np.asarray(landmarks[_TWINS] * _MIRROR, np.float32)


def _soft(value: npt.ArrayLike, limit: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Identity up to half of the limit, then flattening towards it."""
    v, top = np.asarray(value, np.float64), np.asarray(limit, np.float64)
    size = np.abs(v)
    knee = top / 2
    bent = knee + (top - knee) * np.tanh(np.maximum(size - knee, 0) / (top - knee))
    return np.asarray(np.sign(v) * np.where(size <= knee, size, bent))


def _shut_lids(face: Floats, at_rest: tuple[float, float]) -> None:
    """Bring lids that have all but closed together, a little above the lower one (in place)."""
    for now, then, (upper, lower, _) in zip(geometry.eye_openings(face), at_rest, _LIDS, strict=True):
        share = min(max((now / max(then, 1e-3) - SHUT) / (AS_DRIVEN - SHUT), 0.0), 1.0)
        left = share * share * (3 - 2 * share)
        above, below = list(upper[1:-1]), list(lower[1:-1])
        seam = 0.75 * face[below] + 0.25 * face[above]
        face[above] = seam + left * (face[above] - seam)
        face[below] = seam + left * (face[below] - seam)


def _keep_closed_things_closed(face: Floats) -> None:
    """Lips and lids touch, they never cross: where they would, both meet half-way (in place)."""
    pairs = [(mesh.INNER_LIP_UPPER, mesh.INNER_LIP_LOWER)] + [(upper, lower) for upper, lower, _ in _LIDS]
    for upper, lower in pairs:
        above, below = list(upper[1:-1]), list(lower[1:-1])
        crossed = np.minimum(face[below, 1] - face[above, 1], 0) / 2
        face[above, 1] += crossed
        face[below, 1] -= crossed
