"""One photographed person on the head model: the place of every vertex in the picture, and the skin and eyes to draw.

The photograph is mapped to the fitted mesh unchanged, with its light. Only what it hides is synthetic: the skin of
lids, the inside of lips, the inside of the mouth, and the parts of eyes that lids cover.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

from avatar_stream.face import geometry, mesh
from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from avatar_stream.face.tone import skin_tone, tooth_tone
from engines.made.eyes import EYE_VERTICES, IRIS_LANDMARKS, PhotographedEyes, eye_picture, eye_rotation
from engines.made.head import HEAD, LASHES
from engines.made.jaws import Jaws, round_mouth
from engines.made.raster import Paint
from engines.made.skin import SkinLayout, fit_light, harmonics

Image = npt.NDArray[np.uint8]

SPLINE_SMOOTHING: Final = 30.0  # of the thin-plate spline between mesh and landmarks, in pixels
SPLINE_DEPTH_WEIGHT: Final = 0.7  # in the spline's distances
MAX_LIGHT_RATIO, MIN_LIGHT_RATIO = 1.6, 0.6  # light of another expression relative to the photograph's
EYE_CORNERS: Final = ((33, 133), (263, 362))
UPPER_JAW_LANDMARKS: Final = (2, 97, 326, 164)  # the upper teeth move with these
LOWER_JAW_LANDMARKS: Final = (152, 175, 199)  # the lower teeth move with these


@dataclass(frozen=True, slots=True)
class FaceState:
    """Expression, gaze, head rotation and tongue of a face.

    ``coefficients (45,)``; ``gaze (2,)`` in radians to the image's right and down, relative to the photograph's gaze;
    ``turn (3,)`` rotation vector relative to the photograph's head pose; ``tongue`` (raised, put out), 0 to 1 each.
    """

    coefficients: Floats
    gaze: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tongue: tuple[float, float] = (0.0, 0.0)
    name: str = ""


@dataclass(frozen=True, slots=True)
class FaceGeometry:
    """A face in a face state: vertices in pixels with normals and lights (see ``Canvas.draw``), and the landmarks
    ``(478, 3)`` that the model has there.
    """

    points: Floats
    normals: Floats
    lights: Floats
    landmarks: Floats
    scale: float
    lip_depth: float


@dataclass(frozen=True, slots=True)
class Sitter:
    """An RGB photograph with landmarks ``(478, 3)`` and the person's matte ``(h, w)``; ``name`` is the person's."""

    name: str
    picture: Image
    landmarks: Floats
    matte: Image


class Person:
    """A sitter on the head model; what the photograph hides is sampled from ``random``."""

    def __init__(self, layout: SkinLayout, sitter: Sitter, random: np.random.Generator) -> None:
        head = layout.canvas.head
        picture, landmarks = sitter.picture, sitter.landmarks
        self.head, self.sitter = head, sitter
        self.fit, fitter = fit_still(landmarks)
        self._identity = head.neutral + np.tensordot(fitter.identity, head.identities, 1)
        self.jaws = Jaws(head, random)
        self.photo_coefficients = self.fit.coefficients
        shape = self._identity + np.tensordot(self.photo_coefficients, head.expressions, 1)
        flat = self.fit.pose.apply(shape)
        miss = landmarks[:468, :2] - flat[head.landmarks, :2]
        self._photo_correction = self._spread_miss(flat, miss)
        self._correction = self._spread_miss(flat, _same_for_both_lips(miss))
        for part, anchor in ((~head.lower_jaw, UPPER_JAW_LANDMARKS), (head.lower_jaw, LOWER_JAW_LANDMARKS)):
            chosen = part.copy()
            chosen[HEAD] = False
            self._correction[chosen] = miss[list(anchor)].mean(0)
        self._own_gaze = np.zeros((2, 2), np.float32)
        for side, eye in enumerate(EYE_VERTICES):
            self._correction[eye] = miss[list(EYE_CORNERS[side])].mean(0)
            self._own_gaze[side] = self._gaze(shape, side)
        points = flat.copy()
        points[:, :2] += self._photo_correction
        normals = np.asarray(head.normals(shape) @ self.fit.pose.rotation.T, np.float32)
        self.skin = skin_tone(picture, landmarks)
        self._light, self._median_brightness = fit_light(picture, points, normals, head)
        self._photo_shading = self._shading(normals)
        moved = np.stack([self._correction[eye.start] for eye in EYE_VERTICES])
        eyes = PhotographedEyes(picture, landmarks, self.fit.pose, shape, moved, self._own_gaze)
        seen, lidded = layout.textures(picture, sitter.matte, points, normals, self.fit.pose.scale, random)
        self.paint = self._paint(seen, lidded, eye_picture(layout.canvas, eyes, self.skin, random), random)

    def face_geometry(self, state: FaceState) -> FaceGeometry:
        """Vertices, lights and landmarks of the face in ``state``."""
        head, w = self.head, state.coefficients
        shape = self._identity + np.tensordot(w, head.expressions, 1)
        gaze = np.asarray(state.gaze, np.float32)
        follow = self._lids_follow(gaze)
        for part in (HEAD, LASHES):
            shape[part] += follow[part]
        round_mouth(head, shape)
        self.jaws.place(shape, w, state.tongue)
        for side, eye in enumerate(EYE_VERTICES):
            ball = shape[eye]
            centre = (ball.min(0) + ball.max(0)) / 2
            angles = np.clip(self._own_gaze[side] + gaze, -0.75, 0.75)
            shape[eye] = (ball - centre) @ eye_rotation(*angles).T + centre
        rotation = geometry.from_rotation_vector(state.turn) @ self.fit.pose.rotation
        middle = self.fit.face[list(mesh.STABLE_LANDMARKS)].mean(0)
        where = self.fit.pose.apply(middle[None])[0]
        scale = self.fit.pose.scale
        pose = geometry.Pose(scale, rotation.astype(np.float32), where - scale * rotation @ middle)
        kept = np.column_stack([self._correction, np.zeros(len(self._correction))]).astype(np.float32)
        kept = kept @ self.fit.pose.rotation @ rotation.T
        points = np.asarray(pose.apply(shape) + kept, np.float32)
        normals = head.normals(shape) @ rotation.T
        here = self._shading(normals)
        shut = self._closure(w)
        lights = np.column_stack([np.clip(here / self._photo_shading, MIN_LIGHT_RATIO, MAX_LIGHT_RATIO), here, shut])
        lips = points[head.landmarks[[13, 14]], 2].mean()
        return FaceGeometry(
            points,
            np.asarray(normals, np.float32),
            lights.astype(np.float32),
            self._landmarks(points, pose, state),
            scale,
            float(lips),
        )

    def _landmarks(self, points: Floats, pose: geometry.Pose, state: FaceState) -> Floats:
        """The photograph's landmarks, moved with the mesh."""
        own = self.fit.pose.apply(
            (self._identity + np.tensordot(self.photo_coefficients, self.head.expressions, 1))[self.head.landmarks]
        )
        own[:, :2] += self._photo_correction[self.head.landmarks]
        # Apply the expression's motion in the head's axes, then rotate the head.
        moved = pose.apply_inverse(points[self.head.landmarks]) - self.fit.pose.apply_inverse(own)
        face = self.fit.face.copy()
        face[:468] += moved
        for side, ring in enumerate(IRIS_LANDMARKS):
            corners = list(EYE_CORNERS[side])
            face[list(ring)] += moved[corners].mean(0)
            step = 0.17 * (np.sin(self._own_gaze[side] + state.gaze) - np.sin(self._own_gaze[side]))
            face[list(ring), :2] += step
        return pose.apply(face)

    def _spread_miss(self, points: Floats, miss: Floats) -> Floats:
        """Interpolate the mesh's error at the landmarks, ``miss (468, 2)`` pixels, to every vertex ``(n, 2)``."""
        at = points[self.head.landmarks] * [1, 1, SPLINE_DEPTH_WEIGHT]
        _, once = np.unique(np.round(at, 2), axis=0, return_index=True)
        spline = RBFInterpolator(at[once], miss[once], kernel="thin_plate_spline", smoothing=SPLINE_SMOOTHING)
        out = np.zeros((len(points), 2), np.float32)
        behind = points[:, 2] - np.percentile(points[self.head.landmarks, 2], 90)
        near = np.flatnonzero(self.head.face)
        fade = np.exp(-np.maximum(0, behind[near]) / self.fit.pose.scale * 3)
        out[near] = spline(points[near] * [1, 1, SPLINE_DEPTH_WEIGHT]) * fade[:, None]
        # Lashes move with the nearest lid vertex.
        lash = self.head.lash_roots
        out[lash[0]] = out[lash[1]]
        return out

    def _gaze(self, shape: Floats, side: int) -> Floats:
        """Gaze of the photograph's eye: radians from straight ahead, right and down in the head's axes."""
        ball = shape[EYE_VERTICES[side]]
        centre = (ball.min(0) + ball.max(0)) / 2
        at = self.fit.pose.apply(centre[None])[0] + [*self._correction[EYE_VERTICES[side].start], 0]
        to = (
            (self.sitter.landmarks[IRIS_LANDMARKS[side][0]] - at)
            * [1, 1, 0]
            @ self.fit.pose.rotation
            / self.fit.pose.scale
        )
        radius = float(np.ptp(ball[:, 1])) / 2
        return np.asarray(np.arcsin(np.clip(to[:2] / radius, -0.5, 0.5)), np.float32)

    def _lids_follow(self, gaze: Floats) -> Floats:
        """Motion of the lids with the eyes, ``(n, 3)``; ICT's shapes stand for about thirty degrees."""
        right, down = gaze / 0.52
        gaze_shapes = self.head.gaze_shapes
        out = np.zeros_like(self.head.neutral)
        # The image's right is the subject's left: outwards for the left eye, inwards for the right one.
        for name, side, share in (
            ("eyeLookOut", "L", right), ("eyeLookIn", "R", right), ("eyeLookIn", "L", -right),
            ("eyeLookOut", "R", -right), ("eyeLookDown", "L", down), ("eyeLookDown", "R", down),
            ("eyeLookUp", "L", -down), ("eyeLookUp", "R", -down),
        ):  # fmt: skip
            if share > 0:
                out += min(share, 1.0) * gaze_shapes[f"{name}_{side}"]
        return out

    def _closure(self, w: Floats) -> Floats:
        """Per vertex, how far the lid is more shut than in the photograph, or how far the lips pout; 0 to 1."""
        out = np.zeros(len(self.head.raw), np.float32)
        left = self.head.raw[:, 0] > 0
        for name, chosen in (("eyeBlinkLeft", left), ("eyeBlinkRight", ~left)):
            change = float(w[COEFFICIENT_INDEX[name]] - self.photo_coefficients[COEFFICIENT_INDEX[name]])
            out[chosen] = geometry.smoothstep(0.12, 0.5, change)
        pout = float(w[COEFFICIENT_INDEX["mouthPucker"]] + 0.5 * w[COEFFICIENT_INDEX["mouthFunnel"]])
        out[self.head.around_lips[0]] = geometry.smoothstep(0.25, 1.0, pout)
        return out

    def _shading(self, normals: Floats) -> Floats:
        return np.clip(harmonics(normals) @ self._light / self._median_brightness, 0.35, 3.0).astype(np.float32)

    def _paint(self, seen: Image, lidded: Image, eyes: Image, random: np.random.Generator) -> Paint:
        """Textures, and random colours of teeth, gums and tongue that fit the skin and the light."""
        skin = (self.skin / 255) ** 2.2
        shade = random.uniform(0.78, 1.15) * np.array([1, random.uniform(0.90, 0.98), random.uniform(0.75, 0.98)])
        red = random.uniform(0.85, 1.15)
        towards = self._light[1:4] / max(float(np.linalg.norm(self._light[1:4])), 1e-6)
        pale = float(np.clip(skin.mean(), 0.06, 0.5)) ** 0.5 * 0.45 * np.sqrt(skin / skin.mean())
        return Paint(
            seen,
            lidded,
            eyes,
            np.asarray((tooth_tone(self.skin) / 255) ** 2.2 * shade, np.float32),
            np.asarray(pale * np.array([0.90, 0.42, 0.44]) * [red, 1, 1], np.float32),
            np.asarray(pale * np.array([0.80, 0.31, 0.32]) * [red, 1, 1], np.float32),
            np.asarray(pale * np.array([0.25, 0.06, 0.055]), np.float32),
            np.asarray((tooth_tone(self.skin) / 255) ** 2.2, np.float32),
            np.asarray(towards, np.float32),
            float(random.uniform(0.2, 1.3)),
            float(random.uniform(0.15, 0.95)),
            float(random.uniform(4.0, 8.0)),
        )


def _same_for_both_lips(miss: Floats) -> Floats:
    """``miss`` with one correction for both lips; otherwise a smile in the photograph stays open when closed."""
    out = miss.copy()
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    middle = (miss[upper] + miss[lower]) / 2
    for inner, outer in ((upper, list(mesh.OUTER_LIP_UPPER)), (lower, list(mesh.OUTER_LIP_LOWER))):
        out[outer[1:-1]] += (middle - miss[inner])[1:-1]
        out[inner] = middle
    return out
