"""Web pages: who is let in, what a preflight is told, and that others are shut out."""

from __future__ import annotations

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from router.web.cors import Origins
from router.web.hosts import Hosts
from tests.router.web.ingress import ingress


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost", True),
        ("https://LOCALHOST:5173", True),
        ("http://127.0.0.1:3000", True),
        ("app://obsidian.md", True),
        ("https://chat.example", True),
        ("https://a.teams.example", True),
        ("https://chat.example:444", False),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
    ],
)
def test_origins(origin, expected):
    """Ollama's own list, and what the operator names, with one `*` in each."""
    origins = Origins("https://chat.example, https://*.teams.example")
    assert expected == (origin in origins)


@pytest.fixture
def client():
    return Client(ingress(Response("said", headers={"Vary": "Accept"}), Hosts("*")))


def test_without_origin_nothing_is_added(client):
    """Programs are no browsers."""
    answer = client.get("/api/tags")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_allowed_page(client):
    """The page may read the answer, and the router's own headers in it."""
    answer = client.get("/api/tags", headers={"Origin": "http://localhost:5173"})
    assert (200, "said") == (answer.status_code, answer.text)
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert ["Accept", "Origin"] == answer.headers.getlist("Vary")
    assert "X-InferOps-Node" in answer.headers["Access-Control-Expose-Headers"]


def test_preflight(client):
    """Whatever headers a client's library sends, an allowed page may send them."""
    answer = client.options(
        "/v1/chat/completions",
        headers={
            "Origin": "http://localhost:5173",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-stainless-new",
        },
    )
    assert (204, "") == (answer.status_code, answer.text)
    allowed = answer.headers["Access-Control-Allow-Headers"]
    assert allowed == "content-type,x-stainless-new"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_own_page(client):
    """A page that the router's own address serves is no foreign one."""
    here = "http://gpu.lan:8000"
    answer = client.get("/", base_url=here, headers={"Origin": here})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "start"),
    [("/admin/reload", '{"error":"'), ("/v1/models", '{"error":{"message":"')],
)
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_foreign_page(client, path, start, method):
    """Another site's page reaches nothing, and the refusal names the setting."""
    headers = {"Origin": "https://evil.example"}
    answer = client.open(path, method=method, headers=headers)
    assert answer.status_code == 403
    assert answer.text.startswith(f"{start}pages of 'https://evil.example' may not")
    assert "web.origins" in answer.text
    assert len(answer.headers["X-Request-Id"]) == 32


HERE = "http://localhost:5173"
NAMED = "https://chat.example"
INFERENCE = ("/api/chat", "/api/tags", "/v1/chat/completions", "/v1/models", "/")
JOBS = ("/v1/jobs", "/v1/jobs/j/results", "/v1/files", "/v1/batches", "/jobs")
SHUT = ("/admin/nodes", "/admin/reload", "/webhook/alertmanager", "/metrics", "/x")


@pytest.mark.parametrize(
    ("origin", "paths", "status"),
    [
        (HERE, INFERENCE, 200),
        (HERE, JOBS, 403),
        (HERE, SHUT, 403),
        ("app://obsidian.md", JOBS, 403),
        (NAMED, (*INFERENCE, *JOBS), 200),
        (NAMED, SHUT, 403),
        ("null", (*INFERENCE, *JOBS, *SHUT), 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_page_may_ask_by_area(origin, paths, status, method):
    """A page of this machine asks for inference only, a named one for jobs too."""
    client = Client(ingress(Response("said"), Hosts("*"), Origins(NAMED)))
    for path in paths:
        answer = client.open(path, method=method, headers={"Origin": origin})
        told = answer.headers.get("Access-Control-Allow-Origin")
        assert (status == 403) == (answer.status_code == 403), path
        assert (None if status == 403 else origin) == told, path


def test_own_pages_may_ask_all():
    """What the router itself served asks its own routes, admin's too."""
    client = Client(ingress(Response("said"), Hosts("*")))
    here = "http://localhost:8000"
    for path in (*INFERENCE, *JOBS, *SHUT):
        answer = client.post(path, base_url=here, headers={"Origin": here})
        assert answer.status_code == 200
