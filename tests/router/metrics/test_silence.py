"""The requests of which nothing came yet, from a real ledger's leases."""

from __future__ import annotations

from router.capacity.ledger import Ledger
from router.metrics.fleet import silent_families
from router.model import Node, Outcome


def rows(ledger: Ledger, now: float) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in silent_families(ledger.leases("n"), now)
    }


def test_silent_requests_and_the_age_of_the_oldest() -> None:
    """By node, model and kind; one that got its first line is not silent."""
    now = [100.0]
    ledger = Ledger(9, lambda: now[0])
    ledger.configure([Node("n", "http://n:1", slots=9)])
    first = ledger.take("n", "m:latest")
    first.streams = True
    now[0] = 110.0
    ledger.take("n", "m:latest").streams = True
    ledger.take("n", "m:latest")
    decoding = ledger.take("n", "m:latest")
    decoding.streams, decoding.decoding_since = True, 111.0
    stream, whole = ("n", "m:latest", "stream"), ("n", "m:latest", "whole")
    assert rows(ledger, 130.0) == {
        "inferops_silent_requests": {stream: 2, whole: 1},
        "inferops_silent_oldest_seconds": {stream: 30.0, whole: 20.0},
    }
    first.done(Outcome.CLIENT_GONE)
    assert rows(ledger, 130.0)["inferops_silent_oldest_seconds"][stream] == 20.0


def test_nobody_silent_is_no_series() -> None:
    """An age of nothing is not 0."""
    assert rows(Ledger(1, lambda: 0.0), 1.0) == {
        "inferops_silent_requests": {},
        "inferops_silent_oldest_seconds": {},
    }
