"""Predicts what would happen if given alerts fired: the dry run of node health; pure.

It uses the hold store's own rules, so that the prediction matches what would follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from router.alerts.labels import Ignored, hold_for, ignored
from router.holds.effect import HoldPolicy
from router.model import Hold
from router.snapshot import NodeView

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the nodes that take new work offer.

    models: on disk on at least one of them
    """

    nodes: int
    slots: int
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class WhatIfPrediction:
    """The state that some alerts would lead to, beside the present one.

    leave:   nodes that would get no new work any more, and their holds
    derated: the share of its capacity that a node would keep
    serve:   nodes that would serve again, because panic ignores their holds
    without: alerts without consequence, and why
    """

    panic_now: bool
    panic: bool
    now: Capacity
    then: Capacity
    leave: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    serve: tuple[str, ...] = ()
    derated: Mapping[str, float] = field(default_factory=dict)
    without: Sequence[tuple[Labels, Ignored]] = ()

    @property
    def lost_models(self) -> frozenset[str]:
        return self.now.models - self.then.models


def rehearse(
    alerts: Iterable[Labels],
    nodes: Mapping[str, NodeView],
    slots: Callable[[str], int],
    preview: Callable[[Sequence[Hold]], tuple[HoldPolicy, HoldPolicy]],
    now: float,
) -> WhatIfPrediction:
    """Predict what follows if these alerts fire at `now` (unix seconds)."""
    fleet = frozenset(nodes)
    holds, without = [], []
    for labels in alerts:
        why = ignored(labels, fleet)
        if why is None:
            holds.append(hold_for(labels, labels.get("alertname", ""), now))
        else:
            without.append((labels, why))
    before, after = preview(holds)
    out = {node: held for node, held in after.kept_out.items() if node in fleet}
    return WhatIfPrediction(
        panic_now=before.panic,
        panic=after.panic,
        now=_stock(nodes, before, slots),
        then=_stock(nodes, after, slots),
        leave={node: held for node, held in out.items() if node not in before.kept_out},
        serve=tuple(n for n in nodes if n in before.kept_out and n not in out),
        derated={n: f for n, f in after.factors.items() if before.factors.get(n) != f},
        without=tuple(without),
    )


def _stock(
    nodes: Mapping[str, NodeView], effect: HoldPolicy, slots: Callable[[str], int]
) -> Capacity:
    serving = [name for name in nodes if name not in effect.kept_out]
    models = [nodes[name].present or {} for name in serving]
    return Capacity(
        nodes=len(serving),
        slots=sum(map(slots, serving)),
        models=frozenset(model for each in models for model in each),
    )
