"""Filter, score and pick as one table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.capacity.ledger import Lease, Ledger
from router.model import Hold, HoldKind, Node, Outcome, Score, Timings
from router.pickers import PICKERS, Policies, least_in_flight, shortest_completion
from router.scheduling import pipeline
from router.scheduling.estimates import Estimates
from router.scheduling.matching import HeldBack
from router.scheduling.pipeline import RoutingContext
from router.scheduling.request import PendingRequest, RoutingRequest
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

MODEL = "llama3.2:3b"


def view(name: str, score: float = 0.5, *, resident: bool = True) -> NodeView:
    present = PresentModel(MODEL, "sha", 2_000_000_000)
    loaded = ResidentModel(MODEL, "sha", 3_000_000_000, 3_000_000_000)
    return NodeView(
        Node(name, f"http://{name}:11434", slots=2),
        Score(score),
        present={MODEL: present},
        resident={MODEL: loaded} if resident else {},
    )


def scene(*views: NodeView, holds: dict[str, Hold] | None = None) -> RoutingContext:
    ledger = Ledger(1, lambda: 0.0)
    ledger.configure(v.node for v in views)
    held = holds or {}
    snapshot = Snapshot({v.node.name: v for v in views}, made_at=0.0)
    estimates = Estimates(ledger, lambda: 0.0)
    estimates.look(snapshot)
    return RoutingContext(
        snapshot,
        lambda node: (held[node],) if node in held else (),
        ledger,
        estimates.offers,
    )


def take(seen: RoutingContext, node: str) -> Lease:
    assert isinstance(seen.load, Ledger)
    return seen.load.take(node, MODEL)


def decide(routing, seen, picker):
    return pipeline.decide(PendingRequest(routing), seen, picker, 0.0)


HOLD = Hold("a", HoldKind.DRAIN, "alert:GpuTooHot:f1", "GPU too hot", since=0.0)


@pytest.mark.parametrize(
    ("change", "routing", "reason"),
    [
        ({}, RoutingRequest(MODEL, frozenset({"a"})), "tried already"),
        ({"holds": {"a": HOLD}}, RoutingRequest(MODEL), "drain: GPU too hot"),
        ({}, RoutingRequest("other:latest"), "model 'other:latest' not found"),
        ({"busy": True}, RoutingRequest(MODEL), "busy"),
    ],
    ids=["tried", "held", "model absent", "no free slot"],
)
def test_reasons(change, routing, reason):
    """Each filter's reason is on record for the node it drops."""
    seen = scene(view("a"), holds=change.get("holds"))
    if change.get("busy"):
        for _ in range(2):
            take(seen, "a")
    decision = decide(routing, seen, shortest_completion)
    assert decision.picked is None
    assert {"a": reason} == decision.rejected
    assert decision.busy is bool(change.get("busy"))


def test_what_decided():
    """The choice of several, the only free one, a load, a wait, a trial."""

    def reason(*views, **changed):
        decided = decide(RoutingRequest(MODEL), scene(*views), shortest_completion)
        return decided._replace(**changed).reason

    warm, cold = view("a"), view("b", resident=False)
    assert "chosen" == reason(warm, view("b"))
    assert "only_free" == reason(warm)
    assert "loads" == reason(cold)
    assert "freed" == reason(warm, view("b"), waited=0.5)
    assert "held_back" == reason(
        warm, waited=0.5, held_back=HeldBack("b", 1.0, 0.5, ("a",), 0.5)
    )
    assert "trial" == reason(warm, last_resort=True)


def test_never_polled_node_is_asked():
    """A node whose models are unknown is a candidate: it will say so itself."""
    seen = scene(replace(view("a"), present=None, resident=None))
    assert (
        decide(RoutingRequest("anything:latest"), seen, shortest_completion).picked.name
        == "a"
    )


def test_node_that_has_the_model_comes_before_one_never_polled():
    """A thousand nodes that were added dead take no request from one that must load."""
    new = replace(view("new", 0.9), present=None, resident=None)
    seen = scene(new, view("known", 0.1, resident=False))
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "known"
    )


def test_better_score_is_picked():
    """With all else equal the more capable node is expected to finish first."""
    seen = scene(view("slow", 0.2), view("fast", 0.9))
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "fast"
    )


def test_resident_model_beats_a_load():
    """A somewhat weaker node that has the model loaded finishes sooner."""
    seen = scene(view("cold", 0.9, resident=False), view("warm", 0.7))
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "warm"
    )


def test_idle_node_beats_a_second_stream():
    """Decoding together hardly pays: an idle weaker node is taken first."""
    seen = scene(view("busy", 0.9), view("idle", 0.7))
    take(seen, "busy")
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "idle"
    )


def test_measured_speed_overrules_the_score():
    """A node that scores high and proves slow loses its lead."""
    seen = scene(view("boaster", 0.9), view("modest", 0.3))
    for node, speed in (("boaster", 10), ("modest", 50)):
        timings = Timings(generated_tokens=speed * 2, generate_seconds=2.0)
        take(seen, node).done(Outcome.END, timings)
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "modest"
    )


