"""Who pays for a load, and where an answer that broke off may go on."""

from __future__ import annotations

import gevent
import pytest

from router.capacity.external_load import Evidence
from router.capacity.ledger import Ledger, Rescue
from router.holds.store import HoldStore
from router.model import Hold, HoldKind, Node, Outcome, Priority, Score, Timings
from router.pickers import Policies
from router.runtime.cancellation import Cancellation
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, PresentModel, Published, ResidentModel, Snapshot
from tests.router.control.fakes import MemoryJournal

MODEL, OTHER = "m:latest", "o:latest"


class Fleet:
    """Nodes of four slots and one speed; `resident` names what each has loaded."""

    def __init__(self, **resident: str | None) -> None:
        self.now = 0.0
        self.ledger = Ledger(4, lambda: self.now)
        present = {
            model: PresentModel(model, "d", 4 * 10**9) for model in (MODEL, OTHER)
        }
        views = {}
        for name, model in resident.items():
            loaded = {} if model is None else {model: ResidentModel(model, "d", 1, 1)}
            node = Node(name, f"http://{name}:1", slots=4)
            views[name] = NodeView(node, Score(0.5), present=present, resident=loaded)
        holds = HoldStore(MemoryJournal())
        holds.fleet(views)
        self.ledger.configure(view.node for view in views.values())
        published = Published(Snapshot(views, made_at=0.0))
        self.dispatcher = Scheduler(
            published,
            holds,
            self.ledger,
            Queue(9),
            Policies(),
            clock=lambda: self.now,
        )

    def ask(self):
        return self.dispatcher.acquire(
            RoutingRequest(MODEL), Priority.INTERACTIVE, Cancellation(), self.now + 60.0
        )

    def serve(self, beside: int, requests: int) -> list[str]:
        """One request after another, `beside` others running at any time."""
        running = [self.ask() for _ in range(beside)]
        names = [each.node.name for each in running]
        for _ in range(requests):
            running.append(self.ask())
            names.append(running[-1].node.name)
            self.now += 2.0
            lease = running.pop(0).lease
            spent = self.now - lease.taken_at - 0.1
            lease.done(Outcome.END, Timings(20, int(50 * spent), 0.1, spent))
        return names


@pytest.mark.parametrize("beside", [1, 2, 3])
def test_a_node_that_came_back_cold_gets_work(beside):
    """All who would gain pay for the load: it is made after some requests, not all."""
    names = Fleet(warm=MODEL, back=None).serve(beside, 30)
    assert 1 <= names.index("back") <= 15


def test_nobody_gains_nobody_loads():
    """One person at a time has a quick node already."""
    assert {"warm"} == set(Fleet(warm=MODEL, back=None).serve(0, 200))


def test_a_rescue_may_use_the_ceiling():
    """Neither a suspicion nor what pays takes a slot from a broken answer."""
    ledger = Fleet(n=MODEL).ledger
    for _ in range(2):
        ledger.take("n", MODEL)
    for _ in range(3):
        ledger._external.suspect("n", Evidence.WAITED, 0.0)
    assert ledger.room("n", MODEL) is None
    assert Rescue(ledger).room("n", MODEL) is not None
    for _ in range(2):
        ledger.take("n", MODEL)
    assert Rescue(ledger).room("n", MODEL) is None, "never above it"


def test_a_continued_answer_may_use_what_people_may_not():
    """The dispatcher counts for it as for a rescue."""
    fleet = Fleet(n=MODEL)
    fleet.ask()
    for _ in range(3):
        fleet.ledger._external.suspect("n", Evidence.WAITED, 0.0)
    explain = fleet.dispatcher.explain
    assert explain(RoutingRequest(MODEL)).picked is None
    assert explain(RoutingRequest(MODEL), Priority.CONTINUED).picked is not None


class Two(Fleet):
    """One node has loaded what is asked for, the other what others use as well.

    A minute's evictions are spent; each node takes one model.
    """

    def __init__(self) -> None:
        super().__init__(has=MODEL, other=OTHER)
        estimates = self.dispatcher.estimates
        for second in range(30):
            self.now = float(second)
            for model in (MODEL, OTHER):
                estimates.demand.came(model, self.now)
        estimates.offers.evictions.begun(self.now)
        self.holds = self.dispatcher._holds


def test_nobody_loads_what_has_a_copy_beyond_the_bound():
    """Four more would not do it."""
    fleet = Two()
    assert {"has"} == {fleet.ask().node.name for _ in range(4)}
    explained = fleet.dispatcher.explain(RoutingRequest(MODEL))
    assert (None, ("other",)) == (explained.picked, explained.barred)


@pytest.mark.parametrize("how", ["tried", "held"])
def test_a_copy_that_cannot_be_used_is_none(how):
    """Whose node has failed it, or is down, loads it elsewhere now, not in a minute."""
    fleet, routing = Two(), RoutingRequest(MODEL)
    if how == "tried":
        routing = RoutingRequest(MODEL, tried=frozenset({"has"}))
    else:
        hold = Hold("has", HoldKind.CORDON, "operator", "repair", 0.0)
        fleet.holds.place(hold)
    explained = fleet.dispatcher.explain(routing)
    assert explained.picked is not None
    assert "other" == explained.picked.name
    assert {"has"} == explained.rejected.keys()


def test_who_waits_may_go_for_a_copy_that_was_lost_meanwhile():
    """The node fails while it waits for its slot."""
    fleet = Two()
    for _ in range(4):
        fleet.ask()
    waiting = Cancellation()
    waiter = gevent.spawn(
        fleet.dispatcher.acquire,
        RoutingRequest(MODEL),
        Priority.INTERACTIVE,
        waiting,
        fleet.now + 60.0,
    )
    gevent.sleep(0)
    assert 1 == len(fleet.dispatcher.queue)
    fleet.holds.place(Hold("has", HoldKind.CORDON, "operator", "repair", 0.0))
    assert "other" == waiter.get(timeout=5).node.name
