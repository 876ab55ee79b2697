"""Eyes: eyeballs with the portrait's own irises behind the lids, and lids that shut.

A mesh moves an iris together with the white around it, and squeezes an open eye into a slit. Here each eye is
separated once into its white, its iris (completed to a round disc with a rim) and its glint, the reflection of the
light. They are composed again for the new gaze, at the picture's own resolution.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import smoothing_matrix
from avatar_stream.portrait.interior.lids import ClosedLid, draw_closed_lid
from avatar_stream.portrait.similarity import resample, similarity_between

Image = npt.NDArray[np.uint8]

MIN_VISIBLE_IRIS_SHARE: Final = 0.3  # of an iris, to complete it
IRIS_RINGS: Final = 8  # with a colour each
RIM_START_RADIUS: Final = 0.82  # of the iris's radius; it darkens from there to its rim
MIN_GLINT_GREY_LEVELS: Final = 38.0  # of a spot on an iris above its ring
GLINT_FOLLOW_SHARE: Final = 0.3  # of the iris's motion: the reflection stays with the light
SHUT_OPENING_RANGE: Final = (0.15, 0.4)  # opening over the portrait's own: lid fully shut below, open above
GAZE_CHANGE_RANGE: Final = (0.02, 0.06)  # eye widths an iris has moved: the warp alone below, drawn above
OPENING_CHANGE_RANGE: Final = (0.05, 0.18)  # change of the opening over the eye's width, likewise

# (upper lid, lower lid, iris) of the right and of the left eye
EYE_LANDMARKS: Final = (
    (list(mesh.RIGHT_LID_UPPER), list(mesh.RIGHT_LID_LOWER), list(mesh.RIGHT_IRIS)),
    (list(mesh.LEFT_LID_UPPER), list(mesh.LEFT_LID_LOWER), list(mesh.LEFT_IRIS)),
)
_LID_SPLINE = smoothing_matrix(len(mesh.RIGHT_LID_UPPER), 25)


@dataclass(frozen=True, slots=True)
class Eye:
    """The parts of one eye, pictures ``(h, w, ...)`` with their upper left corner at ``origin`` in the portrait.

    ``white`` is RGB, continued under iris and lids; ``iris`` RGBA, a complete disc; ``glint`` RGB, to be added.
    """

    origin: Floats
    white: Floats
    iris: Floats
    glint: Floats
    corners: Floats  # (2, 2)
    centre: Floats  # (2,)
    radius: float


class Eyes:
    """Both eyes of one portrait.

    ``picture`` is RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels. ``asleep`` is another picture of the
    same person with shut eyes, and its landmarks.
    """

    def __init__(self, picture: Image, landmarks: Floats, asleep: tuple[Image, Floats] | None = None) -> None:
        self._eyes = [decompose_eye(picture, landmarks, side) for side in (0, 1)]
        self._openings = geometry.eye_openings(landmarks)
        self._gaze_offsets = [_gaze_offset(landmarks, side) for side in (0, 1)]
        self._unit = geometry.eye_distance(landmarks)
        self._lid_edges = [lid_lines(landmarks, side)[0] for side in (0, 1)]
        self._closed_lids = (
            [None, None] if asleep is None else [ClosedLid.of(*asleep, *lid_lines(asleep[1], k)) for k in (0, 1)]
        )

    def draw(self, picture: Image, target: Floats) -> None:
        """Draw the eyes of ``target (478, 3)`` into a portrait warped to it (in place)."""
        size = geometry.eye_distance(target) / max(self._unit, 1e-6)
        for side, (eye, now) in enumerate(zip(self._eyes, geometry.eye_openings(target), strict=True)):
            then = self._openings[side]
            moved = float(np.linalg.norm(_gaze_offset(target, side) - self._gaze_offsets[side]))
            share = max(
                geometry.smoothstep(*GAZE_CHANGE_RANGE, moved),
                geometry.smoothstep(*OPENING_CHANGE_RANGE, abs(now - then)),
            )
            upper, lower = lid_lines(target, side)
            if eye is not None and share > 0:
                _draw_eye(picture, eye, upper, lower, target[EYE_LANDMARKS[side][2][0], :2], size, share)
            shut = 1 - geometry.smoothstep(*SHUT_OPENING_RANGE, now / max(then, 1e-3))
            if shut > 0:
                ends = np.array([upper[0], upper[-1]], np.float32)
                opened = self._lid_edges[side]
                there = similarity_between(np.array([opened[0], opened[-1]], np.float32), ends)
                draw_closed_lid(
                    picture, upper, lower, geometry.transform_2d(there, opened), shut, self._closed_lids[side]
                )


def lid_lines(landmarks: Floats, side: int) -> tuple[Floats, Floats]:
    """Upper and lower lid as smooth lines from the outer to the inner corner, ``(25, 2)`` each; they never cross."""
    up, low, _ = EYE_LANDMARKS[side]
    upper, lower = _LID_SPLINE @ landmarks[up, :2], _LID_SPLINE @ landmarks[low, :2]
    along = landmarks[up[-1], :2] - landmarks[up[0], :2]
    down = np.array([-along[1], along[0]], np.float32) * np.sign(along[0] or 1)
    crossed = ((lower - upper) @ down < 0)[:, None]
    middle = (upper + lower) / 2
    return np.where(crossed, middle, upper), np.where(crossed, middle, lower)


def decompose_eye(picture: Image, landmarks: Floats, side: int) -> Eye | None:
    """An eye's white, iris and glint; None if too little of it is seen."""
    up, _, iris = EYE_LANDMARKS[side]
    centre = landmarks[iris[0], :2].astype(np.float32)
    radius = float(np.linalg.norm(landmarks[iris[1:], :2] - centre, axis=1).mean())
    corners = landmarks[[up[0], up[-1]], :2].astype(np.float32)
    width = float(np.linalg.norm(corners[1] - corners[0]))
    if width < 8 or radius < 2:
        return None
    pad = round(0.35 * width)
    left, top = np.maximum(np.floor(np.minimum(corners.min(0), centre - radius)).astype(int) - pad, 0)
    right, bottom = np.ceil(np.maximum(corners.max(0), centre + radius)).astype(int) + pad
    part = picture[top:bottom, left:right].astype(np.float32)
    height, across = part.shape[:2]
    if height < 4 or across < 4:
        return None
    origin = np.array([left, top], np.float32)
    y, x = np.mgrid[0:height, 0:across].astype(np.float32)
    distance = np.hypot(x - (centre[0] - left), y - (centre[1] - top)) / radius
    upper, lower = lid_lines(landmarks, side)
    eye = fill_polygon(np.concatenate([upper, lower[-2:0:-1]]) - origin, height, across)
    # The line of lashes and its shadow belong to the lids.
    inner = cv2.erode(eye, np.ones((3, 3), np.uint8)) if width > 24 else eye
    white_seen, iris_seen = (inner > 0.9) & (distance > 1.15), (inner > 0.9) & (distance < 1)
    if white_seen.sum() < 6 or iris_seen.sum() < MIN_VISIBLE_IRIS_SHARE * np.pi * radius**2:
        return None
    whites = part[white_seen]
    bright = whites.sum(1) >= np.median(whites.sum(1))
    tone = np.median(whites[bright], 0)
    white = _completed_white(part, white_seen.astype(np.float32), tone, width)
    profile = _iris_profile(part, distance, iris_seen)
    bins = np.clip(distance * IRIS_RINGS - 0.5, 0, IRIS_RINGS - 1)
    low = bins.astype(int)
    part_of = (bins - low)[..., None]
    whole = profile[low] * (1 - part_of) + profile[np.minimum(low + 1, IRIS_RINGS - 1)] * part_of
    visible = cv2.GaussianBlur(cv2.erode(iris_seen.astype(np.float32), np.ones((3, 3))), (0, 0), 0.7)[..., None]
    excess = np.clip((part - whole).mean(2) - MIN_GLINT_GREY_LEVELS, 0, None) * (distance < 0.95) * visible[..., 0]
    glinting = cv2.dilate((excess > 0).astype(np.float32), np.ones((3, 3)))[..., None]
    glint = np.clip(part - whole, 0, None) * glinting * visible
    disc = whole + visible * (1 - glinting) * (part - whole)
    disc = disc * (1 - 0.35 * np.clip((distance - RIM_START_RADIUS) / (1 - RIM_START_RADIUS), 0, 1))[..., None]
    alpha = np.clip((1 - distance) * radius + 0.5, 0, 1)
    return Eye(origin, white, np.dstack([disc, alpha]).astype(np.float32), glint, corners, centre, radius)


