"""What a request about people asks: enrolling, changing, removing. Parsed here, done by the library."""

from collections.abc import Mapping
from typing import Any, Final

from avatar_stream.errors import BadInput
from avatar_stream.identity.records import checked_settings
from avatar_stream.identity.style import STYLES
from avatar_stream.strict_json import read_json

LONGEST: Final = 16 * 1024  # bytes of such a request
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["pictures", "name", "consent"],
    "properties": {
        "pictures": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5,
                     "description": "ids of uploaded pictures of one person"},
        "name": {"type": "string"},
        "consent": {"type": "string", "description": "with what right this face is used, in a sentence"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "description": {"type": "string"},
        "style": {"enum": ["", *STYLES]},
        "protected": {"type": "boolean", "description": "nobody else may enrol or upload this face here"},
    },
}  # fmt: skip
CHANGES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "settings": {
            "type": "object",
            "description": "what goes with the character: background, keep, and expression (see the control channel)",
        },
    },
}


def parse_enrolment(body: bytes) -> dict[str, Any]:
    """What ``Library.enrol`` takes; raises :class:`BadInput` with a sentence for the sender."""
    said = _object(body)
    pictures = _list(said, "pictures")
    if not pictures:
        raise BadInput("say which uploaded pictures show the person: their ids, as pictures")
    return {
        "uploads": pictures,
        "name": _text(said, "name"),
        "consent": _text(said, "consent"),
        "tags": _list(said, "tags"),
        "description": _text(said, "description"),
        "style": _text(said, "style"),
        "protected": said.get("protected") is True,
    }


def parse_changes(body: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """A new name, or None, and new settings, or None; raises :class:`BadInput`."""
    said = _object(body)
    name = _text(said, "name") if "name" in said else None
    settings = checked_settings(said["settings"]) if "settings" in said else None
    if name is None and settings is None:
        raise BadInput("say what to change: a name, or settings")
    return name, settings


def _object(body: bytes) -> dict[str, Any]:
    said = read_json(body, "the body")
    if not isinstance(said, dict):
        raise BadInput("the body must be a JSON object")
    return said


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name, "")
    if not isinstance(value, str):
        raise BadInput(f"{name} is a text")
    return value


def _list(said: Mapping[str, Any], name: str) -> list[str]:
    value = said.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInput(f"{name} is a list of texts")
    return value
