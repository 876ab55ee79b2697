"""Values that strangers send, checked against a typed model; what is wrong is said in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from avatar_stream.errors import BadInput

Model = TypeVar("Model")
LONGEST_NAME = 60  # characters of a foreign field's name that are repeated


class OneOf:
    """An annotation for pydantic: one of these values. ``Literal`` cannot take a variable."""

    def __init__(self, values: Sequence[str]) -> None:
        self._values = list(values)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.literal_schema(self._values)


def validated(model: type[Model], values: Mapping[str, Any], what: str) -> Model:
    """``values`` as a ``model`` (a pydantic model, or a dataclass whose fields are annotated).

    Raises :class:`BadInput`: ``what`` names the message, and its first wrong field is named with what it may be.
    """
    try:
        checked: Model = _adapter(model).validate_python(dict(values))
        return checked
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        properties = schema_of(model).get("properties", {})
        if field not in properties:
            known = f"use {', '.join(properties)}" if properties else "it has none"
            raise BadInput(f"{what} has no field {field[:LONGEST_NAME]!r}: {known}") from None
        raise BadInput(f'{what} needs "{field}"{_allowed(properties[field])}') from None


def schema_of(model: type[Any], definitions: str = "#/$defs/") -> dict[str, Any]:
    """The JSON Schema of a model; ``definitions`` is where the models in it will stand (``$defs`` has them)."""
    return _adapter(model).json_schema(ref_template=definitions + "{model}")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(model: type[Any]) -> TypeAdapter[Any]:
    """Made once for each model."""
    if model not in _ADAPTERS:
        _ADAPTERS[model] = TypeAdapter(model)
    return _ADAPTERS[model]


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a field may be, to stand behind its name."""
    if "minimum" in schema:
        return f", a number from {schema['minimum']:g} to {schema['maximum']:g}"
    if "enum" in schema:
        return f", one of {', '.join(str(one) or 'nothing' for one in schema['enum'])}"
    match schema.get("type"):
        case "boolean":
            return ", true or false"
        case "object":
            return ", an object"
        case "array" if "maxItems" in schema:
            return f", a list of {schema['minItems']} to {schema['maxItems']} texts"
        case "array":
            return ", a list of texts"
        case "string":
            return ", a text"
    return ""
