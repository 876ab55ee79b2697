"""Parses the bodies of requests that enrol or change characters. The library carries them out."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, StrictBool, StrictStr

from avatar_stream.errors import BadInput
from avatar_stream.identity.checks import (
    MAX_SOURCES,
    checked_consent,
    checked_name,
    checked_settings,
    checked_tags,
    checked_text,
)
from avatar_stream.identity.style import STYLES, checked_style
from avatar_stream.server.session.control import ExpressionFields
from avatar_stream.strict_json import read_json
from avatar_stream.typed_input import validated

MAX_BODY_BYTES: Final = 16 * 1024  # bytes


class Enrolment(BaseModel):
    """A request to enrol a character."""

    model_config = ConfigDict(extra="forbid")

    pictures: Annotated[
        list[StrictStr],
        Field(min_length=1, max_length=MAX_SOURCES, description="ids of uploaded pictures of one person"),
    ]
    name: Annotated[StrictStr, AfterValidator(checked_name)]
    consent: Annotated[
        StrictStr,
        AfterValidator(lambda text: checked_consent(text, "whoever asks", 0.0).statement),
        Field(description="the right to use this face, in a sentence"),
    ]
    tags: Annotated[tuple[str, ...], PlainValidator(checked_tags, json_schema_input_type=list[str])] = ()
    description: Annotated[StrictStr, AfterValidator(lambda text: checked_text(text, "a description"))] = ""
    style: Annotated[
        StrictStr,
        AfterValidator(lambda text: checked_style(checked_text(text, "a style"))),
        Field(json_schema_extra={"enum": ["", *STYLES]}),
    ] = ""
    protected: Annotated[StrictBool, Field(description="others may not enrol or upload this face here")] = False


class SettingsFields(BaseModel):
    """The JSON of a character's settings, which ``checked_settings`` reads."""

    model_config = ConfigDict(extra="forbid")

    background: str = ""
    keep: Annotated[float, Field(ge=0, le=1)] = 0
    expression: ExpressionFields = ExpressionFields()


class Change(BaseModel):
    """A request to change a character."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, AfterValidator(checked_name)] | None = None
    settings: Annotated[
        dict[str, Any] | None,
        PlainValidator(checked_settings, json_schema_input_type=SettingsFields),
        Field(description="the character's own settings: background, keep, and expression (see the control channel)"),
    ] = None


def parse_enrolment(body: bytes) -> dict[str, Any]:
    """The arguments for ``Library.enrol``; raises :class:`BadInput` with a sentence for the sender."""
    fields = validated(Enrolment, _parse_object(body), "an enrolment").model_dump()
    return {"uploads": fields.pop("pictures"), **fields}


def parse_changes(body: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """The new name and the new settings, None for what stays; raises :class:`BadInput`."""
    change = validated(Change, _parse_object(body), "a change")
    if change.name is None and change.settings is None:
        raise BadInput("say what to change: a name, or settings")
    return change.name, change.settings


def _parse_object(body: bytes) -> dict[str, Any]:
    fields = read_json(body, "the body")
    if not isinstance(fields, dict):
        raise BadInput("the body must be a JSON object")
    return fields
