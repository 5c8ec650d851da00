"""What the router counts as it happens; one registry for each router."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric

from router.logs.writer import LogWriter
from router.metrics.families import AtScrape, totals
from router.metrics.plain import PlainCounter, PlainHistogram
from router.metrics.replies import Replies
from router.model import Priority
from router.server.body_budget import BodyBudget
from router.tracing.export import SpanQueue

_WHOLE = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 60, 120, 240, 480, 960)
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_PASS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)


class Metrics:
    """Counters and histograms; one registry for each router."""

    def __init__(
        self,
        registry: CollectorRegistry,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry
        self.replies = Replies(clock)
        registry.register(self.replies)
        self._declare_requests()
        self._declare_failover()
        self._declare_control()
        self._declare_process(version)

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "inferops_requests",
            "Requests answered, by how the reply ended.",
            ("route", "model", "node", "outcome", "code"),
        )
        self.request_seconds = self._histogram(
            "inferops_request_duration_seconds",
            "From a request's arrival to the last byte of its reply.",
            ("route",),
            _WHOLE,
        )
        self.queue_wait_seconds = self._histogram(
            "inferops_queue_wait_seconds",
            "Time until a slot was given, for each attempt.",
            ("priority",),
            _WAIT,
        )
        self.scheduled_seconds = self._histogram(
            "inferops_scheduled_seconds",
            "From a whole reply's arrival to its first token and its end, by the policy"
            " that chose its node.",
            ("picker", "stage"),
            _WHOLE,
        )
        self.decisions = self._counter(
            "inferops_decisions",
            "Slots given to requests, by what decided which node it was.",
            ("reason",),
        )
        self.rejections = self._counter(
            "inferops_rejections", "Requests the router refused itself.", ("reason",)
        )

    def _declare_failover(self) -> None:
        self.attempts = self._counter(
            "inferops_attempts", "Attempts on nodes.", ("node", "outcome")
        )
        self.retries = self._counter(
            "inferops_retries", "Attempts after a failed one.", ("reason",)
        )
        self.failovers = self._counter(
            "inferops_failovers",
            "Requests whose node failed, by when and by what became of them.",
            ("phase", "outcome"),
        )
        self.runner_deaths = self._counter(
            "inferops_runner_deaths",
            "Runners (the processes that keep a model loaded) that were seen to die.",
            ("node", "model"),
        )
        self.pause_seconds = Histogram(
            "inferops_continuation_pause_seconds",
            "From the break of a stream to its first line from another node.",
            buckets=_WAIT,
            registry=self.registry,
        )
        self.resent_tokens = Counter(
            "inferops_continuation_resent_tokens",
            "Tokens of text so far that another node had to read again.",
            registry=self.registry,
        )

    def _declare_control(self) -> None:
        self.notifications = self._counter(
            "inferops_webhook_notifications",
            "Alerts that rang the node-health webhook.",
            ("outcome",),
        )
        self.pass_seconds = Histogram(
            "inferops_control_pass_duration_seconds",
            "One pass of the control loop.",
            buckets=_PASS,
            registry=self.registry,
        )
        self.pass_failures = self._counter(
            "inferops_control_pass_failures",
            "Stages of control passes that failed.",
            ("stage",),
        )

    def _declare_process(self, version: str) -> None:
        self.loop_lag = Gauge(
            "inferops_event_loop_lag_seconds",
            "How late the event loop's last tick was.",
            registry=self.registry,
        )
        info = Gauge(
            "inferops_build_info", "This router.", ("version",), registry=self.registry
        )
        info.labels(version).set(1)

    def watch_bodies(self, bodies: BodyBudget) -> None:
        """Show at each scrape what is held, and what may be."""
        held = Gauge(
            "inferops_request_bodies_bytes",
            "Bodies of requests, and of whole replies, held in memory.",
            registry=self.registry,
        )
        held.set_function(lambda: bodies.held_bytes)
        limit = Gauge(
            "inferops_request_bodies_limit_bytes",
            "How much of them may be held; a request over it is refused.",
            registry=self.registry,
        )
        limit.set_function(lambda: bodies.most_bytes)

    def watch_log(self, writer: LogWriter) -> None:
        """Show at each scrape how many lines nobody could take."""
        self.registry.register(AtScrape(partial(_dropped, writer)))

    def watch_traces(self, queue: SpanQueue) -> None:
        """Show at each scrape what became of the spans of requests."""
        self.registry.register(AtScrape(partial(_traces, queue)))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> PlainCounter:
        return PlainCounter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], edges: tuple[float, ...]
    ) -> PlainHistogram:
        return PlainHistogram(name, text, labels, edges, registry=self.registry)

    # What attempts are counted with (router.failover.attempts.Tally).

    def scheduled(
        self, priority: Priority, waited: float, reason: str, trace_id: str = ""
    ) -> None:
        self.queue_wait_seconds.labels(priority).observe(waited, trace_id)
        self.decisions.labels(reason).inc()

    def attempted(self, node: str, outcome: str) -> None:
        self.attempts.labels(node, outcome).inc()

    def retried(self, reason: str) -> None:
        self.retries.labels(reason).inc()
        self.failovers.labels("before_first_byte", "moved").inc()

    def runner_died(self, node: str, model: str) -> None:
        self.runner_deaths.labels(node, model).inc()

    # What continuations are counted with (router.failover.continuation).

    def continued(self, pause_seconds: float, tokens: int) -> None:
        self.failovers.labels("mid_stream", "continued").inc()
        self.pause_seconds.observe(pause_seconds)
        self.resent_tokens.inc(tokens)

    # What control passes are counted with (router.control.loop.PassStats).

    def passed(self, seconds: float) -> None:
        self.pass_seconds.observe(seconds)

    def failed(self, stage: str) -> None:
        self.pass_failures.labels(stage).inc()


def _traces(queue: SpanQueue) -> Iterator[Metric]:
    yield totals(
        "inferops_traced_requests",
        "Requests whose spans were exported, not taken by the collector (failed),"
        " or had no room in the queue (dropped).",
        ("outcome",),
        [
            (("exported",), queue.exported),
            (("failed",), queue.failed),
            (("dropped",), queue.dropped),
        ],
    )


def _dropped(writer: LogWriter) -> Iterator[Metric]:
    yield totals(
        "inferops_log_lines_dropped",
        "Log lines that were dropped: nobody read the log, or its disk was full.",
        (),
        [((), writer.dropped)],
    )
