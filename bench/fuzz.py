"""Malformed requests at the router's public port, as many as are asked for.

    python -m bench.fuzz --connections 100000 --seconds 600

Loopback only: it starts a router and one simulated node of its own. It fails on
a 500, on a connection that does not end, and on files left open.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

MODEL = "llama3.2:3b"
# A head that never ends has 10 s, a body these; then it lingers for 3 s.
BODY_SECONDS = 5
PATIENCE_SECONDS = 25.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d) [A-Z]")

_METHODS = ("POST",) * 8 + ("GET", "GET", "HEAD", "PUT", "OPTIONS", "CONNECT", "x", "")
_TARGETS = (
    *("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"),
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/v1/messages", "/v1/models", "/v1/models/x", "/api/tags", "/api/ps", "/"),
    *("/api/version", "/api/pull", "/api/blobs/x", "/metrics", "/readyz", "/healthz"),
    *("/webhook/alertmanager", "/admin/nodes", "/admin/nodes/x", "/admin/queue"),
    *("/admin/explain", "/admin/explain?model=x&priority=y", "/admin/reload"),
    *("*", "//", "http://x/api/chat", "/%00", "/%ff%fe?%zz", "/api/chat/", "/ü", ""),
)
_VERSIONS = ("HTTP/1.1",) * 12 + ("HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/1.9", "x")
_HEADERS = (
    *("Connection: close", "Connection: keep-alive, x", "Expect: 100-continue"),
    *("Expect: x", "Host: ", "Host: [::", "Host: a b", "X-Forwarded-Proto: https"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked"),
    *("Content-Length: 5", "Content-Length: -1", "Content-Length: 9" + "9" * 30),
    *(
        "SCRIPT_NAME: /x",
        "PATH_INFO: /x",
        "Script-Name: /x",
        "X-Request-Id: " + "a" * 99,
    ),
    *("X-Request-Timeout: x", "X-Request-Timeout: 0", "X-Request-Timeout: 1e999"),
    *("Authorization: Bearer \xff", "Authorization: x", "Accept: " + "x" * 9000),
    *("Content-Type: application/json", "Content-Type: text/plain; charset=x"),
    *("Content-Encoding: gzip", "Upgrade: websocket", "Origin: null", "A: \x00", ": x"),
    *(
        "Range: bytes=0-",
        "If-None-Match: *",
        "Cookie: x",
        "A : b",
        "A",
        " folded",
        "é: x",
    ),
)
_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 1e308, 2**70, "", "x", MODEL, "ü\u0000", [], {}),
    "\ud83d",  # half of an emoji
    *([[]], {"a": {}}, [None], [{"role": "user", "content": "7"}], [{"role": 5}]),
    *({"num_predict": 2}, {"num_predict": -9}, {"num_ctx": "x"}, ["x"] * 3, "json"),
)
_FIELDS = (
    *("model", "name", "stream", "messages", "prompt", "input", "options", "format"),
    *("tools", "think", "logprobs", "suffix", "max_tokens", "stop", "keep_alive"),
    *("images", "system", "context", "raw", "template", "n", "stream_options"),
)


class Manner(StrEnum):
    """What a client does once it has sent its bytes."""

    HALF_CLOSE = "half_close"
    RESET = "reset"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection: pieces to send, and how to end."""

    pieces: tuple[bytes, ...]
    manner: Manner


@dataclass(slots=True)
class Tally:
    """What was seen."""

    connections: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    hangs: list[Attempt] = field(default_factory=list)
    failures: list[Attempt] = field(default_factory=list)


def attempt(rng: random.Random) -> Attempt:
    """Make up one connection's worth of requests, sound and unsound."""
    sound = rng.random() < 0.3
    requests = [_request(rng) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    data = b"".join(requests)
    if not sound:
        data = _tampered(data, rng)
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 3))))
    edges = [0, *cuts, len(data)]
    pieces = tuple(data[a:b] for a, b in itertools.pairwise(edges) if a < b)
    manners = list(Manner) if sound else [Manner.HALF_CLOSE, Manner.RESET]
    return Attempt(pieces, rng.choice(manners))


