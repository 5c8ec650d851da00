"""What is read of a request's body, and what that needs of a node."""

from __future__ import annotations

import json

import pytest

from router.errors import BadRequestError
from router.relay.fields import Ask, Need, read_ask
from router.relay.protocols import ROUTES, Dialect, Route
from router.text.prompt_prefixes import NO_PREFIXES

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("path", "body", "ask"),
    [
        ("/api/chat", b'{"model":"m","messages":[{}]}', Ask("m", streams=True)),
        (
            "/api/chat",
            b'{"model":"m","messages":[{}],"stream":false}',
            Ask("m", streams=False),
        ),
        ("/v1/chat/completions", b'{"model":"m"}', Ask("m", streams=False)),
        (
            "/v1/completions",
            b'{"model":"m","prompt":"x","stream":true}',
            Ask("m", streams=True),
        ),
        (
            "/api/embed",
            b'{"model":"m","input":"x","stream":true}',
            Ask("m", streams=False),
        ),
        ("/api/show", b'{"name":"m"}', Ask("m", streams=False, need=Need.DISK)),
        ("/v1/messages", b'{"Model":"m","Stream":true}', Ask("m", streams=True)),
        ("/v1/messages", b'{"model":"m","x":"\\ud83d"}', Ask("m", streams=False)),
        ("/v1/messages", b'{"model":"m","x":"\xff"}', Ask("m", streams=False)),
        ("/v1/messages", b'{"model":"m","model":null}', Ask("m", streams=False)),
        ("/v1/messages", b'{"model":"m"} and more', Ask("m", streams=False)),
    ],
)
def test_reading(path, body, ask):
    """Model and stream are read with the route's own default."""
    assert ask == read_ask(ROUTES[path], body)._replace(prefixes=NO_PREFIXES)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "missing request body"),
        (b"[]", "the body must be a JSON object, got list"),
        (b"{}", "model is required"),
        (b'{"model":1}', "model is required"),
        (b'{"model":"m","stream":"yes"}', "stream must be true or false, got 'yes'"),
    ],
)
def test_rejections(body, message):
    """Each malformed body is told what is wrong."""
    with pytest.raises(BadRequestError) as caught:
        read_ask(ROUTES["/api/chat"], body)
    assert message == caught.value.message


_FORM = (
    b'--x1\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF--x\r\n\r\n\r\n--x1\r\n"
    b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper:tiny\r\n--x1--\r\n'
)


def test_form():
    """A file's bytes and name are not taken for the field that names the model."""
    route = ROUTES["/v1/audio/transcriptions"]
    assert Ask("whisper:tiny", streams=False) == read_ask(route, _FORM)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model":"m"}', "the body must be a multipart form"),
        (_FORM.replace(b' name="model"', b' name="other"'), "model is required"),
        (_FORM.replace(b"whisper:tiny", b""), "model is required"),
    ],
    ids=["JSON", "no such field", "empty field"],
)
def test_bad_forms(body, message):
    """A form without a model is no request."""
    with pytest.raises(BadRequestError) as caught:
        read_ask(ROUTES["/v1/audio/transcriptions"], body)
    assert message == caught.value.message


UNKNOWN = Route("/v1/rerank", Dialect.OPENAI, streams=None, unknown=True)


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/api/tokenize"])
def test_counting_tokens(path):
    """To count tokens a model must be there, and needs no slot."""
    route = Route(path, Dialect.OPENAI, streams=None, unknown=True)
    assert Need.LOADED is read_ask(route, b'{"model":"m","messages":[{}]}').need


