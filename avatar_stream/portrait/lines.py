"""Smooth lines through landmarks: a mesh is too coarse for the outline of a lip or a lid."""

import numpy as np
from scipy.interpolate import CubicSpline

from avatar_stream.face.mesh import Floats


def spline(knots: int, points: int) -> Floats:
    """The matrix ``(points, knots)`` that takes the points of a line to those of the cubic spline through them."""
    at = np.linspace(0, 1, knots)
    return np.asarray(CubicSpline(at, np.eye(knots))(np.linspace(0, 1, points)), np.float32)
