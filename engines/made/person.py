"""One photographed person on the head model: where every vertex is in the picture, and the skin and eyes to draw.

The photograph is laid on the fitted mesh as it is, its light included. Only what it hides is made: the skin of lids,
the inside of lips, what is behind the lips, and what lids cover of the eyes.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

from avatar_stream.face import geometry, mesh
from avatar_stream.face.fit import Fit, fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import INDEX
from avatar_stream.portrait.tone import skin_tone, tooth_tone
from engines.made.eyes import eye_picture
from engines.made.head import HEAD, LEFT_EYE, RIGHT_EYE, SKIN, HeadModel
from engines.made.jaws import Jaws
from engines.made.raster import SKIN_TEXTURE, Canvas, Paint

Image = npt.NDArray[np.uint8]

SMOOTHING: Final = 30.0  # of the thin-plate spline between mesh and landmarks, in pixels
DEPTH_SHARE: Final = 0.7  # of depth in the spline's distances
SEEN_FROM: Final = (0.25, 0.5)  # cosine to the viewer: below, skin is unseen; above, well seen
HIDDEN_BY: Final = 0.035  # eye distances that skin may lie behind what is foremost
LID_MOVES: Final = (0.14, 0.28)  # share of the most that a blink moves: from there skin is lid
LIGHTER, DARKER = 1.6, 0.6  # of the photograph's light that another expression may have
ROUND: Final = (0.05, 0.15)  # eye distances between the lips, from which and up to which a mouth is made round
EYE_CORNERS: Final = ((33, 133), (263, 362))
IRISES: Final = (mesh.RIGHT_IRIS, mesh.LEFT_IRIS)
EYES: Final = (RIGHT_EYE, LEFT_EYE)
RINGS: Final = (mesh.RIGHT_EYE_RING, mesh.LEFT_EYE_RING)
UPPER_ANCHOR: Final = (2, 97, 326, 164)  # landmarks that the upper jaw stays with
LOWER_ANCHOR: Final = (152, 175, 199)  # and the lower one


@dataclass(frozen=True, slots=True)
class Look:
    """What a face does.

    ``coefficients (45,)``; ``gaze (2,)`` radians to the image's right and down from where the photograph looks;
    ``turn (3,)`` rotation vector from its pose; ``tongue`` how far it is raised and put out, 0 to 1.
    """

    coefficients: Floats
    gaze: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tongue: tuple[float, float] = (0.0, 0.0)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Posed:
    """A face that does something: vertices in pixels with their normals and lights (see ``Canvas.draw``), and the
    landmarks ``(478, 3)`` that its model has there.
    """

    points: Floats
    normals: Floats
    lights: Floats
    landmarks: Floats
    scale: float
    lip_depth: float


class Person:
    """RGB ``picture`` with ``landmarks (478, 3)`` and ``matte (h, w)``; ``random`` gives them what it hides."""

    def __init__(
        self,
        head: HeadModel,
        canvas: Canvas,
        picture: Image,
        landmarks: Floats,
        matte: Image,
        random: np.random.Generator,
    ) -> None:
        self.head, self.picture, self.landmarks, self.matte = head, picture, landmarks, matte
        self.fit, fitter = fit_still(landmarks)
        self._identity = head.neutral + np.tensordot(fitter.identity, head.identities, 1)
        self.jaws = Jaws(head, random)
        self.own = self.fit.coefficients
        shape = self._identity + np.tensordot(self.own, head.expressions, 1)
        flat = self.fit.pose.apply(shape)
        miss = landmarks[:468, :2] - flat[head.landmarks, :2]
        self._seen = self._spread(flat, miss)
        self._kept = self._spread(flat, _common(miss))
        for part, anchor in ((~head.lower_jaw, UPPER_ANCHOR), (head.lower_jaw, LOWER_ANCHOR)):
            chosen = part.copy()
            chosen[HEAD] = False
            self._kept[chosen] = miss[list(anchor)].mean(0)
        self._own_gaze = np.zeros((2, 2), np.float32)
        for side, eye in enumerate(EYES):
            self._kept[eye] = miss[list(EYE_CORNERS[side])].mean(0)
            self._own_gaze[side] = self._gaze(shape, side)
        points = flat.copy()
        points[:, :2] += self._seen
        normals = self._image_normals(shape, self.fit)
        self.skin = skin_tone(picture, landmarks)
        self._light, self._usual = _light_of(picture, points, normals, head, self.skin)
        self._shade = self._shaded(normals)
        self.paint = self._painted(canvas, points, normals, shape, random)

    def posed(self, look: Look) -> Posed:
        """The face doing something else."""
        head, w = self.head, look.coefficients
        shape = self._identity + np.tensordot(w, head.expressions, 1)
        gaze = np.asarray(look.gaze, np.float32)
        shape[SKIN.start : HEAD.stop] += self._lids_follow(gaze)[SKIN.start : HEAD.stop]
        round_mouth(head, shape)
        self.jaws.place(shape, w, look.tongue)
        for side, eye in enumerate(EYES):
            ball = shape[eye]
            centre = (ball.min(0) + ball.max(0)) / 2
            angles = np.clip(self._own_gaze[side] + gaze, -0.75, 0.75)
            shape[eye] = (ball - centre) @ _towards(*angles).T + centre
        rotation = geometry.from_rotation_vector(look.turn) @ self.fit.pose.rotation
        middle = self.fit.face[list(mesh.STABLE)].mean(0)
        where = self.fit.pose.apply(middle[None])[0]
        scale = self.fit.pose.scale
        pose = geometry.Pose(scale, rotation.astype(np.float32), where - scale * rotation @ middle)
        kept = np.column_stack([self._kept, np.zeros(len(self._kept))]).astype(np.float32)
        kept = kept @ self.fit.pose.rotation @ rotation.T
        points = np.asarray(pose.apply(shape) + kept, np.float32)
        normals = head.normals(shape) @ rotation.T
        here = self._shaded(normals)
        shut = self._shut(w)
        lights = np.column_stack([np.clip(here / self._shade, DARKER, LIGHTER), here, shut])
        lips = points[head.landmarks[[13, 14]], 2].mean()
        return Posed(
            points,
            np.asarray(normals, np.float32),
            lights.astype(np.float32),
            self._landmarks(points, pose, look),
            scale,
            float(lips),
        )

    def _landmarks(self, points: Floats, pose: geometry.Pose, look: Look) -> Floats:
        """Where the photograph's landmarks go with the mesh."""
        own = self.fit.pose.apply(
            (self._identity + np.tensordot(self.own, self.head.expressions, 1))[self.head.landmarks]
        )
        own[:, :2] += self._seen[self.head.landmarks]
        # In the head's axes: what the expression moves; then the head is turned.
        moved = pose.undo(points[self.head.landmarks]) - self.fit.pose.undo(own)
        face = self.fit.face.copy()
        face[:468] += moved
        for side, ring in enumerate(IRISES):
            corners = list(EYE_CORNERS[side])
            face[list(ring)] += moved[corners].mean(0)
            step = 0.17 * (np.sin(self._own_gaze[side] + look.gaze) - np.sin(self._own_gaze[side]))
            face[list(ring), :2] += step
        return pose.apply(face)

    def _spread(self, points: Floats, miss: Floats) -> Floats:
        """By how many pixels the mesh misses the landmarks, from these to every vertex ``(n, 2)``."""
        at = points[self.head.landmarks] * [1, 1, DEPTH_SHARE]
        _, once = np.unique(np.round(at, 2), axis=0, return_index=True)
        spline = RBFInterpolator(at[once], miss[once], kernel="thin_plate_spline", smoothing=SMOOTHING)
        out = np.zeros((len(points), 2), np.float32)
        behind = points[:, 2] - np.percentile(points[self.head.landmarks, 2], 90)
        near = np.flatnonzero(self.head.face)
        fade = np.exp(-np.maximum(0, behind[near]) / self.fit.pose.scale * 3)
        out[near] = spline(points[near] * [1, 1, DEPTH_SHARE]) * fade[:, None]
        # Lashes go with the lids nearest to them.
        lash = self._lash_roots
        out[lash[0]] = out[lash[1]]
        return out

    @property
    def _lash_roots(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        found = getattr(self.head, "_lash_roots", None)
        if found is None:
            from scipy.spatial import cKDTree

            from engines.made.head import LASHES

            lash = np.arange(LASHES.start, LASHES.stop)
            skin = np.flatnonzero(self.head.face)
            found = (lash, skin[cKDTree(self.head.raw[skin]).query(self.head.raw[lash])[1]])
            object.__setattr__(self.head, "_lash_roots", found)
        return found

    def _gaze(self, shape: Floats, side: int) -> Floats:
        """Where the photograph's eye looks: radians from ahead, right and down in the head's axes."""
        ball = shape[EYES[side]]
        centre = (ball.min(0) + ball.max(0)) / 2
        at = self.fit.pose.apply(centre[None])[0] + [*self._kept[EYES[side].start], 0]
        to = (self.landmarks[IRISES[side][0]] - at) * [1, 1, 0] @ self.fit.pose.rotation / self.fit.pose.scale
        radius = float(np.ptp(ball[:, 1])) / 2
        return np.asarray(np.arcsin(np.clip(to[:2] / radius, -0.5, 0.5)), np.float32)

    def _lids_follow(self, gaze: Floats) -> Floats:
        """How lids move with the eyes: ICT's shapes are for about thirty degrees."""
        right, down = gaze / 0.52
        looks = self.head.looks
        out = np.zeros_like(self.head.neutral)
        # The image's right is the subject's left: out for the left eye, in for the right one.
        for name, side, share in (
            ("eyeLookOut", "L", right), ("eyeLookIn", "R", right), ("eyeLookIn", "L", -right),
            ("eyeLookOut", "R", -right), ("eyeLookDown", "L", down), ("eyeLookDown", "R", down),
            ("eyeLookUp", "L", -down), ("eyeLookUp", "R", -down),
        ):  # fmt: skip
            if share > 0:
                out += min(share, 1.0) * looks[f"{name}_{side}"]
        return out

    def _shut(self, w: Floats) -> Floats:
        """How far the lid at a vertex is shut beyond the photograph's, 0 to 1."""
        out = np.zeros(len(self.head.raw), np.float32)
        left = self.head.raw[:, 0] > 0
        for name, chosen in (("eyeBlinkLeft", left), ("eyeBlinkRight", ~left)):
            change = float(w[INDEX[name]] - self.own[INDEX[name]])
            out[chosen] = geometry.step(0.12, 0.5, change)
        return out

    def _image_normals(self, shape: Floats, fit: Fit) -> Floats:
        return np.asarray(self.head.normals(shape) @ fit.pose.rotation.T, np.float32)

    def _shaded(self, normals: Floats) -> Floats:
        return np.clip(harmonics(normals) @ self._light / self._usual, 0.35, 3.0).astype(np.float32)

    def _painted(
        self, canvas: Canvas, points: Floats, normals: Floats, shape: Floats, random: np.random.Generator
    ) -> Paint:
        seen, lidded = self._skin_pictures(canvas, points, normals, random)
        skin = (self.skin / 255) ** 2.2
        # Whose mouth it is: nobody's teeth have the colour or the light of another's.
        shade = random.uniform(0.78, 1.15) * np.array([1, random.uniform(0.90, 0.98), random.uniform(0.75, 0.98)])
        red = random.uniform(0.85, 1.15)
        towards = self._light[1:4] / max(float(np.linalg.norm(self._light[1:4])), 1e-6)
        pale = float(np.clip(skin.mean(), 0.06, 0.5)) ** 0.5 * 0.45 * np.sqrt(skin / skin.mean())
        return Paint(
            seen,
            lidded,
            eye_picture(canvas, self, shape, random),
            np.asarray((tooth_tone(self.skin) / 255) ** 2.2 * shade, np.float32),
            np.asarray(pale * np.array([0.90, 0.42, 0.44]) * [red, 1, 1], np.float32),
            np.asarray(pale * np.array([0.80, 0.31, 0.32]) * [red, 1, 1], np.float32),
            np.asarray(pale * np.array([0.25, 0.06, 0.055]), np.float32),
            np.asarray((tooth_tone(self.skin) / 255) ** 2.2, np.float32),
            np.asarray(towards, np.float32),
            float(random.uniform(0.2, 1.3)),
            float(random.uniform(4.0, 8.0)),
        )

    def _skin_pictures(
        self, canvas: Canvas, points: Floats, normals: Floats, random: np.random.Generator
    ) -> tuple[Image, Image]:
        """The photograph laid out as skin, and the same with lids in place of eyes."""
        height, width = self.picture.shape[:2]
        laid = canvas.skin_map(np.column_stack([points, -normals[:, 2]]))
        z, facing = laid[..., 2], laid[..., 3]
        covered = np.isfinite(z)
        at = np.where(np.isfinite(laid[..., :2]), laid[..., :2], 0).astype(np.float32)
        colours = cv2.remap(self.picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        front = canvas.depth(points, (width, height))
        foremost = cv2.remap(front, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        low, high = SEEN_FROM
        sure = np.clip((np.nan_to_num(facing) - low) / (high - low), 0, 1)
        sure *= covered & (np.nan_to_num(z) - foremost < HIDDEN_BY * self.fit.pose.scale)
        inside = (at[..., 0] > 1) & (at[..., 1] > 1) & (at[..., 0] < width - 2) & (at[..., 1] < height - 2)
        # What is not the person is not their cheek, wherever the mesh ends.
        own = cv2.remap(cv2.erode(self.matte, np.ones((5, 5), np.uint8)), at, None, cv2.INTER_LINEAR)
        sure = (sure * inside * np.clip((own - 150.0) / 90, 0, 1)).astype(np.float32)
        regions = _regions(canvas)
        plain = sure * (1 - np.clip(1.5 * regions[0], 0, 1)) * (1 - 0.98 * np.clip(1.5 * regions[2], 0, 1))
        lid = sure * (1 - np.clip(1.5 * regions[0], 0, 1)) * (1 - np.clip(1.3 * regions[1], 0, 1))
        filled = [push_pull(colours.astype(np.float32), weight) for weight in (plain, lid)]
        # Skin that is made has a grain as well.
        grain = cv2.GaussianBlur(random.normal(0, 1, lid.shape).astype(np.float32), (0, 0), 1.6)
        filled[1] += (regions[1] * grain / grain.std() * 0.02 * self.skin.mean())[..., None]
        return tuple(np.clip(one, 0, 255).astype(np.uint8) for one in filled)  # type: ignore[return-value]


def round_mouth(head: HeadModel, shape: Floats) -> None:
    """Make a wide open mouth of ``shape (n, 3)`` as round as mouths are (in place): the model's is a lozenge."""
    upper, lower = (head.landmarks[list(ring)] for ring in (mesh.INNER_LIP_UPPER, mesh.INNER_LIP_LOWER))
    gap = shape[lower, 1] - shape[upper, 1]
    most = float(gap.max())
    if most < ROUND[0]:
        return
    middle = (shape[upper, 0] + shape[lower, 0]) / 2
    half = max(float(middle[-1] - middle[0]) / 2, 1e-3)
    across = np.clip((middle - middle[0] - half) / half, -1, 1)
    wanted = most * np.sqrt(np.maximum(1 - np.abs(across) ** 2.2, 0))
    missing = np.maximum(wanted - gap, 0) * 0.85 * geometry.step(*ROUND, most)
    near, weight, below = _lips(head)
    place = (head.raw[near, 0] - head.raw[upper[0], 0]) / (head.raw[upper[-1], 0] - head.raw[upper[0], 0])
    columns = (head.raw[upper, 0] - head.raw[upper[0], 0]) / (head.raw[upper[-1], 0] - head.raw[upper[0], 0])
    step = np.interp(place, columns, missing, left=0, right=0)
    shape[near, 1] += weight * step * (below - 0.3)


def _lips(head: HeadModel) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Skin around the mouth, how much it goes with the line of the lips, and how much of it is below, 0 to 1."""
    found = getattr(head, "_around_lips", None)
    if found is None:
        skin = np.flatnonzero(head.face)
        line = head.raw[head.landmarks[[*mesh.INNER_LIP_UPPER, *mesh.INNER_LIP_LOWER]]]
        away = np.abs(head.raw[skin, None, 1] - line[None, :, 1]).min(1)
        weight = np.exp(-((away / 0.9) ** 2)).astype(np.float32)
        jaw = head.expressions[INDEX["jawOpen"]][:, 1]
        near = skin[(weight > 0.01) & (np.abs(head.raw[skin, 0]) < 3.5)]
        weight = weight[(weight > 0.01) & (np.abs(head.raw[skin, 0]) < 3.5)]
        upper, lower = (head.landmarks[k] for k in (13, 14))
        below = np.clip((jaw[near] - jaw[upper]) / (jaw[lower] - jaw[upper]), 0, 1)
        found = near, weight, below
        object.__setattr__(head, "_around_lips", found)
    return found


def harmonics(n: Floats) -> Floats:
    """Real spherical harmonics up to order 2, not normalised, ``(..., 9)``."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1)


def push_pull(picture: Floats, weight: Floats) -> Floats:
    """Fill ``picture (h, w, 3)`` where ``weight (h, w)`` is 0 from what is around, smoothly."""
    levels = [(picture * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        size = (levels[-1][1].shape[1] // 2, levels[-1][1].shape[0] // 2)
        levels.append(tuple(cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in levels[-1]))
    colour, sure = levels[-1]
    now = colour / np.maximum(sure, 1e-6)[..., None]
    for colour, sure in levels[-2::-1]:
        wide = cv2.resize(now, sure.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.clip(sure, 0, 1)[..., None]
        now = colour / np.maximum(sure, 1e-6)[..., None] * share + wide * (1 - share)
    return np.asarray(now, np.float32)


def _common(miss: Floats) -> Floats:
    """Both lips moved alike, or a photograph's smile would stand open when it is shut."""
    out = miss.copy()
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    middle = (miss[upper] + miss[lower]) / 2
    for inner, outer in ((upper, list(mesh.OUTER_LIP_UPPER)), (lower, list(mesh.OUTER_LIP_LOWER))):
        out[outer[1:-1]] += (middle - miss[inner])[1:-1]
        out[inner] = middle
    return out


def _towards(right: float, down: float) -> Floats:
    """The rotation that turns an eye (looking to -z) by so many radians."""
    return np.asarray(
        geometry.from_rotation_vector([0, -right, 0]) @ geometry.from_rotation_vector([down, 0, 0]), np.float32
    )


def _light_of(picture: Image, points: Floats, normals: Floats, head: HeadModel, skin: Floats) -> tuple[Floats, float]:
    """The light on the face: harmonics that explain how bright its skin is, and its usual brightness."""
    chosen = np.flatnonzero(head.face & (normals[:, 2] < -0.4))[::3]
    at = points[chosen, :2].astype(np.float32)
    bright = cv2.remap(picture, at[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    bright = ((bright / 255.0) ** 2.2).mean(1)
    usual = float(np.median(bright))
    ok = (bright > 0.45 * usual) & (bright < 1.8 * usual)
    basis = harmonics(normals[chosen][ok])
    prior = np.diag([0] + [0.003 * ok.sum()] * 8)
    return np.linalg.solve(basis.T @ basis + prior, basis.T @ bright[ok]).astype(np.float32), usual


def _regions(canvas: Canvas) -> Floats:
    """Of the skin's picture, ``(3, s, s)``: between and just inside the lips, lids with eyes, and eyes alone."""
    head = canvas.head
    found = getattr(head, "_skin_regions", None)
    if found is None:
        blink = np.linalg.norm(head.expressions[[INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]], axis=-1).sum(0)
        values = np.zeros((len(head.raw), 4), np.float32)
        values[:, 0] = blink / blink[SKIN].max()
        laid = np.nan_to_num(canvas.skin_map(values)[..., 0])
        places = np.full((len(head.raw), 2), np.nan, np.float32)
        own = (head.corner_kind == 0) & head.face[head.corner_vertex] & (head.corner_uv[:, 0] <= 1)
        places[head.corner_vertex[own]] = head.corner_uv[own] * SKIN_TEXTURE
        places = _nearest(places, head)

        def polygon(ring: tuple[int, ...], grow: int, blur: float) -> Floats:
            out = np.zeros((SKIN_TEXTURE, SKIN_TEXTURE), np.uint8)
            corners = np.round(places[head.landmarks[list(ring)]]).astype(np.int32)
            cv2.fillConvexPoly(out, cv2.convexHull(corners), 255)
            out = cv2.dilate(out, np.ones((grow, grow), np.uint8))
            return np.asarray(cv2.GaussianBlur(out.astype(np.float32) / 255, (0, 0), blur), np.float32)

        eyes = np.maximum(polygon(RINGS[0], 3, 1.2), polygon(RINGS[1], 3, 1.2))
        wide = np.maximum(polygon(RINGS[0], 9, 1.5), polygon(RINGS[1], 9, 1.5))
        low, high = LID_MOVES
        lids = np.maximum(np.clip((laid - low) / (high - low), 0, 1), wide)
        found = np.stack([polygon(mesh.MOUTH_RING, 5, 1.5), lids, eyes]).astype(np.float32)
        object.__setattr__(head, "_skin_regions", found)
    return found


def _nearest(places: Floats, head: HeadModel) -> Floats:
    """Some landmarks lie inside the mouth, where there is no skin: theirs is the nearest."""
    from scipy.spatial import cKDTree

    known = np.flatnonzero(np.isfinite(places[:, 0]) & head.face)
    missing = np.flatnonzero(~np.isfinite(places[:, 0]))
    places[missing] = places[known[cKDTree(head.raw[known]).query(head.raw[missing])[1]]]
    return places
