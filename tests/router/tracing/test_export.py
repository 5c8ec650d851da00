"""How spans leave: a bounded queue, and nobody waits for it."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from router.errors import BusyError
from router.tracing.export import SpanQueue, Tracing
from router.tracing.spans import RequestSpans
from tests.harness.poll import until
from tests.router.failover.stage import Fleet

MOST = 4096


class Sent:
    """Takes what comes, or says why not."""

    def __init__(self):
        self.fault = ""
        self.batches = []

    def export(self, requests):
        if isinstance(self.fault, Exception):
            raise self.fault
        self.batches.append(len(requests))
        return self.fault


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def queue(sent):
    return SpanQueue(sent, lambda call: call())


def fill(queue, count):
    for _ in range(count):
        queue.add(RequestSpans("/", 0.0, 0.0, trace_id="1" * 32))


def test_what_has_no_room_is_dropped_and_counted(queue, sent):
    """A collector that takes nothing for long costs a bounded memory."""
    fill(queue, MOST + 10)
    assert (MOST, 10) == (len(queue), queue.dropped)
    queue.flush()
    assert (0, MOST, MOST) == (len(queue), queue.exported, sum(sent.batches))
    assert max(sent.batches) == 256


@pytest.mark.parametrize(
    "fault", ["400", BusyError("late", retry_after_seconds=1), ValueError("odd")]
)
def test_a_fault_is_counted_and_over_once_it_is_well(queue, sent, fault):
    """What was not taken is not sent again: the next may be."""
    sent.fault = fault
    fill(queue, 3)
    queue.flush()
    assert (3, 0) == (queue.failed, queue.exported)
    assert queue.fault
    sent.fault = ""
    fill(queue, 2)
    queue.flush()
    assert (3, 2, "") == (queue.failed, queue.exported, queue.fault)


def test_many_wake_it_at_once(queue):
    """A batch that is full does not wait for its second."""
    fill(queue, 255)
    assert not queue.wake.is_set()
    fill(queue, 1)
    assert queue.wake.is_set()


@pytest.mark.parametrize(
    ("header", "ratio", "recorded"),
    [
        ("00-" + "1" * 32 + "-" + "2" * 16 + "-01", 0.0, True),
        ("00-" + "1" * 32 + "-" + "2" * 16 + "-00", 1.0, False),
        ("", 1.0, True),
        ("", 0.0, False),
        ("nonsense", 1.0, True),
    ],
    ids=["caller_records", "caller_does_not", "all", "none", "no_trace"],
)
def test_who_decides(queue, header, ratio, recorded):
    """A caller's decision is kept; without one it is the share's."""
    found = Tracing(queue, lambda: ratio).begin("/", 0.0, header, "a=1")
    assert recorded == (found is not None)


def test_off_costs_no_call():
    """Without spans an attempt calls nothing of tracing, and as much as ever."""
    calls: Counter[str] = Counter()

    def note(frame, event, _):
        if event == "call":
            calls[frame.f_globals.get("__name__", "")] += 1

    fleet = Fleet()
    sys.setprofile(note)
    try:
        fleet.ask()
    finally:
        sys.setprofile(None)
    assert calls["router.failover.attempts"] > 0
    assert not [name for name in calls if "tracing" in name]


def test_the_last_are_sent_at_the_end(queue, sent):
    """A router that ends sends what it has."""
    tracing = Tracing(queue, lambda: 1.0)
    tracing.start()
    fill(queue, 5)
    tracing.close()
    until(lambda: sent.batches == [5], "they are sent")
