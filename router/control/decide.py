"""Makes a snapshot of what is known; pure, may run in a native thread.

While Prometheus does not answer, scores degrade in steps: fresh readings; the last good
ones, which move towards neutral as they age; no readings, so that load and measured
speed decide over the inventory's static numbers; and the same where there never was a
reading. The inventory's own numbers do not age: they are read from the inventory
whenever Prometheus has no fresh ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from router.control.observe import Observation
from router.control.scoring import score
from router.model import Degrade, Inventory, Node, Signal
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

# A signal that reads one of the gauges that the router exports from the inventory.
_STATIC = re.compile(
    r"\s*(?:(?:min|max|avg|sum)\s+by\s*\(\s*node\s*\)\s*\(\s*)?"
    r"inferops_node_([a-z_]+)(?:\s*\))?\s*"
)


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds after which readings count as old, and after which they are ignored."""

    stale_after_seconds: float
    forget_after_seconds: float


@dataclass(frozen=True, slots=True)
class PolledModels:
    """What the polls of one node found; None until a poll was answered."""

    version: str | None = None
    present: Mapping[str, PresentModel] | None = None
    resident: Mapping[str, ResidentModel] | None = None


@dataclass(frozen=True, slots=True)
class DecisionInput:
    """The input of a decision.

    last_good: the newest observation that had readings, of this pass or an earlier one
    factors:   the share of its score that a derated node keeps, by node
    """

    inventory: Inventory
    signals: tuple[Signal, ...]
    last_good: Observation | None = None
    models: Mapping[str, PolledModels] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)


def decide(known: DecisionInput, ages: Ages, now: float) -> Snapshot:
    """Make a snapshot; `now` is monotonic seconds."""
    seen = known.last_good
    age = now - seen.taken_at if seen else None
    degrade = _step(age, ages)
    static = _static(known.signals)
    trust = _trust(age, ages, known.signals, static)
    asked = seen.readings if seen and degrade.step < Degrade.OWN.step else {}
    views = {}
    for node in known.inventory.nodes:
        readings = _readings(node, asked, static)
        unasked = [s.name for s in known.signals if s.name not in asked]
        models = known.models.get(node.name, PolledModels())
        scored = score(known.signals, readings, unasked=unasked, trust=trust)
        factor = known.factors.get(node.name, 1.0)
        views[node.name] = NodeView(
            node=node,
            score=replace(scored, value=scored.value * factor),
            version=models.version,
            present=models.present,
            resident=models.resident,
        )
    return Snapshot(
        nodes=MappingProxyType(views),
        made_at=now,
        degrade=degrade,
    )


def aged(snapshot: Snapshot, ages: Ages, now: float) -> Degrade:
    """Return how far a snapshot has degraded by now."""
    by_age = _step(max(0.0, now - snapshot.made_at), ages)
    return max(snapshot.degrade, by_age, key=lambda degrade: degrade.step)


def _step(age: float | None, ages: Ages) -> Degrade:
    if age is None:
        return Degrade.STATIC
    if age <= ages.stale_after_seconds:
        return Degrade.FRESH
    if age <= ages.forget_after_seconds:
        return Degrade.LAST_GOOD
    return Degrade.OWN


def _static(signals: Sequence[Signal]) -> dict[str, str]:
    """Name the attribute that each static signal reads."""
    found = ((signal.name, _STATIC.fullmatch(signal.query)) for signal in signals)
    return {name: match[1] for name, match in found if match}


def _trust(
    age: float | None,
    ages: Ages,
    signals: Sequence[Signal],
    static: Mapping[str, str],
) -> dict[str, float]:
    if age is None:
        return {}
    span = ages.forget_after_seconds - ages.stale_after_seconds
    left = min(1.0, max(0.0, (ages.forget_after_seconds - age) / span))
    return {s.name: left for s in signals if s.name not in static}


def _readings(
    node: Node,
    asked: Mapping[str, Mapping[str, float]],
    static: Mapping[str, str],
) -> dict[str, float]:
    readings = {
        signal: by_node[node.name]
        for signal, by_node in asked.items()
        if node.name in by_node
    }
    for signal, attribute in static.items():
        value = _attribute(node, attribute)
        if signal not in readings and value is not None:
            readings[signal] = value
    return readings


def _attribute(node: Node, name: str) -> float | None:
    return node.slots if name == "slots" else node.attributes.get(name)
