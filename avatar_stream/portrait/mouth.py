"""What is inside an opened mouth: teeth, gums, tongue and the dark behind them, at the picture's own resolution.

The arches stand where the face model's fit has skull and jaw and never stretch with the lips. Where the portrait
shows its teeth they are its own, laid on the arch once; the rest are plain ones in the portrait's light.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from avatar_stream.face import geometry, mesh
from avatar_stream.face.fit import Fit
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import INDEX, shipped
from avatar_stream.portrait.arch import Arch, Placed
from avatar_stream.portrait.lines import spline
from avatar_stream.portrait.tone import lip_tone, skin_tone, softness

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# Colours of a mouth in the light of a portrait's skin. Teeth: least squares over 664 training stills.
TOOTH_SHARE, TOOTH_OFFSET = np.array([0.80, 0.85, 0.85], np.float32), np.array([40, 52, 53], np.float32)
GUM_SHARE: Final = np.array([0.72, 0.52, 0.55], np.float32)
TONGUE_SHARE: Final = np.array([0.94, 0.71, 0.75], np.float32)
DARK_SHARE: Final = np.array([0.27, 0.14, 0.15], np.float32)
# Light: how much reaches the teeth just under the upper lip, how far down it is whole (eye distances), how much is
# left at the back of the arch.
UNDER_LIP, LIP_REACH, AT_BACK = 0.55, 0.035, 0.2
# Lips drawn back by a smile let more light in than lips that only part.
LIGHT_PARTED, LIGHT_SMILING = 0.48, 0.57
# A mouth that opens lets more light in: share of it at a gap that hardly shows teeth and at a good one.
LIGHT_NARROW, NARROW = 0.62, (0.05, 0.15)
GAPS = 0.4  # how dark the gaps between teeth are
AMBIENT = 0.45
TONGUE: Final = (0.24, 0.34)  # half its width and how far up it is seen, eye distances
DEEPER, GAPING = 0.14, (0.26, 0.40)  # how much further up in a gaping mouth, and the gap from which and to which
FADES: Final = (0.8, 0.45)  # light that the tongue loses up to its back, in a mouth that is open and one that gapes
# A lower lip covers its teeth but for their edge (eye distances), unless it is drawn down or wide. Of 500 opened
# mouths of training people nine in ten show no lower teeth where the upper ones end above them.
LOWER_SHOWN, DRAWN_DOWN, DRAWN_WIDE = 0.014, 0.14, 0.04
EDGE: Final = 0.25  # how far down the lower arch's picture its teeth end
_LOWERED: Final = [INDEX[name] for name in ("mouthLowerDownLeft", "mouthLowerDownRight")]
_WIDE: Final = [INDEX[name] for name in ("mouthStretchLeft", "mouthStretchRight")]
_SMILING: Final = [INDEX[name] for name in ("mouthSmileLeft", "mouthSmileRight")]

LEAST: Final = 0.8  # pixels between the lips from which there is an inside
SHOWN: Final = 0.025  # opening (eye distances) from which a portrait may show its teeth
CLOSING: Final = 0.035  # gap (eye distances) below which teeth that showed are covered
SEAM: Final = 0.024  # how far beyond the landmarks of closed lips their teeth still show
# Error of a fit's lips, eye distances: of 366 frames of dev clips none had more than 0.055.
UNTRUSTED: Final = (0.07, 0.11)
OWN: Final = 150  # cells of an arch's picture that must show a tooth for it to be the person's own
LONGER: Final = 12  # cells by which somebody's teeth may be longer or shorter than plain ones
_SPECK = np.ones((5, 9), np.uint8)
SMOOTH: Final = 31  # points along each lip
_UPPER, _LOWER = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
_OUTER_UPPER, _OUTER_LOWER = list(mesh.OUTER_LIP_UPPER), list(mesh.OUTER_LIP_LOWER)


_LIP_SPLINE = spline(len(_UPPER), SMOOTH)


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a mouth is open: ``box`` (left, top, right, bottom) in pixels and ``alpha`` ``(h, w)`` 0 to 1 in it."""

    box: tuple[int, int, int, int]
    alpha: Floats

    @property
    def gap(self) -> float:
        """Its greatest height in pixels."""
        return float((self.alpha > 0.5).sum(0).max())


