"""What one request uses, while it runs and until its energy is known."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from router.model import Timings

RUNNING = "running"
_MOST_TOKENS = 10**9  # of one attempt; a node that says more is not believed

UsageRow = tuple[object, ...]
COLUMNS = (
    *("id", "at", "principal", "name", "request_id", "path", "model", "node"),
    *("status", "outcome", "attempts", "tokens_in", "tokens_out"),
    *("queue_seconds", "prefill_seconds", "decode_seconds", "seconds"),
    *("node_seconds", "joules"),
)
_row = attrgetter(*COLUMNS)


@dataclass(slots=True, eq=False)
class UsageAccount:
    """What a request has used so far; all its attempts count.

    at:     unix seconds of its arrival; `since`: the same on the monotonic clock
    joules: None until a meter of one of its nodes was read
    asked:  whether a client sent it and it ends with the client's request; otherwise it
            ends with its attempt
    payer:  whose limits it counts against: the principal, or who made the job
    """

    id: int
    at: float
    since: float
    principal: str
    name: str
    request_id: str = ""
    path: str = ""
    model: str = ""
    node: str = ""
    status: int = 0
    outcome: str = RUNNING
    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    seconds: float = 0.0
    node_seconds: float = 0.0
    joules: float | None = None
    asked: bool = True
    payer: str = ""

    def queued(self, seconds: float) -> None:
        self.queue_seconds += seconds

    def ran(
        self,
        node: str,
        taken_at: float,
        decoding_since: float | None,
        timings: Timings | None,
        now: float,
    ) -> None:
        """Add an attempt; where the node tells no times, they are the router's."""
        self.node, self.attempts = node, self.attempts + 1
        first = now if decoding_since is None else max(taken_at, decoding_since)
        prefill, decode = first - taken_at, now - first
        if timings is not None:
            self.tokens_in += min(timings.prompt_tokens, _MOST_TOKENS)
            self.tokens_out += min(timings.generated_tokens, _MOST_TOKENS)
            prefill = timings.prompt_seconds or prefill
            decode = timings.generate_seconds or decode
        self.prefill_seconds += prefill
        self.decode_seconds += decode

    def end(self, status: int, outcome: str, now: float) -> None:
        self.status, self.outcome = status, outcome
        self.seconds = now - self.since

    def add_energy(self, joules: float) -> None:
        self.joules = (self.joules or 0.0) + joules

    @property
    def over(self) -> bool:
        return self.outcome != RUNNING

    @property
    def row(self) -> UsageRow:
        row: UsageRow = _row(self)
        return row


JOBS, ROUTER = "jobs", "router"  # principals of work that no client waits for
