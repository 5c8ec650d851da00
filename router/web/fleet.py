"""What every client may ask of the fleet as a whole, answered from the snapshot.

`tags`, `ps` and `models` are the union over the nodes; what would change a
node's models is shut, with a sentence on how an operator does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, jsonify

from router.dispatch.routes import Dialect, error_body
from router.model import canonical
from router.snapshot import Published, Snapshot

_SHUT = (
    *("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete"),
    *("/api/blobs/<path:rest>", "/api/me", "/api/signout", "/api/signin"),
    *("/api/user/<path:rest>", "/api/experimental/<path:rest>"),
)


def fleet_blueprint(published: Published) -> Blueprint:
    """Build the routes that no node is asked for."""
    routes = Blueprint("fleet", __name__)

    @routes.get("/")
    def root() -> Response:
        return Response("Ollama is running", mimetype="text/plain")

    @routes.get("/api/version")
    def version() -> Response:
        return jsonify(version=_version(published.current))

    @routes.get("/api/tags")
    def tags() -> Response:
        return jsonify(models=list(_present(published.current)))

    @routes.get("/api/ps")
    def resident() -> Response:
        return jsonify(models=list(_resident(published.current)))

    @routes.get("/v1/models")
    def models() -> Response:
        data = [_openai(entry) for entry in _present(published.current)]
        return jsonify(object="list", data=data)

    @routes.get("/v1/models/<path:name>")
    def model(name: str) -> Response:
        wanted = canonical(name)
        for entry in _present(published.current):
            if canonical(entry["name"]) == wanted:
                return jsonify(_openai(entry))
        return _error(Dialect.OPENAI, 404, f"model '{name}' not found", "not_found")

    for rule in _SHUT:
        routes.add_url_rule(
            rule, f"shut_{rule}", _shut, methods=["GET", "HEAD", "POST", "DELETE"]
        )
    return routes


def _shut(**_: str) -> Response:
    return _error(
        Dialect.OLLAMA,
        403,
        "this route would change a node, so the router keeps it shut; an operator"
        " runs it on the node itself (OLLAMA_HOST=<node> ollama pull ...)",
        "forbidden",
    )


def _error(dialect: Dialect, status: int, message: str, code: str) -> Response:
    body = error_body(dialect, status, message, code)
    return Response(body, status, mimetype="application/json")


def _version(snapshot: Snapshot) -> str:
    """Return the oldest version of the fleet: clients must not expect more."""
    versions = {view.version for view in snapshot.nodes.values() if view.version}
    return min(versions, key=_version_order, default="0.0.0")


def _version_order(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(n) if n.isdigit() else 0 for n in numbers)


def _present(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield each build of each model once, with the nodes that have it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, view in snapshot.nodes.items():
        for model in (view.present or {}).values():
            entry = found.setdefault(
                (model.name, model.digest), {**model.listing, "nodes": []}
            )
            entry["nodes"].append(name)
    yield from found.values()


def _resident(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield each loaded model of each node: they expire apart."""
    for name, view in snapshot.nodes.items():
        for model in (view.resident or {}).values():
            yield {**model.listing, "node": name}


def _openai(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["name"],
        "object": "model",
        "created": _unix(str(entry.get("modified_at", ""))),
        "owned_by": entry["name"].rpartition("/")[0] or "library",
    }


def _unix(modified_at: str) -> int:
    try:
        return int(datetime.fromisoformat(modified_at).timestamp())
    except ValueError:
        return 0
