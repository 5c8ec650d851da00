"""A simulated fleet for measuring proxies: fixed speed, no wait for the first token.

Speaks just enough of Ollama: `/api/chat` and `/api/generate` as NDJSON, one chunk
a token, or whole and at once with `"stream": false`, and the listings that a router
polls. `num_predict` tokens each. For anything about behaviour use `simulator/`;
this one is only cheap and even.

    python -m bench.simulated_fleet --ports 21511,21512 --tokens-per-second 50
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from functools import lru_cache

MODEL = "simulated:latest"

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_END_OF_CHUNKS = b"0\r\n\r\n"
# Bodies are not parsed: what is cheap here leaves the core to the load generator.
_TOKENS = re.compile(rb'"num_predict": ?(\d+)')
_WHOLE = re.compile(rb'"stream": ?false')
_LISTING = {
    "name": MODEL,
    "model": MODEL,
    "digest": "0" * 64,
    "size": 4_000_000_000,
    "size_vram": 4_000_000_000,
    "modified_at": "2026-01-01T00:00:00Z",
    "expires_at": "2036-01-01T00:00:00Z",
    "context_length": 4096,
    "details": {
        "format": "gguf",
        "family": "simulated",
        "families": ["simulated"],
        "parameter_size": "7B",
        "quantization_level": "Q4_K_M",
    },
}
_ANSWERS: dict[str, dict[str, object]] = {
    "/api/version": {"version": "0.17.4"},
    "/api/tags": {"models": [_LISTING]},
    "/api/ps": {"models": [_LISTING]},
}


def _chunk(line: dict[str, object]) -> bytes:
    text = _text(line) + b"\n"
    return b"%x\r\n%b\r\n" % (len(text), text)


def _whole(line: dict[str, object]) -> bytes:
    text = _text(line)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
    )


def _text(line: dict[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode()


def _line(path: str, text: str) -> dict[str, object]:
    line: dict[str, object] = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
    if path == "/api/chat":
        line["message"] = {"role": "assistant", "content": text}
    else:
        line["response"] = text
    return line


def _last(path: str, text: str, tokens: int, gap: float) -> dict[str, object]:
    nanoseconds = int(tokens * gap * 1e9)
    return {
        **_line(path, text),
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 1,
        "prompt_eval_count": 8,
        "prompt_eval_duration": 1,
        "eval_count": tokens,
        "eval_duration": nanoseconds,
    }


@lru_cache
def _whole_reply(path: str, tokens: int, gap: float) -> bytes:
    return _whole(_last(path, " token" * tokens, tokens, gap))


def _length(head: bytes, body: bytes) -> int | None:
    """Return how many bytes of `body` are the request's; None if not yet known."""
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            end = body.find(_END_OF_CHUNKS)
            return end + len(_END_OF_CHUNKS) if end >= 0 else None
    return 0


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time, as clients do."""

    def __init__(self, tokens_per_second: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._gap = 1 / tokens_per_second
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        body_bytes = _length(head, body)
        if body_bytes is None or len(body) < body_bytes:
            return
        self._received = body[body_bytes:]
        self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        if path not in ("/api/chat", "/api/generate"):
            self._transport.write(_whole(_ANSWERS.get(path, {"status": "ok"})))
            return
        asked = _TOKENS.search(body)
        self._tokens = int(asked[1]) if asked else 1
        self._path = path
        if _WHOLE.search(body):
            self._transport.write(_whole_reply(path, self._tokens, self._gap))
            return
        self._chunk = _chunk({**_line(path, " token"), "done": False})
        self._sent = 1
        self._started = self._loop.time()
        self._transport.write(_HEAD + self._chunk)
        self._next()

    def _next(self) -> None:
        due = self._started + self._sent * self._gap
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        if self._sent == self._tokens:
            last = _last(self._path, "", self._tokens, self._gap)
            self._transport.write(_chunk(last) + _END_OF_CHUNKS)
            return
        self._sent += 1
        self._transport.write(self._chunk)
        self._next()


async def _run(ports: list[int], tokens_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(
            lambda: _Connection(tokens_per_second), "127.0.0.1", port, backlog=1024
        )
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="a simulated fleet for benchmarks")
    parser.add_argument("--ports", required=True, help="comma-separated")
    parser.add_argument("--tokens-per-second", type=float, default=50)
    args = parser.parse_args()
    ports = [int(port) for port in args.ports.split(",")]
    asyncio.run(_run(ports, args.tokens_per_second))


if __name__ == "__main__":
    main()
