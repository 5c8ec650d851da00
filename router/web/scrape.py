"""`/metrics`: gathered in turns with everything else, written in a native thread.

The text of a fleet of thousands takes a second to write and to compress.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from router.errors import BusyError
from router.runtime.threads import Pool
from router.runtime.turns import in_turns

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Gathered(Collector):
    """Metrics as they were; nothing changes them while they are written."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

    def restricted_registry(self, _names: Iterable[str]) -> _Gathered:
        return self  # no others were gathered


def metrics_app(registry: CollectorRegistry) -> WSGIApplication:
    """Serve the metrics of a registry, as `prometheus_client` does."""
    pool = Pool("metrics", 1, waiting=16, seconds=60)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        source = registry.restricted_registry(names) if names else registry
        write = make_wsgi_app(_Gathered(list(in_turns(source.collect()))))
        heads: list[Any] = []
        try:
            body = pool(lambda: list(write(environ, lambda *head: heads.append(head))))
        except BusyError as error:
            heads = [("503 Service Unavailable", [("Content-Type", "text/plain")])]
            body = [f"{error}\n".encode()]
        start_response(*heads[0])
        return body

    return app
