"""Computes what a set of holds means: which nodes get no work or less, and panic; pure.

The hold store asks for the holds in force, the dry run for those that would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from router.model import Hold, HoldKind

_OF_ALERTS = frozenset({HoldKind.DRAIN, HoldKind.EVICT, HoldKind.DERATE})


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """The combined effect of all holds.

    panic:    alerts hold too many nodes at once, so their holds are ignored
    kept_out: the holds that keep new work away, by node
    factors:  the share of its capacity that a derated node keeps, by node
    """

    panic: bool = False
    kept_out: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)


def by_alert(hold: Hold) -> bool:
    """Say whether an alert placed this hold: panic ignores those, and only those."""
    return hold.kind in _OF_ALERTS and hold.source.startswith("alert:")


def blocks(hold: Hold) -> bool:
    """Say whether a hold of this kind keeps new work away at all."""
    return hold.kind is not HoldKind.DERATE


def policy_of(
    holds: Iterable[Hold],
    fleet: frozenset[str],
    panic_ratio: float,
    overridden: Callable[[Hold], bool],
) -> HoldPolicy:
    """Combine the holds in force; those that are `overridden` have no effect."""
    standing = [hold for hold in holds if not overridden(hold)]
    drained = {hold.node for hold in standing if by_alert(hold) and blocks(hold)}
    panic = len(drained & fleet) > panic_ratio * len(fleet)
    kept_out: dict[str, list[Hold]] = {}
    factors: dict[str, float] = {}
    for hold in standing:
        if not blocks(hold):
            factors[hold.node] = min(hold.factor, factors.get(hold.node, 1.0))
        elif not (panic and by_alert(hold)):
            kept_out.setdefault(hold.node, []).append(hold)
    return HoldPolicy(
        panic, {node: tuple(found) for node, found in kept_out.items()}, factors
    )
