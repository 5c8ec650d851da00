"""From an alert's labels to its consequence: the labels are the whole mapping; pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from router.model import Clear, Hold, HoldKind, factor_of

__all__ = ["ACTIONS", "Ignored", "clear_of", "fingerprint", "hold_for", "matches"]

Labels = Mapping[str, str]

# What a rule's label `action` may say.
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
    """Say why an alert has no consequence; None when it has."""
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
    """Make the hold of a firing alert with an action; its labels are its identity."""
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
    """Read the label `clear`; what is unknown is left to a person."""
    try:
        return Clear(labels.get("clear", Clear.AUTO))
    except ValueError:
        return Clear.MANUAL


def matches(notified: Labels, level: Labels) -> bool:
    """Say whether a notification's labels name the alert of `ALERTS`' labels.

    A notification carries Prometheus' external labels too; one that lacks a
    label of the level's is of another alert, or forged.
    """
    return level.items() <= notified.items() and {"alertname", "node"} <= level.keys()


def fingerprint(labels: Labels) -> str:
    """Hash labels as Prometheus and Alertmanager do (FNV-1a, 64 bits)."""
    digest = 14695981039346656037
    for name in sorted(labels):
        for byte in name.encode() + b"\xff" + labels[name].encode() + b"\xff":
            digest = ((digest ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"
