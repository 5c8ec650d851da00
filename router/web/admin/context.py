"""What the admin routes look at and act on, and what several of them do with it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Response, jsonify

from router.access.service import KeyService
from router.audit.trail import AuditTrail
from router.capacity.learned import MOST_SHOWN
from router.capacity.ledger import Ledger
from router.clients.alertmanager import Silences
from router.errors import NotFoundError
from router.health.circuits import Circuits
from router.holds.history import AuditQuery
from router.holds.record import AuditEvent, Key
from router.holds.store import HoldStore
from router.runtime.turns import in_turns
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTraces
from router.snapshot import NodeView, Published
from router.usage.report import Report
from router.web.admin.views import (
    show_circuit,
    show_hold,
    show_node,
    show_override,
)
from router.web.caller import local

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AdminContext:
    """What the admin routes look at and act on.

    token:   gives the bearer token for changes; None where none is configured
    keys:    API keys
    reload:  reads the configuration files again; takes `confirmed`
    add_entry: writes an entry into the inventory; whether it was not there
    trusts:  whether a request can only come from this machine; asked where there is
             no token
    find:    looks into the history of holds
    clock:   the holds' own, in unix seconds
    waits:   what a hold waits for beside its alert's end, by hold
    circuits: what traffic has learned; None where that is not kept
    usage:   sums up the usage ledger
    audit:   what changes are noted in
    """

    published: Published
    holds: HoldStore
    ledger: Ledger
    dispatcher: Scheduler
    traces: DecisionTraces
    token: Callable[[], str | None]
    reload: Callable[[bool], list[dict[str, Any]]]
    keys: KeyService
    add_entry: Callable[[Mapping[str, Any]], bool]
    find: Callable[[AuditQuery], Sequence[AuditEvent]]
    usage: Report
    audit: AuditTrail
    trusts: Callable[[Mapping[str, Any]], bool] = local
    silences: Silences | None = None
    waits: Callable[[], Mapping[Key, str]] = dict
    clock: Callable[[], float] = time.time
    circuits: Circuits | None = None

    def view(self, name: str) -> NodeView:
        """Give a node of the inventory; raises NotFoundError."""
        view = self.published.current.nodes.get(name)
        if view is None:
            raise NotFoundError(f"no node {name!r} in the inventory")
        return view

    def shown(self, views: Iterable[NodeView]) -> Iterator[dict[str, Any]]:
        """Show nodes with everything that holds them, and what overrules that."""
        views = tuple(views)
        names = {view.node.name for view in views}
        newest = self.ledger.learned.newest(MOST_SHOWN, names)
        curves = _by_node((n, (m, c)) for (n, m), c in newest)
        overrides = _by_node((o.node, o) for o in self.holds.overrides.list())
        circuits = _by_node(
            (c.node, c) for c in (self.circuits.shown() if self.circuits else ())
        )
        waits = self.waits()
        for view in in_turns(views):
            name = view.node.name
            holds = self.holds.of(name)
            free = not self.holds.blocking(name)
            yield {
                **show_node(view, holds, self.ledger, curves[name], schedulable=free),
                "holds": [show_hold(h, waits.get(h.key)) for h in holds],
                "overrides": [show_override(each) for each in overrides[name]],
                "circuits": [
                    show_circuit(each, time.monotonic(), self.clock())
                    for each in circuits[name]
                ],
            }

    def answer(self, name: str, **more: Any) -> Response:
        return jsonify({**next(self.shown([self.view(name)])), **more})


def _by_node(items: Iterable[tuple[str, T]]) -> defaultdict[str, list[T]]:
    found = defaultdict[str, list[T]](list)
    for node, item in in_turns(items):
        found[node].append(item)
    return found
