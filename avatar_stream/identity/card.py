"""The identity card of a character as a picture: name, owner, dates and consent."""

import textwrap
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from avatar_stream.identity.records import Character
from avatar_stream.identity.visible_text import format_date

Image = npt.NDArray[np.uint8]

CARD_WIDTH, CARD_HEIGHT, FACE_SIDE = 860, 420, 320  # pixels
PAPER_COLOUR, TEXT_COLOUR, TITLE_COLOUR, BORDER_COLOUR = (250, 250, 247), (28, 28, 32), (96, 96, 104), (214, 214, 208)
MARGIN_PIXELS: Final = 30
LINE_HEIGHT: Final = 26  # pixels from one line of text to the next


def identity_card(character: Character, face: Image) -> Image:
    """The card, RGB ``(420, 860, 3)``, with the portrait ``face``, RGB, on it."""
    card = Pictures.new("RGB", (CARD_WIDTH, CARD_HEIGHT), PAPER_COLOUR)
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((8, 8, CARD_WIDTH - 9, CARD_HEIGHT - 9), 18, outline=BORDER_COLOUR, width=2)
    side = min(face.shape[:2])
    top, left = ((extent - side) // 2 for extent in face.shape[:2])
    square = cv2.resize(
        face[top : top + side, left : left + side], (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA
    )
    card.paste(Pictures.fromarray(square.astype(np.uint8)), (MARGIN_PIXELS, MARGIN_PIXELS + 20))
    x, y = MARGIN_PIXELS + FACE_SIDE + 34, MARGIN_PIXELS + 14
    draw.text((x, y), _shortened(character.name, 26), TEXT_COLOUR, ImageFont.load_default(34))
    y += 52
    used = format_date(character.used) if character.used else "never"
    rows = [
        ("id", character.id),
        ("owner", character.owner),
        ("enrolled", format_date(character.created)),
        ("last used", used),
        ("tags", ", ".join(character.tags) or "none"),
        ("style", character.style or "none"),
        ("picture", f"{character.quality.get('score', 0):.0%}" + (", protected" if character.protected else "")),
    ]
    for title, value in rows:
        draw.text((x, y), title, TITLE_COLOUR, ImageFont.load_default(15))
        draw.text((x + 96, y - 1), _shortened(value, 40), TEXT_COLOUR, ImageFont.load_default(17))
        y += LINE_HEIGHT
    y += 6
    draw.text((x, y), "right to use this face", TITLE_COLOUR, ImageFont.load_default(15))
    consent = f"{character.consent.statement} ({character.consent.by})"
    for number, line in enumerate(textwrap.wrap(consent, 52)[:3]):
        draw.text((x, y + 22 + 21 * number), line, TEXT_COLOUR, ImageFont.load_default(16))
    draw.text(
        (MARGIN_PIXELS, CARD_HEIGHT - 40), "identity card · avatar stream", TITLE_COLOUR, ImageFont.load_default(14)
    )
    return np.asarray(card, np.uint8)


def as_png(picture: Image) -> bytes:
    """An RGB picture as a PNG file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])


def _shortened(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
