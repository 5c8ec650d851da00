"""What the router tells Prometheus: its counters, and its state at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.holds import HoldStore
from router.model import Degrade, HoldKind, Inventory, Priority
from router.snapshot import LoadView, Published

# vLLM's buckets, so that panels and objectives carry over.
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640),
)
_WHOLE = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 60, 120, 240, 480, 960)
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_PASS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)


T = TypeVar("T", Counter, Histogram)


class Children(Generic[T]):
    """A metric whose children are found again without its own lock and checks.

    That lock is gevent's, and `labels` was a sixteenth of a request.
    """

    def __init__(self, metric: T) -> None:
        self._metric: T = metric
        self._children: dict[tuple[object, ...], T] = {}

    def labels(self, *values: object) -> T:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """Counters and histograms; one registry for each router."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.registry = registry
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
        self.first_token_seconds = self._histogram(
            "inferops_time_to_first_token_seconds",
            "From a request's arrival to the first line of its stream.",
            ("node", "model"),
            _FIRST_TOKEN,
        )
        self.queue_wait_seconds = self._histogram(
            "inferops_queue_wait_seconds",
            "Time until a slot was given, for each attempt.",
            ("priority",),
            _WAIT,
        )
        self.tokens = self._counter(
            "inferops_tokens",
            "Tokens as the nodes' own counters tell them.",
            ("node", "model", "kind"),
        )
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
        self.pause_seconds = Histogram(
            "inferops_continuation_pause_seconds",
            "From the break of a stream to its first line from another node.",
            buckets=_WAIT,
            registry=registry,
        )
        self.resent_tokens = Counter(
            "inferops_continuation_resent_tokens",
            "Tokens of text so far that another node had to read again.",
            registry=registry,
        )
        self.rejections = self._counter(
            "inferops_rejections", "Requests the router refused itself.", ("reason",)
        )
        self.notifications = self._counter(
            "inferops_webhook_notifications",
            "Alerts that rang the node-health webhook.",
            ("outcome",),
        )
        self.pass_seconds = Histogram(
            "inferops_control_pass_duration_seconds",
            "One pass of the control loop.",
            buckets=_PASS,
            registry=registry,
        )
        self.pass_failures = self._counter(
            "inferops_control_pass_failures",
            "Stages of control passes that failed.",
            ("stage",),
        )
        self.loop_lag = Gauge(
            "inferops_event_loop_lag_seconds",
            "How late the event loop's last tick was.",
            registry=registry,
        )
        info = Gauge(
            "inferops_build_info", "This router.", ("version",), registry=registry
        )
        info.labels(version).set(1)

    def _counter(
        self, name: str, text: str, labels: tuple[str, ...]
    ) -> Children[Counter]:
        return Children(Counter(name, text, labels, registry=self.registry))

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Children[Histogram]:
        return Children(
            Histogram(name, text, labels, buckets=buckets, registry=self.registry)
        )

    # What attempts are counted with (router.dispatch.failover.Tally).

    def queued(self, priority: Priority, seconds: float) -> None:
        self.queue_wait_seconds.labels(priority).observe(seconds)

    def attempted(self, node: str, outcome: str) -> None:
        self.attempts.labels(node, outcome).inc()

    def retried(self, reason: str) -> None:
        self.retries.labels(reason).inc()
        self.failovers.labels("before_first_byte", "moved").inc()

    # What continuations are counted with (router.dispatch.continuation).

    def continued(self, pause_seconds: float, tokens: int) -> None:
        self.failovers.labels("mid_stream", "continued").inc()
        self.pause_seconds.observe(pause_seconds)
        self.resent_tokens.inc(tokens)

    # What control passes are counted with (router.control.loop.PassStats).

    def passed(self, seconds: float) -> None:
        self.pass_seconds.observe(seconds)

    def failed(self, stage: str) -> None:
        self.pass_failures.labels(stage).inc()


class Load(LoadView, Protocol):
    """A ledger that can also list what it learned."""

    def speeds(self) -> dict[tuple[str, str], float]: ...

    def totals(self) -> dict[tuple[str, str], dict[int, float]]: ...

    def usable(self, node: str) -> int: ...

    def leftover(self, node: str) -> int: ...

    def foreign_streams(self, node: str) -> int: ...


class FileStatus(Protocol):
    """How the latest reload of a configuration file went."""

    @property
    def file(self) -> str: ...

    @property
    def succeeded_at(self) -> float | None: ...

    @property
    def successful(self) -> bool: ...


