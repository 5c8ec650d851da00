"""One question to Prometheus for all who ask at one time."""

from __future__ import annotations

import threading

import pytest

from router.alerts.firing import Firing
from router.clients.prometheus import FiringAlert
from router.errors import PrometheusError
from tests.harness.poll import until


class Counted:
    """A lock that says how many came for it."""

    def __init__(self):
        self.asked, self._count, self._lock = 0, threading.Lock(), threading.Lock()

    def __enter__(self):
        with self._count:
            self.asked += 1
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_those_who_come_while_it_is_asked_share_the_next_answer():
    """An answer that was asked for before the call may be too old for it."""
    asked: list[int] = []
    begun, go = threading.Event(), threading.Semaphore(0)

    def ask():
        asked.append(len(asked))
        begun.set()
        assert go.acquire(timeout=20)
        return [FiringAlert({"n": str(asked[-1])}, {})]

    lock, firing, answers = Counted(), Firing(ask), []
    firing._lock = lock

    def call():
        answers.append(firing()[0].labels["n"])

    first = threading.Thread(target=call)
    first.start()
    assert begun.wait(20)
    others = [threading.Thread(target=call) for _ in range(20)]
    for each in others:
        each.start()
    until(lambda: lock.asked == 21, "all wait for the first answer")
    go.release()
    until(lambda: len(asked) == 2, "the second question is asked")
    go.release()
    for each in (first, *others):
        each.join(20)
    assert (len(asked), sorted(answers)) == (2, ["0"] + ["1"] * 20)


def test_a_failure_is_told_to_all_and_asked_again():
    """A silent Prometheus is silent for that moment only."""
    answers = [PrometheusError("no answer"), [FiringAlert({}, {})]]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    firing = Firing(ask)
    with pytest.raises(PrometheusError):
        firing()
    assert len(firing()) == 1
