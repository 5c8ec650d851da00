"""What stands in for the disk, the clock and Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from router.clients.prometheus import AlertRule, Sample
from router.errors import PrometheusError, StateError
from router.holds.record import Key
from router.holds.store import HoldStore
from router.model import Clear, Hold, HoldKind, HoldState

LABELS = {
    "alertname": "GpuTooHot",
    "node": "rig",
    "uuid": "GPU-1",
    "severity": "critical",
    "action": "drain",
    "clear": "auto",
}
EVIDENCE = "node_gpu:temperature:celsius"


class MemoryJournal:
    """A journal that forgets with the test; `broken` refuses writes."""

    def __init__(self, *holds: Hold) -> None:
        self.rows: dict[Key, Hold] = {hold.key: hold for hold in holds}
        self.broken = False

    def load(self) -> tuple[Hold, ...]:
        return tuple(self.rows.values())

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        if self.broken:
            raise StateError("holds.db: disk is full")
        written = changes()
        for key, hold in written.items():
            if hold is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = hold
        return written


@dataclass
class Clock:
    """Wall clock and monotonic clock that move only when told."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakePrometheus:
    """Answers by expression; an exception in place of samples is raised."""

    answers: dict[str, tuple[Sample, ...] | PrometheusError] = field(
        default_factory=dict
    )
    loaded: tuple[AlertRule, ...] | PrometheusError = ()
    time: float | PrometheusError = 5_000.0
    asked: list[tuple[str, float]] = field(default_factory=list)
    on_query: Callable[[], None] = lambda: None

    def now(self) -> float:
        return _given(self.time)

    def query(self, expression: str, at: float) -> tuple[Sample, ...]:
        self.asked.append((expression, at))
        self.on_query()
        return _given(self.answers.get(expression, ()))

    def rules(self) -> tuple[AlertRule, ...]:
        return _given(self.loaded)


def _given(answer):
    if isinstance(answer, PrometheusError):
        raise answer
    return answer


def store(clock: Clock, *holds: Hold, panic_ratio: float = 1.0) -> HoldStore:
    """A store over memory whose both clocks are `clock`; panic never, by default."""
    return HoldStore(MemoryJournal(*holds), clock, panic_ratio, clock)


def drain(
    node: str = "rig",
    *,
    state: HoldState = HoldState.CONFIRMED,
    clear: Clear = Clear.AUTO,
    since: float = 1_000.0,
    until: float | None = None,
    alert: str = "GpuTooHot",
) -> Hold:
    labels = {**LABELS, "node": node, "alertname": alert, "clear": clear.value}
    return Hold(
        node=node,
        kind=HoldKind.DRAIN,
        source=f"alert:{alert}:{node}",
        reason="too hot",
        since=since,
        until=until,
        state=state,
        clear=clear,
        labels=labels,
    )


def cordon(node: str = "rig", since: float = 1_000.0, **more) -> Hold:
    return Hold(node, HoldKind.CORDON, "operator:ann", "new fans", since, **more)