@pytest.mark.parametrize(
    ("body", "streams"),
    [
        (b'{"model":"m"}', False),
        (b'{"model":"m","stream":true}', True),
        (b'{"model":"m","stream":"odd"}', False),
    ],
)
def test_unknown_route(body, streams):
    """Of a route that is not known nothing but the model is expected."""
    assert Ask("m", streams=streams) == read_ask(UNKNOWN, body)


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "fields", "need"),
    [
        ("/api/show", {}, Need.DISK),
        ("/api/generate", {"prompt": "hello"}, Need.SLOT),
        ("/api/generate", {"prompt": "hello", "keep_alive": 0}, Need.SLOT),
        ("/api/generate", {}, Need.LOADED),
        ("/api/generate", {"prompt": ""}, Need.LOADED),
        ("/api/generate", {"keep_alive": -1}, Need.LOADED),
        ("/api/generate", {"keep_alive": "10m"}, Need.LOADED),
        ("/api/generate", {"keep_alive": None}, Need.LOADED),
        ("/api/generate", {"keep_alive": True}, Need.LOADED),
        ("/api/generate", {"keep_alive": "soon"}, Need.LOADED),
        ("/api/generate", {"keep_alive": -1e-12}, Need.LOADED),
        ("/api/generate", {"options": {"num_ctx": 8192}}, Need.SLOT),
        ("/api/generate", {"keep_alive": 0}, Need.UNLOAD),
        ("/api/generate", {"keep_alive": 0.0, "options": {"a": 1}}, Need.UNLOAD),
        ("/api/generate", {"keep_alive": "0"}, Need.UNLOAD),
        ("/api/generate", {"keep_alive": "-0s", "prompt": ""}, Need.UNLOAD),
        ("/api/generate", {"keep_alive": "0h0m0s"}, Need.UNLOAD),
        ("/api/generate", {"keep_alive": 1e-12}, Need.UNLOAD),
        ("/api/generate", {"prompt": "x", "_debug_render_only": True}, Need.LOADED),
        ("/api/chat", {"messages": HELLO}, Need.SLOT),
        ("/api/chat", {"messages": []}, Need.LOADED),
        ("/api/chat", {}, Need.LOADED),
        ("/api/chat", {"messages": [], "keep_alive": "0s"}, Need.UNLOAD),
        ("/api/chat", {"messages": HELLO, "keep_alive": 0}, Need.SLOT),
        ("/api/embed", {"input": "hello"}, Need.SLOT),
        ("/api/embed", {"input": ["hello"]}, Need.SLOT),
        ("/api/embed", {}, Need.LOADED),
        ("/api/embed", {"input": []}, Need.LOADED),
        ("/api/embed", {"keep_alive": 0}, Need.LOADED),
        ("/api/embeddings", {"prompt": "hello"}, Need.SLOT),
        ("/api/embeddings", {}, Need.LOADED),
        ("/v1/completions", {"prompt": ""}, Need.LOADED),
        ("/v1/completions", {"prompt": "hello"}, Need.SLOT),
        ("/v1/chat/completions", {"messages": []}, Need.SLOT),
        ("/v1/embeddings", {"input": ""}, Need.SLOT),
        ("/v1/messages", {"messages": []}, Need.SLOT),
    ],
)
def test_need(path, fields, need):
    """Needs are as a real Ollama showed them with its one slot taken."""
    body = {"model": "m", **fields}
    assert need is read_ask(ROUTES[path], json.dumps(body).encode()).need
    large = json.dumps({**body, "x": "a" * 2 * MIB}).encode()
    assert need is read_ask(ROUTES[path], large).need


def test_large_values_are_there():
    """A prompt or a list of messages that is not read is not taken for none."""
    for path, name in (("/api/generate", "prompt"), ("/api/chat", "messages")):
        value = "a" * 2 * MIB if name == "prompt" else [{"content": "a" * 2 * MIB}]
        body = json.dumps({"model": "m", name: value, "keep_alive": 0}).encode()
        assert Need.SLOT is read_ask(ROUTES[path], body).need


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * 100_000, "the body must be a JSON object, got list"),
        (b'{"x":' + b"[" * 100_000, "invalid JSON: it is over 10000 levels deep"),
        (b'{"x":[' + b"[]," * 300_000, "invalid JSON: it has more than 250000 lists"),
        (b"{" + b'"a":0,' * 300_000, "invalid JSON: it has more than 250000 lists"),
        (b'{"model":"' + b"a" * MIB + b'"}', "model is required"),
        (b"{", "invalid JSON: unexpected end of data"),
        (b'{"model":"m"', "invalid JSON: unexpected end of data"),
        (b"hello", "invalid JSON: unexpected character (byte 0)"),
    ],
    ids=lambda value: value[:12],
)
def test_hostile_json(body, message):
    """Neither the stack nor the event loop is at a client's mercy."""
    with pytest.raises(BadRequestError) as caught:
        read_ask(ROUTES["/api/chat"], body)
    assert caught.value.message.startswith(message.replace("model is required", "the"))


def test_only_what_may_take_long_is_offloaded():
    """A usual body is read on the spot, a dear one where it holds up nobody."""
    offloaded = []

    def offload(call):
        offloaded.append(call)
        return call()

    usual = json.dumps({"model": "m", "messages": HELLO * 100}).encode()
    read_ask(ROUTES["/api/chat"], usual, offload)
    assert not offloaded
    dear = json.dumps({"model": "m", "messages": [[]] * 100_000}).encode()
    assert read_ask(ROUTES["/api/chat"], dear, offload).model == "m"
    form = _FORM.replace(b"RIFF", b"RIFF" * MIB)
    route = ROUTES["/v1/audio/transcriptions"]
    assert read_ask(route, form, offload).model == "whisper:tiny"
    assert len(offloaded) == 2
