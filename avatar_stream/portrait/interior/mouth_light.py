"""Relights a drawn mouth to look as the driver's (see ``avatar_stream.face.mouth_view``)."""

import cv2
import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import CORNER_INSET, VIEW_COLUMNS, VIEW_ROWS, mouth_cells, possible_tooth
from avatar_stream.face.outlines import LIP_POINTS, lip_lines

# Limits of the gain on the drawn mouth, and its floor; the difference that remains is added.
MIN_GAIN, MAX_GAIN, GAIN_FLOOR = 0.25, 1.6, 0.06
KEPT_WITHOUT_TOOTH, KEPT_WITH_TOOTH = 0.2, 0.85  # share of the drawing that stays


def relight(inside: Floats, view: Floats, target: Floats, box: tuple[int, int, int, int], tooth: Floats) -> None:
    """Relight a drawn mouth ``inside (h, w, 3)`` of ``box`` (left, top, right, bottom) to match ``view`` (in place).

    ``target (478, 3)`` are its landmarks and ``tooth`` is the colour of its own teeth.
    """
    drawn = mouth_cells(inside, target, box[:2], tooth)
    gain = np.clip((view + GAIN_FLOOR) / (drawn + GAIN_FLOOR), MIN_GAIN, MAX_GAIN)
    # Where there is certainly no tooth, the drawing has no edges to keep.
    gain *= (KEPT_WITHOUT_TOOTH + (KEPT_WITH_TOOTH - KEPT_WITHOUT_TOOTH) * possible_tooth(view))[..., None]
    rest = view - drawn * gain
    along, down = _grid_coordinates(target, box)
    x, y = along * np.float32(VIEW_COLUMNS) - np.float32(0.5), down * np.float32(VIEW_ROWS) - np.float32(0.5)
    fine = cv2.remap(
        np.dstack([gain, rest]).astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    pair = [0, 1, 1]  # green and blue go together
    inside *= fine[..., pair]
    inside += fine[..., [2, 3, 3]] * tooth.astype(np.float32)


def _grid_coordinates(target: Floats, box: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
    """Coordinates of a box's pixels in the view's grid: along the lips and down between them, 0 to 1."""
    upper, lower = lip_lines(target)
    left, top, right, bottom = box
    corner = upper[0]
    across = upper[-1] - corner
    across = across / max(float(np.linalg.norm(across)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32)
    x = np.arange(left, right, dtype=np.float32) - corner[0]
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - corner[1]
    beside, below = x * across[0] + y * across[1], x * down[0] + y * down[1]
    # Tables over the axis between the corners: each lip is a function of the position on it.
    first = (upper - corner) @ across
    table = np.linspace(first[0], first[-1], 64)
    order = np.argsort(first)
    number = np.interp(table, first[order], order / (LIP_POINTS - 1))
    start = np.interp(table, first[order], ((upper - corner) @ down)[order])
    second = (lower - corner) @ across
    order = np.argsort(second)
    end = np.interp(table, second[order], ((lower - corner) @ down)[order])
    tables = np.stack([number, start, end]).astype(np.float32)[:, None]
    index = (beside - table[0]) * np.float32(63 / max(table[-1] - table[0], 1e-6))
    zero = np.zeros_like(index)
    number, start, end = (
        cv2.remap(t, index.astype(np.float32), zero, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for t in tables
    )
    along = (number - np.float32(CORNER_INSET)) / np.float32(1 - 2 * CORNER_INSET)
    return along, np.clip((below - start) / np.maximum(end - start, 1), 0, 1).astype(np.float32)
