"""What API keys tell Prometheus: how many there are, and whether one is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from router.access.quota import Quotas
from router.access.service import KeyService
from router.metrics.families import gauge, gauges, totals


def key_families(
    keys: KeyService, quotas: Quotas, now: float, *, exposed: bool
) -> Iterator[Metric]:
    """Count keys at a time in unix seconds. None is a label: there may be many.

    exposed: whether other machines reach the router
    """
    found = Counter((each.source.value, each.state(now)) for each in keys.ring)
    yield gauges(
        "inferops_api_keys",
        "API keys, by where they are kept and whether they work.",
        ("source", "state"),
        [
            ((source, state.value), float(count))
            for (source, state), count in found.items()
        ],
    )
    yield gauge(
        "inferops_api_keys_required",
        "1 while a request needs an API key.",
        float(keys.required),
    )
    yield gauge(
        "inferops_open_to_network",
        "1 while other machines reach the router and need no API key.",
        float(exposed and not keys.required),
    )
    yield totals(
        "inferops_limits_exceeded",
        "Requests beyond a limit of a key, a tag or everyone; in the mode shadow"
        " they were served.",
        ("of", "limit", "mode"),
        list(quotas.exceeded.items()),
    )
