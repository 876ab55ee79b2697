"""The mouth view: a coarse grid of colours that a camera sees between a driver's lips.

Landmarks end at the lips. Only the picture shows whether teeth are clenched or apart, how far the upper teeth reach,
and whether a tongue or darkness is behind them. Thirty cells, in shares of the driver's own tooth colour, are enough
to draw this in any other face, and reveal nothing else about the driver.
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
MAX_CELL_VALUE: Final = 1.05  # in shares of tooth colour: a camera's blown-out whites are clipped
SAMPLES_PER_CELL: Final = (3, 4)  # down and across
CORNER_INSET: Final = 0.08  # share of the lips' length that is left out at each corner
CHROMA_BLUR_PIXELS: Final = 2.0  # standard deviation of the blur of colours after a camera and a codec
MIN_OWN_LIGHT: Final = 0.5  # smallest share of a cell's light that is assumed to be its own
MIN_READABLE_LIP_GAP: Final = 0.02  # in eye distances

# A cell shows a tooth if it is nearly as bright and as pale as one. Each range runs from certainly no tooth to
# certainly a tooth. Brightness is in shares of tooth colour; paleness is green and blue over red.
TOOTH_BRIGHTNESS_RANGE, TOOTH_PALENESS_RANGE = (0.33, 0.55), (0.62, 0.78)
BRIGHTNESS_TO_BRIGHTEST_ROW: Final = (0.62, 0.80)  # in shares of the brightest row's brightness
# From where a tooth is impossible to where it is possible, in whatever shade.
MAYBE_TOOTH_PALENESS_RANGE, MAYBE_TOOTH_BRIGHTNESS_RANGE = (0.52, 0.62), (0.18, 0.28)
MIN_TOOTH_REACH: Final = 0.08  # in shares of the gap
BRIGHTNESS_TO_BOTH_ARCHES: Final = (0.75, 0.92)  # of the darker of the brightest rows above and below


class ViewFilter:
    """Smooths one driver's mouth views over time; one per session."""

    def __init__(self) -> None:
        self._filter = OneEuro(3.0, 12.0)

    def __call__(self, view: Floats | None, time: float) -> Floats | None:
        """The smoothed view (see :func:`read_mouth`) at ``time`` seconds."""
        if view is None:
            self._filter.reset()
            return None
        return self._filter(view, time)


def read_mouth(picture: Image, landmarks: Floats) -> Floats | None:
    """The mouth view ``(6, 5, 2)`` of RGB ``picture`` with ``landmarks (478, 3)``; None if the lips are closed.

    Rows run from the upper to the lower lip, columns from left to right in the picture. The two channels are red, and
    the mean of green and blue, in shares of the colour that a tooth would have in that face's light, 0 to 1.05.
    """
    if geometry.lip_gaps(landmarks).max() < MIN_READABLE_LIP_GAP:
        return None
    tooth = tooth_tone(skin_tone(picture, landmarks))
    seen = _without_lips(mouth_cells(picture, landmarks, (0, 0), tooth), picture, landmarks, tooth)
    # Nothing in a mouth is less red than a tooth, in any light.
    seen[..., 1] = np.minimum(seen[..., 1], seen[..., 0])
    return seen


def mirrored_view(view: Floats) -> Floats:
    """The view mirrored left to right."""
    return view[:, ::-1]


@dataclass(frozen=True, slots=True)
class TeethReach:
    """How far teeth reach from their lip into the lips' gap, in shares of it, and the ``confidence``, 0 to 1."""

    share: float
    confidence: float


def teeth_reach(view: Floats) -> tuple[TeethReach, TeethReach]:
    """How far the upper and the lower teeth reach in a mouth view."""
    middle = view[:, 1:-1].mean(1)
    light = np.maximum(middle.mean(1), 0.02)
    # A tongue in bright light can be as bright as teeth in dim light, but never as bright as teeth beside it.
    tooth = _tooth_probability(middle) * _ramp(light / light.max(), *BRIGHTNESS_TO_BRIGHTEST_ROW)
    # The gap between two dental arches is darker than both.
    above, below = np.maximum.accumulate(light), np.maximum.accumulate(light[::-1])[::-1]
    tooth = tooth * _ramp(light / np.minimum(above, below), *BRIGHTNESS_TO_BOTH_ARCHES)
    upper, lower = _run_of_tooth_rows(tooth), _run_of_tooth_rows(tooth[::-1])
    # Clenched teeth fill the gap, the upper ones most of it.
    over = max(upper + lower - 1, 0.0)
    # Teeth in deep shade are not seen. Only rows as red as a tongue, or black, certainly show no tooth.
    none = 1 - possible_tooth(middle)
    return (
        TeethReach(upper - 0.35 * over, 1.0 if upper > MIN_TOOTH_REACH else float(none[:2].min())),
        TeethReach(lower - 0.65 * over, 1.0 if lower > MIN_TOOTH_REACH else float(none[-2:].min())),
    )


def mouth_cells(picture: npt.NDArray[np.generic], target: Floats, origin: tuple[int, int], tooth: Floats) -> Floats:
    """The mouth's cells ``(6, 5, 2)`` in a picture with its corner at ``origin``, in shares of the RGB ``tooth``."""
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
    return np.asarray(np.clip(view, 0, MAX_CELL_VALUE), np.float32)


def _without_lips(seen: Floats, picture: Image, landmarks: Floats, tooth: Floats) -> Floats:
    """The cells ``seen (6, 5, 2)`` without the lips' colour that blur spreads over them.

    Codecs halve the resolution of colour: between lips a few pixels apart, nearly all colour is that of the lips.
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
    return np.asarray(np.clip(own, 0, MAX_CELL_VALUE), np.float32)


def _light_from_beyond_edge(distance: Floats) -> Floats:
    """Share of a pixel's light that comes from beyond an edge ``distance`` pixels away, under a Gaussian blur.

    Bowling et al., "A logistic approximation to the cumulative normal distribution", JIEM 2009.
    """
    return np.asarray(1 / (1 + np.exp(1.702 / CHROMA_BLUR_PIXELS * distance)), np.float32)


def _tooth_probability(view: Floats) -> Floats:
    """Probability that cells ``(..., 2)`` show a tooth, 0 to 1."""
    light, pale = view.mean(-1), view[..., 1] / np.maximum(view[..., 0], 0.05)
    return _ramp(light, *TOOTH_BRIGHTNESS_RANGE) * _ramp(pale, *TOOTH_PALENESS_RANGE)


def possible_tooth(view: Floats) -> Floats:
    """How possible it is that cells ``(..., 2)`` show a tooth, even in shade, 0 to 1."""
    pale = view[..., 1] / np.maximum(view[..., 0], 0.05)
    return _ramp(pale, *MAYBE_TOOTH_PALENESS_RANGE) * _ramp(view.mean(-1), *MAYBE_TOOTH_BRIGHTNESS_RANGE)


def _ramp(value: Floats, start: float, end: float) -> Floats:
    return np.asarray(np.clip((value - start) / (end - start), 0, 1), np.float32)


def _run_of_tooth_rows(tooth: Floats) -> float:
    """Where the first run of tooth rows ends, in shares of all rows; a lip's shadow may precede the run."""
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
