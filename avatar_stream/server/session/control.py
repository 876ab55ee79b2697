"""The messages of the control channel as data. Pure functions, no I/O.

A client sends JSON objects: ``{"type": "portrait", "id": ID}``, ``{"type": "neutral"}``,
``{"type": "gain", "value": 0..2}``, ``{"type": "keep", "value": 0..1}`` (of the portrait's own expression),
``{"type": "mirror", "value": true}``, ``{"type": "background", "value": "own" | "blur" | "#00ff00"}``,
``{"type": "expression", "value": {"hold": ["smile"], "limits": {"jawOpen": [0, 0.3]}, "gains": {"head": 0.5}}}`` (see
``avatar_stream.face.expression``), and, in place of camera frames,
``{"type": "motion", "blendShapes": ..., "head": ...}`` (see ``ArkitFrame``) or the bytes of a face that the client
tracked itself (see ``avatar_stream.rigs.face_packet``). The server answers ``{"type": "done"}`` (not to motion) or
``{"type": "error", "message": ...}`` and sends ``{"type": "status", ...}`` twice a second, and
``{"type": "reconnect"}`` once when it is about to stop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import BLEND_SHAPES, ArkitFrame
from avatar_stream.face.expression import MAX_GAIN, REGIONS, Expression
from avatar_stream.face.held_parts import HOLDABLE_PARTS
from avatar_stream.face.model import COEFFICIENT_NAMES
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.portrait.background import BACKGROUND_PATTERN, checked_background
from avatar_stream.strict_json import read_json


@dataclass(frozen=True, slots=True)
class ChoosePortrait:
    """Show another portrait."""

    id: str


@dataclass(frozen=True, slots=True)
class SetNeutral:
    """Use the driver's current expression as neutral."""


@dataclass(frozen=True, slots=True)
class SetGain:
    """Scale the driver's expression."""

    value: float


@dataclass(frozen=True, slots=True)
class SetKeep:
    """Set the share of the portrait's own expression that stays."""

    value: float


@dataclass(frozen=True, slots=True)
class SetMirror:
    """Mirror the driver's motion."""

    value: bool


@dataclass(frozen=True, slots=True)
class SetExpression:
    """Set held parts, limits and gains of the expression."""

    value: Expression


@dataclass(frozen=True, slots=True)
class SetBackground:
    """Change the background."""

    value: str


@dataclass(frozen=True, slots=True)
class Move:
    """Apply one frame of motion."""

    frame: ArkitFrame | TrackedFace


Command = ChoosePortrait | SetNeutral | SetGain | SetKeep | SetMirror | SetExpression | SetBackground | Move


@dataclass(frozen=True, slots=True)
class CommandFormat:
    """The JSON of a command: the name and schema of its value ``field``, and ``make``, which creates the command."""

    make: Callable[[Any], Command]
    about: str
    field: str = ""
    schema: Mapping[str, Any] | None = None


