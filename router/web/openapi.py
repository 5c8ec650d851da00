"""The API as an OpenAPI 3.1 description, made from the routes that are served.

Access and status codes follow from `router.web.access`, words and bodies from
`router.web.operations`, so that a route cannot be served and described differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from werkzeug.routing import Map

from router.relay.protocols import ROUTES, Dialect, Route, dialect_of
from router.web.access import Area, area_of, scopes_of
from router.web.models import SHUT
from router.web.operations import JSON, OPERATIONS, Operation, Schema

_UNSHOWN = frozenset({"HEAD", "OPTIONS"})
_PART = re.compile(r"<(?:(int|path):)?([^>]+)>")
_PAGE = "text/html"
_STREAMS = {True: "streams by default", False: "streams on request", None: "one answer"}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "password: the key"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_TEXT: Schema = {"type": "string"}
_ERRORS: Mapping[Dialect, Schema] = {
    Dialect.OLLAMA: {
        "type": "object",
        "properties": {"error": _TEXT},
        "required": ["error"],
    },
    Dialect.OPENAI: {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": _TEXT, "type": _TEXT},
                "required": ["message"],
            }
        },
        "required": ["error"],
    },
    Dialect.ANTHROPIC: {
        "type": "object",
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "properties": {"message": _TEXT, "type": _TEXT},
                "required": ["message", "type"],
            },
        },
        "required": ["type", "error"],
    },
}
_WORDS = {
    400: "the request is wrong; the message names the field",
    401: "missing or invalid API key",
    403: "the API key is not for this",
    404: "not found, or another owner's",
    408: "the body came too slowly",
    409: "the state does not allow this",
    413: "the body is too large",
    415: "unknown content encoding",
    422: "the request ends the runners of nodes",
    429: "a limit is exceeded, or too much is under way",
    503: "not available now",
    504: "the time limit has passed",
    507: "the disk is full",
}
_OF_INFERENCE = frozenset({400, 408, 413, 415, 422, 429, 503, 504})


def routes_of(rules: Map) -> Iterator[tuple[str, str]]:
    """Yield each path that is served with each of its methods."""
    for path in ROUTES:
        yield path, "POST"
    for rule in rules.iter_rules():
        if rule.rule in SHUT:
            continue
        for method in (rule.methods or set()) - _UNSHOWN:
            yield rule.rule, method
    yield "/metrics", "GET"


def words_of(route: Route) -> str:
    """Say what an inference route does."""
    return f"passed to a node: {route.dialect.value}, {_STREAMS[route.streams]}"


def described(routes: Iterable[tuple[str, str]], version: str) -> dict[str, Any]:
    """Return the description. Raises KeyError for a route without an entry."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {f"{d.value}-error": _ERRORS[d] for d in Dialect}
    for path, method in sorted(routes):
        shown = _PART.sub(r"{\2}", path)
        route = ROUTES.get(path)
        made = (
            _inference(route)
            if route
            else _own(OPERATIONS[f"{method} {path}"], schemas)
        )
        common = _common(path, method)
        responses = {**made.pop("responses"), **_failures(path, method)}
        paths.setdefault(shown, {})[method.lower()] = {
            **common,
            **made,
            "responses": dict(sorted(responses.items())),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "InferOps", "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _common(path: str, method: str) -> dict[str, Any]:
    scopes = scopes_of(path, method)
    words = re.sub(r"\W+", "_", f"{method.lower()} {path}").strip("_")
    parts = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0} if kind == "int" else _TEXT,
        }
        for kind, name in _PART.findall(path)
    ]
    return {
        "operationId": words,
        "tags": [area_of(path).value],
        "security": [
            {scheme: [scope.value]}
            for scheme in _SCHEMES
            for scope in sorted(scopes or ())
        ],
        **({"parameters": parts} if parts else {}),
    }


def _inference(route: Route) -> dict[str, Any]:
    stream = (
        "application/x-ndjson"
        if route.dialect is Dialect.OLLAMA
        else "text/event-stream"
    )
    kinds = [JSON, *([] if route.streams is None else [stream])]
    body: Schema = {
        "type": "object",
        "properties": {"model": _TEXT, "stream": {"type": "boolean"}},
        "required": ["model"],
    }
    kind = "multipart/form-data" if route.form else JSON
    return {
        "summary": words_of(route),
        "requestBody": {"required": True, "content": {kind: {"schema": body}}},
        "responses": {
            "200": {"description": "the node's answer", "content": _content(kinds)},
            "default": {"description": "as the node refused it"},
        },
    }


def _own(known: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": known.words}
    if known.query:
        made["parameters"] = [
            {
                "name": name,
                "in": "query",
                "required": name in known.needed,
                "schema": schema,
            }
            for name, schema in known.query.items()
        ]
    if known.body:
        content = {
            kind: {"schema": _without_definitions(schema, schemas)}
            for kind, schema in known.body.items()
        }
        made["requestBody"] = {"required": True, "content": content}
    success: dict[str, Any] = {"description": "as asked for"}
    if known.kinds:
        success |= {"content": _content(known.kinds)}
    made["responses"] = {str(known.status): success}
    return made


def _content(kinds: Iterable[str]) -> dict[str, Any]:
    return {kind: {} for kind in kinds}


def _without_definitions(schema: Schema, schemas: dict[str, Any]) -> dict[str, Any]:
    """Take pydantic's definitions of parts to where all schemas are."""
    schemas |= schema.get("$defs", {})
    return {name: value for name, value in schema.items() if name != "$defs"}


def _failures(path: str, method: str) -> dict[str, Any]:
    """Describe how a route says no."""
    dialect = Dialect.OPENAI if area_of(path) is Area.WEBHOOK else dialect_of(path)
    content: dict[str, Any] = {
        JSON: {"schema": {"$ref": f"#/components/schemas/{dialect.value}-error"}}
    }
    if path in ROUTES:
        statuses = set(_OF_INFERENCE)
        content |= _content(["text/plain"])  # of a node that does not know the route
    else:
        known = OPERATIONS[f"{method} {path}"]
        statuses = set(known.failures)
        if _PAGE in known.kinds:
            content |= _content([_PAGE])
        if known.query or known.body:
            statuses.add(400)
        if known.body:
            statuses |= {408, 413}
        if area_of(path) in {Area.JOBS, Area.ADMIN} and scopes_of(path, method):
            statuses |= {503, 507}
    if scopes_of(path, method) is not None:
        statuses |= {401, 403}
    if "<" in path or path in ROUTES or _names_things(path, method):
        statuses.add(404)
    return {
        str(status): {"description": _WORDS[status], "content": content}
        for status in statuses
    }


def _names_things(path: str, method: str) -> bool:
    """Say whether a parameter or a field is the id of something."""
    known = OPERATIONS[f"{method} {path}"]
    fields = {
        name for each in known.body.values() for name in each.get("properties", ())
    }
    return bool({*known.query, *fields} & {"after", "file_id", "input_file_id"})
