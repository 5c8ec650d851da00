"""Paths as Ollama tidies them, and routes that only nodes know."""

from __future__ import annotations

import pytest

from router.relay.protocols import Dialect
from router.web.inference.paths import climbs, passed_on, tidy


@pytest.mark.parametrize(
    ("path", "tidied"),
    [
        ("//api/chat", "/api/chat"),
        ("/api//chat", "/api/chat"),
        ("/api/chat/", "/api/chat"),
        ("///v1///chat//completions//", "/v1/chat/completions"),
        ("//api/tags", "/api/tags"),
        ("/api/chat", "/api/chat"),
        ("/", "/"),
        ("//", "//"),
        ("//admin/nodes", "//admin/nodes"),
        ("/admin/nodes/", "/admin/nodes/"),
        ("//webhook/alertmanager", "//webhook/alertmanager"),
        ("//evil.example/api/chat", "//evil.example/api/chat"),
        ("/apis//chat", "/apis//chat"),
    ],
)
def test_tidy(path, tidied):
    """Slashes of Ollama's paths are merged, those of the router's own never."""
    assert tidied == tidy(path)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/api/./chat", "/api/chat"),
        ("/x/../api/chat", "/api/chat"),
        ("/v1/../../api/tags/.", "/api/tags"),
        ("/api/chat", None),
        ("/api/../admin/nodes", None),
        ("/api/..", None),
        ("/api/.hidden", None),
        ("/./api/a b", None),
        ("/./api/a\r\nX: y", None),
        ("/./api/" + "a" * 300, None),
    ],
)
def test_climbing(path, leads_to):
    """A path with dots is redirected where it leads, if that is Ollama's and plain."""
    assert leads_to == climbs(path)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/systemone", Dialect.OPENAI),
        ("/v1/rerank", Dialect.OPENAI),
        ("/api/rerank", Dialect.OLLAMA),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/responses/input_tokens", Dialect.OPENAI),
        ("/api/tokenize", Dialect.OLLAMA),
        ("/v1/audio/speech", Dialect.OPENAI),
    ],
)
def test_passed_on(path, dialect):
    """A route that a newer node may have is passed on, errors in its own dialect."""
    route = passed_on(path)
    assert route is not None
    assert (path, dialect, True) == (route.path, route.dialect, route.unknown)
    assert "other" == route.label


@pytest.mark.parametrize(
    "path",
    [
        "/api/pull",
        "/api/PULL",
        "/api/v2/pull",
        "/api/Create",
        "/api/models/delete",
        "/api/rename",
        "/api/blobs/sha256-0",
        "/api/experimental/web_search",
        "/api/me",
        "/api/users/keys",
        "/v1/fine_tuning/jobs",
        "/v1/fine-tunes",
        "/v1/uploads",
        "/v1/files",
        "/api/settings",
        "/api/import",
        "/admin/nodes",
        "/metrics",
        "/api",
        "/api/",
        "/api/..",
        "/api/../admin",
        "/api//rerank",
        "/api/re rank",
        "/api/re\r\nrank",
        "/api/re%72ank",
        "/api/rerank?x=1",
        "/api/rerank;x",
        "/api/ränk",
        "/api/" + "a" * 300,
    ],
)
def test_never_passed_on(path):
    """What may change a node, is the router's own or no plain path stays here."""
    assert passed_on(path) is None
