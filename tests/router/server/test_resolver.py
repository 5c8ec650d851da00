"""Names: looked up once at a time, with a deadline, and the last answer kept."""

from __future__ import annotations

import _socket
import socket
import time

import gevent
import pytest
from gevent.monkey import get_original

from router.server.resolver import Resolver

Lock = get_original("threading", "Lock")
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 80))]


class Names:
    """A name server: answers, fails, or hangs until it is released."""

    def __init__(self):
        self.asked = []
        self.fails = None
        self.hanging = Lock()

    def __call__(self, host, *_):
        self.asked.append(host)
        with self.hanging:
            if self.fails:
                raise self.fails
            return ANSWER


@pytest.fixture
def names():
    names = Names()
    yield names
    if names.hanging.locked():
        names.hanging.release()


@pytest.fixture
def resolver(names):
    return Resolver(gevent.get_hub(), names, seconds=20, threads=4)


def stale(resolver):
    """Let what is known be older than a fresh answer."""
    for key, (at, answer) in tuple(resolver._known.items()):
        resolver._known[key] = (at - 60, answer)


@pytest.mark.parametrize("host", ["192.0.2.7", "::1", "fe80::1%lo", b"127.0.0.1", None])
def test_an_address_is_not_looked_up(resolver, names, host):
    """It takes no thread, whatever names do."""
    names.hanging.acquire()
    assert resolver.getaddrinfo(host, 80, 0, socket.SOCK_STREAM)
    assert names.asked == []


def test_a_name_is_asked_for_once_by_all_who_come(resolver, names):
    """A hundred polls of a name are one look-up, and its answer is used for a while."""
    names.hanging.acquire()
    callers = [gevent.spawn(resolver.getaddrinfo, "gpu.lan", 80) for _ in range(100)]
    gevent.sleep(0)
    names.hanging.release()
    assert [each.get(timeout=20) for each in callers] == [ANSWER] * 100
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER
    assert names.asked == ["gpu.lan"]


def test_a_name_server_that_hangs(resolver, names):
    """Who asks goes on after the deadline; other names still have their threads."""
    names.hanging.acquire()
    resolver._seconds = 0.1
    for _ in range(3):
        with pytest.raises(socket.gaierror, match=r"no answer within 0\.1 s") as told:
            resolver.getaddrinfo("gone.lan", 80)
    assert told.value.errno == _socket.EAI_AGAIN
    assert names.asked == ["gone.lan"]


def test_no_more_names_at_once_than_threads(resolver, names):
    """One more is refused instead of waiting behind all."""
    names.hanging.acquire()
    callers = [gevent.spawn(resolver.getaddrinfo, f"n{n}.lan", 80) for n in range(4)]
    gevent.sleep(0)
    with pytest.raises(socket.gaierror, match="4 names are being looked up"):
        resolver.getaddrinfo("n5.lan", 80)
    names.hanging.release()
    gevent.joinall(callers, timeout=20)


@pytest.mark.parametrize("how", ["hangs", "says later"])
def test_the_last_answer_outlives_the_name_server(resolver, names, how):
    """A node that is named stays reachable while names are not."""
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER
    stale(resolver)
    if how == "hangs":
        resolver._seconds = 0.1
        names.hanging.acquire()
    else:
        names.fails = socket.gaierror(_socket.EAI_AGAIN, "try again")
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER
    assert len(names.asked) == 2


def test_a_name_that_is_gone_is_gone(resolver, names):
    """What the name server denies is not answered from memory."""
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER
    stale(resolver)
    names.fails = socket.gaierror(_socket.EAI_NONAME, "unknown")
    with pytest.raises(socket.gaierror, match="unknown"):
        resolver.getaddrinfo("gpu.lan", 80)


def test_a_name_that_is_none():
    """What cannot be asked for is no name."""
    with pytest.raises(socket.gaierror):
        Resolver(gevent.get_hub()).getaddrinfo("x" * 300 + ".lan", 80)


def test_who_knows_an_address_does_not_wait_long(resolver, names):
    """A node that is known is asked soon, whatever its name server does."""
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER
    stale(resolver)
    names.hanging.acquire()
    began = time.monotonic()
    assert resolver.getaddrinfo("gpu.lan", 80) == ANSWER  # the fixture's wait is 20 s
    assert time.monotonic() - began < 10