def hole_between(target: Floats, width: int, height: int) -> Hole | None:
    """The opening between the inner lips of landmarks ``target (478, 3)``; None where they are closed."""
    upper, lower = _LIP_SPLINE @ target[_UPPER, :2], _LIP_SPLINE @ target[_LOWER, :2]
    across = target[308, :2] - target[78, :2]
    length = max(float(np.linalg.norm(across)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32) / length
    gap = (lower - upper) @ down
    if gap.max() < LEAST:
        return None
    # Lips that cross at a corner leave no hole there.
    middle = (upper + lower) / 2
    upper = np.where(gap[:, None] < 0, middle, upper)
    lower = np.where(gap[:, None] < 0, middle, lower)
    ring = np.concatenate([upper, lower[-2:0:-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 3, [width, height])
    if right - left < 4 or bottom - top < 3:
        return None
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.round((ring - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # On the far side of a turned head the inner lips may come to lie beyond the outer ones.
    lips = np.zeros_like(mask)
    outline = np.concatenate([_LIP_SPLINE @ target[line, :2] for line in (_OUTER_UPPER, _OUTER_LOWER[::-1])])
    cv2.fillPoly(lips, [np.round((outline - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # Soft by about a hundredth of the mouth: lips have no cut edge.
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, length / 110))
    alpha = cv2.min(soft, lips).astype(np.float32) * np.float32(1 / 255)
    return Hole((int(left), int(top), int(right), int(bottom)), np.asarray(alpha, np.float32))


class Mouth:
    """The inside of one portrait's mouth.

    ``picture`` RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels, read as ``fit`` of a person ``identity``.
    """

    def __init__(self, picture: Image, landmarks: Floats, fit: Fit, identity: Floats) -> None:
        self.skin = skin_tone(picture, landmarks)
        self._soft = softness(picture, landmarks) / geometry.eye_distance(landmarks)
        self._gaps = geometry.lip_gaps(landmarks)
        self._shows_teeth = bool(self._gaps.max() > SHOWN)
        self._lips = lip_tone(picture, landmarks, self.skin)
        self._arches = {which: Arch(which, identity) for which in ("lower", "upper")}
        self.tooth = np.minimum(TOOTH_SHARE * self.skin + TOOTH_OFFSET, 245)
        self._glow = self.skin * np.array([1, 0.72, 0.68], np.float32) * np.float32(AMBIENT)
        self._pictures = {which: self._coloured(which, self.tooth) for which in self._arches}
        self._lower_shown = LOWER_SHOWN
        hole = hole_between(landmarks, picture.shape[1], picture.shape[0])
        if hole is not None and self._shows_teeth:
            self._take_own(picture, landmarks, hole, fit)

    def draw(self, picture: Image, target: Floats, fit: Fit) -> Hole | None:
        """Draw the inside of the mouth of ``target (478, 3)``, read as ``fit``, into ``picture`` (in place)."""
        height, width = picture.shape[:2]
        # What the portrait shows as it is needs no drawing: a warp has it better.
        share = geometry.step(*geometry.MOUTH_CHANGED, float(np.abs(geometry.lip_gaps(target) - self._gaps).max()))
        hole = hole_between(target, width, height) if share > 0 else None
        if share > 0 and self._shows_teeth:
            self._seal(picture, target)
        if hole is None:
            return None
        left, top, right, bottom = hole.box
        size = (left, top, right - left, bottom - top)
        arches = {which: arch.placed(fit) for which, arch in self._arches.items()}
        arches["lower"] = self._covered(arches["lower"], target, fit)
        inside = self._back(hole, arches["lower"], fit.pose.scale)
        light = self._light(hole, fit)
        # Where the fit fails teeth would stand anywhere: then there is only the dark.
        sure = 1 - geometry.step(*UNTRUSTED, fit.mouth_error)
        for which, placed in arches.items():
            along, below = placed.unrolled(*size)
            drawn = _lookup(self._pictures[which], along, below)
            alpha = drawn[..., 3:] * np.float32(sure / 255)
            depth = _depth(along)
            shade = np.clip(depth * light, 0, 1)[..., None]
            # What light is lost is partly made up for by what the lips throw back, in their own tone.
            colour = drawn[..., :3] * shade + (1 - shade) * depth[..., None] * self._glow
            inside += alpha * (colour - inside)
        region = picture[top:bottom, left:right]
        region[:] = np.clip(region + (hole.alpha * np.float32(share))[..., None] * (inside - region) + 0.5, 0, 255)
        return hole

    def _covered(self, lower: Placed, target: Floats, fit: Fit) -> Placed:
        """The ``lower`` arch no higher over the lower lip of ``target`` than such lips show it.

        Jaws are read from lips and chin only, and an error of two millimetres doubles the teeth that show.
        """
        lowered, wide = (float(fit.coefficients[names].mean()) for names in (_LOWERED, _WIDE))
        allowed = self._lower_shown + DRAWN_DOWN * lowered + DRAWN_WIDE * wide
        excess = _lower_display(lower, target) / fit.pose.scale - allowed
        if excess <= 0:
            return lower
        unit = lower.down / max(float(np.linalg.norm(lower.down)), 1e-6)
        return Placed(lower.line + np.float32(excess * fit.pose.scale) * unit, lower.down)

    def _seal(self, picture: Image, target: Floats) -> None:
        """Lay the tone of the lips over what is left of teeth between lips that close (in place)."""
        upper, lower = _LIP_SPLINE @ target[_UPPER, :2], _LIP_SPLINE @ target[_LOWER, :2]
        unit = geometry.eye_distance(target)
        gaps = np.linalg.norm(lower - upper, axis=1) / unit
        closing = 1 - np.clip(gaps / CLOSING, 0, 1)
        if closing.max() <= 0:
            return
        along = target[308, :2] - target[78, :2]
        down = np.array([-along[1], along[0]], np.float32) / max(float(np.linalg.norm(along)), 1e-6)
        showed = np.clip((_LIP_SPLINE @ self._gaps) / 0.05, 0, 1)
        half = np.where(closing > 0, 0.5 * gaps + SEAM * showed * closing, 0) * unit
        middle = (upper + lower) / 2
        ring = np.concatenate([middle - half[:, None] * down, (middle + half[:, None] * down)[::-1]])
        left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 3, 0)
        right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 4, picture.shape[1::-1])
        if right - left < 4 or bottom - top < 3:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [np.round((ring - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        line = np.zeros_like(mask)
        thick = max(1, round(0.012 * unit))
        cv2.polylines(
            line, [np.round((middle - [left, top]) * 16).astype(np.int32)], False, 255, thick, cv2.LINE_AA, 4
        )
        alpha = cv2.GaussianBlur(mask.astype(np.float32) * (1 / 255), (0, 0), max(0.7, 0.009 * unit))
        dark = cv2.GaussianBlur(line.astype(np.float32) * (1 / 255), (0, 0), max(0.6, 0.008 * unit))
        columns = np.arange(left, right)
        order = np.argsort(middle[:, 0])
        share = np.interp(columns, middle[order, 0], closing[order]).astype(np.float32)
        tone = self._lips * (1 - 0.42 * dark[..., None])
        region = picture[top:bottom, left:right]
        region[:] = np.clip(region + (alpha * share)[..., None] * (tone - region) + 0.5, 0, 255)

    def _light(self, hole: Hole, fit: Fit) -> Floats:
        smiling = float(fit.coefficients[_SMILING].mean())
        light = _light(hole, fit.pose.scale)
        opened = geometry.step(*NARROW, hole.gap / fit.pose.scale)
        light *= np.float32(LIGHT_NARROW + (1 - LIGHT_NARROW) * opened)
        return light * np.float32(LIGHT_PARTED + LIGHT_SMILING * min(smiling * 1.6, 1.0))

    def _back(self, hole: Hole, lower: Placed, unit: float) -> Floats:
        """The dark of the mouth, and the tongue in it, behind the ``lower`` arch; ``unit`` pixels an eye distance."""
        left, top, right, bottom = hole.box
        width, height = right - left, bottom - top
        gaping = geometry.step(*GAPING, hole.gap / unit)
        dark = DARK_SHARE * self.skin
        x = np.arange(left, left + width, dtype=np.float32)
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        # The tongue rests behind the lower teeth and goes with the jaw: nearest, and lightest, at its tip.
        down = lower.down / max(float(np.linalg.norm(lower.down)), 1e-6)
        tip = lower.line[len(lower.line) // 2] + 0.55 * lower.down
        across = ((x - tip[0]) * down[1] - (y - tip[1]) * down[0]) / np.float32(TONGUE[0] * unit)
        back = -((x - tip[0]) * down[0] + (y - tip[1]) * down[1]) / np.float32((TONGUE[1] + DEEPER * gaping) * unit)
        inside = 1 - across**2 - np.maximum(back, 0) ** 2
        alpha = np.clip(inside * 2.5, 0, 1)[..., None]
        groove = 1 - 0.06 * np.exp(-((across / 0.2) ** 2))
        lit = (
            np.clip(1 - (FADES[0] + (FADES[1] - FADES[0]) * gaping) * np.clip(back, 0, 1), 0, 1)
            * groove
            * (1 - 0.3 * across**2)
        )
        tongue = TONGUE_SHARE * self.skin * lit[..., None]
        return np.asarray(dark + alpha * (tongue - dark), np.float32)

    def _coloured(self, which: str, tooth: Floats) -> Floats:
        """A plain arch's picture RGBA, 0 to 255: teeth of the colour ``tooth`` and gums in the portrait's light."""
        plain = np.asarray(shipped()[f"{which}_picture"], np.float32) * np.float32(1 / 255)
        kind, shade, alpha = plain[..., :1], plain[..., 1:2], plain[..., 2:]
        colour = (tooth * kind + GUM_SHARE * self.skin * (1 - kind)) * shade ** np.float32(GAPS)
        drawn = np.dstack([colour, alpha * 255])
        # As soft as the portrait: sharp teeth in a soft face look pasted.
        cells = (
            self._soft
            * drawn.shape[1]
            / float(np.linalg.norm(np.diff(self._arches[which].curve, axis=0), axis=1).sum())
        )
        return cv2.GaussianBlur(drawn, (0, 0), cells) if cells > 0.3 else drawn

    def _take_own(self, picture: Image, landmarks: Floats, hole: Hole, fit: Fit) -> None:
        """Lay the teeth that the portrait shows on the arches, free of the shadow they stand in (in place).

        What its open mouth shows beside them is no tooth, wherever plain ones would be.
        """
        left, top, right, bottom = hole.box
        light = self._light(hole, fit)
        covered = np.zeros((bottom - top, right - left), np.float32)
        inner = cv2.erode(hole.alpha, np.ones((3, 3)))
        region = picture[top:bottom, left:right].astype(np.float32)
        likely = tooth_likeness(region, self.skin) * inner
        for which in ("upper", "lower"):
            placed = self._arches[which].placed(fit)
            rows, columns = self._pictures[which].shape[:2]
            line = _resampled(placed.line, columns) - [left, top]
            down = np.arange(rows, dtype=np.float32)[:, None, None] / rows * placed.down
            at = (line + down).astype(np.float32)

            def laid(image: Floats, at: Floats = at) -> Floats:
                return np.asarray(cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))

            ahead = np.clip(_resampled(self._arches[which].ahead(fit)[:, None], columns)[:, 0] * 4, 0, 1)
            seen = laid(inner * (1 - covered)) * ahead
            tooth = laid(likely) * ahead
            own = np.asarray(self._pictures[which])
            kind = np.asarray(shipped()[f"{which}_picture"])[..., 0].astype(np.float32) / 255
            trusted = seen * tooth * (kind > 0.5)
            if trusted.sum() < OWN:
                continue
            if which == "lower":
                self._lower_shown = max(LOWER_SHOWN, _lower_display(placed, landmarks) / fit.pose.scale)
            depth = _depth(np.linspace(0, 1, columns, dtype=np.float32))[None, :, None]
            shade = np.clip(depth * laid(light)[..., None], 0.25, 1)
            found = np.clip((laid(region) - (1 - shade) * depth * self._glow) / shade, 0, 255)
            # Plain teeth take the tone of those that are seen.
            weight = (trusted * own[..., 3])[..., None]
            tone = (found * weight).sum((0, 1)) / np.maximum((own[..., :3] * weight).sum((0, 1)), 1e-3)
            plain = self._coloured(which, np.clip(self.tooth * tone, 20, 255))
            share = cv2.GaussianBlur(np.clip(seen * 1.5 - 0.25, 0, 1), (0, 0), 1.5)[..., None]
            # Specks of light on a lip are no teeth.
            sure = cv2.morphologyEx(((tooth > 0.5) & (seen > 0.5)).astype(np.uint8), cv2.MORPH_OPEN, _SPECK) > 0
            ends = _ends(seen > 0.5, sure, kind, which == "upper")
            mixed = np.dstack([found, np.where(ends, 0, np.maximum(own[..., 3], 255 * sure))])
            mixed[..., 3] = cv2.GaussianBlur(mixed[..., 3], (0, 0), 1.2)
            # Nothing is known below an edge that is seen, but that the tooth is over.
            share = np.where(ends[..., None], 1, share)
            self._pictures[which] = (plain + share * (mixed - plain)).astype(np.float32)
            # Seen from the front the upper teeth hide the lower ones.
            along, below = placed.unrolled(left, top, right - left, bottom - top)
            covered = np.maximum(covered, _lookup(self._pictures[which], along, below)[..., 3] / 255)


def _lower_display(lower: Placed, target: Floats) -> float:
    """Pixels of the middle lower teeth that stand over the lower lip of ``target``."""
    length = max(float(np.linalg.norm(lower.down)), 1e-6)
    edge = lower.line[len(lower.line) // 2] + EDGE * lower.down
    return float((target[_LOWER[len(_LOWER) // 2], :2] - edge) @ lower.down) / length


def _lookup(picture: Floats, along: Floats, below: Floats) -> Floats:
    height, width = picture.shape[:2]
    x, y = along * np.float32(width) - np.float32(0.5), below * np.float32(height) - np.float32(0.5)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.float32)


def tooth_likeness(picture: Floats, skin: Floats) -> Floats:
    """How much each pixel of ``picture (h, w, 3)`` looks like a tooth, 0 to 1: as bright as skin, and less red."""
    grey = picture @ np.array([0.3, 0.59, 0.11], np.float32)
    bright = grey / max(float(skin @ np.array([0.3, 0.59, 0.11], np.float32)), 1.0)
    pale = picture[..., 1] / np.maximum(picture[..., 0], 1) - skin[1] / max(float(skin[0]), 1.0)
    return np.asarray(np.clip((bright - 0.45) / 0.3, 0, 1) * np.clip((pale + 0.06) / 0.1, 0, 1), np.float32)


def _ends(seen: Mask, tooth: Mask, kind: Floats, upper: bool) -> Mask:
    """Cells of an arch's picture beyond the biting edge of the person's own teeth, where that edge is seen.

    ``kind`` says where plain teeth are: own ones are at most ``LONGER`` cells longer or shorter.
    """
    if not upper:
        return _ends(seen[::-1], tooth[::-1], kind[::-1], True)[::-1]
    rows, columns = seen.shape
    at = np.arange(rows)
    plain = np.where(kind > 0.5, at[:, None], -1).max(0)
    edge = np.full(columns, np.nan)
    for k in range(columns):
        teeth, open_rows = np.flatnonzero(tooth[:, k] & seen[:, k]), np.flatnonzero(seen[:, k])
        # A tooth that reaches the lower lip does not show where it ends.
        if len(teeth) and plain[k] > 0 and open_rows[-1] - teeth[-1] > 1:
            edge[k] = np.clip(teeth[-1] + 1, plain[k] - LONGER, plain[k] + LONGER)
    known = np.isfinite(edge)
    if known.sum() < 8:
        return np.zeros_like(seen)
    smooth = np.interp(np.arange(columns), np.flatnonzero(known), edge[known])
    smooth = cv2.GaussianBlur(median_filter(smooth, 9)[None].astype(np.float32), (0, 0), 1.2)[0]
    near = cv2.dilate(known[None].astype(np.uint8), np.ones((1, 5), np.uint8))[0] > 0
    return np.asarray((at[:, None] > smooth) & near, np.bool_)


def _resampled(line: Floats, count: int) -> Floats:
    """``line (n, k)`` at ``count`` cell centres along it."""
    at = (np.arange(count) + 0.5) / count * (len(line) - 1)
    return np.stack([np.interp(at, np.arange(len(line)), line[:, k]) for k in range(line.shape[1])], 1)


def _depth(along: Floats) -> Floats:
    """Less light reaches what lies further back along the arch."""
    from_front = np.abs(along - np.float32(0.5)) * 2
    return np.asarray(1 - np.float32(1 - AT_BACK) * np.clip((from_front - 0.15) / 0.6, 0, 1), np.float32)


def _light(hole: Hole, unit: float) -> Floats:
    """Shadow of the lips on what is behind them, deepest under the upper one."""
    inside = (hole.alpha > 0.5).astype(np.uint8)
    height = inside.shape[0]
    rows = np.arange(height, dtype=np.float32)[:, None]
    first = np.where(inside.any(0), inside.argmax(0), height)
    under = np.clip((rows - first) / np.float32(LIP_REACH * unit), 0, 1)
    around = np.clip(cv2.distanceTransform(inside, cv2.DIST_L2, 3) / np.float32(0.4 * LIP_REACH * unit), 0, 1)
    light = UNDER_LIP + (1 - UNDER_LIP) * under * (0.5 + 0.5 * around)
    return np.asarray(light, np.float32)
