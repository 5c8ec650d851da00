"""Watches the driver's connection below SQLAlchemy, and can cut it.

psycopg waits in C for an answer without a time limit. Shutting the socket down from the
event loop's thread ends such a wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from gevent import monkey
from sqlalchemy import Engine, event

# gevent's own would set the socket to wait for its event loop.
_socket: Any = monkey.get_original("socket", "socket")


class Link:
    """Listens to an engine that has one connection at a time."""

    def __init__(self, engine: Engine) -> None:
        self._driver: Any = None
        self._heard = time.monotonic()
        self.was_cut = False
        if engine.dialect.name == "postgresql":
            event.listen(engine, "do_connect", self._connect)
            event.listen(engine, "after_cursor_execute", lambda *_: self.heard())

    def heard(self) -> None:
        """Note that an answer came, or that a query begins."""
        self._heard = time.monotonic()
        self.was_cut = False

    def silent_for(self, seconds: float) -> bool:
        return time.monotonic() - self._heard > seconds

    def cut(self) -> None:
        """Shut the socket down: the waiting call fails as if the server had gone."""
        driver = self._driver
        if driver is None or driver.closed:
            return
        self.was_cut = True
        with contextlib.suppress(Exception):  # it is being closed by its own thread
            copy = os.dup(driver.pgconn.socket)
            with contextlib.closing(_socket(fileno=copy)) as made:
                made.shutdown(socket.SHUT_RDWR)

    def _connect(self, dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        self._driver = dialect.connect(*arguments, **named)
        self.heard()
        return self._driver
