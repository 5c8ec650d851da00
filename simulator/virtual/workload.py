"""One request of a simulated workload, and how a trace of them is read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: tokens of prompt and answer; `at` seconds, for people's.

    session: whose conversation it goes on with; 0: nobody's
    turn:    which request of that it is, and `old` the tokens that were read before
    head:    what the prompt begins with, as others' do, and the tokens of that
    """

    prompt: int
    tokens: int
    at: float = 0.0
    model: str = "m:latest"
    session: int = 0
    options: str = ""
    principal: str = ""
    turn: int = 0
    old: int = 0
    head: tuple[int, int] = (0, 0)


def read_azure(path: Path) -> list[Ask]:
    asks, start = [], None
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            # Seven digits after the point: one more than Python reads.
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
            start = at if start is None else start
            tokens = max(1, int(row["GeneratedTokens"]))
            asks.append(Ask(int(row["ContextTokens"]), tokens, at - start))
    return asks
