"""What is read of a request, and errors in each route's own dialect."""

from __future__ import annotations

import json

import pytest

from router.errors import BadRequestError
from router.relay.protocols import (
    ROUTES,
    Ask,
    Dialect,
    error_body,
    error_frame,
    read_ask,
)


@pytest.mark.parametrize(
    ("path", "body", "ask"),
    [
        ("/api/chat", b'{"model":"m"}', Ask("m", streams=True)),
        ("/api/chat", b'{"model":"m","stream":false}', Ask("m", streams=False)),
        ("/v1/chat/completions", b'{"model":"m"}', Ask("m", streams=False)),
        ("/v1/completions", b'{"model":"m","stream":true}', Ask("m", streams=True)),
        ("/api/embed", b'{"model":"m","stream":true}', Ask("m", streams=False)),
        ("/api/show", b'{"name":"m"}', Ask("m", streams=False)),
        ("/api/chat", b'{"Model":"m","Stream":false}', Ask("m", streams=False)),
        ("/api/chat", b'{"model":"m","x":"\\ud83d"}', Ask("m", streams=True)),
        ("/api/chat", b'{"model":"m","x":"\xff"}', Ask("m", streams=True)),
    ],
)
def test_reading(path, body, ask):
    """Model and stream are read with the route's own default."""
    assert ask == read_ask(ROUTES[path], body)


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


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"model":"m","x":"\\ud83d"' + b" " * 5_000_000 + b"}"],
    ids=["deeply nested", "odd and large"],
)
def test_hostile_json(body):
    """Neither the stack nor the event loop is at a client's mercy."""
    with pytest.raises(BadRequestError, match="invalid JSON"):
        read_ask(ROUTES["/api/chat"], body)


def test_invalid_json_is_located():
    """The parser's own words say where."""
    with pytest.raises(BadRequestError, match=r"invalid JSON: .*column 2"):
        read_ask(ROUTES["/api/chat"], b"{")


def test_error_dialects():
    """The same error in three protocols' objects."""
    ollama, openai, anthropic = (
        json.loads(error_body(d, 404, "no", "not_found")) for d in Dialect
    )
    assert {"error": "no"} == ollama
    assert {
        "error": {
            "message": "no",
            "type": "not_found_error",
            "param": None,
            "code": "not_found",
        }
    } == openai
    expected = {"type": "error", "error": {"type": "not_found_error", "message": "no"}}
    assert expected == anthropic


@pytest.mark.parametrize(
    ("dialect", "start", "end"),
    [
        (Dialect.OLLAMA, b'{"error":"x"}', b"\n"),
        (Dialect.OPENAI, b'data: {"error":{"message":"x"', b"\n\n"),
        (Dialect.ANTHROPIC, b'event: error\ndata: {"type":"error"', b"\n\n"),
    ],
)
def test_error_frames(dialect, start, end):
    """A frame ends a stream as a line, or an event, of its own."""
    frame = error_frame(dialect, "x", "eof")
    assert frame.startswith(start)
    assert frame.endswith(end)
