"""Styles: a portrait in another look, made once from its picture by image processing.

The landmarks stay the same, so a styled portrait is animated like any other.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput
from avatar_stream.portrait.portrait import Portrait, inpaint_background

Image = npt.NDArray[np.uint8]


def styled(portrait: Portrait, style: str) -> Portrait:
    """The portrait in a ``style`` of ``STYLES``, unchanged if that is empty. Raises :class:`BadInput`."""
    if not style:
        return portrait
    picture = STYLES[checked_style(style)](portrait.picture)
    left, top, width, height = portrait.box
    crop = picture[top : top + height, left : left + width]
    return replace(portrait, picture=picture, plate=inpaint_background(crop, portrait.matte))


def checked_style(style: str) -> str:
    """``style`` if it is known or empty; raises :class:`BadInput` otherwise."""
    if style and style not in STYLES:
        raise BadInput(f"there is no style {style!r}: choose one of {', '.join(STYLES)}")
    return style


def _oil(picture: Image) -> Image:
    """Brush strokes: the mean colour of the most frequent brightness nearby (Haeberli, SIGGRAPH 1990)."""
    unit = _stroke_width(picture)
    strokes = cv2.xphoto.oilPainting(cv2.bilateralFilter(picture, 0, 25, 3 * unit), max(2, round(1.3 * unit)), 12)
    canvas = cv2.GaussianBlur(
        np.random.default_rng(1).normal(0, 9, picture.shape[:2]).astype(np.float32), (0, 0), 0.8
    )
    warm = strokes.astype(np.float32) * [1.04, 1.0, 0.92] + canvas[..., None]
    return _to_uint8(_contrast(warm, 1.08))


def _ink(picture: Image) -> Image:
    """Ink on rice paper: a few washes of grey, and lines where the brightness changes."""
    unit = _stroke_width(picture)
    grey = cv2.cvtColor(_smoothed(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.createCLAHE(2.0, (4, 4)).apply(grey.astype(np.uint8)).astype(np.float32)
    washes = cv2.GaussianBlur(_quantized(grey, 5), (0, 0), 0.7 * unit)
    lines = _dark_lines(grey, unit)
    tone = np.clip(60 + 0.75 * washes, 0, 250) * (1 - 0.8 * lines)
    paper = np.array([246, 241, 228], np.float32) / 255
    return _to_uint8(tone[..., None] * paper)


def _comic(picture: Image) -> Image:
    """Flat colours within clear lines."""
    unit = _stroke_width(picture)
    flat = _smoothed(_smoothed(picture))
    lab = cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] = _quantized(lab[..., 0], 6)
    lab[..., 1:] = 128 + 1.35 * (lab[..., 1:] - 128)
    colours = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB).astype(np.float32)
    lines = _dark_lines(cv2.cvtColor(flat, cv2.COLOR_RGB2GRAY).astype(np.float32), unit)
    return _to_uint8(cv2.GaussianBlur(colours, (0, 0), 0.5) * (1 - 0.85 * lines[..., None]))


def _neon(picture: Image) -> Image:
    """A face at night between a blue and a magenta light."""
    height, width = picture.shape[:2]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    side = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    light = np.array([40, 150, 255], np.float32) * (1 - side) + np.array([255, 50, 190], np.float32) * side
    lit = 0.55 * picture.astype(np.float32) * (0.25 + 0.75 * grey[..., None]) + 0.75 * light * grey[..., None] ** 1.4
    glow = cv2.GaussianBlur(np.maximum(lit - 120, 0), (0, 0), max(height, width) / 40)
    return _to_uint8(lit + 0.6 * glow)


def _film(picture: Image) -> Image:
    """Black and white of the 1930s: warm grey, soft lights, grain, dark corners."""
    height, width = picture.shape[:2]
    grey = picture.astype(np.float32) @ np.array([0.25, 0.6, 0.15], np.float32)
    grey = _contrast(grey, 1.15) + 0.35 * cv2.GaussianBlur(
        np.maximum(grey - 150, 0), (0, 0), _stroke_width(picture) * 2
    )
    grain = cv2.GaussianBlur(np.random.default_rng(2).normal(0, 16, grey.shape).astype(np.float32), (0, 0), 0.7)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corners = np.clip(1.12 - 0.32 * (x * x + y * y), 0, 1)
    return _to_uint8(((grey + grain) * corners)[..., None] * np.array([1.0, 0.955, 0.87], np.float32))


STYLES: Final[dict[str, Callable[[Image], Image]]] = {
    "oil": _oil,
    "ink": _ink,
    "comic": _comic,
    "neon": _neon,
    "film": _film,
}


def _stroke_width(picture: Image) -> float:
    """Width of the finest stroke in pixels."""
    return max(picture.shape[:2]) / 256


def _smoothed(picture: Image) -> Image:
    """The picture without fine texture, with sharp edges."""
    return np.asarray(cv2.edgePreservingFilter(picture, None, 1, 10 * _stroke_width(picture), 0.25), np.uint8)


def _quantized(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Values in ``count`` steps with soft transitions (Winnemöller, Olsen and Gooch, SIGGRAPH 2006)."""
    width = 255 / count
    nearest = np.floor(values / width) * width + width / 2
    return np.asarray(nearest + width / 2 * np.tanh((values - nearest) / width * 3), np.float32)


def _dark_lines(grey: npt.NDArray[np.float32], unit: float) -> npt.NDArray[np.float32]:
    """Dark lines, 0 to 1: the extended difference of Gaussians (Winnemöller, Kyprianidis and Olsen, 2012)."""
    small, large = (cv2.GaussianBlur(grey, (0, 0), sigma * unit) for sigma in (0.55, 0.88))
    sharp = small - 0.97 * large
    return np.asarray(np.clip(-np.tanh(0.35 * (sharp - 1.5)), 0, 1), np.float32)


def _contrast(values: npt.NDArray[np.float32], by: float) -> npt.NDArray[np.float32]:
    return np.asarray((values - 128) * by + 128, np.float32)


def _to_uint8(values: npt.NDArray[np.generic]) -> Image:
    return np.ascontiguousarray(np.clip(np.asarray(values, np.float32) + 0.5, 0, 255).astype(np.uint8))
