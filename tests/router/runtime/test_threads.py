"""Pools of native threads: apart, bounded, and nobody waits without end."""

from __future__ import annotations

import threading

import gevent
import pytest
from gevent.monkey import get_original

from router.errors import BusyError
from router.runtime.threads import Pool

Lock = get_original("threading", "Lock")


@pytest.fixture
def held():
    """A native lock that holds a thread until the test ends."""
    lock = Lock()
    lock.acquire()
    yield lock
    if lock.locked():
        lock.release()


def wait_for(lock):
    with lock:
        return "done"


def test_result_and_error_come_back():
    """As if it were called in place."""
    pool = Pool("x", 1, waiting=1, seconds=20)
    assert pool(lambda: 5) == 5
    with pytest.raises(KeyError):
        pool(lambda: dict[str, int]()["x"])


def test_it_runs_in_another_thread():
    """The event loop goes on meanwhile."""
    pool = Pool("x", 1, waiting=1, seconds=20)
    assert pool(threading.get_ident) != threading.get_ident()


def test_a_call_that_is_late(held):
    """Who asked goes on; the thread is busy until it ends, and serves again then."""
    pool = Pool("looks into files", 1, waiting=4, seconds=0.05)
    with pytest.raises(BusyError, match=r"looks into files: not done within 0\.05 s"):
        pool(lambda: wait_for(held))
    with pytest.raises(BusyError):
        pool(lambda: 5)
    held.release()
    patient = Pool("x", 1, waiting=4, seconds=20)
    assert patient(lambda: 5) == 5


def test_what_has_no_room_is_refused_at_once(held):
    """One in its thread and two that wait; the fourth hears so."""
    pool = Pool("x", 1, waiting=2, seconds=20)
    callers = [gevent.spawn(pool, lambda: wait_for(held)) for _ in range(3)]
    gevent.sleep(0)
    with pytest.raises(BusyError, match="3 of them are under way") as told:
        pool(lambda: 5)
    assert (told.value.status, told.value.retry_after_seconds) == (503, 5.0)
    held.release()
    assert [each.get(timeout=20) for each in callers] == ["done"] * 3
    assert pool(lambda: 5) == 5


def test_one_pool_does_not_hold_up_another(held):
    """Ten slow readers leave control, the disk and names alone."""
    slow = Pool("files", 2, waiting=16, seconds=20)
    callers = [gevent.spawn(slow, lambda: wait_for(held)) for _ in range(10)]
    gevent.sleep(0)
    assert Pool("control", 1, waiting=0, seconds=20)(lambda: 5) == 5
    assert gevent.get_hub().threadpool.apply(lambda: 6) == 6
    held.release()
    gevent.joinall(callers, timeout=20)


def test_from_a_native_thread_it_runs_in_place():
    """There is no event loop there to wait in."""
    pool = Pool("x", 1, waiting=1, seconds=20)
    pool(lambda: None)
    other = gevent.get_hub().threadpool.apply(
        lambda: (threading.get_ident(), pool(threading.get_ident))
    )
    assert other[0] == other[1]
