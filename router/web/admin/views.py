"""The JSON that `/admin/` answers with; times in ISO 8601, UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from router.capacity.ledger import Ledger
from router.capacity.throughput import ThroughputCurve
from router.health.circuits import CircuitView
from router.holds.record import AuditEvent, Change
from router.model import Hold, HoldKind, Override
from router.snapshot import NodeView

_LAST_MOMENT = "9999-12-31T23:59:59.999+00:00"


def show_node(
    view: NodeView,
    holds: tuple[Hold, ...],
    ledger: Ledger,
    curves: Sequence[tuple[str, ThroughputCurve]],
    *,
    schedulable: bool,
) -> dict[str, Any]:
    """Show a node; `curves` are those of its models, by name."""
    name = view.node.name
    return {
        "name": name,
        "url": view.node.url,
        "schedulable": schedulable,
        "state": _state(holds, ledger.in_flight(name)),
        "score": round(view.score.value, 4),
        "parts": view.score.parts,
        "in_flight": ledger.in_flight(name),
        "slots": ledger.usable(name),
        "ceiling": ledger.slots(name),
        "factor": ledger.slow_start.factor(name),
        "slow_start": round(ledger.ramp(name), 3),
        **_others(ledger, name),
        "version": view.version,
        "models": sorted(view.present or ()),
        "resident": sorted(view.resident or ()),
        "tokens_per_second": {
            model: round(speed, 2)
            for model, curve in curves
            if (speed := curve.speed(1))
        },
        "total_tokens_per_second": {
            model: {str(k): total for k, total in totals.items()}
            for model, curve in curves
            if (totals := curve.totals())
        },
    }


def _others(ledger: Ledger, node: str) -> dict[str, Any]:
    """Show the streams that are not of this router; twice, as before 0.2 as well."""
    recovered, found = ledger.recovered(node), ledger.external(node)
    external = {"streams": found.streams, "sign": found.sign} if found else None
    return {
        "recovered": recovered,
        "external": external,
        "leftover": recovered,
        "foreign": external,
    }


def show_slots(ledger: Ledger, node: str, model: str) -> dict[str, Any]:
    """Say why a node that would do has no slot free for the model."""
    curve = ledger.curves.get((node, model))
    return {
        "in_flight": ledger.in_flight(node),
        "limit": ledger.limit(node, model),
        "ceiling": ledger.slots(node),
        **_others(ledger, node),
        "total_tokens_per_second": curve.totals() if curve else {},
    }


def _state(holds: tuple[Hold, ...], in_flight: int) -> str:
    """Compute the word for people; nothing decides by it."""
    kinds = {hold.kind for hold in holds if hold.kind is not HoldKind.DERATE}
    if HoldKind.DOWN in kinds:
        return "down"
    if kinds:
        return "draining" if in_flight else "drained"
    return "schedulable"


def show_hold(hold: Hold, waits_for: str | None = None) -> dict[str, Any]:
    """Show a hold; `waits_for` is what it needs beside its alert's end."""
    return {
        "node": hold.node,
        "kind": hold.kind,
        "source": hold.source,
        "reason": hold.reason,
        "state": hold.state,
        "clear": hold.clear,
        "since": iso(hold.since),
        "until": None if hold.until is None else iso(hold.until),
        "waits_for": waits_for,
        "labels": dict(hold.labels),
    }


def show_circuit(shown: CircuitView, now: float, wall: float) -> dict[str, Any]:
    """Show a circuit; `now` is the circuits' monotonic time, `wall` unix seconds."""
    circuit, last = shown.circuit, shown.circuit.last

    def at(seconds: float) -> str:
        return iso(wall + seconds - now)

    return {
        "model": shown.model or None,
        "state": circuit.state,
        "failures_in_a_row": circuit.in_a_row,
        "last_failure": last
        and {"at": at(last.at), "cause": last.cause, "text": last.text},
        "opened": at(circuit.opened_at) if circuit.is_open else None,
        "next_trial": at(max(now, circuit.try_at)) if circuit.is_open else None,
        "trials_failed": max(0, circuit.strikes - circuit.openings),
    }


def show_override(override: Override) -> dict[str, Any]:
    return {
        "node": override.node,
        "alert": override.alert,
        "by": override.by,
        "reason": override.reason,
        "since": iso(override.since),
        "until": iso(override.until),
    }


def show_event(event: AuditEvent) -> dict[str, Any]:
    """Show a line of history; `until` of a lifted hold is when it was."""
    hold = show_hold(event.hold)
    del hold["waits_for"]
    if event.change is Change.LIFTED:
        hold["until"] = iso(event.at)
    return {
        "at": iso(event.at),
        "change": event.change,
        "by": event.by,
        "why": event.why,
        "principal": event.actor.principal,
        "client": event.actor.client,
        **hold,
    }


def iso(at: float) -> str:
    """Write unix seconds in ISO 8601, the last moment for what no calendar has."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return _LAST_MOMENT
