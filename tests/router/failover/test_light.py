"""Calls that need no slot: which node is asked, how many at a time, who is next."""

from __future__ import annotations

import time

import gevent
import pytest

from router.clients.http_json import Answer, PollError
from router.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from router.failover.light import Lane, LightCalls, LightRequest
from router.model import Hold, HoldKind, Node, Outcome, Score
from router.relay.fields import Need
from router.runtime.cancellation import Cancellation, CancelledError
from router.snapshot import NodeView, PresentModel, Published, ResidentModel, Snapshot
from tests.harness.poll import until

MODEL = "m:latest"
JSON = "application/json; charset=utf-8"
WELL = Answer(200, JSON, b"{}")
UNKNOWN = Answer(404, JSON, b'{"error":"model \'m\' not found"}')


def view(name, *, has=True, loaded=False, polled=True):
    present = {MODEL: PresentModel(MODEL, "d", 1)} if has else {}
    resident = {MODEL: ResidentModel(MODEL, "d", 1, 1)} if loaded else {}
    return NodeView(
        Node(name, f"http://{name}:1"),
        Score(0.5),
        present=present if polled else None,
        resident=resident if polled else None,
    )


class Fleet:
    """Nodes that answer what is set; `asked` is who was asked, in order."""

    def __init__(self, *views):
        self.published = Published(Snapshot({v.node.name: v for v in views}, 0.0))
        self.held = {}
        self.answers = {}
        self.asked = []
        self.unloaded: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gate = None
        self.calls = LightCalls(
            self.published, self, self.ask, unloaded=self.unloaded.extend
        )

    def blocking(self, node):
        kind = self.held.get(node)
        return (Hold(node, kind, "test", "held", since=0.0),) if kind else ()

    def ask(self, method, node, path, body, seconds):
        assert (method, body) == ("POST", b"body")
        assert 0 < seconds <= 30
        name = node.name
        self.asked.append(name)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate:
                self.gate.wait()
            answer = self.answers.get(name, WELL)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.under_way -= 1

    def request(self, need=Need.DISK, cancellation=None, seconds=10.0):
        wanted = LightRequest(
            need, MODEL, "/api/show", b"body", time.monotonic() + seconds
        )
        return self.calls.answer(wanted, cancellation or Cancellation())


def test_any_node_that_has_the_model_answers():
    """Nodes without it are not asked; one that was never polled may have it."""
    fleet = Fleet(view("a", has=False), view("b"), view("c", polled=False))
    for _ in range(4):
        assert fleet.request().answer is WELL
    assert set(fleet.asked) <= {"b", "c"}


def test_nobody_has_it():
    """A model that no node has is not found, and no node is asked."""
    fleet = Fleet(view("a", has=False))
    with pytest.raises(NotFoundError, match="model 'm' not found"):
        fleet.request()
    assert not fleet.asked


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, "text/html", b"<html><title>Log in</title></html>"),
        Answer(302, "text/html", b""),
        Answer(401, JSON, b'{"error":"unauthorized"}'),
    ],
    ids=["login page", "redirect", "denied"],
)
def test_an_answer_that_speaks_of_the_node(answer):
    """Another node is asked, and where there is none the client hears of the node."""
    fleet = Fleet(view("a"), view("b"))
    fleet.answers["a"] = answer
    assert all(fleet.request().answer is WELL for _ in range(4))
    fleet.answers["b"] = answer
    told = fleet.request().answer
    assert (502, "") == (told.status, told.content_type)
    assert str(answer.status) in told.body.decode()


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ({"a": HoldKind.CORDON}, ["b"]),
        ({"a": HoldKind.DRAIN, "b": HoldKind.DOWN}, ["a"]),
        ({"a": HoldKind.CORDON, "b": HoldKind.EVICT}, ["a"]),
    ],
    ids=["another is well", "only a drained one is up", "both are held"],
)
def test_held_nodes(held, asked):
    """A node that is held is left alone while another will do; its files are there."""
    fleet = Fleet(view("a"), view("b"))
    fleet.held = held
    fleet.request()
    assert asked == fleet.asked


def test_all_down():
    """Where every node that has it is down, the client hears which those are."""
    fleet = Fleet(view("a"), view("b"))
    fleet.held = {"a": HoldKind.DOWN, "b": HoldKind.DOWN}
    with pytest.raises(UnavailableError, match="is down: a, b"):
        fleet.request()


@pytest.mark.parametrize(
    "failure",
    [PollError("no answer"), Answer(500, JSON, b"{}"), Answer(503, "", b""), UNKNOWN],
    ids=["silent", "error", "gateway", "lacks it"],
)
def test_failover(failure):
    """A node that fails, or lost the model, is followed by another."""
    fleet = Fleet(view("a"), view("b"))
    fleet.answers["a"] = failure
    found = fleet.request()
    assert ("b", WELL, 2) == (found.node, found.answer, found.attempts)