class FleetCollector(Collector):
    """The state of nodes, holds, queue and snapshot, as it is at the scrape."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        published: Published,
        holds: HoldStore,
        load: Load,
        *,
        queue_length: Callable[[Priority], int],
        files: Callable[[], Iterable[FileStatus]],
        clock: Callable[[], float],
    ) -> None:
        self._inventory = inventory
        self._published = published
        self._holds = holds
        self._load = load
        self._queue_length = queue_length
        self._files = files
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        yield from self._file_families()
        yield from self._attributes()
        yield from self._load_families()
        yield from self._score_families()
        yield from self._hold_families()
        yield from self._snapshot_families()

    def _file_families(self) -> Iterator[Metric]:
        files = self._files()
        yield _family(
            "inferops_config_last_reload_successful",
            "1 while the file, as it is now, is in force.",
            ("file",),
            [((f.file,), float(f.successful)) for f in files],
        )
        yield _family(
            "inferops_config_last_reload_success_timestamp_seconds",
            "When the file was last accepted.",
            ("file",),
            [((f.file,), f.succeeded_at) for f in files if f.succeeded_at is not None],
        )

    def _attributes(self) -> Iterator[Metric]:
        nodes = self._inventory().nodes
        for name in ("vram_bytes", "tflops", "temperature_limit_celsius"):
            rows = [
                ((node.name,), node.attributes[name])
                for node in nodes
                if name in node.attributes
            ]
            text = "From the inventory's __label of this name."
            yield _family(f"inferops_node_{name}", text, ("node",), rows)
        slots = [((n.name,), float(n.slots)) for n in nodes if n.slots]
        text = "Ceiling of requests in flight, from the inventory's __slots."
        yield _family("inferops_node_slots", text, ("node",), slots)

    def _load_families(self) -> Iterator[Metric]:
        names = [node.name for node in self._inventory().nodes]
        load = self._load
        yield _family(
            "inferops_in_flight",
            "Requests that hold a slot of the node.",
            ("node",),
            [((n,), load.in_flight(n)) for n in names],
        )
        yield _family(
            "inferops_slots",
            "Slots of the node that the router uses now.",
            ("node",),
            [((n,), load.usable(n)) for n in names],
        )
        yield _family(
            "inferops_slot_ceiling",
            "Slots that the node has: configured, or learned.",
            ("node",),
            [((n,), load.slots(n)) for n in names],
        )
        yield _family(
            "inferops_foreign_load",
            "Streams of others on the node, as suspected.",
            ("node",),
            [((n,), load.foreign_streams(n)) for n in names],
        )
        yield _family(
            "inferops_leftover_streams",
            "Streams of an earlier router that may still run on the node.",
            ("node",),
            [((n,), load.leftover(n)) for n in names],
        )
        yield _family(
            "inferops_queue_length",
            "Requests that wait for a slot.",
            ("priority",),
            [((p.value,), self._queue_length(p)) for p in Priority],
        )
        yield _family(
            "inferops_generation_tokens_per_second",
            "Learned speed of one stream.",
            ("node", "model"),
            list(load.speeds().items()),
        )
        yield _family(
            "inferops_concurrent_tokens_per_second",
            "Learned total speed of so many streams at once.",
            ("node", "model", "streams"),
            [
                ((*key, str(streams)), total)
                for key, totals in load.totals().items()
                for streams, total in totals.items()
            ],
        )

    def _score_families(self) -> Iterator[Metric]:
        views = self._published.current.nodes
        yield _family(
            "inferops_node_score",
            "Base capability, 0 to 1.",
            ("node",),
            [((name,), view.score.value) for name, view in views.items()],
        )
        parts = [
            ((name, part.signal), part)
            for name, view in views.items()
            for part in view.score.parts
        ]
        yield _family(
            "inferops_node_signal_value",
            "A signal's reading on a node, in the signal's own unit.",
            ("node", "signal"),
            [(key, p.reading) for key, p in parts if p.reading is not None],
        )
        yield _family(
            "inferops_node_signal_score",
            "The reading between the signal's worst (0) and best (1).",
            ("node", "signal"),
            [(key, p.normalised) for key, p in parts if p.normalised is not None],
        )

    def _hold_families(self) -> Iterator[Metric]:
        holds = self._holds
        names = [node.name for node in self._inventory().nodes]
        yield _family(
            "inferops_node_schedulable",
            "1 while no hold keeps new work from the node.",
            ("node",),
            [((n,), float(not holds.blocking(n))) for n in names],
        )
        yield _family(
            "inferops_node_hold",
            "1 for each hold.",
            ("node", "kind", "source", "state"),
            _hold_rows(holds),
        )
        yield _family(
            "inferops_panic",
            "1 while alert holds are ignored: too many at once.",
            (),
            [((), float(holds.panic))],
        )
        yield _totals("inferops_holds_placed", "Holds placed.", holds.placed)
        yield _totals("inferops_holds_lifted", "Holds lifted.", holds.lifted)

    def _snapshot_families(self) -> Iterator[Metric]:
        snapshot = self._published.current
        names = ", ".join(f"{step.step} {step.value}" for step in Degrade)
        yield _family(
            "inferops_degrade_step",
            f"How good the scores are: {names}.",
            (),
            [((), snapshot.degrade.step)],
        )
        yield _family(
            "inferops_snapshot_age_seconds",
            "Since control last published.",
            (),
            [((), self._clock() - snapshot.made_at)],
        )


def _hold_rows(holds: HoldStore) -> list[tuple[tuple[str, ...], float]]:
    """One row for each source; a fingerprint in it would be a label of its own."""
    keys = {
        (hold.node, hold.kind.value, _short(hold.source), hold.state.value)
        for hold in holds.list()
    }
    return [(key, 1.0) for key in sorted(keys)]


def _short(source: str) -> str:
    return ":".join(source.split(":")[:2])


def _totals(name: str, text: str, counts: Mapping[HoldKind, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=("kind",))
    for kind in HoldKind:
        family.add_metric((kind.value,), counts.get(kind, 0))
    return family


def _family(
    name: str,
    text: str,
    labels: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
