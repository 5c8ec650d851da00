"""Errors of the paths that are no inference: in the words of each protocol."""

from __future__ import annotations

import pytest
from flask import Blueprint
from prometheus_client import CollectorRegistry
from werkzeug.test import Client

from router.snapshot import Published, Snapshot
from router.web.app import flask_app, own_paths
from router.web.models import fleet_blueprint

# What Chromium sends for a page that somebody opens.
CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


def app():
    fleet = fleet_blueprint(Published(Snapshot({}, 0.0)), lambda _: frozenset())
    return flask_app([fleet], CollectorRegistry(), lambda: None)


@pytest.fixture
def client():
    return Client(app())


@pytest.mark.parametrize(
    ("method", "path", "allow", "text"),
    [
        ("GET", "/nonsense", None, '{"error":"GET /nonsense: there is no'),
        ("GET", "/v1/x", None, '{"error":{"message":"GET /v1/x: there is no'),
        ("GET", "/api/chat", "POST", '{"error":"GET /api/chat: method not'),
        ("DELETE", "/v1/completions", "POST", '{"error":{"message":"DELETE /v1'),
        ("GET", "/v1/messages", "POST", '{"type":"error","error":{"type":"inv'),
        ("POST", "/api/tags", "GET, HEAD", '{"error":"POST /api/tags: method'),
        ("OPTIONS", "/api/tags", "GET, HEAD", '{"error":"OPTIONS /api/tags: '),
        ("OPTIONS", "/api/chat", "POST", '{"error":"OPTIONS /api/chat: method'),
        ("TRACE", "/api/chat", "POST", '{"error":"TRACE /api/chat: method'),
    ],
)
def test_errors_in_the_dialect(client, method, path, allow, text):
    """Each has its status, its protocol's object, and an id to ask for."""
    answer = client.open(path, method=method, headers={"X-Request-Id": "mine"})
    expected = 405 if allow else 404
    assert (expected, allow) == (answer.status_code, answer.headers.get("Allow"))
    assert answer.text.startswith(text)
    assert answer.headers["X-Request-Id"] == "mine"


def test_a_browser_is_answered_with_a_page(client):
    """What it opens and is not there leads on; a program that takes all gets JSON."""
    page = client.get("/nonsense", headers={"Accept": CHROMIUM})
    assert (404, "text/html") == (page.status_code, page.mimetype)
    assert "GET /nonsense: there is no such path" in page.text
    assert "style-src 'self'" in page.headers["Content-Security-Policy"]
    program = client.get("/nonsense", headers={"Accept": "*/*"})
    assert "application/json" == program.mimetype


def test_paths_of_before_0_2_work_for_a_release():
    """Jobs were at `/batches`; what only begins like it is nothing of ours."""
    jobs = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
    jobs.add_url_rule("", "list", lambda: "all")
    jobs.add_url_rule("/<job>/output", "output", lambda job: job)
    client = Client(flask_app([jobs], CollectorRegistry(), lambda: None))
    assert "all" == client.get("/batches").text
    assert "batch_1" == client.get("/batches/batch_1/output").text
    assert 404 == client.get("/batches-of-mine").status_code


def test_own_paths():
    """What the router answers itself is known by its start, and is never passed on."""
    own = own_paths(app())
    assert {"/api/tags", "/api/pull", "/api/experimental", "/v1/models"} <= own
    assert not {"/api/chat", "/v1/messages", "/v1/chat"} & own


def test_content_types(client):
    """As Ollama: its own routes name the charset, OpenAI's do not."""
    assert client.get("/api/ps").content_type == "application/json; charset=utf-8"
    assert client.get("/v1/models").content_type == "application/json"
