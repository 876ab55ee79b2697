"""Made targets: a still warped by recorded motion, with mouth inside and irises painted where a warp shows none.

The inside of an open mouth is real: from the person's own smile, or from a mouth of similar shape in a training clip,
fitted between the lips. Irises are cut out, completed from their visible part, and placed for the motion's gaze; lids
close with the skin above them.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion, MotionEstimator
from avatar_stream.face.retarget import Retargeter
from avatar_stream.face.tone import skin_tone
from avatar_stream.portrait.interior.eyes import Eyes, fill_polygon
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.triangle_raster import inverse_affines, triangle_map
from avatar_stream.portrait.warp import PortraitWarp
from engines.data.packs import Footage
from engines.data.pairs import CONTEXT_FRAMES, PreparedPortrait, Window, make_window, perturb_landmarks, plain_warp

Image = npt.NDArray[np.uint8]
MIN_OPEN_MOUTH = 0.02  # eye distances; from here the inside is visible
WIDE_MOUTH = 0.15  # eye distances
EYE_RINGS = (list(mesh.RIGHT_EYE_RING), list(mesh.LEFT_EYE_RING))


@dataclass(frozen=True, slots=True)
class DonorMouth:
    """One real mouth: its frame, and its opening and width in eye distances."""

    footage: Footage
    frame: int
    shape: Floats  # (2,)


class Motions:
    """The training clips' motion as the live path estimates it, and all their open mouths."""

    def __init__(self, footage: list[Footage]) -> None:
        self.clips = [f for f in footage if len(f) > CONTEXT_FRAMES + 2]
        self.clip_motions = [motions_of(clip) for clip in self.clips]
        self.mouths = [
            DonorMouth(f, int(k), mouth_shape(f.landmarks[k]))
            for f in footage
            for k in np.flatnonzero(f.has_face & (f.mouth > (MIN_OPEN_MOUTH if len(f) > 1 else 2 * MIN_OPEN_MOUTH)))[
                :: 3 if len(f) > 1 else 1
            ]
        ]
        self._shapes = np.stack([inside.shape for inside in self.mouths])
        # Wide mouths and shut eyes are rare: index their frames.
        self._rare = [
            (number, int(k))
            for number, clip in enumerate(self.clips)
            for k in np.flatnonzero(
                clip.has_face & ((clip.mouth > WIDE_MOUTH) | (clip.eyes < 0.35 * np.median(clip.eyes[clip.has_face])))
            )
        ]

    def draw(self, n: int, random: np.random.Generator) -> tuple[int, list[int]]:
        """Number of a clip and ``CONTEXT_FRAMES + n`` consecutive frames of it, mostly expressive ones."""
        if self._rare and random.random() < 0.4:
            number, j = self._rare[int(random.integers(len(self._rare)))]
            good = self.clips[number].has_face
            return number, [k if good[k] else j for k in np.clip(range(j - CONTEXT_FRAMES, j + n), 0, len(good) - 1)]
        number = int(random.integers(len(self.clips)))
        clip = self.clips[number]
        drawn = random.integers(CONTEXT_FRAMES, len(clip) - n + 1, 4)
        starts = [int(j) for j in drawn if clip.has_face[j - CONTEXT_FRAMES : j + n].all()]
        if not starts:
            return self.draw(n, random)
        j = max(starts, key=lambda j: 6 * clip.mouth[j] - clip.eyes[j] + float(random.random()))
        return number, list(range(j - CONTEXT_FRAMES, j + n))

    def similar_mouth(self, shape: Floats, random: np.random.Generator) -> DonorMouth:
        """A real mouth of about this shape: the nearest of 64 random ones."""
        chosen = random.integers(len(self.mouths), size=64)
        distance = np.abs(np.log(self._shapes[chosen] / np.maximum(shape, 1e-3))) @ np.array([1.0, 1.5])
        return self.mouths[int(chosen[np.argmin(distance)])]


class MadeWindows:
    """Windows of one still under other people's motion."""

    def __init__(self, still: Footage, motions: Motions, person: int = 0) -> None:
        self.still, self.motions, self.person = still, motions, person

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """The portrait is the still with a closed mouth; the targets are made from the original still."""
        picture, landmarks = self.still.picture(0), self.still.landmarks[0]
        at_rest = perturb_landmarks(landmarks, random)
        portrait = plain_warp(picture, landmarks)(at_rest).image
        number, frames = self.motions.draw(n, random)
        clip, motions = self.motions.clips[number], self.motions.clip_motions[number]
        strong = random.random() < 0.3
        retarget = Retargeter(
            at_rest,
            gain=float(random.uniform(1.2, 1.8) if strong else random.uniform(0.8, 1.25)),
            keep=float(random.uniform(0, 0.6)),
        )
        turn = random.normal(0, [0.08, 0.16, 0.05]).astype(np.float32)
        look = np.zeros(2, np.float32)
        if random.random() < 0.6:
            # Recordings hardly show averted gaze, but users will.
            look = np.clip(random.normal(0, [0.2, 0.08]), -0.5, 0.5).astype(np.float32)
        moved = [motions[k] for k in frames]
        targets = [retarget(replace(m, turn=m.turn + turn, look=m.look + look)) for m in moved if m is not None]
        own = float(self.still.mouth[0])
        inside: DonorMouth | None = None
        if random.random() < 0.6:
            inside = self.motions.similar_mouth(mouth_shape(targets[CONTEXT_FRAMES]), random)
        warp, eyes = plain_warp(picture, landmarks), Eyes(picture, landmarks)
        lidded = _without_eyes(picture, landmarks)
        skin = skin_tone(picture, landmarks)
        # Paint the person's own teeth, which the portrait hides, or another person's mouth.
        interior = Interior(picture, landmarks) if own > 2 * MIN_OPEN_MOUTH and random.random() < 0.5 else None
        drawn = plain_warp(picture, landmarks, drawn=True)
        pictures = []
        for k, target in zip(frames[CONTEXT_FRAMES:], targets[CONTEXT_FRAMES:], strict=True):
            made = np.ascontiguousarray((warp if interior is None else drawn)(target).image)
            if interior is not None:
                interior.draw(made, target)
            else:
                eyes.draw(made, target)
            shut = _lid_closure(target, landmarks)
            if max(shut) > 0:
                _close_lids(made, target, _warp_other(warp, lidded, target), shut, skin)
            if interior is None and geometry.mouth_opening(target) > MIN_OPEN_MOUTH:
                paint_inside(made, target, skin, inside or DonorMouth(clip, k, mouth_shape(clip.landmarks[k])))
            pictures.append(made)
        back = plain_warp(portrait, at_rest, drawn=True)
        return make_window(
            PreparedPortrait.of(back, portrait, at_rest), targets, pictures, self.person, random=random
        )


