"""A portrait's teeth: plain ones in its light, or its own where it shows them, on the arches of the face model.

The arches stand where skull and jaw are and never stretch with the lips. What a camera sees of the driver's teeth
says where they end.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from avatar_stream.face.fit import Fit
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, model_arrays
from avatar_stream.face.mouth_view import teeth_reach
from avatar_stream.face.outlines import LOWER_INNER_LIP, UPPER_INNER_LIP
from avatar_stream.face.tone import tooth_tone
from avatar_stream.portrait.interior.dental_arch import Arch, Placed
from avatar_stream.portrait.interior.mouth_opening import Hole

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

GUM_SHARE: Final = np.array([0.72, 0.52, 0.55], np.float32)  # of the skin's colour
GAPS: Final = 0.4  # how dark the gaps between teeth are
AT_BACK: Final = 0.2  # light that is left at the back of the arch
# A lower lip covers its teeth but for their edge (eye distances), unless it is drawn down or wide. Of 500 opened
# mouths of training people nine in ten show no lower teeth where the upper ones end above them.
LOWER_SHOWN, DRAWN_DOWN, DRAWN_WIDE = 0.014, 0.14, 0.04
EDGE: Final = 0.25  # how far down the lower arch's picture its teeth end
TALL: Final = 0.35  # of an arch's picture that is teeth
STRETCHED: Final = 1.4  # how much longer teeth may be drawn than they are
MOVED: Final = 0.12  # eye distances that an arch may be moved to where the driver's teeth are seen
_LOWERED: Final = [COEFFICIENT_INDEX[name] for name in ("mouthLowerDownLeft", "mouthLowerDownRight")]
_WIDE: Final = [COEFFICIENT_INDEX[name] for name in ("mouthStretchLeft", "mouthStretchRight")]

OWN: Final = 150  # cells of an arch's picture that must show a tooth for it to be the person's own
LONGER: Final = 12  # cells by which somebody's teeth may be longer or shorter than plain ones
_SPECK = np.ones((5, 9), np.uint8)


class Teeth:
    """Both arches of a person ``identity`` with skin of tone ``skin (3,)``.

    ``soft`` says how blurred the portrait is, in eye distances, and ``glow (3,)`` what its lips throw back.
    """

    def __init__(self, identity: Floats, skin: Floats, soft: float, glow: Floats) -> None:
        self._skin, self._soft, self._glow = skin, soft, glow
        self.tooth = tooth_tone(skin)
        self.arches = {which: Arch(which, identity) for which in ("lower", "upper")}
        self._pictures = {which: self._coloured(which, self.tooth) for which in self.arches}
        self._lower_shown = LOWER_SHOWN

    def placed(self, fit: Fit, target: Floats, view: Floats | None) -> dict[str, Placed]:
        """Both arches in the mouth of ``target (478, 3)``, read as ``fit``; ``view`` is the driver's, if seen."""
        arches = {which: arch.placed(fit) for which, arch in self.arches.items()}
        arches["lower"] = self._covered(arches["lower"], target, fit)
        return arches if view is None else self._as_seen(arches, view, target, fit.pose.scale)

    def draw(
        self, inside: Floats, arches: dict[str, Placed], light: Floats, origin: tuple[int, int], sure: float
    ) -> None:
        """Draw them over ``inside (h, w, 3)``, whose corner is at ``origin``, in ``light (h, w)`` (in place)."""
        height, width = inside.shape[:2]
        for which, placed in arches.items():
            along, below = placed.unrolled(*origin, width, height)
            drawn = _lookup(self._pictures[which], along, below)
            alpha = drawn[..., 3:] * np.float32(sure / 255)
            depth = _depth(along)
            shade = np.clip(depth * light, 0, 1)[..., None]
            # What light is lost is partly made up for by what the lips throw back, in their own tone.
            colour = drawn[..., :3] * shade + (1 - shade) * depth[..., None] * self._glow
            inside += alpha * (colour - inside)

    def take_own(self, picture: Image, landmarks: Floats, hole: Hole, fit: Fit, light: Floats) -> None:
        """Lay the teeth that the portrait shows on the arches, free of the shadow they stand in (in place).

        What its open mouth shows beside them is no tooth, wherever plain ones would be. ``light (h, w)`` is that
        in the hole.
        """
        left, top, right, bottom = hole.box
        covered = np.zeros((bottom - top, right - left), np.float32)
        inner = cv2.erode(hole.alpha, np.ones((3, 3)))
        region = picture[top:bottom, left:right].astype(np.float32)
        likely = tooth_likeness(region, self._skin) * inner
        for which in ("upper", "lower"):
            placed = self.arches[which].placed(fit)
            rows, columns = self._pictures[which].shape[:2]
            line = _resampled(placed.line, columns) - [left, top]
            down = np.arange(rows, dtype=np.float32)[:, None, None] / rows * placed.down
            at = (line + down).astype(np.float32)

            def laid(image: Floats, at: Floats = at) -> Floats:
                return np.asarray(cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))

            ahead = np.clip(_resampled(self.arches[which].ahead(fit)[:, None], columns)[:, 0] * 4, 0, 1)
            seen = laid(inner * (1 - covered)) * ahead
            tooth = laid(likely) * ahead
            own = np.asarray(self._pictures[which])
            kind = np.asarray(model_arrays()[f"{which}_picture"])[..., 0].astype(np.float32) / 255
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

    def _as_seen(self, arches: dict[str, Placed], view: Floats, target: Floats, unit: float) -> dict[str, Placed]:
        """The arches moved to where the driver's teeth end; ``unit`` pixels an eye distance."""
        middle = len(UPPER_INNER_LIP) // 2
        gap = float(np.linalg.norm(target[LOWER_INNER_LIP[middle], :2] - target[UPPER_INNER_LIP[middle], :2]))
        upper, lower = teeth_reach(view)
        out = {}
        for which, seen in (("upper", upper), ("lower", lower)):
            placed = arches[which]
            length = max(float(np.linalg.norm(placed.down)), 1e-6)
            edge = self._upper_edge() if which == "upper" else EDGE
            shown = _upper_display(placed, edge, target) if which == "upper" else _lower_display(placed, target)
            change = seen.sure * float(np.clip(seen.share * gap - shown, -MOVED * unit, MOVED * unit))
            # Teeth that end further from their lip than they are long are longer teeth: no gum was seen.
            longer = min(max((shown + change) / (TALL * length), 1.0), STRETCHED)
            move = (change if which == "upper" else -change) / length - edge * (longer - 1)
            out[which] = Placed(placed.line + np.float32(move) * placed.down, placed.down * np.float32(longer))
        return out

    def _upper_edge(self) -> float:
        """How far down the upper arch's picture its middle teeth end."""
        picture = self._pictures["upper"]
        middle = picture[:, picture.shape[1] // 2 - 6 : picture.shape[1] // 2 + 6, 3].mean(1)
        return float(np.flatnonzero(middle > 127)[-1] + 1) / len(picture)

    def _coloured(self, which: str, tooth: Floats) -> Floats:
        """A plain arch's picture RGBA, 0 to 255: teeth of the colour ``tooth`` and gums in the portrait's light."""
        plain = np.asarray(model_arrays()[f"{which}_picture"], np.float32) * np.float32(1 / 255)
        kind, shade, alpha = plain[..., :1], plain[..., 1:2], plain[..., 2:]
        colour = (tooth * kind + GUM_SHARE * self._skin * (1 - kind)) * shade ** np.float32(GAPS)
        drawn = np.dstack([colour, alpha * 255])
        # As soft as the portrait: sharp teeth in a soft face look pasted.
        cells = (
            self._soft
            * drawn.shape[1]
            / float(np.linalg.norm(np.diff(self.arches[which].curve, axis=0), axis=1).sum())
        )
        return cv2.GaussianBlur(drawn, (0, 0), cells) if cells > 0.3 else drawn


def _lower_display(lower: Placed, target: Floats) -> float:
    """Pixels of the middle lower teeth that stand over the lower lip of ``target``."""
    length = max(float(np.linalg.norm(lower.down)), 1e-6)
    edge = lower.line[len(lower.line) // 2] + EDGE * lower.down
    return float((target[LOWER_INNER_LIP[len(LOWER_INNER_LIP) // 2], :2] - edge) @ lower.down) / length


def _upper_display(upper: Placed, ends: float, target: Floats) -> float:
    """Pixels of the middle upper teeth, which end so far down their arch, below the upper lip of ``target``."""
    length = max(float(np.linalg.norm(upper.down)), 1e-6)
    edge = upper.line[len(upper.line) // 2] + ends * upper.down
    return float((edge - target[UPPER_INNER_LIP[len(UPPER_INNER_LIP) // 2], :2]) @ upper.down) / length


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
