"""What every client may ask of the fleet as a whole, answered from the snapshot.

`tags`, `ps` and `models` are the union over the nodes; what would change a
node, or use its account, is shut, with a sentence on how an operator does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
from flask import Blueprint, Response, request

from router.model import canonical, is_model_name
from router.relay.protocols import Dialect, error_body
from router.runtime.turns import in_turns
from router.snapshot import PresentModel, Published, Snapshot
from router.web.authentication import principal_of

_CHANGES = "this would change a node's models, so the router keeps it shut"
_ACCOUNT = "this would use the account of a node, so the router keeps it shut"
_RUN = "an operator runs on the node itself: OLLAMA_HOST=<node> ollama"
SHUT = {
    "/api/pull": f"{_CHANGES}; {_RUN} pull <model>",
    "/api/push": f"{_CHANGES}; {_RUN} push <model>",
    "/api/create": f"{_CHANGES}; {_RUN} create <model>",
    "/api/copy": f"{_CHANGES}; {_RUN} cp <model> <new name>",
    "/api/delete": f"{_CHANGES}; {_RUN} rm <model>",
    "/api/blobs/<path:rest>": f"{_CHANGES}; {_RUN} create <model>",
    "/api/me": f"{_ACCOUNT}; {_RUN} signin",
    "/api/signin": f"{_ACCOUNT}; {_RUN} signin",
    "/api/signout": f"{_ACCOUNT}; {_RUN} signout",
    "/api/user/<path:rest>": f"{_ACCOUNT}; {_RUN} signout",
    "/api/experimental/<path:rest>": (
        f"{_ACCOUNT}; ask a node's own Ollama for what it does beside inference"
    ),
}
_ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


Find = Callable[[str], frozenset[str]]


def fleet_blueprint(published: Published, find: Find) -> Blueprint:
    """Build the routes that no node is asked for.

    find: has the nodes asked for a model that none is known to have
    """
    routes = Blueprint("fleet", __name__)
    present = _PresentModels()

    @routes.get("/")
    def root() -> Response:
        return Response("Ollama is running", mimetype="text/plain")

    @routes.get("/api/version")
    def version() -> Response:
        return _answer(Dialect.OLLAMA, {"version": _version(published.current)})

    @routes.get("/api/status")
    def status() -> Response:
        # The fleet has no account: a client must not offer models of the cloud.
        cloud = {"disabled": True, "source": "config"}
        return _answer(Dialect.OLLAMA, {"cloud": cloud})

    @routes.get("/api/tags")
    def tags() -> Response:
        models = list(filter(_mine, present(published.current)))
        return _answer(Dialect.OLLAMA, {"models": models})

    @routes.get("/api/ps")
    def resident() -> Response:
        models = list(filter(_mine, _resident(published.current)))
        return _answer(Dialect.OLLAMA, {"models": models})

    @routes.get("/v1/models")
    def models() -> Response:
        found = filter(_mine, present(published.current))
        data = [_openai(entry) for entry in found]
        return _answer(Dialect.OPENAI, {"object": "list", "data": data})

    @routes.get("/v1/models/<path:name>")
    def model(name: str) -> Response:
        entry = _entry(present(published.current), name)
        if entry is None and is_model_name(name) and find(canonical(name)):
            entry = _entry(present(published.current), name)
        if entry is not None and _mine(entry):
            return _answer(Dialect.OPENAI, _openai(entry))
        return _error(Dialect.OPENAI, 404, f"model '{name}' not found", "not_found")

    _add_closed(routes)
    return routes


def _mine(entry: Mapping[str, Any]) -> bool:
    """Say whether who asks may use the model."""
    return principal_of(request.environ).may_use(entry["name"])


def _add_closed(routes: Blueprint) -> None:
    """Say why to whoever asks for a shut route."""
    for rule in SHUT:
        routes.add_url_rule(rule, f"shut {rule}", _shut(rule), methods=_ALL_METHODS)


def _shut(rule: str) -> Callable[..., Response]:
    return lambda **_: _error(Dialect.OLLAMA, 403, SHUT[rule], "forbidden")


def _answer(dialect: Dialect, content: dict[str, Any]) -> Response:
    """Answer in Ollama's own order of keys, which some clients show."""
    body = orjson.dumps(content)
    return Response(body, content_type=dialect.json_type)


def _error(dialect: Dialect, status: int, message: str, code: str) -> Response:
    body = error_body(dialect, status, message, code)
    return Response(body, status, content_type=dialect.json_type)


def _version(snapshot: Snapshot) -> str:
    """Return the oldest version of the fleet: clients must not expect more."""
    versions = {view.version for view in snapshot.nodes.values() if view.version}
    return min(versions, key=_version_order, default="0.0.0")


def _version_order(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(n) if n.isdigit() else 0 for n in numbers)


class _PresentModels:
    """What the nodes have, gathered once for a snapshot: it takes a while of many."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._entries: list[dict[str, Any]] = []

    def __call__(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        if snapshot is self._snapshot:
            return self._entries
        entries = list(_present(snapshot))
        self._snapshot, self._entries = snapshot, entries
        return entries


def _present(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield each model once, with the nodes that have it, as most of them have it.

    digests: where nodes have different builds of it, which nodes have which
    """
    found: dict[str, dict[str, list[tuple[str, PresentModel]]]] = {}
    for name, view in in_turns(snapshot.nodes.items()):
        for model in (view.present or {}).values():
            builds = found.setdefault(model.name, {})
            builds.setdefault(model.digest, []).append((name, model))
    for builds in found.values():
        _, listed = max(builds.values(), key=len)[0]
        nodes = [name for each in builds.values() for name, _ in each]
        entry = {**listed.listing, "nodes": nodes}
        if len(builds) > 1:
            entry["digests"] = {
                digest: [name for name, _ in each] for digest, each in builds.items()
            }
        yield entry


def _entry(entries: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    wanted = canonical(name)
    return next((e for e in entries if canonical(e["name"]) == wanted), None)


def present_models(snapshot: Snapshot) -> Iterator[str]:
    """Yield the name of each model that some node has on its disk."""
    for entry in _present(snapshot):
        yield str(entry["name"])


def _resident(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield each loaded model of each node: they expire apart."""
    for name, view in in_turns(snapshot.nodes.items()):
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
