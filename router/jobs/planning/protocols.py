"""The interfaces between the parts of a job: what each may ask of the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from router.cancellation import Cancellation
from router.capacity.ledger import Lease
from router.errors import AttemptError
from router.failover.continuation.resumption import NodeClient
from router.jobs.model import Backlog, ItemResult, JobState, Pending
from router.relay.upstream import SilencePolicy, UpstreamReply
from router.scheduling.queue import Assignment


class Waiting(Protocol):
    """What waits. The heaviest few of each model can be seen, all are counted."""

    def models(self) -> Mapping[str, Backlog]:
        """Return what waits of each model that any open job asks for."""

    def heaviest(self, model: str) -> Sequence[Pending]:
        """Return some of this model: merges, then by wave, the heaviest first."""


class Speeds(Protocol):
    """What was learned of nodes and models (`planning.speeds.LearnedSpeeds`)."""

    def tokens_per_second(self, node: str, model: str, streams: int) -> float | None:
        """Return the speed of each of so many streams; None if unknown."""

    def prompt_tokens_per_second(self, node: str, model: str) -> float | None:
        """Return how fast a prompt is read; None if unknown."""

    def in_vain(self, node: str, model: str) -> float:
        """Return the longest that a node lately ran something in vain, else 0."""

    def worthwhile(self, node: str, model: str) -> int:
        """Return how many streams of the node are worth having for this model."""

    def load_seconds(self, node: str, model: str) -> float:
        """Return how long loading would take; 0 where it is in memory."""

    def streams(self, node: str) -> int:
        """Return what runs there now, people's requests and items alike."""

    def nodes(self) -> Mapping[str, int]:
        """Return every node that may get work, and its usable slots."""


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
    """What items are counted with (`router.jobs.metrics.BatchMetrics`)."""

    def attempted(self, outcome: str) -> None: ...

    def retried(self) -> None: ...

    def copied(self) -> None: ...

    def wasted(self, tokens: float) -> None: ...

    def continued(self) -> None: ...

    def reread(self, tokens: float) -> None: ...

    def ended(self, result: ItemResult) -> None: ...

    def job_ended(self, state: JobState) -> None: ...
