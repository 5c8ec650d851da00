"""What jobs tell Prometheus: counters, and how they stand at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.jobs.model import ItemKind, ItemResult, ItemState, JobState
from router.jobs.retention import StorageUse
from router.metrics.plain import PlainCounter

_ITEM_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800)
_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class JobMetrics:
    """A `router.jobs.execution.attempts.Tally`, and the job database's."""

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
        self._retries = Counter(
            "inferops_job_retries", "Failed tries that are repeated.", registry=registry
        )
        self._copies = Counter(
            "inferops_job_copies", "Second attempts of slow items.", registry=registry
        )
        self._wasted = Counter(
            "inferops_job_wasted_tokens",
            "Generated tokens that are part of no result; estimated without a stream.",
            registry=registry,
        )
        self._continued = Counter(
            "inferops_job_continued",
            "Attempts that went on from the text of one that was taken back.",
            registry=registry,
        )
        self._reread = Counter(
            "inferops_job_reread_tokens",
            "Tokens of prompts and texts that were given to a node once more.",
            registry=registry,
        )
        self._expired = Counter(
            "inferops_jobs_expired",
            "Jobs whose completion window was over before their end.",
            registry=registry,
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
        self._calls = Counter(
            "inferops_job_store_calls",
            "Calls that went into commits of the job database.",
            registry=registry,
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
    """Jobs at a moment; seconds.

    eta:     None where it is unknown
    stalled: the longest standstill of an open job, by its state
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


class JobCollector(Collector):
    """Asks how the jobs stand at each scrape."""

    def __init__(self, view: Callable[[], JobsView]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        return []  # collected only once there is something to tell

    def collect(self) -> Iterator[Metric]:
        now = self._view()
        jobs = _gauge("inferops_jobs", "Jobs in the database, by state.", "state")
        for state in JobState:
            jobs.add_metric([state.value], now.jobs.get(state.value, 0))
        yield jobs
        items = _gauge("inferops_job_items", "Items of open jobs.", "state")
        items.add_metric(["waiting"], now.waiting)
        items.add_metric(["running"], now.running)
        yield items
        yield _one("inferops_job_nodes", "Nodes with items in flight.", now.nodes)
        yield _one(
            "inferops_job_oldest_seconds", "Age of the oldest open job.", now.oldest
        )
        stalled = _gauge(
            "inferops_job_stalled_seconds",
            "Longest time that an open job in this state, free to run, has made no"
            " progress.",
            "state",
        )
        for state in (each for each in JobState if not each.over):
            stalled.add_metric([state.value], now.stalled.get(state, 0.0))
        yield stalled
        yield _one(
            "inferops_job_store_up",
            "Whether the job database answered the last call.",
            float(now.store_up),
        )
        yield _one(
            "inferops_jobs_parked",
            "Open jobs that are not run any more: the router died while it ran them.",
            now.parked,
        )
        yield from _kept(now.kept)
        if now.eta is not None:
            text = "Until the last open job is done, at its present rate."
            yield _one("inferops_job_eta_seconds", text, now.eta)


def _kept(kept: StorageUse) -> Iterator[Metric]:
    size = _gauge("inferops_job_kept_bytes", "Jobs and files on the disk.", "what")
    size.add_metric(["store"], kept.store_bytes)
    size.add_metric(["files"], kept.file_bytes)
    yield size
    text = "Jobs that were deleted, by why."
    deleted = CounterMetricFamily("inferops_jobs_deleted", text, labels=["reason"])
    for reason, count in kept.deleted:
        deleted.add_metric([reason], count)
    yield deleted


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
