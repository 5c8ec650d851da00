"""The state of nodes, holds, queue and snapshot, as families made at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from router.capacity.ledger import Lease, Ledger
from router.config.reload import ReloadStatus
from router.holds.store import HoldStore
from router.metrics.families import gauge, gauges, totals
from router.metrics.replies import ReplyKind
from router.model import Degrade, HoldKind, Inventory, Priority
from router.runtime.turns import in_turns
from router.snapshot import Published

_EXTERNAL = "Streams of others on the node, as estimated."
_RECOVERED = "Streams of an earlier router that may still run on the node."


@dataclass(frozen=True, slots=True, eq=False)
class FleetCollector(Collector):
    """The state of nodes, holds, queue and snapshot, as it is at the scrape.

    degrade: how good the scores are by now
    """

    inventory: Callable[[], Inventory]
    published: Published
    holds: HoldStore
    load: Ledger
    queue_length: Callable[[Priority], int]
    files: Callable[[], Iterable[ReloadStatus]]
    degrade: Callable[[], Degrade]
    clock: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        yield from self._file_families()
        yield from self._attributes()
        yield from self._load_families()
        yield from self._silent_families()
        yield from self._score_families()
        yield from self._hold_families()
        yield from self._snapshot_families()

    def _file_families(self) -> Iterator[Metric]:
        files = self.files()
        yield gauges(
            "inferops_config_last_reload_successful",
            "1 while the file, as it is now, is in force.",
            ("file",),
            [((f.file,), float(f.successful)) for f in files],
        )
        yield gauges(
            "inferops_config_last_reload_success_timestamp_seconds",
            "When the file was last accepted.",
            ("file",),
            [((f.file,), f.succeeded_at) for f in files if f.succeeded_at is not None],
        )

    def _attributes(self) -> Iterator[Metric]:
        nodes = self.inventory().nodes
        for name in ("vram_bytes", "tflops", "temperature_limit_celsius"):
            rows = [
                ((node.name,), node.attributes[name])
                for node in nodes
                if name in node.attributes
            ]
            text = "From the inventory's __label of this name."
            yield gauges(f"inferops_node_{name}", text, ("node",), rows)
        slots = [((n.name,), float(n.slots)) for n in nodes if n.slots]
        text = "Ceiling of requests in flight, from the inventory's __slots."
        yield gauges("inferops_node_slots", text, ("node",), slots)

    def _load_families(self) -> Iterator[Metric]:
        names = [node.name for node in self.inventory().nodes]
        load = self.load
        for name, text, value in (
            (
                "inferops_in_flight",
                "Requests that hold a slot of the node.",
                load.in_flight,
            ),
            (
                "inferops_slots",
                "Slots of the node that the router uses now.",
                load.usable,
            ),
            (
                "inferops_slot_ceiling",
                "Slots that the node has: configured, or learned.",
                load.slots,
            ),
            ("inferops_external_streams", _EXTERNAL, load.external_streams),
            ("inferops_recovered_streams", _RECOVERED, load.recovered),
            # Their names before 0.2.
            ("inferops_foreign_load", _EXTERNAL, load.external_streams),
            ("inferops_leftover_streams", _RECOVERED, load.recovered),
        ):
            yield gauges(name, text, ("node",), (((n,), value(n)) for n in names))
        yield gauges(
            "inferops_queue_length",
            "Requests that wait for a slot.",
            ("priority",),
            [((p.value,), self.queue_length(p)) for p in Priority],
        )
        yield gauges(
            "inferops_generation_tokens_per_second",
            "Learned speed of one stream.",
            ("node", "model"),
            load.speeds(),
        )
        yield gauges(
            "inferops_concurrent_tokens_per_second",
            "Learned total speed of so many streams at once.",
            ("node", "model", "streams"),
            (
                ((*key, str(streams)), total)
                for key, totals in load.totals()
                for streams, total in totals.items()
            ),
        )

    def _silent_families(self) -> Iterator[Metric]:
        nodes = self.inventory().nodes
        leases = (each for n in nodes for each in self.load.leases(n.name))
        return silent_families(leases, self.clock())

    def _score_families(self) -> Iterator[Metric]:
        views = self.published.current.nodes
        yield gauges(
            "inferops_node_score",
            "Base capability, 0 to 1.",
            ("node",),
            (((name,), view.score.value) for name, view in views.items()),
        )
        parts = [
            ((name, part.signal), part)
            for name, view in in_turns(views.items())
            for part in view.score.parts
        ]
        yield gauges(
            "inferops_node_signal_value",
            "A signal's reading on a node, in the signal's own unit.",
            ("node", "signal"),
            ((key, p.reading) for key, p in parts if p.reading is not None),
        )
        yield gauges(
            "inferops_node_signal_score",
            "The reading between the signal's worst (0) and best (1).",
            ("node", "signal"),
            ((key, p.normalised) for key, p in parts if p.normalised is not None),
        )

    def _hold_families(self) -> Iterator[Metric]:
        holds = self.holds
        names = [node.name for node in self.inventory().nodes]
        yield gauges(
            "inferops_node_schedulable",
            "1 while no hold keeps new work from the node.",
            ("node",),
            (((n,), float(not holds.blocking(n))) for n in names),
        )
        yield gauges(
            "inferops_node_hold",
            "1 for each hold.",
            ("node", "kind", "source", "state"),
            _hold_rows(holds),
        )
        yield gauge(
            "inferops_panic",
            "1 while alert holds are ignored: too many at once.",
            float(holds.panic),
        )
        for name, text, counts in (
            ("inferops_holds_placed", "Holds placed.", holds.placed),
            ("inferops_holds_lifted", "Holds lifted.", holds.lifted),
        ):
            kinds = [((kind.value,), counts.get(kind, 0)) for kind in HoldKind]
            yield totals(name, text, ("kind",), kinds)

    def _snapshot_families(self) -> Iterator[Metric]:
        snapshot = self.published.current
        names = ", ".join(f"{step.step} {step.value}" for step in Degrade)
        yield gauge(
            "inferops_degrade_step",
            f"How good the scores are: {names}.",
            self.degrade().step,
        )
        yield gauge(
            "inferops_snapshot_age_seconds",
            "Since control last published.",
            self.clock() - snapshot.made_at,
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


def silent_families(leases: Iterable[Lease], now: float) -> Iterator[Metric]:
    """Yield how many requests in flight have had nothing yet, and for how long.

    They show a node that accepts work and is stuck, without a probe that would load a
    model there; `now` is on the clock of the leases.
    """
    labels = ("node", "model", "reply")
    count: Counter[tuple[str, str, str]] = Counter()
    oldest: dict[tuple[str, str, str], float] = {}
    for lease in leases:
        if lease.decoding_since is not None:
            continue
        kind = ReplyKind.STREAM if lease.streams else ReplyKind.WHOLE
        key = (lease.node, lease.model, kind.value)
        count[key] += 1
        oldest[key] = max(oldest.get(key, 0.0), now - lease.taken_at)
    yield gauges(
        "inferops_silent_requests",
        "Requests that hold a slot and had no line of their stream, or no whole"
        " reply, yet.",
        labels,
        list(count.items()),
    )
    yield gauges(
        "inferops_silent_oldest_seconds",
        "How long the oldest of the silent requests has held its slot.",
        labels,
        list(oldest.items()),
    )
