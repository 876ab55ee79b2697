"""Eyes: what a warp makes wrong of them, laid over it. Irises that turn, and lids that shut.

A mesh drags an iris together with the white around it, and squeezes an open eye into a slit. Here the iris is cut out
once, completed from what the lids leave visible of it, and set where the eye looks, over an eye that is all white.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats

Image = npt.NDArray[np.uint8]

LASHES: Final = 0.45  # how dark the line of shut lids is
SEEN: Final = 0.3  # share of an iris that must be visible to complete it
# (lids, iris, corners) of the right and of the left eye
EYES: Final = (
    (list(mesh.RIGHT_EYE_RING), list(mesh.RIGHT_IRIS), [mesh.RIGHT_LID_UPPER[0], mesh.RIGHT_LID_UPPER[-1]]),
    (list(mesh.LEFT_EYE_RING), list(mesh.LEFT_IRIS), [mesh.LEFT_LID_UPPER[0], mesh.LEFT_LID_UPPER[-1]]),
)
_BINS = 6  # rings of an iris that have a colour each
_AROUND = (21, 15)  # pixels over which skin is taken for a lid


@dataclass(frozen=True, slots=True)
class Iris:
    """One iris as its picture shows it.

    ``picture`` RGB ``(h, w, 3)`` and ``visible`` ``(h, w)`` in 0..1 share pixels with ``centre`` and ``radius``;
    ``profile`` ``(6, 3)`` is its colour from the middle outwards.
    """

    picture: Image
    visible: Floats
    centre: Floats
    radius: float
    profile: Floats


def filled(polygon: npt.NDArray[np.float32], height: int, width: int) -> Floats:
    """A polygon ``(n, 2)`` filled softly: ``float32 (height, width)`` in 0..1."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def without_irises(picture: Image, landmarks: Floats) -> tuple[Image, list[Iris | None]]:
    """``picture`` with both eyes all white, and the irises that were in them; None where too little is seen.

    ``landmarks (478, 2+)`` are in its pixels.
    """
    blind = picture.copy()
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    irises: list[Iris | None] = []
    for ring, points, _ in EYES:
        centre, radius = _disc(landmarks, points)
        lids = landmarks[ring, :2]
        eye = filled(lids, height, width)
        distance = np.hypot(x - centre[0], y - centre[1])
        white = (eye > 0.9) & (distance > 1.2 * radius)
        seen = (eye > 0.9) & (distance < radius)
        if white.sum() < 8 or radius < 2 or seen.sum() < SEEN * np.pi * radius**2:
            irises.append(None)
            continue
        whites = picture[white].astype(np.float32)
        bright = whites.sum(1) >= np.median(whites.sum(1))
        tone = np.median(whites[bright], 0)
        down = np.clip((y - lids[:, 1].min()) / max(float(np.ptp(lids[:, 1])), 1.0), 0, 1)[..., None]
        hidden = cv2.GaussianBlur(((eye > 0.5) & (distance < 1.15 * radius)).astype(np.float32), (0, 0), 0.8)
        hidden = (hidden * eye)[..., None]
        blind = np.clip(blind + hidden * (tone * (0.78 + 0.22 * down) - blind), 0, 255).astype(np.uint8)
        bins = np.minimum((distance / radius * _BINS).astype(int), _BINS)
        profile = np.zeros((_BINS, 3), np.float32)
        for k in range(_BINS):
            ring_pixels = picture[seen & (bins == k)]
            profile[k] = np.median(ring_pixels, 0) if len(ring_pixels) else profile[max(k - 1, 0)]
        visible = cv2.GaussianBlur(cv2.erode(seen.astype(np.float32), np.ones((3, 3))), (0, 0), 0.7)
        irises.append(Iris(picture, visible, centre, radius, profile))
    return blind, irises