def test_the_client_s_own_fault():
    """A 400 is the answer: no other node is asked."""
    fleet = Fleet(view("a"), view("b"))
    bad = fleet.answers["a"] = Answer(400, JSON, b'{"error":"bad"}')
    assert bad is fleet.request().answer
    assert ["a"] == fleet.asked


def test_all_fail():
    """At the end the last one's words are given, within a number of attempts."""
    fleet = Fleet(*(view(name) for name in "abcdefgh"))
    fleet.answers = dict.fromkeys("abcdefgh", PollError("no answer within 30 s"))
    found = fleet.request()
    assert (502, 4) == (found.answer.status, found.attempts)
    assert b"no answer within 30 s" in found.answer.body
    assert len(fleet.asked) == len(set(fleet.asked)) == 4


def test_loaded():
    """A load of what is loaded somewhere goes there; else it takes a slot."""
    fleet = Fleet(view("a"), view("b", loaded=True))
    assert fleet.request(Need.LOADED).node == "b"
    assert Fleet(view("a")).request(Need.LOADED) is None
    fleet.answers["b"] = PollError("gone")
    assert fleet.request(Need.LOADED) is None


def test_unload_goes_everywhere():
    """Every node that has the model is asked, those that are held as well."""
    fleet = Fleet(view("a"), view("b", loaded=True), view("c"), view("d", has=False))
    fleet.held = {"b": HoldKind.DRAIN, "c": HoldKind.DOWN}
    found = fleet.request(Need.UNLOAD)
    assert (WELL, 2) == (found.answer, found.attempts)
    assert ["a", "b"] == sorted(fleet.asked) == sorted(fleet.unloaded)


def test_unload_that_failed_is_told():
    """A node that may have kept the model is named; one that had none is not."""
    fleet = Fleet(view("a", loaded=True), view("b", loaded=True), view("c"))
    fleet.answers = {"b": PollError("no answer"), "c": PollError("no answer")}
    answer = fleet.request(Need.UNLOAD).answer
    assert answer.status == 502
    assert answer.body == b"model 'm:latest' may still be loaded: b: b: no answer"
    fleet.answers = {"c": PollError("no answer")}
    assert fleet.request(Need.UNLOAD).answer is WELL


def test_a_flood_is_served_in_turn():
    """Each node is asked a few at a time, and everybody gets an answer."""
    fleet = Fleet(view("a"), view("b"))
    fleet.gate = gevent.event.Event()
    asking = [gevent.spawn(fleet.request) for _ in range(100)]
    until(lambda: fleet.under_way == 8, "eight at once", sleep=gevent.sleep)
    fleet.gate.set()
    gevent.joinall(asking, timeout=10, raise_error=True)
    assert all(each.get().answer is WELL for each in asking)
    assert fleet.most_under_way == 8
    assert len(fleet.asked) == 100


class TestLane:
    """The places at the nodes."""

    @pytest.fixture
    def lane(self):
        return Lane(time.monotonic)

    @staticmethod
    def fill(lane, *nodes):
        for node in nodes:
            for _ in range(4):
                lane.enter([node], 1e12, Cancellation())

    def test_the_longest_waiting_is_next(self, lane):
        """A place goes to who waits longest and can use it, not to a newcomer."""
        self.fill(lane, "a", "b")
        served = []

        def wait(name, nodes):
            lane.enter(nodes, 1e12, Cancellation())
            served.append(name)

        waiting = [
            gevent.spawn(wait, name, nodes)
            for name, nodes in (("1", ["b"]), ("2", ["a"]), ("3", ["a", "b"]))
        ]
        gevent.sleep(0)
        lane.leave("a")
        gevent.spawn(wait, "4", ["a"])
        gevent.sleep(0.02)
        assert ["2"] == served
        lane.leave("b")
        lane.leave("b")
        gevent.joinall(waiting, timeout=5, raise_error=True)
        assert ["2", "1", "3"] == served

    def test_who_leaves_passes_the_place_on(self, lane):
        """Somebody who went away holds up nobody behind."""
        self.fill(lane, "a")
        gone = Cancellation()
        first = gevent.spawn(lane.enter, ["a"], 1e12, gone)
        second = gevent.spawn(lane.enter, ["a"], 1e12, Cancellation())
        gevent.sleep(0)
        gone.stop(Outcome.CLIENT_GONE)
        with pytest.raises(CancelledError):
            first.get(timeout=5)
        lane.leave("a")
        assert "a" == second.get(timeout=5)

    def test_deadline(self, lane):
        """Who has waited for too long is told so."""
        self.fill(lane, "a")
        with pytest.raises(DeadlineError):
            lane.enter(["a"], time.monotonic() + 0.01, Cancellation())

    def test_bound(self, lane):
        """There is an end to how many may wait."""
        self.fill(lane, "a")
        waiting = [
            gevent.spawn(lane.enter, ["a"], 1e12, Cancellation()) for _ in range(1024)
        ]
        gevent.idle()
        with pytest.raises(OverloadedError, match="1024 calls"):
            lane.enter(["a"], 1e12, Cancellation())
        gevent.killall(waiting)
