"""The load generator, in a process of its own: pairs of calls, or many streams.

    python -m bench.load pairs --targets direct=21511/api/chat,nginx=21520/api/chat
    python -m bench.load streams --targets 21520/api/chat --streams 100 --seconds 10

`streams` writes a line `begin` when its measured window opens and `end` when it
closes, and then, as `pairs` does, one line of JSON. Every reply is checked: status,
number of tokens, last line. Targets are ports on loopback with a path, Ollama's
or, by its ending, OpenAI's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from dataclasses import dataclass, field

from bench.figures import quantiles
from bench.simulated_fleet import MODEL

TOKENS = 100  # of each reply in a stream run

_TOKEN = b' token"'  # how each of the fleet's tokens ends, in either dialect
_END_OF_BODY = b"\r\n0\r\n\r\n"
_KEPT_BYTES = len(_TOKEN) - 1  # what may be cut in two by a read
_LONGEST_REPLY_SECONDS = 60
_SECONDS_TO_END = 5


@dataclass(frozen=True, slots=True)
class Target:
    """Where chats are sent."""

    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Target:
        port, slash, path = text.partition("/")
        return cls(int(port), slash + path)

    @property
    def openai(self) -> bool:
        return self.path.endswith("/chat/completions")

    @property
    def done(self) -> bytes:
        """Return what the last line of a whole reply says."""
        return b"[DONE]" if self.openai else b'"done":true'

    def request(self, tokens: int, *, stream: bool = True) -> bytes:
        """Write a chat request of about 1 KB, as a client would."""
        text = json.dumps(chat(tokens, openai=self.openai, stream=stream)).encode()
        return (
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (self.path.encode(), self.port, len(text), text)
        )


def chat(tokens: int, *, openai: bool, stream: bool) -> dict[str, object]:
    """Return a chat's body in either dialect."""
    limit: dict[str, object] = (
        {"max_tokens": tokens} if openai else {"options": {"num_predict": tokens}}
    )
    message = {"role": "user", "content": "lorem ipsum " * 70}
    return {"model": MODEL, "messages": [message], "stream": stream, **limit}


@dataclass(slots=True)
class Tally:
    """What a run saw; tokens and gaps count once its window is open."""

    open: bool = False
    ending: bool = False
    tokens: int = 0
    replies: int = 0
    gaps: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One keep-alive connection that sends one request after the other."""

    def __init__(self, target: Target, tokens: int, tally: Tally) -> None:
        self._loop = asyncio.get_running_loop()
        self._message = target.request(tokens)
        self._done = target.done
        self._tokens_expected = tokens
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
        self._tokens = 0
        self._tail = b""
        self._done_seen = False
        self._sent_at = self._token_at = self._loop.time()
        self._transport.write(self._message)
        return self._reply

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._finish(f"answered {data[:200]!r}")
            return
        seen = self._tail + data
        if tokens := seen.count(_TOKEN):
            self._note(tokens)
        self._done_seen = self._done_seen or self._done in seen
        self._tail = seen[-_KEPT_BYTES:]
        if seen.endswith(_END_OF_BODY):
            self._end()

    def _note(self, tokens: int) -> None:
        now = self._loop.time()
        if self._first is None:
            self._first = now - self._sent_at
        elif self._tally.open:
            self._tally.gaps.append(now - self._token_at)
        self._token_at = now
        self._tokens += tokens
        if self._tally.open:
            self._tally.tokens += tokens

    def _end(self) -> None:
        if self._tokens != self._tokens_expected or not self._done_seen:
            self._finish(f"{self._tokens} tokens, wanted {self._tokens_expected}")
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


async def connect(target: Target, tokens: int, tally: Tally) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Client(target, tokens, tally), "127.0.0.1", target.port
    )
    return client


async def pairs(
    targets: dict[str, Target], count: int, at_once: int, rng: random.Random
) -> object:
    """Call each target once a round, `at_once` times together, in random order.

    Replies of one token, which comes at once, so the time to it is the
    proxy's own and the loopback's.
    """
    tally = Tally()
    clients: dict[str, list[Client]] = {name: [] for name in targets}
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    warm_up = 20
    for turn in range(count + warm_up):
        for name in rng.sample(sorted(targets), len(targets)):
            several = [each for each in clients[name] if each.connected]
            while len(several) < at_once:
                several.append(await connect(targets[name], 1, tally))
            clients[name] = several
            async with asyncio.timeout(_LONGEST_REPLY_SECONDS):
                first = await asyncio.gather(*(each.send() for each in several))
            if turn >= warm_up:
                seconds[name] += first
    return {"first_token_seconds": seconds}


async def streams(targets: list[Target], count: int, seconds: float) -> object:
    """Keep `count` streams going, begun evenly over one reply's length."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_stream(targets[i % len(targets)], i / count * 2, tally))
        for i in range(count)
    ]
    await asyncio.sleep(4)  # all have begun, and answered once
    tally.open = True
    begun = loop.time()
    print("begin", flush=True)
    await asyncio.sleep(seconds)
    tally.open = False
    elapsed = loop.time() - begun
    print("end", flush=True)
    # Replies end as they would: some proxies take a client that hangs up for a
    # node that fails, and shun it in the next run.
    tally.ending = True
    _, late = await asyncio.wait(tasks, timeout=_SECONDS_TO_END)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "tokens": tally.tokens,
        "seconds": elapsed,
        "replies": tally.replies,
        "faults": len(tally.faults),
        "first_fault": tally.faults[0] if tally.faults else None,
        "first_token_ms": quantiles(tally.first_seconds),
        "gap_ms": quantiles(tally.gaps),
    }


async def _stream(target: Target, delay: float, tally: Tally) -> None:
    await asyncio.sleep(delay)
    client = await connect(target, TOKENS, tally)
    while not tally.ending:
        if not client.connected:
            client = await connect(target, TOKENS, tally)
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
    client.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description="load for benchmarks")
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("pairs")
    mode.add_argument("--targets", required=True, help="name=port/path,...")
    mode.add_argument("--count", type=int, default=300)
    mode.add_argument("--at-once", type=int, default=1)
    mode.add_argument("--seed", type=int, default=1)
    mode = modes.add_parser("streams")
    mode.add_argument("--targets", required=True, help="port/path,...")
    mode.add_argument("--streams", type=int, required=True)
    mode.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    listed = args.targets.split(",")
    if args.mode == "pairs":
        named = (each.split("=") for each in listed)
        targets = {name: Target.parse(text) for name, text in named}
        rng = random.Random(args.seed)
        result = asyncio.run(pairs(targets, args.count, args.at_once, rng))
    else:
        several = [Target.parse(text) for text in listed]
        result = asyncio.run(streams(several, args.streams, args.seconds))
    json.dump(result, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
