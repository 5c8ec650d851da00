"""The simulator answers as a real Ollama does: the same calls on both, compared.

Compared are status, content type, framing, the JSON keys of each line in their
order, the values' types, error texts and how streams end; never the numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e
SIMULATED_MODEL = "llama3.2:3b"
MODEL_MARK = "MODEL"


@dataclass(frozen=True)
class Shape:
    """An answer without what may differ."""

    status: int
    content_type: str
    chunked: bool
    allow: str | None
    lines: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Side:
    """One of the two, and the model that it has."""

    url: str
    model: str

    def call(self, method: str, path: str, body: str | None = None, **headers: str):
        filled = body.replace(MODEL_MARK, self.model) if body is not None else None
        url = f"{self.url}{path.replace(MODEL_MARK, self.model)}"
        return requests.request(
            method, url, data=filled, headers=headers, timeout=30, stream=True
        )

    def outline(self, line: str) -> str:
        """Write a line without what may differ."""
        start, payload = re.fullmatch(r"((?:data: )?)(.*)", line).groups()
        try:
            value = json.loads(payload)
        except ValueError:
            return line
        return start + json.dumps(self._skeleton(value))

    def shape(self, method: str, path: str, body: str | None = None, **headers: str):
        answer = self.call(method, path, body, **headers)
        chunked = answer.headers.get("Transfer-Encoding") == "chunked"
        text = answer.content.decode()
        # Go sends a long body in chunks, whatever it is: only streams are compared
        streamed = chunked and "json; " not in answer.headers["Content-Type"]
        return Shape(
            status=answer.status_code,
            content_type=answer.headers.get("Content-Type", ""),
            chunked=streamed and "embedding" not in text,
            allow=answer.headers.get("Allow"),
            lines=tuple(self.outline(line) for line in text.splitlines()),
        )

    def _skeleton(self, value: Any) -> Any:
        """Keys and types; the text of an error is kept, the model's name masked."""
        if isinstance(value, dict):
            return {
                key: self._kept(key, each)
                for key, each in value.items()
                if key != "model_info"
            }
        if isinstance(value, list):
            return [self._skeleton(value[0])] if value else []
        return "number" if type(value) in (int, float) else type(value).__name__

    def _kept(self, key: str, value: Any) -> Any:
        kept = (
            "done_reason",
            "finish_reason",
            "content",
            "response",
            "text",
            "rendered_template",
        )
        if key == "error" or (key in kept and not isinstance(value, (dict, list))):
            text = json.dumps(value)
            full = self.model if ":" in self.model else f"{self.model}:latest"
            return text.replace(full, MODEL_MARK).replace(self.model, MODEL_MARK)
        return self._skeleton(value)


@pytest.fixture(scope="module")
def ollama(tmp_path_factory) -> Iterator[RealOllama]:
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH to compare with")
    with RealOllama(tmp_path_factory.mktemp("ollama")) as ollama:
        yield ollama


@pytest.fixture(scope="module")
def real(ollama) -> Side:
    return Side(ollama.url, MODEL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("sim"), [Simulated("one")]) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def simulated(fleet) -> Side:
    return Side(fleet.url("one"), SIMULATED_MODEL)


READING = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("POST", "/"),
    ("GET", "/api/version"),
    ("HEAD", "/api/version"),
    ("HEAD", "/api/tags"),
    ("HEAD", "/api/ps"),
    ("GET", "/api/generate"),
    ("DELETE", "/api/chat"),
    ("GET", "/nonsense"),
    ("GET", "/api/tags"),
    ("GET", "/v1/models"),
    ("HEAD", "/v1/models"),
    ("GET", "/v1/models/MODEL"),
    ("GET", "/v1/models/nope"),
]

