"""The control channel's messages, as data. Pure functions, no I/O.

A client sends JSON objects: ``{"type": "portrait", "id": ID}``, ``{"type": "neutral"}``,
``{"type": "gain", "value": 0..2}``, ``{"type": "keep", "value": 0..1}`` (of the portrait's own expression),
``{"type": "mirror", "value": true}``, and in place of camera frames ``{"type": "motion", "blendShapes": ...,
"head": ...}`` (see ``ArkitFrame``). The server answers ``{"type": "done"}`` (not to motion) or
``{"type": "error", "message": ...}`` and sends ``{"type": "status", ...}`` twice a second, and ``{"type":
"reconnect"}`` once it is about to stop.
"""

import json
from dataclasses import dataclass
from typing import Any

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame


@dataclass(frozen=True, slots=True)
class ChoosePortrait:
    """Show another portrait."""

    id: str


@dataclass(frozen=True, slots=True)
class SetNeutral:
    """Take the driver's face as it is now for neutral."""


@dataclass(frozen=True, slots=True)
class SetGain:
    """Scale expression."""

    value: float


@dataclass(frozen=True, slots=True)
class SetKeep:
    """Keep so much of the portrait's own expression."""

    value: float


@dataclass(frozen=True, slots=True)
class SetMirror:
    """Move like a mirror image."""

    value: bool


@dataclass(frozen=True, slots=True)
class Move:
    """Do as this frame of motion says."""

    frame: ArkitFrame


Command = ChoosePortrait | SetNeutral | SetGain | SetKeep | SetMirror | Move


def parse_command(text: str, longest: int) -> Command:
    """Parse one message; raises :class:`BadInput` with a sentence for the sender."""
    message = _object(text, longest)
    value = message.get("value")
    match message.get("type"):
        case "portrait":
            if not isinstance(message.get("id"), str):
                raise BadInput('portrait needs an "id"')
            return ChoosePortrait(message["id"])
        case "neutral":
            return SetNeutral()
        case "gain":
            return SetGain(_number(value, "gain", 2))
        case "keep":
            return SetKeep(_number(value, "keep", 1))
        case "mirror":
            if not isinstance(value, bool):
                raise BadInput('mirror needs a "value" of true or false')
            return SetMirror(value)
        case "motion":
            return Move(ArkitFrame.from_json(message))
        case _:
            raise BadInput("unknown control message: use portrait, neutral, gain, keep, mirror or motion")


def parse_token(text: str, longest: int) -> str:
    """The token of a first message; raises :class:`BadInput`."""
    message = _object(text, longest)
    if message.get("type") != "token" or not isinstance(message.get("value"), str):
        raise BadInput("the first message must be your token")
    return str(message["value"])


def _number(value: Any, name: str, most: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise BadInput(f'{name} needs a "value" from 0 to {most:g}')


def _object(text: str, longest: int) -> dict[str, Any]:
    if len(text) > longest:
        raise BadInput(f"a control message may have {longest} characters")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("a control message must be JSON") from None
    if not isinstance(message, dict):
        raise BadInput("a control message must be a JSON object")
    return message
