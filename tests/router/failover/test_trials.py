"""Small generations are made where a circuit waits for one, and only where they may."""

from __future__ import annotations

import json

import gevent
import pytest

from router.capacity.ledger import Lease
from router.errors import RefusedError
from router.failover.findings import Aboard
from router.failover.trials import Trials, trial_message
from router.model import Cause, Hold, HoldKind
from router.relay.protocols import ROUTES
from tests.router.failover.stage import MODEL, Fleet


class Stage:
    """A fleet whose node `a` has failed; `works` says whether trials succeed."""

    def __init__(self):
        self.fleet = Fleet("ab")
        self.works, self.sent = False, []
        self.spoke: list[Lease] = []
        self.trials = Trials(
            self.fleet.circuits,
            self.fetch,
            self.fleet.ledger,
            self.fleet.published,
            self.fleet.holds,
            seconds=lambda: 5.0,
            spoke=self.spoke.append,
        )
        self.fleet.answers["a"] = "gpu"
        while not self.fleet.open_on():
            self.fleet.ask()

    def fetch(self, assignment, messages, cancellation):
        self.sent += [(assignment.node.name, message.path) for message in messages]
        if not self.works:
            raise RefusedError("boom", Cause.GPU_ERROR, status=500, body=b"")
        return [(200, b"{}")]

    def look(self, seconds=0.0):
        self.fleet.now += seconds
        self.trials.look()
        gevent.sleep(0)


@pytest.fixture
def stage():
    return Stage()


def test_a_trial_is_made_when_it_is_due(stage):
    """On the route that failed; the wait grows while it fails."""
    stage.look()
    assert [] == stage.sent
    stage.look(2.0)
    assert [("a", "/api/chat")] == stage.sent
    stage.look(5.9)
    assert 1 == len(stage.sent)
    stage.look(0.2)
    assert 2 == len(stage.sent)
    assert 0 == stage.fleet.ledger.in_flight("a")


def test_one_that_passes_lets_requests_through(stage):
    """The node's circuit and the model's both learn of it."""
    stage.works = True
    stage.look(2.0)
    assert [("a", "/api/chat")] == stage.sent
    assert [] == stage.fleet.open_on()
    assert () == stage.fleet.holds.of("a")
    assert [("a", MODEL)] == [(each.node, each.model) for each in stage.spoke]


def test_a_node_that_is_held_is_left_alone(stage):
    """Who cordons a node works on it; who is down is polled, not asked."""
    stage.fleet.holds.place(Hold("a", HoldKind.CORDON, "operator:x", "fans", 0.0))
    stage.look(2.0)
    assert [] == stage.sent


def test_a_trial_takes_a_slot(stage):
    """A node that is full is tried when it is not."""
    leases = [stage.fleet.ledger.take("a", MODEL) for _ in range(4)]
    stage.look(2.0)
    assert [] == stage.sent
    assert 4 == len(leases)


def test_a_trial_that_hangs_ends():
    """It is given up after its time, and its slot is free again."""
    stage = Stage()

    def hang(assignment, messages, cancellation):
        cancellation.until(lambda: False, float("inf"), lambda: 0.0)

    stage.trials._fetch = hang
    stage.trials._seconds = lambda: 0.01
    error = stage.trials.attempt(
        Aboard(stage.fleet.published.current.nodes["a"].node, MODEL, "/api/chat")
    )
    assert error is not None
    assert Cause.TIMEOUT == error.cause
    assert 0 == stage.fleet.ledger.in_flight("a")


@pytest.mark.parametrize("path", ROUTES)
def test_each_route_has_a_trial(path):
    """A small one of its own, or that of another route."""
    message = trial_message(path, MODEL)
    assert MODEL == json.loads(message.body)["model"]
    cheap = path != "/api/show" and not path.startswith(("/v1/im", "/v1/au"))
    assert cheap is (message.path == path)