def _request(rng: random.Random) -> bytes:
    body = _body(rng)
    lines = [f"{rng.choice(_METHODS)} {rng.choice(_TARGETS)} {rng.choice(_VERSIONS)}"]
    lines += rng.sample(_HEADERS, rng.choice((0, 0, 0, 0, 1, 3)))
    if rng.random() < 0.8:
        lines.append("Host: localhost")
    if rng.random() < 0.2:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body, b"")) or b"0\r\n"
    elif rng.random() < 0.9:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _body(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.choice((0, 1, 20, 3000)))
    fields: dict[str, object] = {"model": MODEL, "options": {"num_predict": 2}}
    fields["messages"] = [{"role": "user", "content": "count on from 7"}]
    fields |= {"prompt": "1 2", "input": "x", "max_tokens": 2}
    for _ in range(rng.choice((0, 1, 3))):
        fields[rng.choice(_FIELDS)] = rng.choice(_VALUES)
    if kind < 0.2:
        return b"[" * rng.choice((1, 100, 5000))
    return json.dumps(fields).encode()


def _tampered(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randint(0, max(0, len(changed) - 1))
        piece = rng.choice((b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"0", b"\xff"))
        match rng.randint(0, 3):
            case 0:
                changed[at : at + 1] = piece
            case 1:
                changed[at:at] = piece
            case 2:
                del changed[at : at + rng.choice((1, 2, 30))]
            case _:
                del changed[at:]
    return bytes(changed)


async def exchange(port: int, made: Attempt, tally: Tally) -> None:
    """Play one connection and count what comes back."""
    tally.connections += 1
    received = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _play(port, made, received)
    except TimeoutError:
        tally.hangs.append(made)
    except OSError:
        pass  # the router may reset what is not HTTP
    statuses = [int(found) for found in _STATUS.findall(received)]
    tally.statuses.update(statuses)
    if {500, 502}.intersection(statuses):
        tally.failures.append(made)


async def _play(port: int, made: Attempt, received: bytearray) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in made.pieces:
            writer.write(piece)
            await writer.drain()
        if made.manner is Manner.RESET:
            linger = struct.pack("ii", 1, 0)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        if made.manner is Manner.HALF_CLOSE:
            writer.write_eof()
        while piece := await reader.read(65536):
            received += piece
            if made.manner is Manner.WAIT and _STATUS.search(received):
                return
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def soak(port: int, count: int, rng: random.Random, deadline: float) -> Tally:
    """Play `count` connections, at most 100 at a time, until the deadline."""
    tally = Tally()

    async def play() -> None:
        while tally.connections < count and time.monotonic() < deadline:
            await exchange(port, attempt(rng), tally)

    await asyncio.gather(*(play() for _ in range(100)))
    return tally


def left_open(worker: psutil.Process, port: int) -> int:
    """Return how many clients' connections stay open once what lingers has ended.

    Connections to nodes are pooled: they are in the count of files, not in this.
    """

    def count() -> int:
        ends = (each.laddr for each in worker.net_connections("tcp") if each.raddr)
        return sum(end.port == port for end in ends)

    with contextlib.suppress(AssertionError):
        until(lambda: count() == 0, "every connection is closed", seconds=30)
    return count()


def _run(router: Router, count: int, seed: int, seconds: float) -> bool:
    worker = psutil.Process(router.process.pid).children()[0]
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds
    asyncio.run(soak(router.port, min(count, 2000), rng, deadline))  # warms up
    left_open(worker, router.port)
    files, memory = worker.num_fds(), worker.memory_info().rss
    began = time.monotonic()
    tally = asyncio.run(soak(router.port, count, rng, deadline))
    took = time.monotonic() - began
    left, after = left_open(worker, router.port), worker.memory_info().rss
    print(f"{tally.connections} connections in {took:.0f} s, seed {seed}")
    print(f"open files: {files} before, {worker.num_fds()} after")
    print(f"connections of clients left open: {left}")
    print(f"memory: {memory / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after")
    print("statuses:", dict(sorted(tally.statuses.items())))
    print(f"hangs: {len(tally.hangs)}, answers of 500 or 502: {len(tally.failures)}")
    for made in [*tally.hangs[:3], *tally.failures[:3]]:
        print(f"  {made}"[:2000])
    return not (tally.hangs or tally.failures or left) and worker.is_running()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    node = Simulated("one", slots=16, tokens_per_second=2000.0)
    with (
        SimulatedFleet(folder, [node]) as fleet,
        Router(
            folder,
            fleet.inventory,
            prometheus_port=free_port(),
            settings={
                "LOG__LEVEL": "error",
                "DISPATCH__BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
            },
        ) as router,
    ):
        sound = _run(router, chosen.connections, chosen.seed, chosen.seconds)
        if not sound:
            print(router.process.tail(60))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
