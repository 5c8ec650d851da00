"""Metrics of jobs: counters, and gauges that are computed at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric

from router.jobs.model import ItemKind, ItemResult, ItemState, JobState
from router.jobs.retention import StorageUse
from router.metrics.families import gauge, gauges, totals
from router.metrics.plain import PlainCounter

_ITEM_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800)
_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class JobMetrics:
    """Counts items, attempts and commits; a `planning.protocols.ItemCounters`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = PlainCounter(
            "inferops_job_items_ended",
            "Items and merges that have their result, by how they ended.",
            ("kind", "state"),
            registry=registry,
        )
        for kind in ItemKind:  # a counter that is born at 1 shows no increase
            for state in (each for each in ItemState if each.over):
                self._ended.labels(kind.value, state.value)
        self._attempts = PlainCounter(
            "inferops_job_attempts",
            "Attempts at items, by how they ended.",
            ("outcome",),
            registry=registry,
        )
        self._tokens = PlainCounter(
            "inferops_job_tokens",
            "Tokens of items' replies.",
            ("kind",),
            registry=registry,
        )
        counter = partial(Counter, registry=registry)
        self._retries = counter(
            "inferops_job_retries", "Failed tries that are repeated."
        )
        self._copies = counter("inferops_job_copies", "Second attempts of slow items.")
        self._wasted = counter(
            "inferops_job_wasted_tokens",
            "Generated tokens that are part of no result; estimated without a stream.",
        )
        self._continued = counter(
            "inferops_job_continued",
            "Attempts that went on from the text of one that was taken back.",
        )
        self._reread = counter(
            "inferops_job_reread_tokens",
            "Tokens of prompts and texts that were given to a node once more.",
        )
        self._expired = counter(
            "inferops_jobs_expired",
            "Jobs whose completion window was over before their end.",
        )
        self._seconds = Histogram(
            "inferops_job_item_duration_seconds",
            "One answered attempt at an item.",
            buckets=_ITEM_SECONDS,
            registry=registry,
        )
        self._commit = Histogram(
            "inferops_job_store_commit_seconds",
            "One batched commit of the job database.",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )
        self._calls = counter(
            "inferops_job_store_calls",
            "Calls that went into commits of the job database.",
        )

    def attempted(self, outcome: str) -> None:
        self._attempts.labels(outcome).inc()

    def retried(self) -> None:
        self._retries.inc()

    def copied(self) -> None:
        self._copies.inc()

    def wasted(self, tokens: float) -> None:
        self._wasted.inc(tokens)

    def continued(self) -> None:
        self._continued.inc()

    def reread(self, tokens: float) -> None:
        self._reread.inc(tokens)

    def ended(self, result: ItemResult) -> None:
        self._ended.labels(result.kind.value, result.state.value).inc()
        if result.prompt_tokens:
            self._tokens.labels("prompt").inc(result.prompt_tokens)
        if result.generated_tokens:
            self._tokens.labels("generated").inc(result.generated_tokens)
        if result.state is ItemState.DONE:
            self._seconds.observe(result.seconds)

    def job_ended(self, state: JobState) -> None:
        if state is JobState.EXPIRED:
            self._expired.inc()

    def committed(self, seconds: float, calls: int) -> None:
        self._commit.observe(seconds)
        self._calls.inc(calls)


@dataclass(frozen=True, slots=True)
class JobsView:
    """A summary of the jobs for one scrape; times in seconds.

    eta:     until the last open job is done; None if unknown
    oldest:  age of the oldest open job
    stalled: longest time without progress of an open job, by its state
    """

    jobs: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0
    nodes: int = 0
    eta: float | None = None
    oldest: float = 0.0
    stalled: Mapping[JobState, float] = field(default_factory=dict)
    store_up: bool = True
    parked: int = 0
    kept: StorageUse = field(default_factory=StorageUse)


def job_families(now: JobsView) -> Iterator[Metric]:
    """Yield the gauges of jobs."""
    yield gauges(
        "inferops_jobs",
        "Jobs in the database, by state.",
        ("state",),
        [((each.value,), now.jobs.get(each.value, 0)) for each in JobState],
    )
    yield gauges(
        "inferops_job_items",
        "Items of open jobs.",
        ("state",),
        [(("waiting",), now.waiting), (("running",), now.running)],
    )
    yield gauge("inferops_job_nodes", "Nodes with items in flight.", now.nodes)
    yield gauge(
        "inferops_job_oldest_seconds", "Age of the oldest open job.", now.oldest
    )
    yield gauges(
        "inferops_job_stalled_seconds",
        "Longest time that an open job in this state, free to run, has made no"
        " progress.",
        ("state",),
        [
            ((each.value,), now.stalled.get(each, 0.0))
            for each in JobState
            if not each.over
        ],
    )
    yield gauge(
        "inferops_job_store_up",
        "Whether the job database answered the last call.",
        float(now.store_up),
    )
    yield gauge(
        "inferops_jobs_parked",
        "Open jobs that are not run any more: the router died while it ran them.",
        now.parked,
    )
    yield gauges(
        "inferops_job_kept_bytes",
        "Jobs and files on the disk.",
        ("what",),
        [(("store",), now.kept.store_bytes), (("files",), now.kept.file_bytes)],
    )
    yield totals(
        "inferops_jobs_deleted",
        "Jobs that were deleted, by why.",
        ("reason",),
        [((reason,), count) for reason, count in now.kept.deleted],
    )
    if now.eta is not None:
        text = "Until the last open job is done, at its present rate."
        yield gauge("inferops_job_eta_seconds", text, now.eta)
