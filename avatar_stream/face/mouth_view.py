"""What a camera sees between a driver's lips: a coarse grid of colours.

Landmarks end at the lips. Whether teeth are clenched or apart, how far the upper ones reach, whether a tongue or the
dark is behind them: only the picture tells. Thirty cells in shares of that face's own tooth colour say it well enough
for any other face, and tell nothing else of the driver.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.filters import OneEuro
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import LIP_POINTS, lip_lines
from avatar_stream.face.tone import skin_tone, tooth_tone

Image = npt.NDArray[np.uint8]

VIEW_ROWS, VIEW_COLUMNS = 6, 5  # cells of a view
MAX_TOOTH_SHARE: Final = 1.05  # of a tooth's colour; a camera's blown out whites are not to be another face's
SAMPLES_PER_CELL: Final = (3, 4)  # samples a cell, down and across
CORNER_INSET: Final = 0.08  # of the way along the lips that is left out at either corner
CHROMA_BLUR_PIXELS: Final = 2.0  # pixels: deviation of a camera's colours after a codec
MIN_OWN_LIGHT: Final = 0.5  # of a cell's light that is taken to be its own
MIN_READABLE_LIP_GAP: Final = 0.02  # gap between the lips (eye distances) from which there is a view

# A cell shows a tooth where it is as bright and as pale as one: from which share on, and from which for sure.
TOOTH_BRIGHTNESS_RANGE, TOOTH_PALENESS_RANGE = (0.33, 0.55), (0.62, 0.78)
BRIGHTNESS_TO_BRIGHTEST_ROW: Final = (0.62, 0.80)  # and the same of the brightest row
MAYBE_TOOTH_PALENESS_RANGE, MAYBE_TOOTH_BRIGHTNESS_RANGE = (
    (0.52, 0.62),
    (0.18, 0.28),
)  # below and above which there may be none, or one
MIN_TOOTH_REACH: Final = 0.08  # of the gap
BRIGHTNESS_TO_BOTH_ARCHES: Final = (0.75, 0.92)  # and of the darker of the brightest rows above and below


class ViewFilter:
    """Keeps one driver's views steady, frame after frame; one per session."""

    def __init__(self) -> None:
        self._filter = OneEuro(3.0, 12.0)

    def __call__(self, view: Floats | None, time: float) -> Floats | None:
        """The view (see :func:`read_mouth`) of ``time`` seconds."""
        if view is None:
            self._filter.reset()
            return None
        return self._filter(view, time)


def read_mouth(picture: Image, landmarks: Floats) -> Floats | None:
    """What RGB ``picture`` shows between the lips of ``landmarks (478, 3)``; None where they are closed.

    ``(6, 5, 2)``: from upper to lower lip and from left to right in the picture; red, and the mean of green and blue,
    in shares of the colour that a tooth would have in the light of that face, 0 to 1.05.
    """
    if geometry.lip_gaps(landmarks).max() < MIN_READABLE_LIP_GAP:
        return None
    tooth = tooth_tone(skin_tone(picture, landmarks))
    seen = _without_lips(mouth_cells(picture, landmarks, (0, 0), tooth), picture, landmarks, tooth)
    # Nothing in a mouth is less red than a tooth, whatever the light beside it.
    seen[..., 1] = np.minimum(seen[..., 1], seen[..., 0])
    return seen


def mirrored_view(view: Floats) -> Floats:
    """As a mirror shows it."""
    return view[:, ::-1]


@dataclass(frozen=True, slots=True)
class TeethReach:
    """How far teeth reach from their lip into the gap between both, in shares of it, and how ``sure`` that is."""

    share: float
    confidence: float


def teeth_reach(view: Floats) -> tuple[TeethReach, TeethReach]:
    """How far the upper and the lower teeth are seen to reach."""
    middle = view[:, 1:-1].mean(1)
    light = np.maximum(middle.mean(1), 0.02)
    # A tongue in a bright room may be as bright as teeth in a dim one, but not as bright as the teeth beside it.
    tooth = _tooth_probability(middle) * _ramp(light / light.max(), *BRIGHTNESS_TO_BRIGHTEST_ROW)
    # Between two arches it is darker than on either.
    above, below = np.maximum.accumulate(light), np.maximum.accumulate(light[::-1])[::-1]
    tooth = tooth * _ramp(light / np.minimum(above, below), *BRIGHTNESS_TO_BOTH_ARCHES)
    upper, lower = _run_of_tooth_rows(tooth), _run_of_tooth_rows(tooth[::-1])
    # Clenched teeth fill the gap, the upper ones most of it.
    over = max(upper + lower - 1, 0.0)
    # No tooth is seen in deep shade, either: there are none for sure where it is as red as a tongue, or black.
    none = 1 - possible_tooth(middle)
    return (
        TeethReach(upper - 0.35 * over, 1.0 if upper > MIN_TOOTH_REACH else float(none[:2].min())),
        TeethReach(lower - 0.65 * over, 1.0 if lower > MIN_TOOTH_REACH else float(none[-2:].min())),
    )


