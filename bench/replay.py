"""Sends a piece of traffic over HTTP to simulated nodes, each request at its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.catalogue import CATALOGUE
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.workload import Ask
from tests.harness.simulator import Simulated, SimulatedFleet

MODEL = next(each for each in CATALOGUE if each.name == "qwen2.5:7b")
TIMES = 2.0  # as fast as the nodes are: an hour in half of it

_LONGEST_SECONDS = 600.0
_NODE_HEADER = b"x-inferops-node: "


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and whether they are asked for in one piece."""

    port: int
    path: str
    whole: bool = False

    def message(self, ask: Ask) -> bytes:
        """Write the request of about as many tokens; four letters are one."""
        text = "lore" * ask.prompt
        fields: dict[str, object] = {"model": MODEL.name, "stream": not self.whole}
        chat = {"messages": [{"role": "user", "content": text}]}
        if self.path.endswith("/chat/completions"):
            fields |= chat | {"max_tokens": ask.tokens}
        else:
            fields["options"] = {"num_predict": ask.tokens}
            raw = {"prompt": text, "raw": True}
            fields |= chat if self.path.endswith("/chat") else raw
        body = json.dumps(fields).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Answered:
    """One request's end, in seconds since the beginning.

    node: as the answer names it, if it does. fault: why there was no whole answer
    """

    at: float
    seconds: float
    node: str = ""
    fault: str = ""


def fast(spec: Spec) -> Spec:
    return replace(
        spec, speed=TIMES * spec.speed, prompt_speed=TIMES * spec.prompt_speed
    )


@contextlib.contextmanager
def loaded_fleet(
    folder: Path, specs: Sequence[Spec], scaling: Scaling
) -> Iterator[SimulatedFleet]:
    """Run simulated nodes that hold the model."""
    nodes = [
        Simulated(
            spec.name,
            slots=spec.slots,
            tokens_per_second=spec.speed,
            prompt_tokens_per_second=spec.prompt_speed,
            load_seconds=0.1,
        )
        for spec in specs
    ]
    with SimulatedFleet(folder, nodes, scaling=scaling.value) as fleet:
        asyncio.run(_load(fleet.ports.values()))
        yield fleet


async def _load(ports: Iterable[int]) -> None:
    targets = [Target(port, "/api/generate", whole=True) for port in ports]
    for each in await asyncio.gather(*(_ask(one, Ask(1, 1)) for one in targets)):
        assert not each[1], each[1]


async def replay(target: Target, asks: Sequence[Ask]) -> list[Answered]:
    """Send each request at its time, whatever became of those before it."""
    loop = asyncio.get_running_loop()
    began = loop.time() + 1

    async def one(ask: Ask) -> Answered:
        await asyncio.sleep(began + ask.at - loop.time())
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                node, fault = await _ask(target, ask)
        except OSError as error:  # a time-out is one
            node, fault = "", repr(error)
        return Answered(ask.at, loop.time() - began - ask.at, node, fault)

    return list(await asyncio.gather(*map(one, asks)))


async def _ask(target: Target, ask: Ask) -> tuple[str, str]:
    """Return the node that answered, and what was wrong."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write(target.message(ask))
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    node = ""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(_NODE_HEADER):
            node = line[len(_NODE_HEADER) :].decode()
    openai = target.path.endswith("/chat/completions")
    end = b'"finish_reason"' if openai else b'"done":true'
    whole = head.startswith(b"HTTP/1.1 200") and end in body
    return node, "" if whole else repr(answer[:200])