_CHAT = '{"model":"MODEL","messages":[{"role":"user","content":"5 6"}]'
BODIES = {
    "generate, streamed": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5 6","options":{"num_predict":3}}',
    ),
    "generate, whole": (
        "/api/generate",
        '{"model":"MODEL","prompt":"41","stream":false,"options":{"num_predict":3}}',
    ),
    "generate, raw": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5 6","raw":true,"options":{"num_predict":2}}',
    ),
    "generate, own template": (
        "/api/generate",
        (
            '{"model":"MODEL","prompt":"5","system":"3","template":"{{ .System }} '
            '{{ .Prompt }}","options":{"num_predict":2}}'
        ),
    ),
    "generate, whole stop word": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","options":{"num_predict":5,"stop":[" 8"]}}',
    ),
    "generate, stop word over two tokens": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","options":{"num_predict":9,"stop":["8 9"]}}',
    ),
    "generate, no number to count from": (
        "/api/generate",
        '{"model":"MODEL","prompt":"hello","options":{"num_predict":3}}',
    ),
    "generate, load": ("/api/generate", '{"model":"MODEL"}'),
    "generate, unload": ("/api/generate", '{"model":"MODEL","keep_alive":0}'),
    "generate, render only": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","system":"3 ","_debug_render_only":true}',
    ),
    "generate, no body": ("/api/generate", ""),
    "generate, broken body": ("/api/generate", "{bad"),
    "generate, cut body": ("/api/generate", '{"model":"MODEL"'),
    "generate, no object": ("/api/generate", "[]"),
    "generate, no model": ("/api/generate", '{"prompt":"x"}'),
    "generate, unknown model": ("/api/generate", '{"model":"nope","prompt":"x"}'),
    "generate, prompt of the wrong type": (
        "/api/generate",
        '{"model":"MODEL","prompt":5}',
    ),
    "generate, num_predict of the wrong type": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","options":{"num_predict":"a"}}',
    ),
    "generate, stop of the wrong type": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","options":{"stop":5}}',
    ),
    "generate, bad keep_alive": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","keep_alive":"banana"}',
    ),
    "generate, keep_alive of the wrong type": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","keep_alive":true}',
    ),
    "generate, suffix": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","suffix":"x"}',
    ),
    "generate, thinking": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5","think":true}',
    ),
    "chat, streamed": ("/api/chat", _CHAT + ',"options":{"num_predict":3}}'),
    "chat, whole": (
        "/api/chat",
        _CHAT + ',"stream":false,"options":{"num_predict":3}}',
    ),
    "chat, a text continued": (
        "/api/chat",
        (
            '{"model":"MODEL","messages":[{"role":"user","content":"5 6"},'
            '{"role":"assistant","content":" 7 8"}],"options":{"num_predict":2}}'
        ),
    ),
    "chat, load": ("/api/chat", '{"model":"MODEL","messages":[]}'),
    "chat, unload": ("/api/chat", '{"model":"MODEL","messages":[],"keep_alive":0}'),
    "chat, render only": ("/api/chat", _CHAT + ',"_debug_render_only":true}'),
    "chat, no body": ("/api/chat", ""),
    "chat, no model": ("/api/chat", '{"messages":[]}'),
    "chat, unknown model": ("/api/chat", '{"model":"nope","messages":[]}'),
    "chat, messages of the wrong type": (
        "/api/chat",
        '{"model":"MODEL","messages":"x"}',
    ),
    "chat, content of the wrong type": (
        "/api/chat",
        '{"model":"MODEL","messages":[{"role":"user","content":5}]}',
    ),
    "chat, options of the wrong type": (
        "/api/chat",
        '{"model":"MODEL","messages":[],"options":5}',
    ),
    "chat, tools": (
        "/api/chat",
        (
            _CHAT + ',"tools":[{"type":"function","function":{"name":"f",'
            '"description":"d","parameters":{"type":"object","properties":{}}}}]}'
        ),
    ),
    "v1 chat, whole": ("/v1/chat/completions", _CHAT + ',"max_tokens":3}'),
    "v1 chat, streamed": (
        "/v1/chat/completions",
        _CHAT + ',"max_tokens":3,"stream":true}',
    ),
    "v1 chat, streamed with usage": (
        "/v1/chat/completions",
        (
            _CHAT + ',"max_tokens":3,"stream":true,'
            '"stream_options":{"include_usage":true}}'
        ),
    ),
    "v1 chat, stop word": (
        "/v1/chat/completions",
        _CHAT + ',"max_tokens":5,"stop":" 9"}',
    ),
    "v1 chat, content in parts": (
        "/v1/chat/completions",
        (
            '{"model":"MODEL","messages":[{"role":"user","content":'
            '[{"type":"text","text":"5"}]}],"max_tokens":2}'
        ),
    ),
    "v1 chat, render only": (
        "/v1/chat/completions",
        _CHAT + ',"_debug_render_only":true}',
    ),
    "v1 chat, no messages": (
        "/v1/chat/completions",
        '{"model":"MODEL","messages":[]}',
    ),
    "v1 chat, unknown model": (
        "/v1/chat/completions",
        '{"model":"nope","messages":[{"role":"user","content":"x"}]}',
    ),
    "v1 chat, no model": (
        "/v1/chat/completions",
        '{"messages":[{"role":"user","content":"x"}]}',
    ),
    "v1 chat, model of the wrong type": ("/v1/chat/completions", '{"model":5}'),
    "v1 chat, content of the wrong type": (
        "/v1/chat/completions",
        '{"model":"MODEL","messages":[{"role":"user","content":5}]}',
    ),
    "v1 chat, broken body": ("/v1/chat/completions", "{bad"),
    "v1 chat, no body": ("/v1/chat/completions", ""),
    "v1 completion, whole": (
        "/v1/completions",
        '{"model":"MODEL","prompt":"5 6","max_tokens":2}',
    ),
    "v1 completion, streamed": (
        "/v1/completions",
        '{"model":"MODEL","prompt":"5 6","max_tokens":2,"stream":true}',
    ),
    "v1 completion, streamed with usage": (
        "/v1/completions",
        (
            '{"model":"MODEL","prompt":"5 6","max_tokens":2,"stream":true,'
            '"stream_options":{"include_usage":true}}'
        ),
    ),
    "v1 completion, no prompt": ("/v1/completions", '{"model":"MODEL"}'),
    "v1 completion, prompt of the wrong type": (
        "/v1/completions",
        '{"model":"MODEL","prompt":["5"]}',
    ),
    "v1 completion, unknown model": (
        "/v1/completions",
        '{"model":"nope","prompt":"5"}',
    ),
    "embed, one": ("/api/embed", '{"model":"MODEL","input":"x"}'),
    "embed, several": ("/api/embed", '{"model":"MODEL","input":["x","y"]}'),
    "embed, nothing": ("/api/embed", '{"model":"MODEL"}'),
    "embed, input of the wrong type": ("/api/embed", '{"model":"MODEL","input":5}'),
    "embed, unknown model": ("/api/embed", '{"model":"nope","input":"x"}'),
    "embed, no model": ("/api/embed", '{"input":"x"}'),
    "embeddings, one": ("/api/embeddings", '{"model":"MODEL","prompt":"x"}'),
    "embeddings, nothing": ("/api/embeddings", '{"model":"MODEL"}'),
    "v1 embeddings, one": ("/v1/embeddings", '{"model":"MODEL","input":"x"}'),
    "v1 embeddings, base64": (
        "/v1/embeddings",
        '{"model":"MODEL","input":["x"],"encoding_format":"base64"}',
    ),
    "v1 embeddings, no input": ("/v1/embeddings", '{"model":"MODEL"}'),
    "v1 embeddings, unknown model": ("/v1/embeddings", '{"model":"nope","input":"x"}'),
    "show": ("/api/show", '{"model":"MODEL"}'),
    "show, unknown model": ("/api/show", '{"model":"nope"}'),
    "show, no model": ("/api/show", "{}"),
}