def _completed_white(part: Floats, seen: Floats, tone: Floats, width: float) -> Floats:
    """The visible white of an eye, continued smoothly under iris and lids, and never darker than 0.62 of ``tone``."""
    blur = max(width / 10, 1.5)
    near = cv2.GaussianBlur(seen, (0, 0), blur)[..., None]
    smooth = cv2.GaussianBlur(part * seen[..., None], (0, 0), blur) / np.maximum(near, 1e-3)
    share = np.clip(near * 4, 0, 1)
    smooth = tone * 0.92 + share * (smooth - tone * 0.92)
    smooth = np.maximum(smooth, 0.62 * tone)
    real = cv2.GaussianBlur(seen, (0, 0), 0.7)[..., None] * seen[..., None]
    return np.asarray(smooth + real * (part - smooth), np.float32)


def _iris_profile(part: Floats, distance: Floats, seen: npt.NDArray[np.bool_]) -> Floats:
    """Colour of an iris by distance from its middle, ``(IRIS_RINGS, 3)``."""
    bins = np.minimum((distance * IRIS_RINGS).astype(int), IRIS_RINGS)
    profile = np.zeros((IRIS_RINGS, 3), np.float32)
    known = []
    for k in range(IRIS_RINGS):
        pixels = part[seen & (bins == k)]
        if len(pixels) > 1:
            profile[k] = np.median(pixels, 0)
            known.append(k)
    for k in range(IRIS_RINGS):
        if k not in known and known:
            profile[k] = profile[known[int(np.argmin(np.abs(np.array(known) - k)))]]
    return profile


