"""Marks pictures as generated: with a label for people, and with a watermark for programs.

All outputs are marked here: the server's streams, the virtual camera, rendered files.
"""

from dataclasses import dataclass
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from avatar_stream.errors import BadInput
from avatar_stream.media.watermark import Watermark

Image = npt.NDArray[np.uint8]

LABEL_POSITIONS: Final = ("top-left", "top-right", "bottom-left", "bottom-right")
DEFAULT_LABEL_TEXT: Final = "AI"
MAX_LABEL_CHARACTERS: Final = 24
LABEL_HEIGHT: Final = 0.045  # of the picture's height
MIN_LABEL_PIXELS: Final = 11
AI_DISCLOSURE: Final = 'mode="machine-generated"'
"""Value of the ``AI-Disclosure`` header (draft-abaris-aicdh) in all responses about a stream."""


@dataclass(frozen=True, slots=True)
class Label:
    """A short ``text`` in a corner; an empty one shows nothing."""

    text: str = DEFAULT_LABEL_TEXT
    position: str = LABEL_POSITIONS[0]

    def checked(self) -> "Label":
        """Return the label; raises :class:`BadInput` if it cannot be drawn."""
        if self.position not in LABEL_POSITIONS:
            raise BadInput(f"unknown label position {self.position}: use one of {', '.join(LABEL_POSITIONS)}")
        if len(self.text) > MAX_LABEL_CHARACTERS or not self.text.isprintable():
            raise BadInput(f"the label may have at most {MAX_LABEL_CHARACTERS} characters, all of them printable")
        # The built-in font has only these.
        if any(ord(letter) > 0x24F for letter in self.text):
            raise BadInput("the label may have Latin letters only")
        return self


def label_for(text: str, position: str, unlabelled: str) -> Label:
    """The label of the settings; empty only if ``unlabelled`` gives a reason. Raises :class:`BadInput`."""
    if unlabelled:
        if len(unlabelled.strip()) < 10:
            raise BadInput("--unlabelled needs a reason of at least 10 characters: it is logged")
        return Label("")
    if not text.strip():
        raise BadInput("the label is empty: give it a text, or use --unlabelled REASON")
    return Label(text.strip(), position).checked()


class Marker:
    """Turns avatar pictures into marked frames to send. One per stream; not thread-safe."""

    def __init__(self, label: Label | None = None, *, watermark: bool = True) -> None:
        self._label = Label() if label is None else label
        self._watermark = Watermark() if watermark else None
        self._patch: tuple[tuple[int, ...], tuple[int, int], Any, Any] | None = None
        """Picture size, and the label's position, colours and opacity."""
        self._fitted_to: object = None

    def __call__(self, picture: Image, of: object = None) -> av.VideoFrame:
        """Turn an RGB picture ``(h, w, 3)`` with even sides into a marked frame for encoders (yuv420p).

        ``of`` identifies the portrait: the watermark is fitted again when it changes.
        """
        return self.framed(self.labelled(picture), of)

    def framed(self, picture: Image, of: object = None) -> av.VideoFrame:
        """The same for a picture that already has its label."""
        # PyAV would create a scaler for every frame, which takes longer than all of the marking.
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        if self._watermark is not None:
            luma = planes[: picture.shape[0]]
            if of is not self._fitted_to:
                self._watermark.fit(luma)
                self._fitted_to = of
            luma[:] = self._watermark(luma)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")

    def labelled(self, picture: Image) -> Image:
        """A copy of the picture with its label."""
        if not self._label.text:
            return picture
        patch = self._patch
        if patch is None or patch[0] != picture.shape[:2]:
            patch = self._patch = (picture.shape[:2], *_label_patch(self._label, picture.shape[:2]))
        _, (top, left), colours, alpha = patch
        out = picture.copy()
        region = out[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        region[:] = region + alpha * (colours - region) + 0.5
        return out


def _label_patch(label: Label, size: tuple[int, ...]) -> tuple[tuple[int, int], Any, Any]:
    """Position, colours and opacity of a label in a picture of ``size``."""
    height, width = size[:2]
    font = ImageFont.load_default(max(MIN_LABEL_PIXELS, round(LABEL_HEIGHT * height)))
    left, top, right, bottom = font.getbbox(label.text)
    pad = max(3, round((bottom - top) * 0.45))
    across, down = min(round(right - left) + 2 * pad, width), min(round(bottom - top) + 2 * pad, height)
    patch = Pictures.new("RGB", (across, down), (18, 18, 22))
    ImageDraw.Draw(patch).text((pad - left, pad - top), label.text, (255, 255, 255), font)
    shape = Pictures.new("L", (across, down), 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, across - 1, down - 1), pad, 170)
    colours = np.asarray(patch, np.float32)
    # The letters are opaque, their background is translucent.
    alpha = np.maximum(np.asarray(shape, np.float32), np.asarray(patch.convert("L"), np.float32) - 40) / 255
    gap = max(4, round(0.025 * height))
    vertical, horizontal = label.position.split("-")
    y = gap if vertical == "top" else height - gap - down
    x = gap if horizontal == "left" else width - gap - across
    place = int(np.clip(y, 0, height - down)), int(np.clip(x, 0, width - across))
    return place, colours, cv2.merge([np.clip(alpha, 0, 1).astype(np.float32)] * 3)
