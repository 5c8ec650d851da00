"""A client cannot tell the router from the Ollama behind it, but where we say so.

The same calls as the simulator is compared by: what a real Ollama answered to
each is on record, and `tests/simulator` checks the record itself; what the
simulator does not know is asked of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.harness.inventory import write_inventory
from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.simulator.ollama_calls import CALLS, VERSION, Shape, Side, recorded

pytestmark = pytest.mark.e2e

_NOT_FOUND = "model 'nope' not found"
# Refusals in the router's own words: status and text; the object is the dialect's.
OWN_WORDS = {
    "POST /": (405, "POST /: method not allowed, this path takes GET, HEAD"),
    "GET /api/generate": (
        405,
        "GET /api/generate: method not allowed, this path takes POST",
    ),
    "DELETE /api/chat": (
        405,
        "DELETE /api/chat: method not allowed, this path takes POST",
    ),
    "GET /nonsense": (404, "GET /nonsense: there is no such path"),
    "GET /v1/models/nope": (404, _NOT_FOUND),
    "v1 chat, unknown model": (404, _NOT_FOUND),
    "v1 completion, unknown model": (404, _NOT_FOUND),
    "v1 embeddings, unknown model": (404, _NOT_FOUND),
    "embed, unknown model": (404, _NOT_FOUND),
    "generate, no model": (400, "model is required"),
    "embed, no model": (400, "model is required"),
    "v1 chat, no model": (400, "model is required"),
    "v1 chat, model of the wrong type": (400, "model is required"),
    "v1 chat, no body": (400, "missing request body"),
    "generate, no object": (400, "the body must be a JSON object, got list"),
    "generate, broken body": (400, "invalid JSON: unexpected character"),
    "v1 chat, broken body": (400, "invalid JSON: unexpected character"),
    "generate, cut body": (400, "invalid JSON: unexpected end of data"),
}
# HEAD is answered wherever GET is; Ollama leaves it out on these two.
MORE_THAN_OLLAMA = frozenset({"HEAD /api/ps", "HEAD /v1/models"})


_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgAB"
    "SK+kcQAAAABJRU5ErkJggg=="
)
_TOOL = (
    '{"type":"function","function":{"name":"f","description":"d",'
    '"parameters":{"type":"object","properties":{}}}}'
)
_CHAT = '{"model":"MODEL","messages":[{"role":"user","content":"5 6"}]'
_SAID = '{"model":"MODEL","input":"5 6","max_output_tokens":3'
# Not on record, as the simulator does not know them: asked of both, now.
ASKED_OF_BOTH = {
    "responses, whole": ("/v1/responses", _SAID + "}"),
    "responses, streamed": ("/v1/responses", _SAID + ',"stream":true}'),
    "messages, whole": ("/v1/messages", _CHAT + ',"max_tokens":3}'),
    "messages, streamed": ("/v1/messages", _CHAT + ',"max_tokens":3,"stream":true}'),
    "messages, no limit": ("/v1/messages", _CHAT + "}"),
    "chat, logprobs": (
        "/api/chat",
        _CHAT + ',"logprobs":true,"top_logprobs":2,"options":{"num_predict":2}}',
    ),
    "v1 chat, logprobs": (
        "/v1/chat/completions",
        _CHAT + ',"logprobs":true,"top_logprobs":2,"max_tokens":2,"stream":true}',
    ),
    "chat, too many logprobs": (
        "/api/chat",
        _CHAT + ',"logprobs":true,"top_logprobs":99}',
    ),
    "chat, format": (
        "/api/chat",
        _CHAT + ',"format":"json","stream":false,"options":{"num_predict":3}}',
    ),
    "chat, unknown format": ("/api/chat", _CHAT + ',"format":"xml"}'),
    "chat, think": ("/api/chat", _CHAT + ',"think":"high"}'),
    "chat, keep_alive": (
        "/api/chat",
        _CHAT + ',"keep_alive":"7m","stream":false,"options":{"num_predict":1}}',
    ),
    "generate, image": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","images":["' + _PIXEL + '"],"stream":false,'
        '"options":{"num_predict":2}}',
    ),
    "generate, broken image": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","images":["?"]}',
    ),
    "v1 chat, tools": ("/v1/chat/completions", _CHAT + f',"tools":[{_TOOL}]}}'),
    "images, no prompt": ("/v1/images/generations", '{"model":"MODEL"}'),
    "embed, dimensions": ("/api/embed", '{"model":"MODEL","input":"x","dimensions":8}'),
}


@pytest.fixture(scope="module")
def ollama(tmp_path_factory) -> Iterator[Side]:
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH to put behind the router")
    with RealOllama(tmp_path_factory.mktemp("ollama")) as ollama:
        yield Side(ollama.url, MODEL)


@pytest.fixture(scope="module")
def router(tmp_path_factory, ollama) -> Iterator[Side]:
    folder = tmp_path_factory.mktemp("same")
    urls = {"one": ollama.url}
    inventory = write_inventory(folder / "nodes.yml", urls, slots=None)
    with Router(folder, inventory, prometheus_port=free_port()) as router:
        yield Side(router.url, MODEL)


@pytest.fixture(scope="module")
def on_record(ollama) -> dict[str, Shape]:
    version = ollama.call("GET", "/api/version").json()["version"]
    if version != VERSION:
        pytest.skip(f"the record is of Ollama {VERSION}, here is {version}")
    return recorded()


@pytest.mark.parametrize(
    "name", [n for n in CALLS if n not in OWN_WORDS and n not in MORE_THAN_OLLAMA]
)
def test_same(router, on_record, name):
    """Status, content type, framing, keys in order, types, error texts, the end."""
    expected = on_record[name]
    if name == "GET /api/tags":  # the one thing that is added
        lines = (expected.lines[0].replace("}}]}", '}, "nodes": ["str"]}]}'),)
        expected = replace(expected, lines=lines)
    assert expected == router.shape(*CALLS[name])


@pytest.mark.parametrize(
    ("path", "body"), ASKED_OF_BOTH.values(), ids=ASKED_OF_BOTH.keys()
)
def test_same_as_asked_now(router, ollama, path, body):
    """What the record does not hold is the same with the router between."""
    expected = ollama.shape("POST", path, body)
    if expected.status >= 400:  # an error comes whole, also where a stream was asked
        expected = replace(expected, chunked=False)
    assert expected == router.shape("POST", path, body)


@pytest.mark.parametrize("name", OWN_WORDS)
def test_own_words(router, name):
    """Where the router speaks for itself, the protocol's object carries it."""
    status, text = OWN_WORDS[name]
    method, path, body = CALLS[name]
    answer = router.call(method, path, body)
    assert status == answer.status_code
    error = answer.json()["error"]
    openai = path.startswith("/v1/")
    assert (error["message"] if openai else error).startswith(text)
    if openai:
        assert ["message", "type", "param", "code"] == list(error)
    assert len(answer.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("name", MORE_THAN_OLLAMA)
def test_more_than_ollama(router, name):
    """HEAD as GET, without a body."""
    answer = router.call(*CALLS[name])
    assert (200, b"") == (answer.status_code, answer.content)
