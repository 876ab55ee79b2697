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

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, StrictBool, StrictStr

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import BLEND_SHAPES, ArkitFrame
from avatar_stream.face.expression import MAX_GAIN, REGIONS, Expression
from avatar_stream.face.held_parts import HOLDABLE_PARTS
from avatar_stream.face.model import COEFFICIENT_NAMES
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.portrait.background import BACKGROUND_PATTERN, checked_background
from avatar_stream.strict_json import read_json
from avatar_stream.typed_input import OneOf, schema_of, validated

NO_OTHER_FIELDS: Final = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Gain = Annotated[float, Field(ge=0, le=MAX_GAIN, strict=True)]
PartName = Annotated[str, OneOf(HOLDABLE_PARTS)]
CoefficientName = Annotated[str, OneOf(COEFFICIENT_NAMES)]
RegionName = Annotated[str, OneOf(REGIONS)]


class ExpressionFields(BaseModel):
    """The JSON of an ``Expression``, which ``Expression.from_json`` reads."""

    model_config = NO_OTHER_FIELDS

    hold: list[PartName] = []
    limits: dict[CoefficientName, tuple[Share, Share]] = {}
    gains: dict[RegionName, Gain] = {}


# Each command is what the session gets, and by its annotations also the format of its message. It crosses the pipe.


@dataclass(frozen=True, slots=True)
class ChoosePortrait:
    """Show another portrait."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    id: StrictStr


@dataclass(frozen=True, slots=True)
class SetNeutral:
    """Use the driver's current expression as neutral."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS


@dataclass(frozen=True, slots=True)
class SetGain:
    """Scale the driver's expression."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    value: Annotated[float, Field(ge=0, le=2, strict=True)]


@dataclass(frozen=True, slots=True)
class SetKeep:
    """Set the share of the portrait's own expression that stays."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    value: Share


@dataclass(frozen=True, slots=True)
class SetMirror:
    """Mirror the driver's motion."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    value: StrictBool


@dataclass(frozen=True, slots=True)
class SetExpression:
    """Set held parts, limits by ARKit name, and gains by region; replaces all earlier values."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    value: Annotated[Expression, PlainValidator(Expression.from_json, json_schema_input_type=ExpressionFields)]


@dataclass(frozen=True, slots=True)
class SetBackground:
    """Change the background: the portrait's own, that one blurred, a colour, or an uploaded picture."""

    __pydantic_config__: ClassVar = NO_OTHER_FIELDS
    value: Annotated[
        StrictStr, AfterValidator(checked_background), Field(json_schema_extra={"pattern": BACKGROUND_PATTERN})
    ]


@dataclass(frozen=True, slots=True)
class Move:
    """Apply one frame of motion, in place of a camera frame."""

    frame: ArkitFrame | TrackedFace


Command = ChoosePortrait | SetNeutral | SetGain | SetKeep | SetMirror | SetExpression | SetBackground | Move
COMMANDS: Final[dict[str, type[Command]]] = {
    "portrait": ChoosePortrait,
    "neutral": SetNeutral,
    "gain": SetGain,
    "keep": SetKeep,
    "mirror": SetMirror,
    "expression": SetExpression,
    "background": SetBackground,
    "motion": Move,
}
"""The type of a message, and the command that it asks for."""


def parse_command(text: str, max_length: int) -> Command:
    """Parse a message of ``max_length`` characters at most; raises :class:`BadInput` with a text for the sender."""
    message = _parse_object(text, max_length)
    name = message.pop("type", None)
    kind = COMMANDS.get(name) if isinstance(name, str) else None
    if kind is None:
        *first, last = COMMANDS
        raise BadInput(f"unknown control message: use {', '.join(first)} or {last}")
    if kind is Move:
        return Move(ArkitFrame.from_json(message))
    command: Any = validated(kind, message, str(name))
    return cast(Command, command)


def control_schema() -> dict[str, Any]:
    """The JSON Schema of a client's messages, made from ``COMMANDS``."""
    definitions: dict[str, Any] = {"frame": frame_schema()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to /control/{key}",
        "oneOf": [_message_schema(name, kind, definitions) for name, kind in COMMANDS.items()],
        "$defs": definitions,
    }


def _message_schema(name: str, kind: type[Command], definitions: dict[str, Any]) -> dict[str, Any]:
    described = {"description": (kind.__doc__ or "").rstrip("."), "type": "object"}
    if kind is Move:
        tag = {"required": ["type"], "properties": {"type": {"const": name}}}
        return {"allOf": [described | tag, {"$ref": "#/$defs/frame"}]}
    schema = schema_of(kind)
    definitions |= schema.pop("$defs", {})
    return described | {
        "required": ["type", *schema.get("required", [])],
        "properties": {"type": {"const": name}} | schema.get("properties", {}),
        "additionalProperties": False,
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
