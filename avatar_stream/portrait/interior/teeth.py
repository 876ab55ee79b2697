"""A portrait's teeth on the face model's arches: the portrait's own where it shows them, else generic ones.

The arches are placed by skull and jaw, and never stretch with the lips. If a camera sees the driver's teeth, it sets
where they end.
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
from avatar_stream.portrait.interior.dental_arch import Arch, PlacedArch
from avatar_stream.portrait.interior.mouth_opening import MouthOpening

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

GUM_COLOUR: Final = np.array([0.72, 0.52, 0.55], np.float32)  # relative to the skin
GAP_DARKNESS: Final = 0.4  # of the gaps between teeth
LIGHT_AT_BACK: Final = 0.2  # of the arch, over the light at its front
# Eye distances of the lower teeth that show above the lower lip: at rest, more if the lip is lowered or the mouth is
# stretched. Nine in ten of 500 open mouths of training people show no lower teeth if the upper ones end above them.
LOWER_TEETH_SHOWN, SHOWN_PER_LOWERED_LIP, SHOWN_PER_STRETCHED_MOUTH = 0.014, 0.14, 0.04
LOWER_TEETH_END: Final = 0.25  # edge of the teeth, as a share of the lower arch's picture from its top
TEETH_HEIGHT_SHARE: Final = 0.35  # of an arch's picture
MAX_TEETH_STRETCH: Final = 1.4  # how much longer than they are teeth may be drawn
MAX_ARCH_SHIFT: Final = 0.12  # eye distances that an arch may move to match the driver's teeth
_LOWERED_LIP_COEFFICIENTS: Final = [COEFFICIENT_INDEX[name] for name in ("mouthLowerDownLeft", "mouthLowerDownRight")]
_STRETCH_COEFFICIENTS: Final = [COEFFICIENT_INDEX[name] for name in ("mouthStretchLeft", "mouthStretchRight")]

MIN_OWN_TOOTH_CELLS: Final = 150  # of an arch's picture that show a tooth, to take the person's own
MAX_LENGTH_CHANGE_CELLS: Final = 12  # of a person's teeth against generic ones
_SPECK_KERNEL = np.ones((5, 9), np.uint8)


class Teeth:
    """Both arches of a person ``identity`` with skin of tone ``skin (3,)``.

    ``blur`` is the portrait's blur in eye distances, and ``reflected (3,)`` the light that its lips reflect.
    """

    def __init__(self, identity: Floats, skin: Floats, blur: float, reflected: Floats) -> None:
        self._skin, self._blur, self._reflected = skin, blur, reflected
        self.tooth = tooth_tone(skin)
        self.arches = {which: Arch(which, identity) for which in ("lower", "upper")}
        self._pictures = {which: self._arch_picture(which, self.tooth) for which in self.arches}
        self._lower_shown = LOWER_TEETH_SHOWN

    def placed(self, fit: Fit, target: Floats, view: Floats | None) -> dict[str, PlacedArch]:
        """Both arches in the mouth of ``target (478, 3)``, by its ``fit`` and the ``view`` of the driver's mouth."""
        arches = {which: arch.placed(fit) for which, arch in self.arches.items()}
        arches["lower"] = self._limited_by_lip(arches["lower"], target, fit)
        return arches if view is None else self._moved_to_view(arches, view, target, fit.pose.scale)

    def draw(
        self, inside: Floats, arches: dict[str, PlacedArch], light: Floats, origin: tuple[int, int], confidence: float
    ) -> None:
        """Draw the arches into ``inside (h, w, 3)`` with its corner at ``origin``, in ``light (h, w)`` (in place)."""
        height, width = inside.shape[:2]
        for which, placed in arches.items():
            along, below = placed.arch_coordinates(*origin, width, height)
            drawn = _lookup(self._pictures[which], along, below)
            alpha = drawn[..., 3:] * np.float32(confidence / 255)
            depth = _depth(along)
            shade = np.clip(depth * light, 0, 1)[..., None]
            # Light reflected by the lips, in their own tone, replaces part of the light that is lost.
            colour = drawn[..., :3] * shade + (1 - shade) * depth[..., None] * self._reflected
            inside += alpha * (colour - inside)

    def adopt_teeth(self, picture: Image, landmarks: Floats, hole: MouthOpening, fit: Fit, light: Floats) -> None:
        """Copy the teeth that ``picture`` shows to the arches' pictures, without the shadow on them.

        Where its open mouth shows no tooth, the generic ones are removed. ``light (h, w)`` is the light in ``hole``.
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

            facing = np.clip(_resampled(self.arches[which].facing_viewer(fit)[:, None], columns)[:, 0] * 4, 0, 1)
            seen = laid(inner * (1 - covered)) * facing
            tooth = laid(likely) * facing
            own = np.asarray(self._pictures[which])
            kind = np.asarray(model_arrays()[f"{which}_picture"])[..., 0].astype(np.float32) / 255
            trusted = seen * tooth * (kind > 0.5)
            if trusted.sum() < MIN_OWN_TOOTH_CELLS:
                continue
            if which == "lower":
                self._lower_shown = max(LOWER_TEETH_SHOWN, _lower_display(placed, landmarks) / fit.pose.scale)
            depth = _depth(np.linspace(0, 1, columns, dtype=np.float32))[None, :, None]
            shade = np.clip(depth * laid(light)[..., None], 0.25, 1)
            found = np.clip((laid(region) - (1 - shade) * depth * self._reflected) / shade, 0, 255)
            # Generic teeth take the tone of the visible ones.
            weight = (trusted * own[..., 3])[..., None]
            tone = (found * weight).sum((0, 1)) / np.maximum((own[..., :3] * weight).sum((0, 1)), 1e-3)
            plain = self._arch_picture(which, np.clip(self.tooth * tone, 20, 255))
            share = cv2.GaussianBlur(np.clip(seen * 1.5 - 0.25, 0, 1), (0, 0), 1.5)[..., None]
            # Specks of light on a lip are not teeth.
            sure = (
                cv2.morphologyEx(((tooth > 0.5) & (seen > 0.5)).astype(np.uint8), cv2.MORPH_OPEN, _SPECK_KERNEL) > 0
            )
            ends = _beyond_edge(seen > 0.5, sure, kind, which == "upper")
            mixed = np.dstack([found, np.where(ends, 0, np.maximum(own[..., 3], 255 * sure))])
            mixed[..., 3] = cv2.GaussianBlur(mixed[..., 3], (0, 0), 1.2)
            # Beyond a visible edge the tooth certainly ends.
            share = np.where(ends[..., None], 1, share)
            self._pictures[which] = (plain + share * (mixed - plain)).astype(np.float32)
            # From the front the upper teeth hide the lower ones.
            along, below = placed.arch_coordinates(left, top, right - left, bottom - top)
            covered = np.maximum(covered, _lookup(self._pictures[which], along, below)[..., 3] / 255)

    def _limited_by_lip(self, lower: PlacedArch, target: Floats, fit: Fit) -> PlacedArch:
        """The ``lower`` arch, lowered if it would show more teeth above the lower lip than such lips do.

        The jaw is estimated from lips and chin only, and an error of two millimetres doubles the teeth that show.
        """
        lowered, wide = (
            float(fit.coefficients[names].mean()) for names in (_LOWERED_LIP_COEFFICIENTS, _STRETCH_COEFFICIENTS)
        )
        allowed = self._lower_shown + SHOWN_PER_LOWERED_LIP * lowered + SHOWN_PER_STRETCHED_MOUTH * wide
        excess = _lower_display(lower, target) / fit.pose.scale - allowed
        if excess <= 0:
            return lower
        unit = lower.down / max(float(np.linalg.norm(lower.down)), 1e-6)
        return PlacedArch(lower.line + np.float32(excess * fit.pose.scale) * unit, lower.down)

    def _moved_to_view(
        self, arches: dict[str, PlacedArch], view: Floats, target: Floats, unit: float
    ) -> dict[str, PlacedArch]:
        """The arches moved to match where the driver's teeth end; ``unit`` is the eye distance in pixels."""
        middle = len(UPPER_INNER_LIP) // 2
        gap = float(np.linalg.norm(target[LOWER_INNER_LIP[middle], :2] - target[UPPER_INNER_LIP[middle], :2]))
        upper, lower = teeth_reach(view)
        out = {}
        for which, seen in (("upper", upper), ("lower", lower)):
            placed = arches[which]
            length = max(float(np.linalg.norm(placed.down)), 1e-6)
            edge = self._upper_edge() if which == "upper" else LOWER_TEETH_END
            shown = _upper_display(placed, edge, target) if which == "upper" else _lower_display(placed, target)
            change = seen.confidence * float(
                np.clip(seen.share * gap - shown, -MAX_ARCH_SHIFT * unit, MAX_ARCH_SHIFT * unit)
            )
            # Teeth that show more than their length are drawn longer, because no gum was seen.
            longer = min(max((shown + change) / (TEETH_HEIGHT_SHARE * length), 1.0), MAX_TEETH_STRETCH)
            move = (change if which == "upper" else -change) / length - edge * (longer - 1)
            out[which] = PlacedArch(placed.line + np.float32(move) * placed.down, placed.down * np.float32(longer))
        return out

    def _upper_edge(self) -> float:
        """Where the middle teeth end, as a share of the upper arch's picture from its top."""
        picture = self._pictures["upper"]
        middle = picture[:, picture.shape[1] // 2 - 6 : picture.shape[1] // 2 + 6, 3].mean(1)
        return float(np.flatnonzero(middle > 127)[-1] + 1) / len(picture)

    def _arch_picture(self, which: str, tooth: Floats) -> Floats:
        """A generic arch's picture RGBA, 0 to 255: teeth of colour ``tooth``, and gums in the portrait's light."""
        plain = np.asarray(model_arrays()[f"{which}_picture"], np.float32) * np.float32(1 / 255)
        kind, shade, alpha = plain[..., :1], plain[..., 1:2], plain[..., 2:]
        colour = (tooth * kind + GUM_COLOUR * self._skin * (1 - kind)) * shade ** np.float32(GAP_DARKNESS)
        drawn = np.dstack([colour, alpha * 255])
        # As blurred as the portrait: sharp teeth in a blurred face look pasted.
        cells = (
            self._blur
            * drawn.shape[1]
            / float(np.linalg.norm(np.diff(self.arches[which].curve, axis=0), axis=1).sum())
        )
        return cv2.GaussianBlur(drawn, (0, 0), cells) if cells > 0.3 else drawn


def _lower_display(lower: PlacedArch, target: Floats) -> float:
    """Pixels of the middle lower teeth that show above the lower lip of ``target``."""
    length = max(float(np.linalg.norm(lower.down)), 1e-6)
    edge = lower.line[len(lower.line) // 2] + LOWER_TEETH_END * lower.down
    return float((target[LOWER_INNER_LIP[len(LOWER_INNER_LIP) // 2], :2] - edge) @ lower.down) / length


def _upper_display(upper: PlacedArch, ends: float, target: Floats) -> float:
    """Pixels of the middle upper teeth that show below the upper lip of ``target``; ``ends`` is their edge."""
    length = max(float(np.linalg.norm(upper.down)), 1e-6)
    edge = upper.line[len(upper.line) // 2] + ends * upper.down
    return float((edge - target[UPPER_INNER_LIP[len(UPPER_INNER_LIP) // 2], :2]) @ upper.down) / length


def _lookup(picture: Floats, along: Floats, below: Floats) -> Floats:
    height, width = picture.shape[:2]
    x, y = along * np.float32(width) - np.float32(0.5), below * np.float32(height) - np.float32(0.5)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.float32)


def tooth_likeness(picture: Floats, skin: Floats) -> Floats:
    """How much each pixel of ``picture (h, w, 3)`` looks like a tooth, 0 to 1: as bright as skin and less red."""
    grey = picture @ np.array([0.3, 0.59, 0.11], np.float32)
    bright = grey / max(float(skin @ np.array([0.3, 0.59, 0.11], np.float32)), 1.0)
    pale = picture[..., 1] / np.maximum(picture[..., 0], 1) - skin[1] / max(float(skin[0]), 1.0)
    return np.asarray(np.clip((bright - 0.45) / 0.3, 0, 1) * np.clip((pale + 0.06) / 0.1, 0, 1), np.float32)


def _beyond_edge(seen: Mask, tooth: Mask, kind: Floats, upper: bool) -> Mask:
    """Cells of an arch's picture beyond the biting edge of the person's own teeth, where that edge is visible.

    ``kind`` is above 0.5 at generic teeth; own ones are at most ``MAX_LENGTH_CHANGE_CELLS`` longer or shorter.
    """
    if not upper:
        return _beyond_edge(seen[::-1], tooth[::-1], kind[::-1], True)[::-1]
    rows, columns = seen.shape
    at = np.arange(rows)
    plain = np.where(kind > 0.5, at[:, None], -1).max(0)
    edge = np.full(columns, np.nan)
    for k in range(columns):
        teeth, open_rows = np.flatnonzero(tooth[:, k] & seen[:, k]), np.flatnonzero(seen[:, k])
        # The edge of a tooth that reaches the lower lip is hidden.
        if len(teeth) and plain[k] > 0 and open_rows[-1] - teeth[-1] > 1:
            edge[k] = np.clip(teeth[-1] + 1, plain[k] - MAX_LENGTH_CHANGE_CELLS, plain[k] + MAX_LENGTH_CHANGE_CELLS)
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
    """The light along the arch: less further back."""
    from_front = np.abs(along - np.float32(0.5)) * 2
    return np.asarray(1 - np.float32(1 - LIGHT_AT_BACK) * np.clip((from_front - 0.15) / 0.6, 0, 1), np.float32)
