"""Ollama's queue in virtual time: `parallel` run at once, the rest wait unseen."""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf

from router.capacity.ledger import Lease, Ledger
from router.model import Node, Outcome, Timings

PROMPT_SECONDS = 0.1


@dataclass(eq=False)
class Request:
    """One request; `admitted`, `left` once it runs."""

    lease: Lease
    tokens: int
    sent: float
    left: float
    admitted: float | None = None

    @property
    def first_token(self) -> float:
        return inf if self.admitted is None else self.admitted + PROMPT_SECONDS


@dataclass
class VirtualOllama:
    """One node whose `__slots` the router was not told; each stream at its own speed.

    kind:   what is asked for: `stream`, `whole` (both tell their times) or `v1`
    lag:    seconds by which the router sees first tokens and ends late, at most
    serial: models that run one at a time
    """

    parallel: int = 1
    kind: str = "stream"
    lag: float = 0.0
    serial: AbstractSet[str] = frozenset()
    speed: float = 50.0
    now: float = 0.0
    waited: int = 0
    most_running: int = 0
    most_waiting: int = 0
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure([Node("n", "http://n:1")])
        self.sent = 0

    def send(self, model: str, *, tokens: int) -> Request | None:
        """Send what the router would send now, a probe where it makes one."""
        if self.ledger.room("n", model) is not None:
            lease = self.ledger.take("n", model)
        elif self.ledger.may_try_one_more("n", model):
            lease = self.ledger.take_one_more("n", model)
        else:
            return None
        lease.streams = self.kind != "whole"
        self.sent += 1
        # Unequal, so that ends do not fall together.
        tokens = max(2, int(tokens * (0.5 + self.sent * 0.618 % 1)))
        request = Request(lease, tokens, self.now, tokens / self.speed)
        self.waiting.append(request)
        self._admit()
        self.waited += request in self.waiting
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        return request

    def _admit(self) -> None:
        for request in tuple(self.waiting):
            model = request.lease.model
            same = sum(each.lease.model == model for each in self.running)
            if same < (1 if model in self.serial else self.parallel):
                self.waiting.remove(request)
                request.admitted = self.now
                self.running.append(request)
        self.most_running = max(self.most_running, len(self.running))

    def _end_of(self, request: Request) -> float:
        return request.first_token + request.left

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with first tokens and ends when they are due."""
        until = self.now + seconds
        while due := [r for r in self.running if self._end_of(r) <= until]:
            self.serve(min(due, key=self._end_of))
        self._first_tokens(until)
        self.now = until

    def _first_tokens(self, until: float) -> None:
        for each in self.running:
            if each.lease.decoding_since is None and each.first_token <= until:
                each.lease.decoding_since = (
                    None if self.kind == "whole" else each.first_token
                )

    def serve(self, request: Request | None) -> None:
        """Move on to the end of a request; the next in line begins at once."""
        assert request is not None
        end = self._end_of(request)
        self._first_tokens(end)
        self.now = end
        self.running.remove(request)
        self._admit()
        self.now += self.lag
        request.lease.done(Outcome.END, self._timings(request, end))

    def _timings(self, request: Request, end: float) -> Timings:
        if self.kind == "v1":
            return Timings(20, request.tokens)
        return Timings(
            20,
            request.tokens,
            PROMPT_SECONDS,
            request.left,
            total_seconds=end - request.sent,
        )

    def run(self, seconds: float, *, tokens: int, model: str = "m:latest") -> None:
        """Keep it as busy as the router would while others wait."""
        until = self.now + seconds
        while self.now < until:
            while self.send(model, tokens=tokens) is not None:
                pass
            self.pass_time(0.1)
