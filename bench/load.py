"""The load generator, in a process of its own: pairs of calls, or many streams.

    python -m bench.load pairs --targets direct=21511,nginx=21520 --count 300
    python -m bench.load streams --ports 21520 --streams 100 --seconds 10

`streams` writes a line `begin` when its measured window opens and `end` when it
closes, and then, as `pairs` does, one line of JSON. Every reply is checked: status,
number of tokens, last line. Targets are ports on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from dataclasses import dataclass, field

from bench.simulated_fleet import MODEL

TOKENS = 100  # of each reply in a stream run

_END_OF_LINE = b"}\n"
_END_OF_BODY = b"\r\n0\r\n\r\n"
_LONGEST_REPLY_SECONDS = 60


def request(port: int, tokens: int) -> bytes:
    """Write a streamed chat request of about 1 KB, as a client would."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "lorem ipsum " * 70}],
        "options": {"num_predict": tokens},
        "stream": True,
    }
    text = json.dumps(body).encode()
    return (
        b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (port, len(text), text)
    )


@dataclass(slots=True)
class Tally:
    """What a run saw; lines count once its window is open."""

    open: bool = False
    lines: int = 0
    replies: int = 0
    faults: list[str] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One keep-alive connection that sends one request after the other."""

    def __init__(self, message: bytes, tokens: int, tally: Tally) -> None:
        self._loop = asyncio.get_running_loop()
        self._message = message
        self._lines_expected = tokens + 1
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[float] | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(f"connection lost: {exc!r}")

    def send(self) -> asyncio.Future[float]:
        """Send a request; the future gives the seconds until its first line."""
        assert self._transport is not None
        self._reply = self._loop.create_future()
        self._first: float | None = None
        self._lines = 0
        self._tail = b""
        self._done_seen = False
        self._sent_at = self._loop.time()
        self._transport.write(self._message)
        return self._reply

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        lines = data.count(_END_OF_LINE)
        if self._first is None and lines:
            self._first = self._loop.time() - self._sent_at
        if not self._lines and not data.startswith(b"HTTP/1.1 200") and not self._tail:
            self._finish(f"answered {data[:200]!r}")
            return
        self._lines += lines
        if self._tally.open:
            self._tally.lines += lines
        self._done_seen = self._done_seen or b'"done":true' in data
        self._tail = (self._tail + data)[-len(_END_OF_BODY) :]
        if self._tail == _END_OF_BODY:
            self._end()

    def _end(self) -> None:
        if self._lines != self._lines_expected or not self._done_seen:
            self._finish(f"{self._lines} lines, wanted {self._lines_expected}")
            return
        self._finish(None)

    def _finish(self, fault: str | None) -> None:
        reply, self._reply = self._reply, None
        if reply is None or reply.done():
            return
        if fault or self._first is None:
            self._tally.faults.append(fault or "no line")
            reply.set_exception(ConnectionError(fault))
            return
        self._tally.replies += 1
        reply.set_result(self._first)


async def connect(port: int, tokens: int, tally: Tally) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Client(request(port, tokens), tokens, tally), "127.0.0.1", port
    )
    return client


async def pairs(targets: dict[str, int], count: int, rng: random.Random) -> object:
    """Call each target once a round, in random order, alone on the machine.

    Replies of one token, which comes at once, so the time to it is the
    proxy's own and the loopback's.
    """
    tally = Tally()
    clients: dict[str, Client] = {}
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    warm_up = 20
    for turn in range(count + warm_up):
        for name in rng.sample(sorted(targets), len(targets)):
            client = clients.get(name)
            if client is None or not client.connected:
                client = clients[name] = await connect(targets[name], 1, tally)
            first = await asyncio.wait_for(client.send(), _LONGEST_REPLY_SECONDS)
            if turn >= warm_up:
                seconds[name].append(first)
    return {"first_token_seconds": seconds}


async def streams(ports: list[int], count: int, seconds: float) -> object:
    """Keep `count` streams going, begun evenly over one reply's length."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_stream(ports[index % len(ports)], index / count * 2, tally))
        for index in range(count)
    ]
    await asyncio.sleep(4)  # all have begun, and answered once
    tally.open = True
    begun = loop.time()
    print("begin", flush=True)
    await asyncio.sleep(seconds)
    tally.open = False
    elapsed = loop.time() - begun
    print("end", flush=True)  # streams go on: hanging up is not in the window
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "lines": tally.lines,
        "seconds": elapsed,
        "replies": tally.replies,
        "faults": len(tally.faults),
        "first_fault": tally.faults[0] if tally.faults else None,
        "first_token_seconds": tally.first_seconds,
    }


async def _stream(port: int, delay: float, tally: Tally) -> None:
    await asyncio.sleep(delay)
    client = await connect(port, TOKENS, tally)
    while True:
        if not client.connected:
            client = await connect(port, TOKENS, tally)
        try:
            # wait_for may swallow a cancellation before Python 3.12; this does not.
            async with asyncio.timeout(_LONGEST_REPLY_SECONDS):
                first = await client.send()
        except OSError as error:  # a broken connection, or no whole reply in time
            if isinstance(error, TimeoutError):
                tally.faults.append(f"no reply within {_LONGEST_REPLY_SECONDS} s")
                client.abort()
            await asyncio.sleep(0.1)  # a proxy that refuses is not flooded
            continue
        if tally.open:
            tally.first_seconds.append(first)


def main() -> None:
    parser = argparse.ArgumentParser(description="load for bench.overhead")
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("pairs")
    mode.add_argument("--targets", required=True, help="name=port,...")
    mode.add_argument("--count", type=int, required=True)
    mode.add_argument("--seed", type=int, default=1)
    mode = modes.add_parser("streams")
    mode.add_argument("--ports", required=True, help="comma-separated")
    mode.add_argument("--streams", type=int, required=True)
    mode.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    if args.mode == "pairs":
        named = (each.split("=") for each in args.targets.split(","))
        targets = {name: int(port) for name, port in named}
        result = asyncio.run(pairs(targets, args.count, random.Random(args.seed)))
    else:
        ports = [int(port) for port in args.ports.split(",")]
        result = asyncio.run(streams(ports, args.streams, args.seconds))
    json.dump(result, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
