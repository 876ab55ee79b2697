"""What a request about people asks: enrolling, changing, removing. Parsed here, done by the library."""

from collections.abc import Mapping
from typing import Any, Final

from avatar_stream.errors import BadInput
from avatar_stream.identity.checks import (
    MAX_NAME_LENGTH,
    MAX_SOURCES,
    checked_consent,
    checked_name,
    checked_settings,
    checked_tags,
    checked_text,
)
from avatar_stream.identity.style import STYLES, checked_style
from avatar_stream.strict_json import read_json

LONGEST: Final = 16 * 1024  # bytes of such a request
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
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
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "settings": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "background": {"type": "string"},
                "keep": {"type": "number"},
                "expression": {"type": "object"},
            },
            "description": "what goes with the character: background, keep, and expression (see the control channel)",
        },
    },
}


def parse_enrolment(body: bytes) -> dict[str, Any]:
    """What ``Library.enrol`` takes; raises :class:`BadInput` with a sentence for the sender."""
    said = _object(body, SCHEMA)
    pictures = said.get("pictures", [])
    if not isinstance(pictures, list) or not all(isinstance(one, str) for one in pictures):
        raise BadInput("pictures is a list of texts")
    if not 1 <= len(pictures) <= MAX_SOURCES:
        raise BadInput(f"say which uploaded pictures show the person: 1 to {MAX_SOURCES} of their ids, as pictures")
    protected = said.get("protected", False)
    if not isinstance(protected, bool):
        raise BadInput("protected is true or false")
    return {
        "uploads": pictures,
        "name": checked_name(said.get("name", "")),
        "consent": checked_consent(said.get("consent", ""), "whoever asks", 0.0).statement,
        "tags": checked_tags(said.get("tags", [])),
        "description": checked_text(said.get("description", ""), "a description"),
        "style": checked_style(checked_text(said.get("style", ""), "a style")),
        "protected": protected,
    }


def parse_changes(body: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """A new name, or None, and new settings, or None; raises :class:`BadInput`."""
    said = _object(body, CHANGES)
    name = checked_name(said["name"]) if "name" in said else None
    settings = checked_settings(said["settings"]) if "settings" in said else None
    if name is None and settings is None:
        raise BadInput("say what to change: a name, or settings")
    return name, settings


def _object(body: bytes, schema: Mapping[str, Any]) -> dict[str, Any]:
    said = read_json(body, "the body")
    if not isinstance(said, dict):
        raise BadInput("the body must be a JSON object")
    if unknown := set(said) - set(schema["properties"]):
        known = ", ".join(schema["properties"])
        raise BadInput(f"there is no field {min(unknown)[:MAX_NAME_LENGTH]!r}: use {known}")
    return said
