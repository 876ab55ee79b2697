"""The OpenAPI description fits the routes, and the schema of control messages fits the parser."""

import json
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from starlette.routing import Route

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.server.http.app import create_app
from avatar_stream.server.session.control import COMMANDS, control_schema, parse_command
from avatar_stream.settings import Settings

SCHEMA = jsonschema.Draft202012Validator(control_schema())
GOOD: list[dict[str, Any]] = [
    {
        "type": "expression",
        "value": {"hold": ["gaze", "smile"], "limits": {"jawOpen": [0, 0.5]}, "gains": {"head": 0}},
    },
    {"type": "expression", "value": {}},
    {"type": "background", "value": "blur"},
    {"type": "background", "value": "#00ff00"},
    {"type": "portrait", "id": "noor"},
    {"type": "neutral"},
    {"type": "gain", "value": 2},
    {"type": "keep", "value": 0.25},
    {"type": "mirror", "value": False},
    {"type": "motion"} | ArkitFrame({"jawOpen": 0.5}).to_json(1.0),
]


async def test_the_openapi_description_is_valid_and_has_every_route() -> None:
    app = create_app(Settings(), None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        description = (await client.get("/openapi.json")).json()
        assert (await client.get("/control.schema.json")).json() == control_schema()
    validate(description)
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    described = {(path, method) for path, methods in description["paths"].items() for method in methods}
    assert described == {(path, method) for path, method in routes if method not in ("head", "options")}
    for methods in description["paths"].values():
        for operation in methods.values():
            assert operation["summary"], operation
    assert "413" in description["paths"]["/identities"]["post"]["responses"]


@pytest.mark.parametrize("message", GOOD)
def test_messages_that_the_schema_allows_are_parsed(message: dict[str, Any]) -> None:
    SCHEMA.validate(message)
    parse_command(json.dumps(message), 4096)


def test_every_command_has_an_example_here() -> None:
    assert {message["type"] for message in GOOD} == set(COMMANDS)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(COMMANDS)),
    st.dictionaries(
        st.sampled_from(["value", "id", "blendShapes", "head"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=3),
            st.dictionaries(st.sampled_from(["jawOpen", "nose", "rotation"]), st.floats(0, 1), max_size=2),
        ),
        max_size=3,
    ),
)  # fmt: skip
def test_schema_and_parser_agree(name: str, rest: dict[str, Any]) -> None:
    message = {"type": name} | rest
    allowed = SCHEMA.is_valid(message)
    try:
        parse_command(json.dumps(message), 4096)
        understood = True
    except BadInput:
        understood = False
    assert allowed == understood, message