@pytest.mark.parametrize(("method", "path"), READING)
def test_reads_as_ollama(real, simulated, method, path):
    """Each reading route answers with the same status, headers and keys."""
    assert simulated.shape(method, path) == real.shape(method, path)


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES.keys())
def test_answers_as_ollama(real, simulated, path, body):
    """Each call gets the same text, keys line by line, errors and end."""
    assert simulated.shape("POST", path, body) == real.shape("POST", path, body)


def test_lists_residents_as_ollama(real, simulated):
    """`/api/ps` has the same keys once a model is loaded, and is empty after."""
    for wanted in ('{"model":"MODEL"}', '{"model":"MODEL","keep_alive":0}'):
        for side in (real, simulated):
            assert side.call("POST", "/api/generate", wanted).ok
        expected = simulated.shape("GET", "/api/ps")
        until(  # Ollama's runner takes a moment to go
            lambda expected=expected: real.shape("GET", "/api/ps") == expected,
            f"Ollama answers as {expected}",
        )


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost:8000", "10.0.0.9", "a.internal", ""]
)
def test_minds_the_host_header_as_ollama(real, simulated, host):
    """Bound to loopback, both refuse a name that is not this machine's."""
    ours = simulated.call("GET", "/api/version", Host=host)
    theirs = real.call("GET", "/api/version", Host=host)
    assert (ours.status_code, bool(ours.content)) == (
        theirs.status_code,
        bool(theirs.content),
    )


LONG = {
    "generate": (
        "/api/generate",
        '{"model":"MODEL","prompt":"0","options":{"num_predict":1900}}',
    ),
    "chat": ("/api/chat", _CHAT + ',"options":{"num_predict":1900}}'),
    "v1 chat": ("/v1/chat/completions", _CHAT + ',"stream":true,"max_tokens":1900}'),
    "v1 completion": (
        "/v1/completions",
        '{"model":"MODEL","prompt":"0","stream":true,"max_tokens":1900}',
    ),
}


@pytest.mark.parametrize(("path", "body"), LONG.values(), ids=LONG.keys())
def test_ends_as_ollama_when_the_runner_dies(ollama, fleet, path, body):
    """A runner killed in mid-stream ends both streams with the same last line."""
    real = Side(ollama.url, MODEL)
    with real.call("POST", path, body) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert ollama.kill_runners()
        theirs = [line.decode() for line in lines if line]
    fleet.put("one", "cut", tokens=3, times=1)
    simulated = Side(fleet.url("one"), SIMULATED_MODEL)
    with simulated.call("POST", path, body) as answer:
        ours = [line.decode() for line in answer.iter_lines() if line]
    assert simulated.outline(ours[-1]) == real.outline(theirs[-1])
    assert len(ours) == 3 + 1
