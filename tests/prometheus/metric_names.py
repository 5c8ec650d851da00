"""The metric names that an expression reads, and those that something exports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from exporters.xid import XidLog
from router.dispatch.ledger import Ledger
from router.holds import HoldStore, Key
from router.metrics import FleetCollector, Metrics
from router.model import Hold, Inventory
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
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"} | {
    *("by", "without", "on", "ignoring", "group_left", "group_right"),
    *("sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"),
}


def read_by(expr: str) -> set[str]:
    """Give the metric names in a PromQL expression.

    Selectors by `__name__` are not looked into; the rules use none.
    """
    assert "__name__" not in expr, expr
    for noise in (_QUIET, _MATCHERS, _RANGE, _GROUPING, _NUMBER):
        expr = noise.sub(" ", expr)
    return {name for name in _NAME.findall(expr) if name.lower() not in _WORDS}


def exported() -> set[str]:
    """Give every name that a part of the product, or a program it runs, exports.

    tests/data/exported: names that node_exporter 1.5, Prometheus 2.42 and 3.16,
    Alertmanager 0.25 and 0.31 (what both versions have) were seen to export.
    """
    recorded = (path.read_text().split() for path in DATA.glob("exported/*.txt"))
    return OWN.union(*recorded, _exporters(), _dcgm(), _router())


def _exporters() -> set[str]:
    golden = (DATA / "exporters/golden").glob("*.prom")
    return _xids().union(*(_samples(path.read_text()) for path in golden))


def _xids() -> set[str]:
    log = XidLog(wall=lambda: 0.0)
    log.add("GPU-1", 79)  # some names exist only after the first fault
    return {family.name for family in log.families()}


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
    fleet = FleetCollector(
        inventory=lambda: Inventory(()),
        published=Published(Snapshot(nodes={}, made_at=0)),
        holds=HoldStore(_NoJournal()),
        load=Ledger(1, lambda: 0.0),
        queue_length=lambda _priority: 0,
        files=lambda: (),
        clock=lambda: 0.0,
    )
    families = [*registry.collect(), *fleet.collect()]
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
