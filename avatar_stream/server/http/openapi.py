"""The HTTP API as OpenAPI 3.1, at ``/openapi.json``: made from routes, their docstrings, limits and errors."""

import inspect
from importlib.metadata import version
from typing import Any, Final

from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from avatar_stream import errors
from avatar_stream.server.http.enrolment_requests import Change, Enrolment
from avatar_stream.settings import Settings
from avatar_stream.typed_input import schema_of

SDP_BODY: Final = {"application/sdp": {"schema": {"type": "string"}}}
PICTURE: Final = {"type": "string", "contentEncoding": "binary"}
_MODEL_SCHEMAS: Final = {model: schema_of(model, "#/components/schemas/") for model in (Enrolment, Change)}
_NESTED_SCHEMAS: Final = {
    name: schema for model in _MODEL_SCHEMAS.values() for name, schema in model.pop("$defs", {}).items()
}
# Bodies, query parameters and responses, which a handler's signature does not tell.
REQUEST_BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("/identities", "post"): {
        **{kind: {"schema": PICTURE} for kind in ("image/jpeg", "image/png", "image/webp", "image/avif")},
        "application/json": {"schema": _MODEL_SCHEMAS[Enrolment]},
    },
    ("/backgrounds", "post"): {kind: {"schema": PICTURE} for kind in ("image/jpeg", "image/png", "image/webp")},
    ("/identities/{key}", "patch"): {"application/json": {"schema": _MODEL_SCHEMAS[Change]}},
    ("/session", "post"): SDP_BODY,
    ("/whip", "post"): SDP_BODY,
    ("/whep/{id}", "post"): SDP_BODY,
    ("/session/{key}", "patch"): {"application/trickle-ice-sdpfrag": {"schema": {"type": "string"}}},
    ("/whip/{key}", "patch"): {"application/trickle-ice-sdpfrag": {"schema": {"type": "string"}}},
    ("/whep/{id}/{key}", "patch"): {"application/trickle-ice-sdpfrag": {"schema": {"type": "string"}}},
}
QUERY_PARAMETERS: Final = {
    "portrait": "id of the portrait to show",
    "background": "background: own, blur, or a colour such as 00ff00",
    "session": "public name of the session, for viewers",
}
RESPONSES: Final[dict[tuple[str, str], tuple[int, str, dict[str, Any]]]] = {
    ("/identities", "get"): (200, "The portraits", {"application/json": {"schema": {"type": "object"}}}),
    ("/backgrounds", "post"): (201, "Its id", {"application/json": {"schema": {"type": "object"}}}),
    ("/identities", "post"): (201, "Its id", {"application/json": {"schema": {"type": "object"}}}),
    ("/identities/{key}", "patch"): (200, "The character", {"application/json": {"schema": {"type": "object"}}}),
    ("/identities/{key}", "delete"): (204, "Gone", {}),
    ("/identities/{key}/card", "get"): (200, "The card", {"image/png": {"schema": PICTURE}}),
    ("/identities/{key}", "get"): (200, "The picture", {"image/jpeg": {"schema": PICTURE}}),
    ("/session", "post"): (201, "The SDP answer; Location is the session's URL", SDP_BODY),
    ("/whip", "post"): (201, "The SDP answer; Location is the session's URL", SDP_BODY),
    ("/whep/{id}", "post"): (201, "The SDP answer; Location is the viewer's URL", SDP_BODY),
    ("/links/{key}", "post"): (201, "A link for viewers", {"application/json": {"schema": {"type": "object"}}}),
}
PUBLIC_PATHS: Final = ("/healthz", "/readyz", "/openapi.json", "/control.schema.json", "/view/{id}")


def openapi(routes: list[BaseRoute], settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of ``routes`` on a server with these ``settings``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not isinstance(route, Route) or isinstance(route, Mount | WebSocketRoute):
            continue
        for method in sorted(route.methods or ()):
            if method not in ("HEAD", "OPTIONS"):
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, method.lower(), settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "avatar_stream",
            "version": version("avatar-stream"),
            "description": "A live portrait avatar server over WebRTC. Media goes by WHIP (RFC 9725) and WHEP; the "
            "WebSockets are /control/{key} (see /control.schema.json) and /motion/{session}.",
        },
        "paths": paths,
        "components": {
            "schemas": _NESTED_SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "error": {
                    "description": "What is wrong and what to do",
                    "content": {
                        "application/json": {
                            "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
                        }
                    },
                }
            },
        },
    }


def _operation(route: Route, method: str, settings: Settings) -> dict[str, Any]:
    docstring = inspect.getdoc(route.endpoint) or ""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.param_convertors
    ]
    if method == "post" and route.path in ("/session", "/whip"):
        parameters += [
            {"name": name, "in": "query", "description": about, "schema": {"type": "string"}}
            for name, about in QUERY_PARAMETERS.items()
        ]
    status, about, content = RESPONSES.get((route.path, method), (200, "Done", {}))
    answers: dict[str, Any] = {str(status): {"description": about} | ({"content": content} if content else {})}
    operation: dict[str, Any] = {
        "summary": docstring.split("\n")[0].replace("``", ""),
        "parameters": parameters,
        "responses": answers | {code: {"$ref": "#/components/responses/error"} for code in _errors(route.path)},
    }
    if (body := REQUEST_BODIES.get((route.path, method))) is not None:
        limit = settings.max_upload if route.path == "/identities" else settings.max_offer
        operation["requestBody"] = {"required": True, "content": body, "description": f"at most {limit} bytes"}
    if route.path not in PUBLIC_PATHS:
        operation["security"] = [{"bearer": []}, {}]
    return operation


def _errors(path: str) -> list[str]:
    """The statuses of :mod:`avatar_stream.errors` that a request to ``path`` may get."""
    if path in PUBLIC_PATHS:
        return []
    kinds = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.AvatarError)]
    return sorted({str(one.status) for one in kinds})
