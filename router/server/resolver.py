"""Looks names up in threads of their own, with a deadline, and remembers answers.

A name server that does not answer holds a thread for up to half a minute. So each name
is looked up once at a time, however many ask; who asked goes on after two seconds, or
soon and with the last answer where there is one; and an address is not looked up.
"""

from __future__ import annotations

import _socket
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.resolver.thread import Resolver as ThreadResolver
from gevent.threadpool import ThreadPool

from router.runtime.recent import Recent

Answer = list[tuple[Any, ...]]
Key = tuple[Any, ...]

_THREADS = 32
_SECONDS = 2.0
_SOON_SECONDS = 0.1
_FRESH_SECONDS = 2.0  # a name that has moved is found again after so long
_MOST_REMEMBERED = 4096


class Resolver(ThreadResolver):
    """gevent's resolver by threads, bounded; one for the event loop."""

    def __init__(
        self,
        hub: Any = None,
        look_up: Callable[..., Answer] = _socket.getaddrinfo,
        seconds: float = _SECONDS,
        threads: int = _THREADS,
    ) -> None:
        super().__init__(hub)
        self.pool = ThreadPool(threads, hub=hub)
        self._look_up = look_up
        self._seconds = seconds
        self._threads = threads
        self._under_way: dict[Key, gevent.Greenlet[..., Any]] = {}
        self._known: Recent[Key, tuple[float, Answer]] = Recent(_MOST_REMEMBERED)

    def getaddrinfo(  # noqa: PLR0917 - as socket's
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as socket's
        proto: int = 0,
        flags: int = 0,
    ) -> Answer:
        """Look a name up, as `socket.getaddrinfo` does. Raises gaierror."""
        key = (host, port, family, type, proto, flags)
        if _is_address(host):
            return _socket.getaddrinfo(*key[:5], flags | _socket.AI_NUMERICHOST)
        known = self._known.get(key)
        if known and time.monotonic() - known[0] < _FRESH_SECONDS:
            return known[1]
        try:
            return self._asked(key, _SOON_SECONDS if known else self._seconds)
        except _socket.gaierror as error:
            if known and error.errno == _socket.EAI_AGAIN:
                return known[1]
            raise

    def _asked(self, key: Key, seconds: float) -> Answer:
        looking = self._under_way.get(key)
        if looking is None:
            if len(self._under_way) >= self._threads:
                raise _again(f"{self._threads} names are being looked up")
            looking = self._under_way[key] = gevent.spawn(self._look, key)
        looking.join(seconds)
        found: Answer | OSError | None = looking.value
        if found is None:
            raise _again(f"no answer within {seconds:g} s")
        if isinstance(found, OSError):
            raise found
        return found

    def _look(self, key: Key) -> Answer | OSError:
        try:
            answer = self.pool.apply(self._caught, (key,))
            if not isinstance(answer, OSError):
                self._known[key] = (time.monotonic(), answer)
            return answer
        finally:
            del self._under_way[key]

    def _caught(self, key: Key) -> Answer | OSError:
        try:
            return self._look_up(*key)
        except OSError as error:
            return error
        except (UnicodeError, ValueError) as error:  # a label over 63 characters
            return _socket.gaierror(_socket.EAI_NONAME, str(error))


def _again(why: str) -> _socket.gaierror:
    return _socket.gaierror(_socket.EAI_AGAIN, f"the name look-up: {why}")


def _is_address(host: Any) -> bool:
    if host is None or host == "":
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
