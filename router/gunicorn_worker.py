"""gunicorn's gevent worker, with a list of its connections.

At the end gunicorn kills what still waits for a next request, and each such idle
client is sent a 500 that nobody asked for. Here they are told goodbye instead.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from gunicorn.workers.ggevent import GeventWorker


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The one worker; see the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: set[Any] = set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        self._clients.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self._clients.discard(client)

    def hang_up(self) -> None:
        """End the reading of every connection: those that are idle close by it."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
