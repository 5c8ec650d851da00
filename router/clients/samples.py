"""Prometheus' answers about samples as they come, for whoever draws them.

They are passed on as bytes and never parsed here: a month of a fleet is megabytes,
and the streams would stand still meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.clients.session import Service, open_session
from router.errors import PrometheusError

# Compressed, they would cost the event loop more than they save beside it.
_PLAIN = {"Accept-Encoding": "identity"}


class SamplesClient:
    """Reads under `/api/v1`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._session = open_session(service)

    def query(self, expression: str, params: Mapping[str, str]) -> bytes:
        """Evaluate at `time`, or from `start` to `end`. Raises PrometheusError."""
        path = "query" if "time" in params else "query_range"
        limit = f"{self._service.timeout_seconds:g}s"
        asked = {"query": expression, "timeout": limit, **params}
        return self._read("POST", path, data=asked)

    def label_values(
        self, label: str, series: str, since: float, until: float
    ) -> bytes:
        """List the values of a label. Raises PrometheusError."""
        asked = {"match[]": series, "start": f"{since:.3f}", "end": f"{until:.3f}"}
        return self._read("GET", f"label/{label}/values", params=asked)

    def _read(self, method: str, path: str, **asked: Any) -> bytes:
        url = f"{self._service.url}/api/v1/{path}"
        try:
            with self._session.request(
                method, url, headers=_PLAIN, allow_redirects=False, **asked
            ) as reply:
                if not reply.ok:
                    raise PrometheusError(f"{reply.status_code}: {reply.text[:300]}")
                return reply.content
        except OSError as error:  # requests' errors are of that kind
            raise PrometheusError(str(error)[:300]) from error
