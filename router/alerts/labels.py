"""Derives the consequence of an alert from its labels, and from nothing else; pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from router.model import Clear, Hold, HoldKind, factor_of

Labels = Mapping[str, str]

# Values of a rule's label `action`.
ACTIONS: Mapping[str, HoldKind] = {
    "drain": HoldKind.DRAIN,
    "evict": HoldKind.EVICT,
    "derate": HoldKind.DERATE,
}


class Ignored(StrEnum):
    """Why an alert with an action has no consequence."""

    UNKNOWN_NODE = "unknown_node"
    UNKNOWN_ACTION = "unknown_action"
    BAD_FACTOR = "bad_factor"


def ignored(labels: Labels, fleet: frozenset[str]) -> Ignored | None:
    """Return why an alert has no consequence; None where it has one."""
    if labels.get("action") not in ACTIONS:
        return Ignored.UNKNOWN_ACTION
    if labels.get("node") not in fleet:
        return Ignored.UNKNOWN_NODE
    if ACTIONS[labels["action"]] is HoldKind.DERATE:
        try:
            factor_of(labels)
        except ValueError:
            return Ignored.BAD_FACTOR
    return None


def hold_for(labels: Labels, reason: str, now: float) -> Hold:
    """Make the hold of a firing alert with an action; its labels identify it."""
    return Hold(
        node=labels["node"],
        kind=ACTIONS[labels["action"]],
        source=f"alert:{labels.get('alertname', '')}:{fingerprint(labels)}",
        reason=reason,
        since=now,
        clear=clear_of(labels),
        labels=dict(labels),
    )


def clear_of(labels: Labels) -> Clear:
    """Read the label `clear`; with an unknown value a person must lift the hold."""
    try:
        return Clear(labels.get("clear", Clear.AUTO))
    except ValueError:
        return Clear.MANUAL


def matches(notified: Labels, level: Labels) -> bool:
    """Say whether a notification is about the alert with these labels in `ALERTS`.

    A notification has Prometheus' external labels as well. One that lacks a label is
    about another alert, or forged.
    """
    return level.items() <= notified.items() and {"alertname", "node"} <= level.keys()


def fingerprint(labels: Labels) -> str:
    """Hash labels as Prometheus and Alertmanager do (FNV-1a, 64 bits)."""
    digest = 14695981039346656037
    for name in sorted(labels):
        for byte in name.encode() + b"\xff" + labels[name].encode() + b"\xff":
            digest = ((digest ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"