EXPRESSION_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "hold": {"type": "array", "items": {"enum": list(HOLDABLE_PARTS)}},
        "limits": {
            "type": "object",
            "propertyNames": {"enum": list(COEFFICIENT_NAMES)},
            "additionalProperties": {
                "type": "array", "minItems": 2, "maxItems": 2,
                "items": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
        "gains": {
            "type": "object",
            "properties": {name: {"type": "number", "minimum": 0, "maximum": MAX_GAIN} for name in REGIONS},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}  # fmt: skip

COMMAND_FORMATS: Final = {
    "portrait": CommandFormat(ChoosePortrait, "Show another portrait", "id", {"type": "string"}),
    "neutral": CommandFormat(lambda _: SetNeutral(), "Use the driver's current expression as neutral"),
    "gain": CommandFormat(SetGain, "Scale the expression", "value", {"type": "number", "minimum": 0, "maximum": 2}),
    "keep": CommandFormat(
        SetKeep,
        "Share of the portrait's own expression that stays",
        "value",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    "mirror": CommandFormat(SetMirror, "Mirror the driver's motion", "value", {"type": "boolean"}),
    "expression": CommandFormat(
        lambda value: SetExpression(Expression.from_json(value)),
        "Set held parts, limits by ARKit name, and gains by region; replaces all earlier values",
        "value",
        EXPRESSION_SCHEMA,
    ),
    "background": CommandFormat(
        lambda value: SetBackground(checked_background(value)),
        "Background: the portrait's own, that one blurred, a colour, or an uploaded picture",
        "value",
        {"type": "string", "pattern": BACKGROUND_PATTERN},
    ),
    "motion": CommandFormat(
        lambda message: Move(ArkitFrame.from_json(message)), "Apply this frame of motion, in place of a camera frame"
    ),
}


def parse_command(text: str, max_length: int) -> Command:
    """Parse a message of ``max_length`` characters at most; raises :class:`BadInput` with a text for the sender."""
    message = _parse_object(text, max_length)
    name = message.get("type")
    kind = COMMAND_FORMATS.get(name) if isinstance(name, str) else None
    if kind is None:
        *first, last = COMMAND_FORMATS
        raise BadInput(f"unknown control message: use {', '.join(first)} or {last}")
    return kind.make(_field(message, str(name), kind) if kind.field else message)


def control_schema() -> dict[str, Any]:
    """The JSON Schema of a client's messages, made from ``COMMAND_FORMATS``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to /control/{key}",
        "oneOf": [_kind_schema(name, kind) for name, kind in COMMAND_FORMATS.items()],
        "$defs": {"frame": frame_schema()},
    }


def frame_schema() -> dict[str, Any]:
    """The JSON Schema of a frame of motion (see ``ArkitFrame``)."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    vector = {"type": "array", "items": {"type": "number"}}
    return {
        "type": "object",
        "required": ["blendShapes"],
        "properties": {
            "time": {"type": "number", "description": "seconds"},
            "blendShapes": {
                "type": "object",
                "properties": dict.fromkeys(BLEND_SHAPES, share),
                "additionalProperties": False,
            },
            "head": {
                "type": "object",
                "properties": {
                    "rotation": vector | {"minItems": 4, "maxItems": 4, "description": "unit quaternion x, y, z, w"},
                    "position": vector
                    | {"minItems": 3, "maxItems": 3, "description": "metres, y up, z to the viewer"},
                },
            },
        },
    }


def _kind_schema(name: str, kind: CommandFormat) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "description": kind.about,
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"const": name}},
    }
    if kind.field:
        schema["required"].append(kind.field)
        schema["properties"][kind.field] = dict(kind.schema or {})
    if name == "motion":
        schema = {"allOf": [schema, {"$ref": "#/$defs/frame"}]}
    return schema


def _field(message: dict[str, Any], name: str, kind: CommandFormat) -> Any:
    value, schema = message.get(kind.field), kind.schema or {}
    match schema["type"]:
        case "string" if isinstance(value, str):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "object" if isinstance(value, dict):
            return value
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            if schema["minimum"] <= value <= schema["maximum"]:
                return float(value)
    wanted = {"string": "", "boolean": " of true or false", "object": " that is an object"}.get(schema["type"])
    if wanted is None:
        wanted = f" from {schema['minimum']} to {schema['maximum']}"
    article = "an" if kind.field[0] in "aeiou" else "a"
    raise BadInput(f'{name} needs {article} "{kind.field}"{wanted}')


def parse_token(text: str, max_length: int) -> str:
    """The token in a first message; raises :class:`BadInput`."""
    message = _parse_object(text, max_length)
    if message.get("type") != "token" or not isinstance(message.get("value"), str):
        raise BadInput("the first message must be your token")
    return str(message["value"])


def _parse_object(text: str, max_length: int) -> dict[str, Any]:
    if len(text) > max_length:
        raise BadInput(f"a control message may have {max_length} characters")
    message = read_json(text, "a control message")
    if not isinstance(message, dict):
        raise BadInput("a control message must be a JSON object")
    return message
