"""Parses the bodies of requests that enrol or change characters. The library carries them out."""

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

MAX_BODY_BYTES: Final = 16 * 1024  # bytes
ENROLMENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["pictures", "name", "consent"],
    "properties": {
        "pictures": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5,
                     "description": "ids of uploaded pictures of one person"},
        "name": {"type": "string"},
        "consent": {"type": "string", "description": "the right to use this face, in a sentence"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "description": {"type": "string"},
        "style": {"enum": ["", *STYLES]},
        "protected": {"type": "boolean", "description": "others may not enrol or upload this face here"},
    },
}  # fmt: skip
CHANGE_SCHEMA: Final[dict[str, Any]] = {
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
            "description": "the character's own settings: background, keep, and expression (see the control channel)",
        },
    },
}


def parse_enrolment(body: bytes) -> dict[str, Any]:
    """The arguments for ``Library.enrol``; raises :class:`BadInput` with a sentence for the sender."""
    fields = _parse_object(body, ENROLMENT_SCHEMA)
    pictures = fields.get("pictures", [])
    if not isinstance(pictures, list) or not all(isinstance(one, str) for one in pictures):
        raise BadInput("pictures is a list of texts")
    if not 1 <= len(pictures) <= MAX_SOURCES:
        raise BadInput(f"give the ids of 1 to {MAX_SOURCES} uploaded pictures of the person, as pictures")
    protected = fields.get("protected", False)
    if not isinstance(protected, bool):
        raise BadInput("protected is true or false")
    return {
        "uploads": pictures,
        "name": checked_name(fields.get("name", "")),
        "consent": checked_consent(fields.get("consent", ""), "whoever asks", 0.0).statement,
        "tags": checked_tags(fields.get("tags", [])),
        "description": checked_text(fields.get("description", ""), "a description"),
        "style": checked_style(checked_text(fields.get("style", ""), "a style")),
        "protected": protected,
    }


def parse_changes(body: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """The new name and the new settings, None for what stays; raises :class:`BadInput`."""
    fields = _parse_object(body, CHANGE_SCHEMA)
    name = checked_name(fields["name"]) if "name" in fields else None
    settings = checked_settings(fields["settings"]) if "settings" in fields else None
    if name is None and settings is None:
        raise BadInput("there is nothing to change: give a name or settings")
    return name, settings


def _parse_object(body: bytes, schema: Mapping[str, Any]) -> dict[str, Any]:
    fields = read_json(body, "the body")
    if not isinstance(fields, dict):
        raise BadInput("the body must be a JSON object")
    if unknown := set(fields) - set(schema["properties"]):
        known = ", ".join(schema["properties"])
        raise BadInput(f"there is no field {min(unknown)[:MAX_NAME_LENGTH]!r}: use {known}")
    return fields
