"""Fit the 3-D face model to landmarks: head pose, identity and absolute expression coefficients.

The head pose comes from a weighted Procrustes fit. The coefficients come from a small bounded least-squares problem
with a prior, which starts from the last frame's solution. Identity is refined over the first seconds of a session and
then kept.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.geometry import Pose, similarity
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import (
    COEFFICIENT_NAMES,
    EXPRESSION_DEVIATION,
    IDENTITY_DEVIATION,
    INDEPENDENT_SHARE,
    LANDMARK_NOISE,
    MESH_POINTS,
    FaceModel,
    face_model,
)

LANDMARK_PRECISION: Final = INDEPENDENT_SHARE / LANDMARK_NOISE**2
IDENTITY_FRAMES: Final = 100  # at the start of a session, over which identity is estimated
IDENTITY_SAMPLES: Final = 24  # how many of these frames are kept, spread over time
MAX_SOLVER_ROUNDS: Final = 12  # of the bounded solver

IRISES_AND_CORNERS: Final = (  # per eye: iris centre, eye corners
    (mesh.RIGHT_IRIS[0], [mesh.RIGHT_LID_UPPER[0], mesh.RIGHT_LID_UPPER[-1]]),
    (mesh.LEFT_IRIS[0], [mesh.LEFT_LID_UPPER[0], mesh.LEFT_LID_UPPER[-1]]),
)
RIGID_WEIGHTS: Final = np.full(MESH_POINTS, 0.05, np.float32)  # of each landmark in the head pose
RIGID_WEIGHTS[sorted(set(mesh.STABLE_LANDMARKS) - set(mesh.FACE_OVAL))] = 1.0
_LIPS = sorted({*mesh.LIPS_RING, *mesh.MOUTH_RING})


@dataclass(frozen=True, slots=True)
class Fit:
    """The face model fitted to one face.

    ``pose``: takes the model's axes to image pixels. ``coefficients (45,)``: 0 to 1, named by ``COEFFICIENT_NAMES``.
    ``gaze (2, 2)``: where the right and the left eye look, radians to the image's right and down, in the head's axes.
    ``face (478, 3)``: the landmarks in the model's axes. ``shape (468, 3)``: the fitted model's landmarks there.
    ``error``: root mean square difference of ``face`` and ``shape`` in eye distances; ``mouth_error``: the same over
    the lips.
    """

    pose: Pose
    coefficients: Floats
    gaze: Floats
    face: Floats
    shape: Floats
    error: float
    mouth_error: float

    @property
    def named(self) -> dict[str, float]:
        """The coefficients by name."""
        return {name: float(value) for name, value in zip(COEFFICIENT_NAMES, self.coefficients, strict=True)}


class Solver:
    """Least squares for expression and identity coefficients, given landmarks in the model's axes."""

    def __init__(self, model: FaceModel) -> None:
        self.model = model
        root = np.sqrt(model.weights * LANDMARK_PRECISION).ravel()
        self.expressions = model.expressions.reshape(len(COEFFICIENT_NAMES), -1).astype(np.float64)
        self.identities = model.identities.reshape(len(model.identities), -1).astype(np.float64)
        self._scaled_e = self.expressions * root
        self._scaled_i = self.identities * root
        self._root = root
        self.normal_e = self._scaled_e @ self._scaled_e.T + np.eye(len(COEFFICIENT_NAMES)) / EXPRESSION_DEVIATION**2
        normal_i = self._scaled_i @ self._scaled_i.T
        self.values_i, self.vectors_i = np.linalg.eigh(normal_i)
        cross = self._scaled_e @ self._scaled_i.T
        prior = np.eye(len(normal_i)) / IDENTITY_DEVIATION**2
        self.normal_both = np.block([[self.normal_e, cross], [cross.T, normal_i + prior]])

    def coefficients(self, offset: Floats, start: Floats) -> Floats:
        """Expression coefficients for ``offset (468, 3)``, the landmarks minus this person's neutral face."""
        return solve_bounded(self.normal_e, self._scaled_e @ (offset.ravel() * self._root), start)

    def identity(self, offset: npt.NDArray[np.float32], frames: int) -> Floats:
        """Identity coefficients for ``offset (468, 3)``: landmarks - mean - expression, summed over ``frames``."""
        side = self._scaled_i @ (offset.ravel() * self._root)
        inner = (self.vectors_i.T @ side) / (frames * self.values_i + IDENTITY_DEVIATION**-2)
        return np.asarray(self.vectors_i @ inner, np.float32)

    def expression_and_identity(self, offset: Floats, start: Floats, identity: Floats) -> tuple[Floats, Floats]:
        """Expression and identity coefficients of a single picture, solved together."""
        right = offset.ravel() * self._root
        side = np.concatenate([self._scaled_e @ right, self._scaled_i @ right])
        found = solve_bounded(self.normal_both, side, np.concatenate([start, identity]), len(COEFFICIENT_NAMES))
        return found[: len(COEFFICIENT_NAMES)], found[len(COEFFICIENT_NAMES) :]


