"""The connection below SQLAlchemy's: when it was last heard of, and cutting it.

psycopg waits in C for an answer, for as long as it takes. Cutting the socket from the
event loop's thread is what ends such a wait.
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
        """Note that something was answered, or is only asked for now."""
        self._heard = time.monotonic()
        self.was_cut = False

    def silent_for(self, seconds: float) -> bool:
        return time.monotonic() - self._heard > seconds

    def cut(self) -> None:
        """End what waits for an answer; it raises as where a server goes away."""
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
