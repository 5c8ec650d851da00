"""Totals for a limited number of principals, so that metrics stay bounded; pure.

The largest principals have a series of their own, all others share `other`. A principal
that reaches twice the smallest of them takes its place. No counter ever falls: what a
principal used before stays in `other`, and a series that returns continues.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

OTHER = "other"
_MOST_KNOWN = 4096


@dataclass(slots=True)
class UsageTotals:
    """What a principal has used."""

    requests: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    joules: float = 0.0
    node_seconds: float = 0.0

    def add(self, more: UsageTotals) -> None:
        self.requests += more.requests
        self.tokens_in += more.tokens_in
        self.tokens_out += more.tokens_out
        self.joules += more.joules
        self.node_seconds += more.node_seconds

    @property
    def weight(self) -> float:
        """Return the figure that ranks principals: node time, then requests."""
        return self.node_seconds + 0.001 * self.requests


class TopPrincipals:
    """At most `most` series, and `other`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: OrderedDict[str, float] = OrderedDict()  # weights
        self._shown: dict[str, UsageTotals] = {}  # with a series of their own
        self._left: OrderedDict[str, UsageTotals] = OrderedDict()  # had one before
        self._other = UsageTotals()

    def add(self, principal: str, used: UsageTotals) -> None:
        weight = self._known.pop(principal, 0.0) + used.weight
        self._known[principal] = weight
        if len(self._known) > _MOST_KNOWN:
            self._forget()
        if principal not in self._shown:
            self._offer(principal, weight)
        self._shown.get(principal, self._other).add(used)

    def _offer(self, principal: str, weight: float) -> None:
        """Give a principal a series if it is large enough."""
        if len(self._shown) >= self.most:
            if not self._shown:
                return
            least = min(self._shown, key=lambda each: self._known.get(each, 0.0))
            if weight <= 2 * self._known.get(least, 0.0):
                return
            self._left[least] = self._shown.pop(least)
            if len(self._left) > _MOST_KNOWN:
                self._left.popitem(last=False)
        self._shown[principal] = self._left.pop(principal, UsageTotals())

    def _forget(self) -> None:
        """Forget the principal without a series that was idle for longest."""
        for principal in self._known:
            if principal not in self._shown:
                del self._known[principal]
                return

    def __iter__(self) -> Iterator[tuple[str, UsageTotals]]:
        yield from self._shown.items()
        yield OTHER, self._other
