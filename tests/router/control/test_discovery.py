"""Nodes are asked for a model that none is known to have, but not too often."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from router.control.decide import PolledModels
from router.control.discovery import Discovery
from router.model import Node, Score
from router.snapshot import NodeView, PresentModel, Published, Snapshot


class Polls:
    """Nodes that have what is in `has`; a look waits for `gate`, if there is one."""

    def __init__(self):
        self.has = {"a": ["old:latest"], "b": []}
        self.looks = 0
        self.gate = None
        self._seen = {}

    def look_for_models(self):
        self.looks += 1
        if self.gate:
            self.gate.wait()
        for node, models in self.has.items():
            present = {m: PresentModel(m, "d", 1) for m in models}
            self._seen[node] = PolledModels("0.17.4", present, None)

    def view(self):
        return dict(self._seen)


@pytest.fixture
def polls():
    return Polls()


@pytest.fixture
def published():
    old = {"old:latest": PresentModel("old:latest", "d", 1)}
    views = {
        "a": NodeView(Node("a", "http://a"), Score(0.5), present=old),
        "b": NodeView(Node("b", "http://b"), Score(0.5), present={}),
    }
    return Published(Snapshot(views, made_at=7.0))


class Clock:
    def __init__(self):
        self.now = 100.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        gevent.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def discovery(polls, published, clock):
    return Discovery(polls, published, clock=clock, sleep=clock.sleep)


def test_a_model_that_was_just_pulled(discovery, polls, published):
    """It is found at once, and the snapshot has it for whoever asks next."""
    polls.has["b"] = ["fresh:latest"]
    assert {"b"} == discovery.find("fresh:latest")
    assert "fresh:latest" in published.current.nodes["b"].present
    assert published.current.nodes["b"].version == "0.17.4"
    assert published.current.made_at == 7.0


def test_a_model_that_left(discovery, polls, published):
    """What a node no longer has is not said of it any more."""
    polls.has["a"] = []
    assert not discovery.find("old:latest")
    assert not published.current.nodes["a"].present


def test_unknown_names_are_no_load(discovery, polls, clock):
    """However many ask, one after the other or at once, a round a second is made."""
    for _ in range(5):
        assert not discovery.find("none:latest")
        clock.now += 0.1
    assert polls.looks == 5
    assert [0.9] * 4 == pytest.approx(clock.slept)


def test_who_asks_at_one_time_shares_a_round(discovery, polls, clock):
    """Those who come during a round share the next, which begins after they asked."""
    polls.gate = Event()
    first = gevent.spawn(discovery.find, "fresh:latest")
    gevent.sleep(0)
    clock.now += 0.01
    later = [gevent.spawn(discovery.find, "fresh:latest") for _ in range(20)]
    gevent.sleep(0)
    assert polls.looks == 1
    polls.gate.set()
    gevent.joinall([first, *later], timeout=5, raise_error=True)
    assert polls.looks == 2


def test_waiting_is_bounded(discovery, polls):
    """More than a number are not made to wait, and cause nothing."""
    polls.gate = Event()
    waiting = [gevent.spawn(discovery.find, "none:latest") for _ in range(64)]
    gevent.sleep(0)
    assert {"a"} == discovery.find("old:latest")
    assert polls.looks == 1
    polls.gate.set()
    gevent.joinall(waiting, timeout=5, raise_error=True)


def test_a_round_that_fails_leaves_no_lock(discovery, polls):
    """The next one asks again."""
    polls.look_for_models, look = None, polls.look_for_models
    with pytest.raises(TypeError):
        discovery.find("none:latest")
    polls.look_for_models = look
    assert not discovery.find("none:latest")
