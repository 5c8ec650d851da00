"""The calls that a simulated and a real Ollama are compared by, and their record.

`python -m tests.simulator.ollama_calls` writes the record anew from the Ollama
on PATH; review it as a diff.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from tests.harness.ollama import MODEL, RealOllama
from tests.harness.process import ROOT

VERSION = "0.17.4"  # what the simulator speaks as
RECORD = ROOT / "tests" / "data" / "simulator" / f"ollama-{VERSION}.json"
MODEL_MARK = "MODEL"


@dataclass(frozen=True)
class Shape:
    """An answer without what may differ."""

    status: int
    content_type: str
    chunked: bool
    allow: str | None
    lines: tuple[str, ...]


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
        payload = line.removeprefix("data: ")
        start = line.removesuffix(payload)
        try:
            value = json.loads(payload)
        except ValueError:
            return line
        return start + json.dumps(self._skeleton(value))

    def shape(self, method: str, path: str, body: str | None = None) -> Shape:
        answer = self.call(method, path, body)
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

CHAT = '{"model":"MODEL","messages":[{"role":"user","content":"5 6"}]'
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
    "generate, half of a surrogate pair": (
        "/api/generate",
        '{"model":"MODEL","prompt":"\\ud83d 5 6","options":{"num_predict":2}}',
    ),
    "generate, messages are passed over": (
        "/api/generate",
        '{"model":"MODEL","prompt":"5 6","messages":true,"options":{"num_predict":2}}',
    ),
    "chat, a null among the messages": (
        "/api/chat",
        CHAT.replace("[", "[null,") + ',"options":{"num_predict":2}}',
    ),
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
    "chat, streamed": ("/api/chat", CHAT + ',"options":{"num_predict":3}}'),
    "chat, whole": (
        "/api/chat",
        CHAT + ',"stream":false,"options":{"num_predict":3}}',
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
    "chat, render only": ("/api/chat", CHAT + ',"_debug_render_only":true}'),
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
            CHAT + ',"tools":[{"type":"function","function":{"name":"f",'
            '"description":"d","parameters":{"type":"object","properties":{}}}}]}'
        ),
    ),
    "v1 chat, whole": ("/v1/chat/completions", CHAT + ',"max_tokens":3}'),
    "v1 chat, streamed": (
        "/v1/chat/completions",
        CHAT + ',"max_tokens":3,"stream":true}',
    ),
    "v1 chat, streamed with usage": (
        "/v1/chat/completions",
        (
            CHAT + ',"max_tokens":3,"stream":true,'
            '"stream_options":{"include_usage":true}}'
        ),
    ),
    "v1 chat, stop word": (
        "/v1/chat/completions",
        CHAT + ',"max_tokens":5,"stop":" 9"}',
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
        CHAT + ',"_debug_render_only":true}',
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

CALLS: Mapping[str, tuple[str, str, str | None]] = {
    **{f"{method} {path}": (method, path, None) for method, path in READING},
    **{name: ("POST", path, body) for name, (path, body) in BODIES.items()},
}


def recorded() -> dict[str, Shape]:
    """Read what the real one answered to each call."""
    rows = json.loads(RECORD.read_text())
    return {
        name: Shape(**{**row, "lines": tuple(row["lines"])})
        for name, row in rows.items()
    }


def _record(side: Side) -> None:
    rows = {name: asdict(side.shape(*call)) for name, call in CALLS.items()}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as folder,
        RealOllama(Path(folder)) as ollama,
    ):
        _record(Side(ollama.url, MODEL))
