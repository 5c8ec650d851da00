"""What clients ask of the fleet as a whole: unions, and routes that are shut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flask import Flask

from router.model import Node, Score
from router.snapshot import NodeView, PresentModel, Published, ResidentModel, Snapshot
from router.web.models import fleet_blueprint


def listing(name: str, digest: str) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "digest": digest,
        "size": 7,
        "modified_at": "2026-01-02T03:04:05Z",
    }


def view(node: str, version: str | None, models: dict[str, str]) -> NodeView:
    present = {n: PresentModel(n, d, 7, listing(n, d)) for n, d in models.items()}
    loaded = {n: ResidentModel(n, d, 7, 7, listing(n, d)) for n, d in models.items()}
    return NodeView(
        Node(node, f"http://{node}:1"), Score(0.5), version, present, loaded
    )


@pytest.fixture
def client():
    views = (
        view("a", "0.33.0", {"m:latest": "d1", "vendor/x:7b": "d9"}),
        view("b", "0.17.4", {"m:latest": "d1"}),
        view("c", "0.9.12-rc1", {"m:latest": "d2"}),
        NodeView(Node("new", "http://new:1"), Score(0.5)),
    )
    app = Flask("test")
    published = Published(Snapshot({v.node.name: v for v in views}, 0.0))

    def find(model: str) -> frozenset[str]:
        """Find one model that was pulled after the last poll."""
        if model != "fresh:latest":
            return frozenset()
        fresh = view("d", "0.33.0", {"Fresh:latest": "d3"})
        assert fresh.present is not None
        present = {"fresh:latest": fresh.present["Fresh:latest"]}
        nodes = {**published.current.nodes, "d": replace(fresh, present=present)}
        published.publish(Snapshot(nodes, 0.0))
        return frozenset({"d"})

    app.register_blueprint(fleet_blueprint(published, find))
    return app.test_client()


def test_tags_are_a_union_by_name(client):
    """Each model is one entry, as most nodes have it; other builds stand beside."""
    models = client.get("/api/tags").json["models"]
    found = {m["name"]: (m["digest"], m["nodes"], m.get("digests")) for m in models}
    assert {
        "m:latest": ("d1", ["a", "b", "c"], {"d1": ["a", "b"], "d2": ["c"]}),
        "vendor/x:7b": ("d9", ["a"], None),
    } == found


def test_a_model_that_was_just_pulled(client):
    """A name that no poll has brought is looked for, in whatever form it is asked."""
    assert "Fresh:latest" == client.get("/v1/models/FRESH").json["id"]
    assert client.get("/v1/models/other").status_code == 404


def test_ps_lists_each_node(client):
    """A model that is loaded twice is listed twice: its copies expire apart."""
    models = client.get("/api/ps").json["models"]
    loaded = [m["node"] for m in models if m["name"] == "m:latest"]
    assert ["a", "b", "c"] == loaded


def test_version_is_the_oldest(client):
    """Clients must expect no more than every node can do."""
    assert {"version": "0.9.12-rc1"} == client.get("/api/version").json


def test_root_as_ollama(client):
    """Clients check that something answers, by GET and by HEAD."""
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200


def test_openai_models(client):
    """The same union in OpenAI's shape."""
    data = client.get("/v1/models").json["data"]
    assert ["m:latest", "vendor/x:7b"] == [m["id"] for m in data]
    model = client.get("/v1/models/vendor/x:7b").json
    assert ("model", "vendor", 1767323045) == (
        model["object"],
        model["owned_by"],
        model["created"],
    )


def test_openai_model_by_short_name(client):
    """`m` is `m:latest`; a name that no node has is a 404 in OpenAI's object."""
    assert client.get("/v1/models/m").json["id"] == "m:latest"
    missing = client.get("/v1/models/none")
    assert (404, "model 'none' not found") == (
        missing.status_code,
        missing.json["error"]["message"],
    )


@pytest.mark.parametrize(
    ("method", "path", "command"),
    [
        ("POST", "/api/pull", "ollama pull <model>"),
        ("POST", "/api/push", "ollama push <model>"),
        ("POST", "/api/create", "ollama create <model>"),
        ("POST", "/api/copy", "ollama cp <model> <new name>"),
        ("DELETE", "/api/delete", "ollama rm <model>"),
        ("POST", "/api/blobs/sha256:00", "ollama create <model>"),
        ("HEAD", "/api/blobs/sha256:00", ""),
        ("POST", "/api/me", "ollama signin"),
        ("DELETE", "/api/user/keys/k", "ollama signout"),
        ("POST", "/api/experimental/web_search", "node's own Ollama"),
        ("GET", "/api/experimental/aliases", "node's own Ollama"),
    ],
)
def test_shut_routes(client, method, path, command):
    """What would change a node is refused, and says how it is done instead."""
    answer = client.open(path, method=method)
    assert answer.status_code == 403
    assert method == "HEAD" or "keeps it shut; " in answer.json["error"]
    assert command in answer.text


def test_no_cloud(client):
    """Clients ask this before they offer models that no node runs."""
    assert client.get("/api/status").json["cloud"]["disabled"] is True


def test_order_of_keys(client):
    """Ollama's own order, and what the router adds comes last."""
    model = client.get("/api/tags").json["models"][0]
    assert ["name", "model"] == list(model)[:2]
    assert ["nodes", "digests"] == list(model)[-2:]
