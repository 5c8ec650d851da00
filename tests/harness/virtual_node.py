"""A node in virtual time: k streams share the speed that a profile gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from router.capacity.ledger import Lease, Ledger
from router.capacity.slot_policy import SlotPolicy
from router.model import Node, Outcome, Timings

MODEL = "m:latest"
MEASURED = {1: 1.0, 2: 1.21, 3: 1.54, 4: 1.24, 5: 1.4, 6: 1.55, 7: 1.5, 8: 1.47}
KERNEL = {1: 1.0, 2: 1.79, 3: 2.5, 4: 3.0, 5: 3.26, 6: 3.46, 7: 3.57, 8: 3.73}
FLAT = dict.fromkeys(range(1, 9), 1.0)


@dataclass
class Stream:
    lease: Lease
    tokens: int
    left: float
    began: float


@dataclass
class VirtualNode:
    """`slack` streams wait at any time; each reply's speed is noisy by `noise`."""

    profile: Mapping[int, float]
    slots: int | None = 4
    seed: int = 1
    noise: float = 0.1
    alone: float = 100.0
    now: float = 0.0
    replies: int = 0
    tokens: float = 0.0
    streams: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.learn_by(None)

    def learn_by(self, policy: SlotPolicy | None) -> None:
        """Begin with an empty ledger."""
        self.ledger = Ledger(1, lambda: self.now, policy)
        self.ledger.configure([Node("n", "http://n:1", slots=self.slots)])
        self.ledger.pressed = True

    def take(self) -> None:
        tokens = self.rng.randint(50, 400)
        lease = self.ledger.take("n", MODEL)
        self.streams.append(Stream(lease, tokens, tokens, self.now))

    def fill(self) -> None:
        while self.ledger.room("n", MODEL) is not None:
            self.take()

    def finish_next(self) -> None:
        """Move on to the next end of a reply."""
        k = len(self.streams)
        rate = self.alone * self.profile[k] / k
        first = min(self.streams, key=lambda s: s.left)
        seconds = first.left / rate
        self.now += seconds
        for stream in self.streams:
            stream.left -= seconds * rate
        self.streams.remove(first)
        self.replies += 1
        self.tokens += first.tokens
        factor = 1 + self.rng.uniform(-self.noise, self.noise)
        timings = Timings(
            generated_tokens=first.tokens,
            generate_seconds=(self.now - first.began) * factor,
            prompt_seconds=1e-6,
        )
        first.lease.done(Outcome.END, timings)

    def run(self, replies: int) -> list[int]:
        """Keep the node saturated; return the limit after each reply."""
        limits = []
        for _ in range(replies):
            self.fill()
            self.finish_next()
            limits.append(self.ledger.limit("n", MODEL))
        return limits