def mouth_cells(picture: npt.NDArray[np.generic], target: Floats, origin: tuple[int, int], tooth: Floats) -> Floats:
    """The cells ``(6, 5, 2)`` of a picture from ``origin`` on, in shares of the colour ``tooth``."""
    upper, lower = lip_lines(target)
    rows, columns = VIEW_ROWS * SAMPLES_PER_CELL[0], VIEW_COLUMNS * SAMPLES_PER_CELL[1]
    at = (CORNER_INSET + (1 - 2 * CORNER_INSET) * (np.arange(columns) + 0.5) / columns) * (LIP_POINTS - 1)
    low = at.astype(int)
    part = (at - low)[:, None]
    above = upper[low] + part * (upper[low + 1] - upper[low])
    below = lower[low] + part * (lower[low + 1] - lower[low])
    down = ((np.arange(rows) + 0.5) / rows)[:, None, None]
    places = (above + (below - above) * down - np.asarray(origin, np.float32)).astype(np.float32)
    seen = cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    coarse = cv2.resize(seen.astype(np.float32), (VIEW_COLUMNS, VIEW_ROWS), interpolation=cv2.INTER_AREA) / tooth
    view = np.stack([coarse[..., 0], coarse[..., 1:].mean(-1)], -1)
    return np.asarray(np.clip(view, 0, MAX_TOOTH_SHARE), np.float32)


def _without_lips(seen: Floats, picture: Image, landmarks: Floats, tooth: Floats) -> Floats:
    """The cells ``seen (6, 5, 2)`` less what a camera's softness lays of the lips over them.

    Colour comes at half resolution through a codec: between lips a few pixels apart all of it would be the lips'.
    """
    upper, lower = lip_lines(landmarks)
    at = np.round(
        (CORNER_INSET + (1 - 2 * CORNER_INSET) * (np.arange(VIEW_COLUMNS) + 0.5) / VIEW_COLUMNS) * (LIP_POINTS - 1)
    ).astype(int)
    above, below = upper[at], lower[at]
    gap = np.maximum(np.linalg.norm(below - above, axis=1), 1e-3)
    out = (below - above) * (CHROMA_BLUR_PIXELS / gap)[:, None]
    places = np.stack([above - out, below + out]).astype(np.float32)
    lips = cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) / tooth
    lips = np.stack([lips[..., 0], lips[..., 1:].mean(-1)], -1)
    place = (np.arange(VIEW_ROWS, dtype=np.float32)[:, None] + 0.5) / VIEW_ROWS * gap
    over, under = _light_from_beyond_edge(place)[..., None], _light_from_beyond_edge(gap - place)[..., None]
    own = (seen - over * lips[0] - under * lips[1]) / np.maximum(1 - over - under, MIN_OWN_LIGHT)
    return np.asarray(np.clip(own, 0, MAX_TOOTH_SHARE), np.float32)


def _light_from_beyond_edge(distance: Floats) -> Floats:
    """Share of a pixel's light that comes from beyond an edge so many pixels away.

    Of a Gaussian; Bowling et al., "A logistic approximation to the cumulative normal distribution", JIEM 2009.
    """
    return np.asarray(1 / (1 + np.exp(1.702 / CHROMA_BLUR_PIXELS * distance)), np.float32)


def _tooth_probability(view: Floats) -> Floats:
    """How sure it is that cells ``(..., 2)`` show a tooth, 0 to 1."""
    light, pale = view.mean(-1), view[..., 1] / np.maximum(view[..., 0], 0.05)
    return _ramp(light, *TOOTH_BRIGHTNESS_RANGE) * _ramp(pale, *TOOTH_PALENESS_RANGE)


def possible_tooth(view: Floats) -> Floats:
    """How well cells ``(..., 2)`` might show one, in whatever shade."""
    pale = view[..., 1] / np.maximum(view[..., 0], 0.05)
    return _ramp(pale, *MAYBE_TOOTH_PALENESS_RANGE) * _ramp(view.mean(-1), *MAYBE_TOOTH_BRIGHTNESS_RANGE)


def _ramp(value: Floats, start: float, end: float) -> Floats:
    return np.asarray(np.clip((value - start) / (end - start), 0, 1), np.float32)


def _run_of_tooth_rows(tooth: Floats) -> float:
    """How far teeth go on from the first row that shows one, in shares; a lip's shadow may come before them."""
    reach, found = 0.0, False
    for row, share in enumerate(tooth):
        if share > 0.5:
            found = True
        if found and share < 0.5:
            return (row + float(share)) / len(tooth)
        if not found and row >= 2:
            return reach
        reach = float(share) * 0.5 / len(tooth)
    return 1.0 if found else 0.0
