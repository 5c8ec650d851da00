"""Requests in flight of which nothing has come yet: how many, and for how long.

Beside `inferops_silent_longest_seconds` (router.metrics.replies) they show a node
that accepts work and is stuck, without a probe that would load a model there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from router.capacity.ledger import Lease
from router.metrics.families import gauges
from router.metrics.replies import ReplyKind

_LABELS = ("node", "model", "reply")


def silent_families(leases: Iterable[Lease], now: float) -> Iterator[Metric]:
    """Yield the families; `now` is on the clock of the leases."""
    count: Counter[tuple[str, str, str]] = Counter()
    oldest: dict[tuple[str, str, str], float] = {}
    for lease in leases:
        if lease.decoding_since is not None:
            continue
        kind = ReplyKind.STREAM if lease.streams else ReplyKind.WHOLE
        key = (lease.node, lease.model, kind.value)
        count[key] += 1
        oldest[key] = max(oldest.get(key, 0.0), now - lease.taken_at)
    yield gauges(
        "inferops_silent_requests",
        "Requests that hold a slot and had no line of their stream, or no whole"
        " reply, yet.",
        _LABELS,
        list(count.items()),
    )
    yield gauges(
        "inferops_silent_oldest_seconds",
        "How long the oldest of the silent requests has held its slot.",
        _LABELS,
        list(oldest.items()),
    )
