"""Eyes: eyeballs with the portrait's own irises behind the lids, and lids that shut.

A mesh drags an iris together with the white around it, and squeezes an open eye into a slit. Here each eye is taken
apart once (white, iris completed to a round disc with its rim, the light's reflection in it) and put together anew
where the eye looks, at the picture's own resolution.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import smoothing_matrix
from avatar_stream.portrait.interior import lids
from avatar_stream.portrait.interior.lids import OwnLid
from avatar_stream.portrait.similarity import resample, similarity_between

Image = npt.NDArray[np.uint8]

SEEN: Final = 0.3  # share of an iris that must be visible to complete it
BINS: Final = 8  # rings of an iris that have a colour each
RIM: Final = 0.82  # of the radius, from where an iris darkens to its rim
GLINT: Final = 38.0  # grey levels above its ring from which a spot on an iris is a reflection
GLINT_FOLLOWS: Final = 0.3  # of the iris's way: a reflection stays with the light
SHUT: Final = (0.15, 0.4)  # opening over the portrait's own: skin and lashes alone below, no trace of them above
TURNED: Final = (0.02, 0.06)  # eye widths an iris has moved: as the mesh has it below, drawn anew above
OPENED: Final = (0.05, 0.18)  # change of the opening over the eye's width, likewise

# (upper lid, lower lid, iris) of the right and of the left eye
EYES: Final = (
    (list(mesh.RIGHT_LID_UPPER), list(mesh.RIGHT_LID_LOWER), list(mesh.RIGHT_IRIS)),
    (list(mesh.LEFT_LID_UPPER), list(mesh.LEFT_LID_LOWER), list(mesh.LEFT_IRIS)),
)
_SPLINE = smoothing_matrix(len(mesh.RIGHT_LID_UPPER), 25)


@dataclass(frozen=True, slots=True)
class Eye:
    """One eye taken apart; pictures ``(h, w, ...)`` share pixels, with their corner at ``origin`` of the portrait's.

    ``white`` RGB, continued under the lids; ``iris`` RGBA, its disc complete; ``glint`` RGB to be added.
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

    ``picture`` RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels; ``asleep`` is another picture of the same
    person, whose eyes are shut, with its landmarks.
    """

    def __init__(self, picture: Image, landmarks: Floats, asleep: tuple[Image, Floats] | None = None) -> None:
        self._eyes = [take_apart(picture, landmarks, side) for side in (0, 1)]
        self._openings = geometry.eye_openings(landmarks)
        self._places = [_place(landmarks, side) for side in (0, 1)]
        self._unit = geometry.eye_distance(landmarks)
        self._lids = [lid_lines(landmarks, side)[0] for side in (0, 1)]
        self._asleep = (
            [None, None] if asleep is None else [OwnLid.of(*asleep, *lid_lines(asleep[1], k)) for k in (0, 1)]
        )

    def draw(self, picture: Image, target: Floats) -> None:
        """Draw the eyes of ``target (478, 3)`` over a portrait that was warped there (in place)."""
        size = geometry.eye_distance(target) / max(self._unit, 1e-6)
        for side, (eye, now) in enumerate(zip(self._eyes, geometry.eye_openings(target), strict=True)):
            then = self._openings[side]
            moved = float(np.linalg.norm(_place(target, side) - self._places[side]))
            share = max(geometry.smoothstep(*TURNED, moved), geometry.smoothstep(*OPENED, abs(now - then)))
            upper, lower = lid_lines(target, side)
            if eye is not None and share > 0:
                _put(picture, eye, upper, lower, target[EYES[side][2][0], :2], size, share)
            shut = 1 - geometry.smoothstep(*SHUT, now / max(then, 1e-3))
            if shut > 0:
                ends = np.array([upper[0], upper[-1]], np.float32)
                opened = self._lids[side]
                there = similarity_between(np.array([opened[0], opened[-1]], np.float32), ends)
                lids.shut(picture, upper, lower, geometry.transform_2d(there, opened), shut, self._asleep[side])


def lid_lines(landmarks: Floats, side: int) -> tuple[Floats, Floats]:
    """Upper and lower lid as smooth lines from the outer to the inner corner, ``(25, 2)`` each; they never cross."""
    up, low, _ = EYES[side]
    upper, lower = _SPLINE @ landmarks[up, :2], _SPLINE @ landmarks[low, :2]
    along = landmarks[up[-1], :2] - landmarks[up[0], :2]
    down = np.array([-along[1], along[0]], np.float32) * np.sign(along[0] or 1)
    crossed = ((lower - upper) @ down < 0)[:, None]
    middle = (upper + lower) / 2
    return np.where(crossed, middle, upper), np.where(crossed, middle, lower)


def take_apart(picture: Image, landmarks: Floats, side: int) -> Eye | None:
    """An eye's white, iris and reflection; None where too little of it is seen."""
    up, _, iris = EYES[side]
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
    eye = filled(np.concatenate([upper, lower[-2:0:-1]]) - origin, height, across)
    # A line of lashes and its shadow belong to the lids.
    inner = cv2.erode(eye, np.ones((3, 3), np.uint8)) if width > 24 else eye
    white_seen, iris_seen = (inner > 0.9) & (distance > 1.15), (inner > 0.9) & (distance < 1)
    if white_seen.sum() < 6 or iris_seen.sum() < SEEN * np.pi * radius**2:
        return None
    whites = part[white_seen]
    bright = whites.sum(1) >= np.median(whites.sum(1))
    tone = np.median(whites[bright], 0)
    white = _continued(part, white_seen.astype(np.float32), tone, width)
    profile = _profile(part, distance, iris_seen)
    bins = np.clip(distance * BINS - 0.5, 0, BINS - 1)
    low = bins.astype(int)
    part_of = (bins - low)[..., None]
    whole = profile[low] * (1 - part_of) + profile[np.minimum(low + 1, BINS - 1)] * part_of
    visible = cv2.GaussianBlur(cv2.erode(iris_seen.astype(np.float32), np.ones((3, 3))), (0, 0), 0.7)[..., None]
    excess = np.clip((part - whole).mean(2) - GLINT, 0, None) * (distance < 0.95) * visible[..., 0]
    glinting = cv2.dilate((excess > 0).astype(np.float32), np.ones((3, 3)))[..., None]
    glint = np.clip(part - whole, 0, None) * glinting * visible
    disc = whole + visible * (1 - glinting) * (part - whole)
    disc = disc * (1 - 0.35 * np.clip((distance - RIM) / (1 - RIM), 0, 1))[..., None]
    alpha = np.clip((1 - distance) * radius + 0.5, 0, 1)
    return Eye(origin, white, np.dstack([disc, alpha]).astype(np.float32), glint, corners, centre, radius)