def solve_bounded(
    normal: npt.NDArray[np.float64], side: npt.NDArray[np.float64], start: Floats, limited: int | None = None
) -> Floats:
    """Minimise ``x A x / 2 - b x`` with the first ``limited`` elements of x in 0..1 (None: all of them).

    ``normal`` is A and ``side`` is b; the search starts from the active set of ``start``. Block principal pivoting
    (Júdice and Pires, Computers & Operations Research 1994). The problem is strictly convex, so the solution is a
    continuous function of b.
    """
    n = len(side)
    limited = n if limited is None else limited
    x = start.astype(np.float64)
    low = np.zeros(n, bool)
    high = np.zeros(n, bool)
    low[:limited], high[:limited] = x[:limited] <= 0, x[:limited] >= 1
    for _ in range(MAX_SOLVER_ROUNDS):
        free = ~(low | high)
        x[low], x[high] = 0, 1
        right = side[free] - normal[np.ix_(free, high)].sum(1)
        x[free] = np.linalg.solve(normal[np.ix_(free, free)], right)
        slope = normal @ x - side
        under, over = free & (x < 0), free & (x > 1)
        under[limited:] = over[limited:] = False
        loose = (low & (slope < -1e-9)) | (high & (slope > 1e-9))
        if not (under.any() or over.any() or loose.any()):
            break
        low, high = (low & ~loose) | under, (high & ~loose) | over
    x[:limited] = np.clip(x[:limited], 0, 1)
    return x.astype(np.float32)


