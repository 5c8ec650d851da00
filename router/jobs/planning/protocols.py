"""Interfaces between planning, execution and the rest of the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from router.capacity.ledger import Lease
from router.errors import AttemptError
from router.failover.continuation.resumption import NodeClient
from router.jobs.model import Backlog, ItemResult, JobState, Pending
from router.relay.upstream import SilencePolicy, UpstreamReply
from router.runtime.cancellation import Cancellation
from router.scheduling.queue import Assignment


class Waiting(Protocol):
    """Waiting items: the heaviest few of each model, and counts of all."""

    def models(self) -> Mapping[str, Backlog]:
        """Return the backlog of each model that an open job uses."""

    def heaviest(self, model: str) -> Sequence[Pending]:
        """Return some items of a model: merges, then by wave, the heaviest first."""


class Speeds(Protocol):
    """Learned speeds of nodes and models (`planning.speeds.LearnedSpeeds`)."""

    def tokens_per_second(self, node: str, model: str, streams: int) -> float | None:
        """Return the speed of each of so many concurrent streams; None if unknown."""

    def prompt_tokens_per_second(self, node: str, model: str) -> float | None:
        """Return the speed at which prompts are read; None if unknown."""

    def in_vain(self, node: str, model: str) -> float:
        """Return the longest time that a node recently ran something in vain."""

    def worthwhile(self, node: str, model: str) -> int:
        """Return how many concurrent streams of the model are useful on the node."""

    def load_seconds(self, node: str, model: str) -> float:
        """Return how long loading the model takes; 0 if it is in memory."""

    def streams(self, node: str) -> int:
        """Return the streams on the node, of interactive requests and items."""

    def nodes(self) -> Mapping[str, int]:
        """Return every schedulable node with its usable slots."""


class Watching(NodeClient, Protocol):
    """Also watches a stream that a job reads itself."""

    def watch(self, lease: Lease, cancellation: Cancellation) -> SilencePolicy: ...

    def broke_off(self, lease: Lease, reply: UpstreamReply) -> None: ...


class Attempts(Watching, Protocol):
    """Sends a request on a slot that is held (`router.failover.attempts.Failover`)."""

    def note(
        self, assignment: Assignment, path: str, error: AttemptError, request_id: str
    ) -> None: ...

    def forgive(self, request_id: str) -> None: ...


class ItemCounters(Protocol):
    """Counts items and attempts (`router.jobs.metrics.JobMetrics`)."""

    def attempted(self, outcome: str) -> None: ...

    def retried(self) -> None: ...

    def copied(self) -> None: ...

    def wasted(self, tokens: float) -> None: ...

    def continued(self) -> None: ...

    def reread(self, tokens: float) -> None: ...

    def ended(self, result: ItemResult) -> None: ...

    def job_ended(self, state: JobState) -> None: ...