def _continued(part: Floats, seen: Floats, tone: Floats, width: float) -> Floats:
    """The white of an eye as far as it is seen, continued smoothly under iris and lids, never darker than it
    should.
    """
    blur = max(width / 10, 1.5)
    near = cv2.GaussianBlur(seen, (0, 0), blur)[..., None]
    smooth = cv2.GaussianBlur(part * seen[..., None], (0, 0), blur) / np.maximum(near, 1e-3)
    share = np.clip(near * 4, 0, 1)
    smooth = tone * 0.92 + share * (smooth - tone * 0.92)
    smooth = np.maximum(smooth, 0.62 * tone)
    real = cv2.GaussianBlur(seen, (0, 0), 0.7)[..., None] * seen[..., None]
    return np.asarray(smooth + real * (part - smooth), np.float32)


def _profile(part: Floats, distance: Floats, seen: npt.NDArray[np.bool_]) -> Floats:
    """Colour of an iris by distance from its middle, ``(BINS, 3)``."""
    bins = np.minimum((distance * BINS).astype(int), BINS)
    profile = np.zeros((BINS, 3), np.float32)
    known = []
    for k in range(BINS):
        pixels = part[seen & (bins == k)]
        if len(pixels) > 1:
            profile[k] = np.median(pixels, 0)
            known.append(k)
    for k in range(BINS):
        if k not in known and known:
            profile[k] = profile[known[int(np.argmin(np.abs(np.array(known) - k)))]]
    return profile


def _put(picture: Image, eye: Eye, upper: Floats, lower: Floats, centre: Floats, size: float, share: float) -> None:
    """Put an eye together between its lids, looking where ``centre`` is, ``share`` opaque (in place)."""
    ring = np.concatenate([upper, lower[-2:0:-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 2, picture.shape[1::-1])
    width, height = int(right - left), int(bottom - top)
    if width < 4 or height < 3:
        return
    alpha = filled(ring - [left, top], height, width)
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(0.5, width / 60))[..., None] * np.float32(share)
    corners = np.array([upper[0], upper[-1]], np.float32)
    # The white lies between the corners; iris and glint keep their size, turned as the eye is.
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
    # The upper lid throws a shadow on what is under it.
    shadow = np.clip(0.7 + 0.3 * (rows - lid) / np.float32(0.11 * width), 0.7, 1)[..., None]
    ball += iris[..., 3:] * (iris[..., :3] - ball)
    ball *= np.where(iris[..., 3:] > 0, shadow, 0.5 + 0.5 * shadow)
    rest = linear_from(back, eye.centre - eye.origin) + [left, top]
    ball += resample(eye.glint, at(rest + GLINT_FOLLOWS * (centre - rest)), width, height)
    region = picture[top:bottom, left:right]
    region[:] = np.clip(region + alpha * (ball - region) + 0.5, 0, 255)


def _place(landmarks: Floats, side: int) -> Floats:
    """An iris relative to its eye's corners, in eye widths."""
    up, _, iris = EYES[side]
    a, b = landmarks[up[0], :2], landmarks[up[-1], :2]
    along = b - a
    width = max(float(along @ along), 1e-6)
    offset = landmarks[iris[0], :2] - (a + b) / 2
    return np.array([offset @ along, offset @ np.array([-along[1], along[0]])], np.float32) / width


def filled(polygon: Floats, height: int, width: int) -> Floats:
    """A polygon ``(n, 2)`` filled softly: ``float32 (height, width)`` in 0..1."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(mask.astype(np.float32) / 255, np.float32)


def linear_from(back: Floats, point: Floats) -> Floats:
    """The point that the 2x3 ``back`` takes to ``point``."""
    return np.asarray(np.linalg.solve(back[:, :2], point - back[:, 2]), np.float32)
