"""What API keys tell Prometheus: how many there are, and whether one is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from router.access.quota import Quotas
from router.access.service import KeyService
from router.metrics.families import gauge, gauges, totals


class KeyCollector(Collector):
    """Counts at the scrape. No key is a label: there may be many.

    exposed: whether other machines reach the router
    """

    def __init__(
        self,
        keys: KeyService,
        quotas: Quotas,
        clock: Callable[[], float],
        *,
        exposed: bool,
    ) -> None:
        self._keys = keys
        self._quotas = quotas
        self._clock = clock
        self._exposed = exposed

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        found = Counter(
            (each.source.value, each.state(now)) for each in self._keys.ring
        )
        yield gauges(
            "inferops_api_keys",
            "API keys, by where they are kept and whether they work.",
            ("source", "state"),
            [
                ((source, state.value), float(count))
                for (source, state), count in found.items()
            ],
        )
        required = self._keys.required
        yield gauge(
            "inferops_api_keys_required",
            "1 while a request needs an API key.",
            float(required),
        )
        yield gauge(
            "inferops_open_to_network",
            "1 while other machines reach the router and need no API key.",
            float(self._exposed and not required),
        )
        yield totals(
            "inferops_limits_exceeded",
            "Requests beyond a limit of a key, a tag or everyone; in the mode shadow"
            " they were served.",
            ("of", "limit", "mode"),
            list(self._quotas.exceeded.items()),
        )