def set_iris(picture: Image, target: Floats, eye: int, iris: Iris, share: float = 1) -> None:
    """Set an iris where ``target`` looks, behind its lids, ``share`` opaque (in place). ``eye`` indexes ``EYES``."""
    ring, points, _ = EYES[eye]
    centre, radius = _disc(target, points)
    lids = target[ring, :2]
    reach = int(radius) + 3
    left, top = (max(int(v) - reach, 0) for v in centre)
    right, bottom = (min(int(v) + reach + 1, s) for v, s in zip(centre, picture.shape[1::-1], strict=True))
    if right - left < 3 or bottom - top < 3 or radius < 1.5:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    at = (np.stack([x, y], -1) - centre) * (iris.radius / radius) + iris.centre
    at = at.astype(np.float32)
    seen = cv2.remap(iris.picture, at, None, cv2.INTER_LINEAR).astype(np.float32)
    visible = cv2.remap(iris.visible, at, None, cv2.INTER_LINEAR)[..., None]
    bins = np.clip(distance * _BINS - 0.5, 0, _BINS - 1)
    low = bins.astype(int)
    part = (bins - low)[..., None]
    completed = iris.profile[low] * (1 - part) + iris.profile[np.minimum(low + 1, _BINS - 1)] * part
    colour = completed + visible * (seen - completed)
    # The upper lid throws a shadow on the iris.
    down = (y - lids[:, 1].min()) / max(float(np.ptp(lids[:, 1])), 1.0)
    colour *= np.clip(0.72 + 0.7 * down, 0, 1)[..., None]
    alpha = np.clip((1 - distance) * radius + 0.5, 0, 1) * filled(lids - [left, top], bottom - top, right - left)
    region = np.s_[top:bottom, left:right]
    picture[region] = np.clip(picture[region] + share * alpha[..., None] * (colour - picture[region]), 0, 255)


class Gaze:
    """Both eyes of one portrait, ready to look elsewhere.

    ``face`` RGB ``(h, w, 3)`` is the portrait in the aligned frame, ``points (478, 2+)`` its landmarks there.
    """

    def __init__(self, face: Image, points: Floats) -> None:
        self._face, self._points = face, points

    @cached_property
    def _cut_out(self) -> tuple[Image, list[Iris | None]]:
        """Done when an eye first turns: most faces described in training never turn theirs."""
        return without_irises(self._face, self._points)

    def turn(self, picture: Image, target: Floats, share: float) -> None:
        """Lay eyes that look where ``target (478, 2+)`` does over ``picture`` (in place), ``share`` opaque."""
        blind, irises = self._cut_out
        for k, (iris, (ring, _, corners)) in enumerate(zip(irises, EYES, strict=True)):
            if iris is None:
                continue
            lids = target[ring, :2]
            left, top = np.maximum(np.floor(lids.min(0)).astype(int) - 1, 0)
            right, bottom = np.minimum(np.ceil(lids.max(0)).astype(int) + 2, picture.shape[1::-1])
            if right - left < 4 or bottom - top < 3:
                continue
            back = _between(target[corners, :2] - [left, top], self._points[corners, :2])
            white = cv2.warpAffine(
                blind, back, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            alpha = filled(lids - [left, top], bottom - top, right - left)[..., None] * np.float32(share)
            eye = picture[top:bottom, left:right]
            eye[:] = eye + alpha * (white.astype(np.float32) - eye)
            set_iris(picture, target, k, iris, share)


def shut_lid(band: Image, region: Image, lashes: Image, share: float) -> None:
    """Grow skin over an eye that is all but shut, dark where the lids meet (in place).

    ``band`` RGB is the part of the picture around the eye; ``region`` and ``lashes``, of any size, cover it.
    """
    height, width = band.shape[:2]
    inside = cv2.resize(region, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32) * (1 / 255)
    outside = (1 - inside)[..., None]
    around = cv2.blur(band * outside, _AROUND)
    known = cv2.blur(outside, _AROUND)[..., None]
    line = cv2.resize(lashes, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)[..., None]
    skin = around / np.maximum(known, 1e-3) * (1 - line * np.float32(LASHES / 255))
    band[:] = band + inside[..., None] * np.float32(share) * (skin - band)


def _disc(landmarks: Floats, points: list[int]) -> tuple[Floats, float]:
    centre = landmarks[points[0], :2]
    return centre, float(np.linalg.norm(landmarks[points[1:], :2] - centre, axis=1).mean())


def _between(here: Floats, there: Floats) -> Floats:
    """The 2x3 similarity that takes the two points ``here`` to ``there``."""
    a, b = complex(*(here[1] - here[0])), complex(*(there[1] - there[0]))
    ratio = b / a if abs(a) > 1e-6 else 1
    linear = np.array([[ratio.real, -ratio.imag], [ratio.imag, ratio.real]])
    return np.asarray(np.column_stack([linear, there[0] - linear @ here[0]]), np.float32)
