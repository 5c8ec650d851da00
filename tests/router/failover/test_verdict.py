"""Whose fault an answer is: the node's, unless it is known to be the request's."""

from __future__ import annotations

import json

import pytest

from router.failover.verdict import Blame, judge, judge_words
from router.model import Cause

CHAT = "/api/chat"
JSON = "application/json; charset=utf-8"
LOGIN = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"

# Real Ollama 0.17.4's words for bad requests (2026-11-29), on the routes that say them.
OF_THE_REQUEST = [
    (400, "missing request body"),
    (400, "EOF"),
    (400, "unexpected EOF"),
    (400, "json: cannot unmarshal array into Go value of type api.ChatRequest"),
    (400, "invalid character '\\x1f' looking for beginning of value"),
    (400, "model is required"),
    (400, "messages is required"),
    (400, "max_tokens is required and must be positive"),
    (400, "registry.ollama.ai/library/mix:latest does not support tools"),
    (400, '"counting" does not support thinking'),
    (400, "registry.ollama.ai/library/counting:latest does not support insert"),
    (400, 'invalid think value: "ultra" (must be "high", "medium", "low", true'),
    (400, 'invalid reasoning value: \'ultra\' (must be "high", "medium"'),
    (400, "illegal base64 data at input byte 0"),
    (400, "invalid image: invalid image input"),
    (400, 'time: invalid duration "soon"'),
    (400, "invalid message content type: float64"),
    (400, "invalid message format"),
    (400, "invalid role: king, must be one of [system user assistant tool]"),
    (400, "image URLs are not currently supported, please use base64 encoded data"),
    (400, "[] is too short - 'messages'"),
    (400, "raw mode does not support template, system, or context"),
    (400, "top_logprobs must be between 0 and 20"),
    (400, "invalid input type"),
    (400, "input[0]: unknown input item type: nonsense"),
    (400, "Invalid value for 'encoding_format' = zip. Supported values: ['float'"),
    (500, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema'),
    (500, "invalid JSON schema in format"),
    (500, 'option "temperature" must be of type float32'),
    (500, "template: :1: unclosed action"),
    (500, "unqualified name: registry.ollama.ai/library/!MISSING!:latest"),
]
OF_THE_NODE = [
    (404, "model 'm' not found", Cause.MODEL_MISSING),
    (404, 'model "m" not found, try pulling it first', Cause.MODEL_MISSING),
    (500, "model runner has unexpectedly stopped, this may be", Cause.RUNNER_DIED),
    (500, "an error was encountered while running the model: unexpected EOF", None),
    (500, 'do request: Post "http://127.0.0.1:37215/completion": EOF', None),
    (500, "dial tcp 127.0.0.1:37215: connect: connection refused", None),
    (500, "llama runner process has terminated: exit status 2", Cause.LOAD_FAILED),
    (500, "llama runner process has terminated: CUDA error", Cause.GPU_ERROR),
    (500, "model failed to load, this may be due to resource", Cause.LOAD_FAILED),
    (500, "timed out waiting for llama runner to start", Cause.LOAD_FAILED),
    (500, "open /root/.ollama/models/blobs/sha256-0: no such file", Cause.LOAD_FAILED),
    (500, "unable to load model: /blobs/sha256-12", Cause.LOAD_FAILED),
    (500, "unsupported model architecture: 'new'", Cause.LOAD_FAILED),
    (500, "model requires more system memory (9.0 GiB)", Cause.OUT_OF_MEMORY),
    (500, "cudaMalloc failed: out of memory", Cause.OUT_OF_MEMORY),
    (500, "CUDA error: unspecified launch failure", Cause.GPU_ERROR),
    (500, "ROCm error: no kernel image", Cause.GPU_ERROR),
    (503, "server busy, please try again.  maximum pending requests", Cause.OVERLOADED),
    (429, "slow down", Cause.OVERLOADED),
    (401, "unauthorized", Cause.DENIED),
    (403, "forbidden", Cause.DENIED),
]


def said(status: int, text: str, *, openai: bool = False):
    error = {"message": text, "type": "api_error"} if openai else text
    return judge(CHAT, status, JSON, json.dumps({"error": error}).encode())


@pytest.mark.parametrize("openai", [False, True], ids=["ollama", "openai"])
@pytest.mark.parametrize(("status", "text"), OF_THE_REQUEST)
def test_of_the_request(status, text, openai):
    """What a real Ollama says to a bad request is the request's, in each dialect."""
    assert Blame.REQUEST is said(status, text, openai=openai).blame


@pytest.mark.parametrize(("status", "text", "cause"), OF_THE_NODE)
def test_of_the_node(status, text, cause):
    """Loads, memory, cards, runners, rights: another node is asked."""
    verdict = said(status, text)
    assert Blame.NODE is verdict.blame
    assert (cause or Cause.RUNNER_DIED) is verdict.cause


@pytest.mark.parametrize(
    ("status", "kind", "body", "cause"),
    [
        (200, "text/html", LOGIN, Cause.NOT_OLLAMA),
        (302, "text/html", b"", Cause.NOT_OLLAMA),
        (301, "text/html", LOGIN, Cause.NOT_OLLAMA),
        (204, "", b"", Cause.NOT_OLLAMA),
        (401, "text/html", LOGIN, Cause.DENIED),
        (401, "application/json", b'{"detail":"no token"}', Cause.DENIED),
        (403, "", b"", Cause.DENIED),
        (407, "", b"", Cause.DENIED),
        (404, "text/plain", b"404 page not found", Cause.NOT_OLLAMA),
        (404, "application/json", b'{"detail":"Not Found"}', Cause.NOT_OLLAMA),
        (405, "text/plain", b"405 method not allowed", Cause.NOT_OLLAMA),
        (412, "text/html", LOGIN, Cause.NOT_OLLAMA),
        (418, "", b"", Cause.NOT_OLLAMA),
        (500, "text/html", LOGIN, Cause.NOT_OLLAMA),
        (502, "text/html", b"<h1>Bad Gateway</h1>", Cause.GATEWAY),
        (503, "", b"", Cause.GATEWAY),
        (504, "text/html", b"", Cause.GATEWAY),
        (408, "", b"", Cause.TIMEOUT),
    ],
)
def test_a_proxy_in_front(status, kind, body, cause):
    """Whatever does not speak as Ollama does stands between the router and it."""
    verdict = judge(CHAT, status, kind, body)
    assert verdict is not None
    assert (Blame.NODE, cause) == (verdict.blame, verdict.cause)


@pytest.mark.parametrize(("size", "blame"), [(900, "node"), (2_000_000, "unclear")])
def test_what_is_too_large_for_a_proxy(size, blame):
    """A proxy that takes no body is at fault; one that takes small ones is not."""
    verdict = judge(CHAT, 413, "text/html", b"<h1>413</h1>", size)
    assert verdict is not None
    assert verdict.blame == blame


@pytest.mark.parametrize(
    ("status", "text", "cause"),
    [
        (400, "something new", Cause.ERROR),
        (500, "something new", Cause.ERROR),
        (422, "something new", Cause.ERROR),
        (400, "the input length exceeds the context length", Cause.TOO_LARGE),
        (500, "the input length exceeds the context length", Cause.TOO_LARGE),
        (413, "request entity too large", Cause.TOO_LARGE),
        (431, "", Cause.TOO_LARGE),
    ],
)
def test_unclear(status, text, cause):
    """Unknown words, and a node's own limits: a second node decides."""
    verdict = said(status, text)
    assert (Blame.UNCLEAR, cause) == (verdict.blame, verdict.cause)


def test_an_error_with_a_200():
    """An error object is one whatever its status says."""
    verdict = judge(CHAT, 200, JSON, b'{"error":"CUDA error: out of memory"}')
    assert verdict is not None
    assert (Blame.NODE, Cause.OUT_OF_MEMORY) == (verdict.blame, verdict.cause)
    assert Blame.REQUEST is judge_words(200, "invalid JSON schema in format").blame


def test_an_answer():
    """None is a verdict on an answer."""
    body = b'{"message":{"role":"assistant","content":"hi"},"done":true}'
    assert judge(CHAT, 200, JSON, body) is None


def test_what_a_page_calls_itself_is_told():
    """An operator reads whose page it was."""
    texts = {"Sign in": (401, "text/html", LOGIN)}
    texts["404 page not found"] = 404, "", b"404 page not found"
    for text, answer in texts.items():
        verdict = judge(CHAT, *answer)
        assert verdict is not None
        assert text == verdict.text
