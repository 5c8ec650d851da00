"""The metric names that an expression reads, and those that something exports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.assembly.audit import AuditService
from router.capacity.ledger import Ledger
from router.health.circuits import Circuits
from router.holds.record import Key
from router.holds.store import HoldStore
from router.jobs.metrics import JobMetrics, JobsView, job_families
from router.metrics import FleetCollector, Metrics
from router.metrics.circuits import circuit_families
from router.metrics.holds import HealthCounters, health_families
from router.metrics.predictions import prediction_families
from router.metrics.usage import usage_families
from router.model import Hold, Inventory
from router.scheduling.accuracy import Deviations
from router.snapshot import Published, Snapshot

Changes = Mapping[Key, Hold | None]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"

# Prometheus writes these itself.
OWN = {"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds"}

# In one pass: a comment may hold an apostrophe, a string a hash.
_QUIET = re.compile(r"""#[^\n]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""")
_MATCHERS = re.compile(r"\{[^}]*\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
)
_NUMBER = re.compile(r"\b\d[\w.]*(?:e[+-]?\d+)?", re.IGNORECASE)
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(?!\s*\()")
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"} | {
    *("by", "without", "on", "ignoring", "group_left", "group_right"),
    *("sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"),
}


def read_by(expr: str) -> set[str]:
    """Give the metric names in a PromQL expression."""
    found = NAME.findall(without_noise(expr))
    return {name for name in found if name.lower() not in WORDS}


def without_noise(expr: str) -> str:
    """Take out of an expression what is neither a metric, an operator nor a bracket.

    Selectors by `__name__` are not looked into; the rules use none.
    """
    assert "__name__" not in expr, expr
    for noise in (_QUIET, _MATCHERS, _RANGE, _GROUPING, _NUMBER):
        expr = noise.sub(" ", expr)
    return expr


def exported() -> set[str]:
    """Give every name that a part of the product, or a program it runs, exports."""
    return OWN.union(*sources().values())


def sources() -> dict[str, set[str]]:
    """Give what each source exports, by names to be read by people.

    tests/data/exported: names that node_exporter 1.5, Prometheus 2.42 and 3.16,
    Alertmanager 0.25 and 0.31 (what both versions have) were seen to export, and the
    expositions of dcgm-exporter and nvidia_gpu_exporter, which say where they are from.
    """
    golden = DATA / "exporters/golden"
    files = DATA / "exported"
    return {
        "our exporter, GPU": _expositions(golden.glob("nvml*.prom")),
        "our exporter, Ollama": _expositions(golden.glob("ollama*.prom")),
        "our exporter itself": _expositions(golden.glob("runner*.prom")),
        "our exporter, system": _expositions(golden.glob("system*.prom")),
        "dcgm-exporter": _dcgm() | _expositions(files.glob("dcgm-exporter-*.prom")),
        "nvidia_gpu_exporter": _expositions(files.glob("nvidia-gpu-exporter*.prom")),
        "node_exporter": set((files / "node_exporter.txt").read_text().split()),
        "router": _router(),
        "Prometheus": set((files / "prometheus.txt").read_text().split()),
        "Alertmanager": set((files / "alertmanager.txt").read_text().split()),
    }


def _expositions(files: Iterable[Path]) -> set[str]:
    found = set().union(*(_samples(path.read_text()) for path in files))
    assert found, "no exposition was found"
    return found


def _samples(exposition: str) -> set[str]:
    return {
        line.partition("{")[0].split()[0]
        for line in exposition.splitlines()
        if line and not line.startswith("#")
    }


def _dcgm() -> set[str]:
    """What dcgm-exporter is asked for."""
    lines = (ROOT / "exporters/dcgm-counters.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if line and not line.startswith("#")]
    return {field.strip() for field, kind, *_ in rows if kind.strip() != "label"}


def _router() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry, "version")
    published = Published(Snapshot(nodes={}, made_at=0))
    fleet = FleetCollector(
        inventory=lambda: Inventory(()),
        published=published,
        holds=HoldStore(_NoJournal()),
        load=Ledger(1, lambda: 0.0),
        queue_length=lambda _priority: 0,
        files=lambda: (),
        degrade=lambda: published.current.degrade,
        clock=lambda: 0.0,
    )
    HealthCounters(registry)
    AuditService(Path("nowhere"), registry)  # opened with the first entry
    health = health_families(HoldStore(_NoJournal()), _NoHealth())
    JobMetrics(registry)
    jobs = job_families(JobsView(eta=1.0))
    circuits = Circuits(
        HoldStore(_NoJournal()), leases=lambda _: (), present=lambda _: None
    )
    families = chain(
        registry.collect(),
        fleet.collect(),
        health,
        jobs,
        circuit_families(circuits),
        prediction_families(Deviations(), {}, Deviations()),
        usage_families((), {}, (0, 0, 0)),
    )
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {
        f"{family.name}{ending}"
        for family in families
        for ending in endings.get(family.type, ("",))
    }


class _NoJournal:
    def load(self) -> tuple[()]:
        return ()

    def save(self, changes: Callable[[], Changes]) -> Changes:
        return changes()


class _NoHealth:
    def nodes(self) -> list[str]:
        return []

    def ramp(self, _node: str) -> float:
        return 1.0

    def hold_downs(self) -> dict[tuple[str, str], float]:
        return {}

    def verifying(self) -> list[tuple[str, str]]:
        return []

    def ignored(self) -> dict[str, int]:
        return {}

    def state_files(self) -> dict[str, bool]:
        return {}
