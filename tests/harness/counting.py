"""Streams from the four routes that can be continued, read as a client reads them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

PATHS = ("/api/generate", "/api/chat", "/v1/completions", "/v1/chat/completions")
START = "count on: 101 102 103"


def request_of(
    path: str, model: str, tokens: int | None, **more: Any
) -> dict[str, Any]:
    """Return a request that is answered by ` 104 105 …`, `tokens` of them."""
    body: dict[str, Any] = {"model": model, "stream": True}
    if path.endswith("chat") or "chat/" in path:
        body["messages"] = [{"role": "user", "content": START}]
    else:
        body["prompt"] = START
    if path.startswith("/v1/"):
        body |= {"temperature": 0, "stream_options": {"include_usage": True}}
        if tokens is not None:
            body["max_tokens"] = tokens
        return body | more
    options = {"temperature": 0, **more.pop("options", {})}
    if tokens is not None:
        options["num_predict"] = tokens
    return body | {"options": options} | more


@dataclass
class Heard:
    """What one client heard."""

    status: int = 0
    node: str = ""
    request_id: str = ""
    text: str = ""
    reason: str | None = None
    generated: int | None = None
    prompt: int | None = None
    error: str | None = None
    ended: bool = False
    ids: set[object] = field(default_factory=set)
    lines: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        return [int(each) for each in re.findall(r"\d+", self.text)]


def listen(
    url: str, path: str, body: dict[str, Any], *, heard: Heard | None = None
) -> Heard:
    """Stream a request to its end; `heard` grows meanwhile."""
    heard = heard or Heard()
    with requests.post(f"{url}{path}", json=body, stream=True, timeout=120) as answer:
        heard.status = answer.status_code
        heard.node = answer.headers.get("X-InferOps-Node", "")
        heard.request_id = answer.headers.get("X-Request-Id", "")
        for line in _lines(answer):
            if line == b"[DONE]":
                heard.ended = True
                continue
            _hear(heard, json.loads(line))
    return heard


def _lines(answer: requests.Response) -> Iterator[bytes]:
    for line in answer.iter_lines(chunk_size=None):
        if line:
            yield line.removeprefix(b"data: ")


def _hear(heard: Heard, fields: dict[str, Any]) -> None:
    heard.times.append(time.monotonic())
    heard.lines.append(fields)
    if "error" in fields:
        heard.error = str(fields["error"])
        return
    heard.ids.add((fields.get("id"), fields["model"]))
    if "choices" not in fields:
        _hear_native(heard, fields)
        return
    for choice in fields["choices"]:
        heard.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        heard.reason = choice["finish_reason"] or heard.reason
    if not fields["choices"]:
        heard.generated = fields["usage"]["completion_tokens"]
        heard.prompt = fields["usage"]["prompt_tokens"]


def _hear_native(heard: Heard, fields: dict[str, Any]) -> None:
    heard.text += fields.get("response") or fields.get("message", {}).get("content", "")
    if fields["done"]:
        heard.ended = True
        heard.reason = fields["done_reason"]
        heard.generated = fields.get("eval_count", 0)
        heard.prompt = fields["prompt_eval_count"]


def counted(tokens: int) -> list[int]:
    """Return the numbers of a whole answer."""
    return list(range(104, 104 + tokens))
