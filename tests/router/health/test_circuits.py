"""The circuits of a fleet: whom they take out, for what, and how they come back."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.health.circuit import Failure
from router.health.circuits import CIRCUIT, Circuits
from router.holds.store import HoldStore
from router.model import Cause, Hold, HoldKind, Outcome
from tests.router.control.fakes import MemoryJournal

MODELS = ("m:latest", "other:latest", "third:latest")


@dataclass
class Reply:
    answered: bool = False


@dataclass
class Lease:
    node: str
    model: str
    taken_at: float
    reply: Reply | None = field(default_factory=Reply)


class Fleet:
    """Circuits over two nodes with three models each; time is the test's."""

    def __init__(self, present=MODELS):
        self.now = 100.0
        self.present = present
        self.leases: list[Lease] = []
        self.holds = HoldStore(MemoryJournal())
        self.holds.fleet(("a", "b"))
        self.circuits = Circuits(
            self.holds,
            leases=lambda node: [each for each in self.leases if each.node == node],
            present=lambda _: self.present,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    def fail(self, model="m:latest", cause=Cause.ERROR, *, times=1, ran=0.01, by=""):
        for _ in range(times):
            self.now += 0.1
            failure = Failure(self.now, cause, "boom", by, "/api/chat", model)
            self.circuits.failed("a", model, failure, began_at=self.now - ran)

    def down(self):
        return [hold.source for hold in self.holds.of("a")]


def test_a_model_that_fails_is_not_asked_for_there():
    """Three failures take the model out on this node, not the node."""
    fleet = Fleet()
    fleet.fail(times=2)
    assert fleet.circuits.reason("a", "m:latest") is None
    fleet.fail()
    assert "circuit open: error: boom" == fleet.circuits.reason("a", "m:latest")
    assert fleet.circuits.reason("a", "other:latest") is None
    assert fleet.circuits.reason("b", "m:latest") is None
    assert [] == fleet.down()


@pytest.mark.parametrize(
    ("present", "models", "cause"),
    [
        (MODELS, MODELS, Cause.LOAD_FAILED),
        (("m:latest",), ("m:latest",) * 3, Cause.GPU_ERROR),
        (MODELS, ("m:latest",) * 3, Cause.DENIED),
        (MODELS, ("m:latest",) * 3, Cause.NOT_OLLAMA),
    ],
    ids=["each of its models", "its only model", "denied", "a login page"],
)
def test_a_node_that_fails_is_down(present, models, cause):
    """What speaks of the node takes it out, by a hold of its own source."""
    fleet = Fleet(present)
    for model in models:
        assert [] == fleet.down()
        fleet.fail(model, cause)
    assert [CIRCUIT] == fleet.down()
    assert HoldKind.DOWN is fleet.holds.of("a")[0].kind


def test_a_node_that_lacks_its_only_model_is_well():
    """What was deleted a moment ago says nothing of the node."""
    fleet = Fleet(("m:latest",))
    fleet.fail(cause=Cause.MODEL_MISSING, times=4)
    assert fleet.circuits.reason("a", "m:latest")
    assert [] == fleet.down()


def test_a_model_that_works_keeps_its_node():
    """Answers of one model between the failures of two others prove the node well."""
    fleet = Fleet()
    for _ in range(2):
        fleet.fail("other:latest", times=2)
        fleet.circuits.succeeded("a", "m:latest", began_at=fleet.now)
        fleet.fail("third:latest", times=2)
        fleet.circuits.succeeded("a", "m:latest", began_at=fleet.now)
    assert [] == fleet.down()
    assert fleet.circuits.reason("a", "other:latest")


def test_a_trial_brings_it_back_one_request_at_a_time():
    """After a trial the next request is waited for before another is sent."""
    fleet = Fleet(("m:latest",))
    fleet.fail(times=3)
    assert [] == fleet.circuits.due()
    fleet.now += 2
    keys = [key for key, _ in fleet.circuits.due()]
    assert [("a", "m:latest"), ("a", "")] == keys
    for key in keys:
        fleet.circuits.tried(key, passed=True)
    assert [] == fleet.down()
    assert fleet.circuits.reason("a", "m:latest") is None
    assert not fleet.circuits.one_at_a_time("a", "m:latest")
    fleet.leases.append(Lease("a", "m:latest", fleet.now))
    assert fleet.circuits.one_at_a_time("a", "m:latest")
    assert not fleet.circuits.healthy("a", "m:latest")
    fleet.circuits.succeeded("a", "m:latest", began_at=fleet.now)
    assert not fleet.circuits.one_at_a_time("a", "m:latest")
    assert fleet.circuits.healthy("a", "m:latest")


def test_after_a_failure_the_next_is_sent_alone():
    """In doubt, no second request goes there before the first was answered."""
    fleet = Fleet()
    fleet.leases.append(Lease("a", "m:latest", fleet.now))
    assert not fleet.circuits.one_at_a_time("a", "m:latest")
    fleet.fail()
    assert fleet.circuits.one_at_a_time("a", "m:latest")
    fleet.leases[0].reply = Reply(answered=True)
    assert not fleet.circuits.one_at_a_time("a", "m:latest")


def test_doubt_does_not_last():
    """A long reply beside one failure keeps nobody waiting for long."""
    fleet = Fleet()
    fleet.leases.append(Lease("a", "m:latest", fleet.now))
    fleet.fail()
    fleet.now += 1.1
    assert not fleet.circuits.one_at_a_time("a", "m:latest")


def test_one_death_is_two_failures_at_most():
    """Six streams and two requests that ran when their runner died open nothing."""
    fleet = Fleet()
    for _ in range(6):
        lease = Lease("a", "m:latest", fleet.now - 5)
        fleet.circuits.ended(lease, Outcome.ERROR_LINE)
    fleet.fail(cause=Cause.RUNNER_DIED, times=2, ran=4)
    assert fleet.circuits.reason("a", "m:latest") is None
    fleet.fail(cause=Cause.RUNNER_DIED)
    assert fleet.circuits.reason("a", "m:latest"), (
        "one that began after it died as well"
    )


def test_a_server_that_is_down_explains_what_broke():
    """Its hold and the polls see to it: no circuit stays open over its return."""
    fleet = Fleet(("m:latest",))
    fleet.fail(cause=Cause.RESET, times=3)
    assert [CIRCUIT] == fleet.down()
    fleet.holds.place(Hold("a", HoldKind.DOWN, "probe", "refused", fleet.now))
    assert ["probe"] == fleet.down()
    assert [] == list(fleet.circuits.shown())


def test_a_server_that_is_down_explains_no_gpu_error():
    """What it said before it went still has to be proven wrong."""
    fleet = Fleet(("m:latest",))
    fleet.fail(cause=Cause.GPU_ERROR, times=3)
    fleet.holds.place(Hold("a", HoldKind.DOWN, "traffic", "refused", fleet.now))
    assert fleet.circuits.reason("a", "m:latest")


def test_streams_that_break_each_time_open_it():
    """A node whose streams begin and always break is no better than one that fails."""
    fleet = Fleet()
    for _ in range(5):
        fleet.now += 10
        lease = Lease("a", "m:latest", fleet.now - 2)
        fleet.circuits.succeeded("a", "m:latest", began_at=lease.taken_at)
        fleet.circuits.ended(lease, Outcome.EOF)
    assert fleet.circuits.reason("a", "m:latest")


@pytest.mark.parametrize(
    "outcome",
    [Outcome.END, Outcome.CLIENT_GONE, Outcome.EVICTED, Outcome.REVOKED],
)
def test_other_ends_charge_nothing(outcome):
    """Who leaves, or is moved, says nothing of the node."""
    fleet = Fleet()
    for _ in range(5):
        fleet.circuits.ended(Lease("a", "m:latest", fleet.now), outcome)
    assert [] == list(fleet.circuits.shown())


def test_a_bad_request_is_forgiven_everywhere():
    """What was charged for one request is taken back on node and model alike."""
    fleet = Fleet(("m:latest",))
    fleet.fail(times=3, by="mine")
    assert [CIRCUIT] == fleet.down()
    fleet.circuits.forgive("mine")
    assert [] == fleet.down()
    assert [] == list(fleet.circuits.shown())
    assert frozenset() == fleet.circuits.troubled


def test_what_left_is_forgotten():
    """A node that left and a model that was deleted leave no circuit behind."""
    fleet = Fleet()
    fleet.fail(times=3)
    fleet.present = ("other:latest",)
    fleet.circuits.keep(("a", "b"))
    assert fleet.circuits.reason("a", "m:latest") is None
    fleet.fail("other:latest", Cause.DENIED, times=3)
    assert [CIRCUIT] == fleet.down()
    fleet.circuits.keep(("b",))
    assert [] == fleet.down()
    assert [] == list(fleet.circuits.shown())


def test_a_person_may_have_it_tried_at_once():
    """After a repair nobody waits for the next trial."""
    fleet = Fleet(("m:latest",))
    fleet.fail(times=3)
    assert 2 == fleet.circuits.try_now("a")
    assert 2 == len(fleet.circuits.due())
    assert 0 == fleet.circuits.try_now("b")


def test_changes_are_told():
    """Who waits in the queue hears of it when a circuit opens or closes."""
    fleet, told = Fleet(), []
    fleet.circuits.listen(lambda: told.append(fleet.circuits.reason("a", "m:latest")))
    fleet.fail(times=3)
    fleet.circuits.tried(("a", "m:latest"), passed=True)
    assert ["circuit open: error: boom", None] == told


def test_it_counts():
    """Failures by cause, openings and trials are counted for each node."""
    fleet = Fleet()
    fleet.fail(times=3)
    fleet.circuits.tried(("a", "m:latest"), passed=False)
    assert {("a", "error"): 3} == fleet.circuits.failures
    assert {"a": 1} == fleet.circuits.openings
    assert {("a", "failed"): 1} == fleet.circuits.trials
