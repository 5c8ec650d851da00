"""Whether node_exporter runs on this machine: it knows more, and never both at once.

Asks its landing page, which costs it nothing; /metrics would be a whole scrape.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from exporters.errors import BackendError
from exporters.fetch import get

DEFAULT_URL = "http://127.0.0.1:9100"
_PATIENCE_SECONDS = 0.3  # it is on this machine


class NodeExporter:
    """Asks one node_exporter, given by its base URL."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        fetch: Callable[[str, float], tuple[int, bytes]] = get,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{base_url}/"
        self._fetch = fetch
        self._clock = clock

    def answers(self, deadline: float) -> bool:
        """Say whether it does; one behind TLS or a password does as well."""
        patience = min(deadline, self._clock() + _PATIENCE_SECONDS)
        try:
            status, body = self._fetch(self._url, patience)
        except BackendError:
            return False
        if status == 200:
            return b"Node Exporter" in body
        return status == 401 or (status == 400 and b"HTTPS server" in body)