def test_spilling_model_is_avoided():
    """A model larger than the node's memory costs more than a slower node that fits."""
    small = view("small", 0.9, resident=False)
    tight = replace(small, node=replace(small.node, attributes={"vram_bytes": 1e9}))
    seen = scene(tight, view("large", 0.4, resident=False))
    assert (
        decide(RoutingRequest(MODEL), seen, shortest_completion).picked.name == "large"
    )


def test_least_in_flight():
    """The emptier node is taken, whatever it is expected to do."""
    seen = scene(view("fast", 0.9), view("slow", 0.1))
    take(seen, "fast")
    assert decide(RoutingRequest(MODEL), seen, least_in_flight).picked.name == "slow"


def test_round_robin_takes_turns():
    """The baseline goes around."""
    seen, picker = scene(view("a"), view("b")), PICKERS["round_robin"]().pick
    names = [decide(RoutingRequest(MODEL), seen, picker).picked.name for _ in range(4)]
    assert ["a", "b", "a", "b"] == names


def picked_by(name, *views, busy=(), times=1, session=""):
    """Return the names of the nodes that a policy takes, one after the other."""
    seen, picker = scene(*views), PICKERS[name]().pick
    for each in busy:
        take(seen, each)
    routing = RoutingRequest(MODEL, session=session)
    return [decide(routing, seen, picker).picked.name for _ in range(times)]


def test_weighted_least_in_flight():
    """A node of twice the score is taken for one request more, not for two."""
    views = view("fast", 0.9), view("slow", 0.4)
    assert ["fast"] == picked_by("weighted_least_in_flight", *views, busy=["fast"])
    even = view("fast", 0.5), view("slow", 0.4)
    assert ["slow"] == picked_by("weighted_least_in_flight", *even, busy=["fast"])


def test_score_alone():
    """The load does not count."""
    views = view("fast", 0.9), view("slow", 0.4)
    assert ["fast"] == picked_by("score", *views, busy=["fast"])


@pytest.mark.parametrize("name", ["random", "power_of_two"])
def test_drawn_policies_spread(name):
    """Each of equal nodes gets its share."""
    names = picked_by(name, *map(view, "abcd"), times=400)
    assert all(60 < names.count(each) < 140 for each in "abcd")


def test_power_of_two_takes_the_less_busy():
    """The busiest node is never the better of two."""
    names = picked_by("power_of_two", *map(view, "abc"), busy=["b"], times=100)
    assert {"a", "c"} == set(names)


def test_session_keeps_to_a_node():
    """Sessions are spread, and none moves where another's node goes."""
    homes = {
        str(n): picked_by("session", *map(view, "abcd"), session=str(n))[0]
        for n in range(40)
    }
    assert set("abcd") == set(homes.values())
    for session, home in homes.items():
        again = picked_by("session", *map(view, "abc"), session=session)
        assert home == "d" or [home] == again


def test_a_policy_of_its_own():
    """The request's word comes first, then its model's, then the usual."""
    policies = Policies("score", {MODEL: "session"})
    assert "score" == policies.name("other:1b")
    assert "session" == policies.name(MODEL)
    assert "random" == policies.name(MODEL, "random")


class Health:
    """What traffic has learned of nodes, as a test says."""

    def __init__(self, *, failing=(), occupied=()):
        self.troubled = frozenset([*failing, *occupied])
        self.failing, self.occupied = failing, occupied

    def reason(self, node, model):
        return "circuit open: boom" if node in self.failing else None

    def one_at_a_time(self, node, model):
        return node in self.occupied


def judged(health, *names, holds=None, routing=None):
    seen = replace(scene(*map(view, names), holds=holds), health=health)
    return decide(routing or RoutingRequest(MODEL), seen, shortest_completion)


def test_an_open_circuit_takes_a_node_out():
    """Another node is taken, and the reason is on record."""
    decision = judged(Health(failing="a"), "a", "b")
    assert ("b", {"a": "circuit open: boom"}) == (
        decision.picked.name,
        decision.rejected,
    )


def test_open_circuits_are_a_last_resort():
    """Where no other node may take it, now or soon, one that fails is asked."""
    assert judged(Health(failing="ab"), "a", "b").picked
    decision = judged(Health(failing="a", occupied="b"), "a", "b")
    assert decision.picked is None
    assert decision.busy


def test_a_circuits_hold_gives_way_as_a_last_resort():
    """So does the hold of a node whose own circuit is open, and no other hold."""
    circuit = Hold("a", HoldKind.DOWN, "traffic:circuit", "boom", since=0.0)
    down = Hold("b", HoldKind.DOWN, "probe", "refused", since=0.0)
    decision = judged(Health(failing="a"), "a", "b", holds={"a": circuit, "b": down})
    assert ("a", {"b": "down: refused"}) == (decision.picked.name, decision.rejected)


def test_spared_nodes():
    """A request that may end a runner is kept from nodes where others run."""
    routing = RoutingRequest(MODEL, spared=frozenset({"a"}))
    decision = judged(Health(), "a", "b", routing=routing)
    assert "b" == decision.picked.name
    assert decision.rejected["a"].startswith("spared: ")
