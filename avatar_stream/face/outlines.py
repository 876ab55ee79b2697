"""Smooth lines through landmarks, because the mesh is too coarse for the outlines of lips and lids."""

from typing import Final

import numpy as np

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats

LIP_POINTS: Final = 31  # along each lip
UPPER_INNER_LIP, LOWER_INNER_LIP = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)


def smoothing_matrix(knots: int, points: int) -> Floats:
    """The matrix ``(points, knots)`` that turns a polyline of knots into a smooth line with the same ends.

    It interpolates linearly, then averages over most of the knots' distance. This rounds corners without overshoot;
    an interpolating spline overshoots where lips meet at a sharp angle.
    """
    at = np.linspace(0, knots - 1, points)
    fine = np.linspace(-0.4, 0.4, 9)
    weights = np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum()
    out = np.zeros((points, knots))
    for k, x in enumerate(at):
        # The average narrows towards each end, so that the end keeps its place.
        reach = min(1.0, x / 0.4, (knots - 1 - x) / 0.4)
        for step, weight in zip(fine, weights, strict=True):
            place = x + reach * step
            low = min(int(place), knots - 2)
            out[k, low] += weight * (1 - (place - low))
            out[k, low + 1] += weight * (place - low)
    return np.asarray(out, np.float32)


LIP_SMOOTHING: Final = smoothing_matrix(len(UPPER_INNER_LIP), LIP_POINTS)


def lip_lines(landmarks: Floats) -> tuple[Floats, Floats]:
    """The inner lips of landmarks ``(478, 3)`` as smooth lines ``(31, 2)``, upper and lower, corner to corner."""
    return LIP_SMOOTHING @ landmarks[UPPER_INNER_LIP, :2], LIP_SMOOTHING @ landmarks[LOWER_INNER_LIP, :2]