def _draw_eye(
    picture: Image, eye: Eye, upper: Floats, lower: Floats, centre: Floats, size: float, share: float
) -> None:
    """Draw an eye between its lids, with its iris at ``centre``, ``share`` opaque (in place)."""
    ring = np.concatenate([upper, lower[-2:0:-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 2, picture.shape[1::-1])
    width, height = int(right - left), int(bottom - top)
    if width < 4 or height < 3:
        return
    alpha = fill_polygon(ring - [left, top], height, width)
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(0.5, width / 60))[..., None] * np.float32(share)
    corners = np.array([upper[0], upper[-1]], np.float32)
    # The white spans the corners; iris and glint keep their size and turn with the eye.
    back = similarity_between(corners - [left, top], eye.corners - eye.origin)
    ball = resample(eye.white, back, width, height)
    turn = np.asarray(back[:, :2] / np.sqrt(abs(np.linalg.det(back[:, :2]))) / size, np.float32)

    def at(where: Floats) -> Floats:
        return np.column_stack([turn, eye.centre - eye.origin - turn @ (where - [left, top])]).astype(np.float32)

    iris = resample(eye.iris, at(centre), width, height)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(left, left + width)
    order = np.argsort(upper[:, 0])
    lid = np.interp(columns, upper[order, 0], upper[order, 1]).astype(np.float32) - top
    # The upper lid casts a shadow on the eyeball.
    shadow = np.clip(0.7 + 0.3 * (rows - lid) / np.float32(0.11 * width), 0.7, 1)[..., None]
    ball += iris[..., 3:] * (iris[..., :3] - ball)
    ball *= np.where(iris[..., 3:] > 0, shadow, 0.5 + 0.5 * shadow)
    rest = inverse_point(back, eye.centre - eye.origin) + [left, top]
    ball += resample(eye.glint, at(rest + GLINT_FOLLOW_SHARE * (centre - rest)), width, height)
    region = picture[top:bottom, left:right]
    region[:] = np.clip(region + alpha * (ball - region) + 0.5, 0, 255)


def _gaze_offset(landmarks: Floats, side: int) -> Floats:
    """The iris's offset from the middle of the eye's corners, ``(2,)`` in eye widths."""
    up, _, iris = EYE_LANDMARKS[side]
    a, b = landmarks[up[0], :2], landmarks[up[-1], :2]
    along = b - a
    width = max(float(along @ along), 1e-6)
    offset = landmarks[iris[0], :2] - (a + b) / 2
    return np.array([offset @ along, offset @ np.array([-along[1], along[0]])], np.float32) / width


def fill_polygon(polygon: Floats, height: int, width: int) -> Floats:
    """A polygon ``(n, 2)``, filled and antialiased: ``float32 (height, width)`` in 0..1."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(mask.astype(np.float32) / 255, np.float32)


def inverse_point(back: Floats, point: Floats) -> Floats:
    """The point that the 2x3 ``back`` takes to ``point``."""
    return np.asarray(np.linalg.solve(back[:, :2], point - back[:, 2]), np.float32)