class Fitter:
    """Fits one person's landmarks, frame by frame; one per stream, not thread-safe."""

    def __init__(self, model: FaceModel | None = None) -> None:
        self.model = model or face_model()
        self.solver = _shared_solver() if model is None else Solver(model)
        self.reset()

    def reset(self) -> None:
        """Forget the person's identity."""
        self.identity = np.zeros(len(self.model.identities), np.float32)
        self.neutral = self.model.neutral
        self._coefficients = np.zeros(len(COEFFICIENT_NAMES), np.float32)
        self._samples: list[tuple[Floats, Floats]] = []
        self._seen = 0
        self._next = 0

    @property
    def settled(self) -> bool:
        """Whether identity is final."""
        return self._seen >= IDENTITY_FRAMES

    def __call__(self, landmarks: Floats) -> Fit:
        """Fit ``landmarks (478, 3)`` in pixels."""
        if self._seen == 0:
            self._fit_first(landmarks)
        # The pose hardly depends on expression, so the last frame's expression is good enough for it.
        pose = rigid_pose(self._shape(), landmarks)
        offset = pose.apply_inverse(landmarks[:MESH_POINTS]) - self.neutral
        self._coefficients = self.solver.coefficients(offset, self._coefficients)
        fit = self._make_fit(pose, landmarks)
        if self._seen < IDENTITY_FRAMES:
            self._refine(fit)
        return fit

    def _fit_first(self, landmarks: Floats) -> None:
        """Estimate everything from one picture: priors divide between expression and identity what both explain."""
        for _ in range(4):
            pose = rigid_pose(self._shape(), landmarks)
            offset = pose.apply_inverse(landmarks[:MESH_POINTS]) - self.model.neutral
            self._coefficients, identity = self.solver.expression_and_identity(
                offset, self._coefficients, self.identity
            )
            self._set_identity(identity)

    def _set_identity(self, identity: Floats) -> None:
        self.identity = identity
        flat = identity @ self.solver.identities
        self.neutral = np.asarray(self.model.neutral + flat.reshape(-1, 3), np.float32)

    def _shape(self) -> Floats:
        flat = self._coefficients @ self.solver.expressions
        return np.asarray(self.neutral + flat.reshape(-1, 3), np.float32)

    def _make_fit(self, pose: Pose, landmarks: Floats) -> Fit:
        face, shape = pose.apply_inverse(landmarks), self._shape()
        off = (face[:MESH_POINTS] - shape) * np.array([1, 1, 0.4], np.float32)
        size = np.einsum("ij,ij->i", off, off)
        return Fit(
            pose,
            self._coefficients.copy(),
            self._gaze(face),
            face,
            shape,
            float(np.sqrt(size.mean())),
            float(np.sqrt(size[_LIPS].mean())),
        )

    def _gaze(self, face: Floats) -> Floats:
        """Gaze of both eyes ``(2, 2)``: the direction from an eyeball's centre to its iris, in the head's axes.

        The centre is placed relative to the eye's corners, whose landmarks are far more accurate than the head pose.
        """
        model = self.model
        balls = model.eyeballs + np.tensordot(self.identity, model.eyeball_identities, 1)
        out = np.zeros((2, 2), np.float32)
        for side, (iris, corners) in enumerate(IRISES_AND_CORNERS):
            middle = balls[side, :2] + face[corners, :2].mean(0) - self.neutral[corners, :2].mean(0)
            out[side] = np.arcsin(np.clip((face[iris, :2] - middle) / model.eyeball_radius, -0.9, 0.9))
        return out

    def _refine(self, fit: Fit) -> None:
        """Add a frame to the samples, update one sample's expression, and solve for the identity over all samples."""
        self._seen += 1
        entry = (fit.face[:MESH_POINTS], fit.coefficients)
        if len(self._samples) < IDENTITY_SAMPLES:
            self._samples.append(entry)
        elif self._seen % 4 == 0:
            self._samples[(self._seen // 4) % IDENTITY_SAMPLES] = entry
        k = self._next = (self._next + 1) % len(self._samples)
        face, before = self._samples[k]
        self._samples[k] = (face, self.solver.coefficients(face - self.neutral, before))
        faces = np.sum([face for face, _ in self._samples], axis=0)
        expressions = np.sum([w for _, w in self._samples], axis=0) @ self.solver.expressions
        left = faces - len(self._samples) * self.model.neutral - expressions.reshape(-1, 3)
        self._set_identity(self.solver.identity(left, len(self._samples)))


def fit_still(landmarks: Floats) -> tuple[Fit, Fitter]:
    """Fit a single picture's landmarks; also returns a new fitter, which has the person's identity.

    Retargeting, drawing and assessing a portrait all need its fit: the last few are remembered.
    """
    fit, identity = _fit_of_still(np.ascontiguousarray(landmarks, np.float32).tobytes())
    fitter = Fitter()
    fitter._set_identity(identity)
    fitter._coefficients, fitter._seen = fit.coefficients.copy(), IDENTITY_FRAMES
    return fit, fitter


@lru_cache(16)
def _fit_of_still(landmarks: bytes) -> tuple[Fit, Floats]:
    points = np.frombuffer(landmarks, np.float32).reshape(-1, 3)
    fitter = Fitter()
    fitter._fit_first(points)
    fitter._seen = IDENTITY_FRAMES
    return fitter(points), fitter.identity


def rigid_pose(shape: Floats, landmarks: Floats) -> Pose:
    """Head pose that takes ``shape (468, 3)`` to ``landmarks``; points that expression hardly moves weigh most."""
    return similarity(shape, landmarks[:MESH_POINTS], RIGID_WEIGHTS)


_SHARED_SOLVER: list[Solver] = []


def _shared_solver() -> Solver:
    """The solver of the shipped face model, made once."""
    if not _SHARED_SOLVER:
        _SHARED_SOLVER.append(Solver(face_model()))
    return _SHARED_SOLVER[0]
