"""Who could go on with a request, asked before it is cut."""

from __future__ import annotations

import time

import pytest

from router.failover.destinations import MigrationTargets
from router.model import Hold, HoldKind
from router.scheduling.pipeline import RoutingRequest
from tests.router.scheduling.test_pipeline import Health
from tests.router.scheduling.test_scheduler import Fleet

PLAIN = {"modelfile": "FROM x", "details": {"family": "llama"}}
PARSED = {"modelfile": "FROM x\nPARSER qwen3-coder", "details": {"family": "qwen3"}}


class Scene:
    """A request on `fast`, with `slow` as the other node."""

    def __init__(self):
        self.fleet = Fleet()
        self.shown, self.asked = PLAIN, 0
        self.destinations = MigrationTargets(
            self.fleet.dispatcher, self.fleet.published, self.show
        )
        self.lease = self.fleet.acquire().lease
        assert self.lease.node == "fast"

    def show(self, view, model):
        assert (view.node.name, model) == ("slow", "m:latest")
        self.asked += 1
        return self.shown

    def takes(self, *, answered=True):
        return self.destinations.take(self.lease, answered=answered)


@pytest.fixture
def scene():
    return Scene()


def test_another_node_with_the_same_model_does(scene):
    """Its answer about the model is asked for once."""
    assert scene.takes()
    assert scene.takes()
    assert scene.asked == 1


def test_a_busy_node_does_too(scene):
    """The stream waits first in the queue for it."""
    scene.fleet.acquire(RoutingRequest("m:latest"))
    assert scene.takes()


@pytest.mark.parametrize("shown", [PARSED, None], ids=["parsed", "no answer"])
def test_streams_of_such_a_model_stay(scene, shown):
    """They could not be continued; what has no answer yet can begin anew."""
    scene.shown = shown
    assert not scene.takes()
    assert scene.takes(answered=False)


def test_a_model_that_differs_there_is_another(scene):
    """The same name, other weights: the text would not go on."""
    view = scene.fleet.published.current.nodes["slow"]
    object.__setattr__(view.present["m:latest"], "digest", "other")
    assert not scene.takes()
    assert scene.takes(answered=False)


@pytest.mark.parametrize("why", ["held", "tried"])
def test_nobody_is_left(scene, why):
    """The other node is out, or broke this very stream before."""
    if why == "held":
        hold = Hold("slow", HoldKind.CORDON, "operator:x", "", time.time())
        scene.fleet.holds.place(hold)
    else:
        scene.lease.tried = frozenset({"slow"})
    assert not scene.takes()
    assert not scene.takes(answered=False)


def test_a_node_that_fails_is_no_better_place(scene):
    """Where the other one's circuit is open, a silent node is waited for."""
    scene.fleet.dispatcher.health = Health(failing=["slow"])
    assert not scene.takes(answered=False)
    assert not scene.takes()