def mouth_shape(landmarks: Floats) -> Floats:
    """Mouth opening, and width between the inner lips' corners, in eye distances: ``(2,)``."""
    width = np.linalg.norm(landmarks[78] - landmarks[308]) / max(geometry.eye_distance(landmarks), 1e-6)
    return np.array([geometry.mouth_opening(landmarks), width], np.float32)


def paint_inside(picture: Image, target: Floats, skin: Floats, inside: DonorMouth) -> None:
    """Fit a real mouth's inside between the lips of ``target`` (in place), with its light matched to ``skin``."""
    donor, points = inside.footage.picture(inside.frame), inside.footage.landmarks[inside.frame]
    ring = target[list(mesh.MOUTH_RING), :2]
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 3, [picture.shape[1], picture.shape[0]])
    if right - left < 4 or bottom - top < 4:
        return
    side = int(max(right - left, bottom - top))
    local = target[:, :2] - [left, top]
    triangles = mesh.mouth_triangles()
    seen = triangle_map(local.astype(np.float32), triangles, side)
    affine = inverse_affines(local.astype(np.float32), points[:, :2], triangles)[np.maximum(seen, 0)]
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    at = np.stack(
        [affine[..., 3 * r] * x + affine[..., 3 * r + 1] * y + affine[..., 3 * r + 2] for r in (0, 1)], -1
    ).astype(np.float32)
    moved = cv2.remap(donor, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    light = np.clip(skin / np.maximum(skin_tone(donor, points), 8), 0.5, 2.0) ** 0.8
    mask = fill_polygon(ring - [left, top], side, side) * (seen >= 0)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    region = np.s_[top:bottom, left:right]
    inner = np.s_[: bottom - top, : right - left]
    picture[region] = np.clip(picture[region] + mask[inner] * (moved[inner] * light - picture[region]), 0, 255)


def _lid_closure(target: Floats, landmarks: Floats) -> tuple[float, float]:
    """How far each lid (right, left) is closed over the last third of its way, 0 to 1."""
    openings = zip(geometry.eye_openings(target), geometry.eye_openings(landmarks), strict=True)
    right, left = (1 - min(max(now / max(then, 1e-3) / 0.35, 0.0), 1.0) for now, then in openings)
    return right, left


def _without_eyes(picture: Image, landmarks: Floats) -> Image:
    """The picture with both eyes inpainted with the surrounding skin."""
    height, width = picture.shape[:2]
    reach = max(3, round(geometry.eye_distance(landmarks) / 22)) | 1
    mask = np.maximum.reduce([fill_polygon(landmarks[ring, :2], height, width) for ring in EYE_RINGS])
    mask = cv2.dilate((mask > 0.05).astype(np.uint8), np.ones((reach, reach), np.uint8))
    return np.asarray(cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA), np.uint8)


def _warp_other(warp: PortraitWarp, picture: Image, target: Floats) -> Image:
    """Warp another picture as ``warp`` does its own."""
    flow = cv2.resize(warp.flow(target)[0], warp.size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.remap(picture, flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _close_lids(picture: Image, target: Floats, lidded: Image, shut: tuple[float, float], skin: Floats) -> None:
    """Draw skin over shut eyes and a dark line where lids meet (in place): a warp leaves the eye open by a slit."""
    height, width = picture.shape[:2]
    span = geometry.eye_distance(target)
    for share, ring in zip(shut, EYE_RINGS, strict=True):
        over = np.zeros((height, width), np.uint8)
        line = np.zeros((height, width), np.uint8)
        points = np.round(target[ring, :2] * 16).astype(np.int32)
        cv2.polylines(over, [points], True, 255, max(3, round(span / 9)), cv2.LINE_AA, 4)
        upper = points[: len(mesh.RIGHT_LID_UPPER)]
        cv2.polylines(line, [upper], False, 255, max(1, round(span / 60)), cv2.LINE_AA, 4)
        alpha = cv2.GaussianBlur(over, (0, 0), span / 60).astype(np.float32)[..., None] * (share / 255)
        picture[:] = np.clip(picture + alpha * (lidded.astype(np.float32) - picture), 0, 255)
        alpha = cv2.GaussianBlur(line, (0, 0), 0.6).astype(np.float32)[..., None] * (0.6 * share / 255)
        picture[:] = np.clip(picture + alpha * (0.3 * skin - picture), 0, 255)


def motions_of(clip: Footage) -> list[Motion | None]:
    """A clip's motion by frame, as the live path estimates it; None if there is no face."""
    driver = MotionEstimator()
    return [driver(face) if good else None for face, good in zip(clip.landmarks, clip.has_face, strict=True)]
