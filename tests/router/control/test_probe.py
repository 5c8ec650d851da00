"""Polls of nodes: what puts a node down, what brings it back, what they find."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from router.clients.http_json import PollError, PollRefusedError
from router.config.settings import ControlSettings
from router.control.probe import Probe
from router.model import Hold, HoldKind, Inventory, Node
from tests.harness.poll import until
from tests.router.control.fakes import Clock, cordon, drain, store

TAGS = {"models": [{"name": "m", "digest": "abc", "size": 7, "details": {}}]}
FRESH = {"name": "Fresh", "digest": "def", "size": 7, "details": {}}
PS = {"models": [{"name": "m:latest", "digest": "abc", "size": 7, "size_vram": 6}]}
FINE = {"/api/version": {"version": "0.17.4"}, "/api/tags": TAGS, "/api/ps": PS}
REFUSED = PollRefusedError("the connection was refused")
HUNG = PollError("no answer within 2 s")


class Fleet:
    """Nodes that answer as told, by name; polled as time is moved."""

    def __init__(self, *names):
        self.nodes = {name: Node(name, f"http://{name}:1") for name in names}
        self.answers = {name: dict(FINE) for name in names}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.changed = 0
        self.clock = Clock()
        self.settings = ControlSettings()
        self.holds = store(self.clock)
        self.gate = threading.Event()
        self.gate.set()
        self.stuck: set[str] = set()
        self.moving: set[str] = set()
        self.timeouts: dict[str, float] = {}
        self.before_answer = lambda: None
        self.probe = Probe(
            lambda: Inventory(tuple(self.nodes.values())),
            lambda: self.settings,
            self.holds,
            self._change,
            fetch=self._fetch,
            moves=lambda name: lambda: name in self.moving,
            clock=self.clock,
            monotonic=self.clock,
            concurrency=4,
        )
        self.done = 0

    def _change(self):
        self.changed += 1

    def _fetch(self, node, path, timeout):
        node = node.url.removeprefix("http://").removesuffix(":1")
        self.asked[node, path] += 1
        self.timeouts[path] = timeout
        if node in self.stuck:
            self.gate.wait(10)
        self.before_answer()
        answer = self.answers[node][path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fail(self, name, error):
        self.answers[name] = dict.fromkeys(FINE, error)

    def tick(self, seconds=0.0):
        """Move time, hand out what is due, and wait for it."""
        self.clock.now += seconds
        self.probe.tick()
        until(self.idle, "polls to end")

    def idle(self):
        watched = self.probe._watched.values()
        return all(
            not each.under_way or each.node.name in self.stuck for each in watched
        )


@pytest.fixture
def fleet():
    fleets = []

    def make(*names):
        fleets.append(Fleet(*names))
        return fleets[-1]

    yield make
    for each in fleets:
        each.gate.set()
        each.probe.stop()


def test_the_first_polls_find_models_and_version(fleet):
    """By canonical name, with the listing as it came; the loop hears of it."""
    one = fleet("rig")
    one.tick()
    models = one.probe.view()["rig"]
    assert models.version == "0.17.4"
    assert models.present["m:latest"].listing is TAGS["models"][0]
    assert (models.resident["m:latest"].vram_bytes, one.changed) == (6, 2)
    one.tick(60)
    assert one.changed == 2  # nothing new


def test_nothing_is_known_before_an_answer(fleet):
    """None is not an empty list."""
    one = fleet("rig")
    one.fail("rig", HUNG)
    one.tick()
    models = one.probe.view()["rig"]
    assert (models.version, models.present, models.resident) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "rounds"),
    [(REFUSED, 1), (HUNG, 2)],
    ids=["refused at once", "hung at the second time"],
)
def test_a_node_that_does_not_answer_is_down(fleet, error, rounds):
    """A refusal is certain; a timeout may be one lost packet."""
    one = fleet("rig")
    one.tick()
    one.tick(30)
    one.answers["rig"]["/api/ps"] = error
    for number in range(rounds):
        assert not one.holds.blocking("rig"), number
        one.tick(3)
    (hold,) = one.holds.blocking("rig")
    assert (hold.kind, hold.source) == (HoldKind.DOWN, "probe")
    assert hold.reason == str(error)


def test_a_node_that_serves_requests_is_not_down(fleet):
    """Its link may be full of a body; a refusal is certain all the same."""
    one = fleet("rig")
    one.moving.add("rig")
    one.fail("rig", HUNG)
    for _ in range(4):
        one.tick(30)
    assert not one.holds.blocking("rig")
    one.fail("rig", REFUSED)
    one.tick(30)
    assert one.holds.blocking("rig")


def test_a_long_list_has_more_time_than_a_sign_of_life(fleet):
    """Hundreds of models over a slow link are a transfer."""
    one = fleet("rig")
    one.tick()
    assert {"/api/ps": 2, "/api/version": 2, "/api/tags": 20} == one.timeouts


def test_an_answer_lifts_what_probes_and_traffic_found(fleet):
    """And nothing else: people and alerts hold on."""
    one = fleet("rig")
    one.fail("rig", REFUSED)
    one.tick()
    one.holds.place(Hold("rig", HoldKind.DOWN, "traffic", "reset", 1_000.0))
    for hold in (cordon(), drain()):
        one.holds.place(hold)
    one.answers["rig"] = dict(FINE)
    one.tick(3)
    assert [hold.kind for hold in one.holds.of("rig")] == [
        HoldKind.CORDON,
        HoldKind.DRAIN,
    ]


def test_an_answer_does_not_lift_what_traffic_found_meanwhile(fleet):
    """The failure is younger than the question."""
    one = fleet("rig")
    reset = Hold("rig", HoldKind.DOWN, "traffic", "reset", 1_000.0)
    one.holds.place(reset)
    one.before_answer = lambda: one.holds.place(reset)
    one.tick()
    assert one.holds.blocking("rig") == (reset,)
    one.before_answer = lambda: None
    one.tick(3)
    assert not one.holds.blocking("rig")


def test_a_node_that_is_back_is_asked_for_its_models_at_once(fleet):
    """Its disk may have changed while it was away."""
    one = fleet("rig")
    one.tick()
    one.tick(30)
    one.fail("rig", REFUSED)
    one.tick(3)
    one.answers["rig"] = {**FINE, "/api/tags": {"models": []}}
    one.tick(3)
    one.tick(0.1)
    assert one.probe.view()["rig"].present == {}


def test_a_hung_node_delays_no_other(fleet):
    """Its polls wait alone, one of each kind at a time."""
    one = fleet("hung", "rig")
    one.stuck = {"hung"}
    one.gate.clear()
    for _ in range(10):
        one.tick(3)
    assert one.asked["rig", "/api/ps"] == 10
    assert one.asked["hung", "/api/ps"] == 1


def test_polls_come_at_their_intervals(fleet):
    """Loaded models often, models on disk seldom."""
    one = fleet("rig")
    one.tick()
    one.tick(30)
    before = Counter(one.asked)
    for _ in range(60):
        one.tick(1)
    assert one.asked["rig", "/api/ps"] - before["rig", "/api/ps"] == 20
    assert one.asked["rig", "/api/tags"] - before["rig", "/api/tags"] == 2


def test_a_fleets_polls_are_spread_out(fleet):
    """A thousand listings at once are 79 ms of parsing."""
    names = [f"node-{n}" for n in range(30)]
    one = fleet(*names)
    one.tick()
    one.tick(30)
    busiest = 0
    for _ in range(30):
        before = sum(one.asked[name, "/api/tags"] for name in names)
        one.tick(1)
        busiest = max(
            busiest, sum(one.asked[name, "/api/tags"] for name in names) - before
        )
    assert busiest <= 6


def test_nodes_come_go_and_move_with_the_inventory(fleet):
    """New and moved nodes are polled at once, those that left never again."""
    one = fleet("a", "b")
    one.tick()
    del one.nodes["a"]
    one.nodes["b"] = Node("b", "http://c:1")
    one.nodes["new"] = Node("new", "http://new:1")
    one.answers |= {"c": dict(FINE), "new": dict(FINE)}
    one.tick(0.1)
    assert set(one.probe.view()) == {"b", "new"}
    assert (one.asked["c", "/api/tags"], one.asked["new", "/api/tags"]) == (1, 1)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/ps", []),
        ("/api/ps", {"models": 5}),
        ("/api/ps", {"models": ["m"]}),
        ("/api/ps", {"models": [{"name": ""}]}),
        ("/api/ps", {"models": [{"name": "m", "size": "big"}]}),
        ("/api/tags", {"models": [{"name": 5}]}),
        ("/api/version", {"version": None}),
    ],
)
def test_a_malformed_answer_is_a_failed_poll(fleet, path, answer):
    """Something else listens there, or it is broken."""
    one = fleet("rig")
    one.answers["rig"] = {**dict.fromkeys(FINE, HUNG), path: answer}
    if path != "/api/version":
        one.answers["rig"]["/api/version"] = FINE["/api/version"]
    one.tick()
    one.tick(60)
    assert one.holds.blocking("rig")


def test_an_ollama_without_models_holds_none(fleet):
    """Some releases say null for an empty list."""
    one = fleet("rig")
    one.answers["rig"] = {**FINE, "/api/ps": {"models": None}}
    one.tick()
    assert one.probe.view()["rig"].resident == {}


def test_the_timer_polls_by_itself(fleet):
    """Started, it needs nobody."""
    one = fleet("rig")
    one.probe.start()
    until(lambda: one.probe.view().get("rig"), "a first poll")


def test_hurry_asks_nodes_that_are_down_at_once():
    """Somebody waits for any node: those that are down are asked often, for a while."""
    fleet = Fleet("a", "b")
    fleet.tick()
    fleet.fail("a", REFUSED)
    fleet.tick(fleet.settings.resident_interval_seconds)
    assert fleet.holds.blocking("a")
    fleet.asked.clear()
    fleet.probe.hurry(2.0)
    fleet.tick()
    assert {("a", "/api/ps"): 1} == fleet.asked
    for _ in range(19):
        fleet.tick(0.1)
    assert fleet.asked["a", "/api/ps"] == 4
    fleet.answers["a"] = dict(FINE)
    fleet.probe.hurry(2.0)
    fleet.tick()
    assert not fleet.holds.blocking("a")


def test_a_poll_does_not_close_a_circuit():
    """To answer a poll is not to generate."""
    fleet = Fleet("a")
    hold = Hold("a", HoldKind.DOWN, "traffic:circuit", "boom", 0.0)
    fleet.holds.place(hold)
    fleet.tick()
    assert (hold,) == fleet.holds.of("a")


def test_models_are_looked_for_at_once(fleet):
    """All nodes that are up are asked what they have, before it is their turn."""
    polled = fleet("a", "b", "c")
    polled.tick()
    polled.fail("c", REFUSED)
    polled.tick(3)
    polled.answers["b"]["/api/tags"] = {"models": [*TAGS["models"], FRESH]}
    polled.asked.clear()
    polled.probe.look_for_models()
    until(polled.idle, "polls to end")
    assert set(polled.probe.view()["b"].present) == {"m:latest", "fresh:latest"}
    asked = {node for node, path in polled.asked if path == "/api/tags"}
    assert {"a", "b"} == asked


def test_looking_waits_for_no_node_that_hangs(fleet):
    """A node that does not answer in time is given up by who waits, not by its poll."""
    polled = fleet("a", "b")
    polled.tick()
    polled.settings = ControlSettings(probe_timeout_seconds=0.05)
    polled.stuck.add("a")
    polled.gate.clear()
    polled.probe.look_for_models()
    assert polled.asked["b", "/api/tags"] == 2


def test_loaded_models_are_looked_at_soon(fleet):
    """After an unload a node is asked what it has loaded at the next tick."""
    polled = fleet("a", "b")
    polled.tick()
    polled.asked.clear()
    polled.probe.look_at(["a", "gone"])
    polled.tick()
    assert {("a", "/api/ps"): 1} == dict(polled.asked)
