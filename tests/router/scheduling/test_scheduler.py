"""Requests wait in one queue and bind to the node that frees up."""

from __future__ import annotations

import time
from collections import deque

import gevent
import pytest

from router.capacity.ledger import Ledger
from router.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from router.holds.store import HoldStore
from router.model import Hold, HoldKind, Node, Outcome, Priority, Score, Timings
from router.pickers import Policies
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Queue, Waiter
from router.scheduling.request import PendingRequest, Traits
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from tests.router.control.fakes import MemoryJournal

ROUTING = RoutingRequest("m:latest")


class Fleet:
    """Two nodes with one slot each."""

    def __init__(self, limit: int = 10, clock=time.monotonic) -> None:
        self.clock = clock
        views = {}
        for name, score in (("fast", 0.9), ("slow", 0.2)):
            node = Node(name, f"http://{name}:1", slots=1)
            present = {"m:latest": PresentModel("m:latest", "d", 1)}
            views[name] = NodeView(node, Score(score), present=present, resident={})
        self.published = Published(Snapshot(views, made_at=0.0))
        self.holds = HoldStore(MemoryJournal())
        self.holds.fleet(views)
        self.ledger = Ledger(1, clock)
        self.ledger.configure(v.node for v in views.values())
        self.dispatcher = Scheduler(
            self.published,
            self.holds,
            self.ledger,
            Queue(limit),
            Policies(),
            clock=clock,
        )

    def acquire(
        self,
        routing: RoutingRequest = ROUTING,
        *,
        priority: Priority = Priority.INTERACTIVE,
        cancellation: Cancellation | None = None,
        seconds: float = 5,
    ):
        return self.dispatcher.acquire(
            routing, priority, cancellation or Cancellation(), self.clock() + seconds
        )

    def hold(self, node: str) -> None:
        self.holds.place(Hold(node, HoldKind.CORDON, "operator:x", "service", 0.0))


def test_takes_the_best_then_the_other():
    """Slots are reserved as they are given: nobody takes the last one twice."""
    fleet = Fleet()
    names = [fleet.acquire().node.name for _ in range(2)]
    assert ["fast", "slow"] == names
    assert [0, 0] == [fleet.ledger.free(n) for n in names]


def test_binds_to_the_node_that_frees_up():
    """A waiter goes where a slot comes free, not where it looked best."""
    fleet = Fleet()
    taken = [fleet.acquire(), fleet.acquire()]
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    assert len(fleet.dispatcher.queue) == 1
    taken[1].lease.done(Outcome.END)
    assert waiting.get(timeout=5).node.name == "slow"
    assert len(fleet.dispatcher.queue) == 0


def test_order_of_service():
    """A broken stream goes on before people are served, and they before a batch."""
    fleet, order = Fleet(), []
    taken = [fleet.acquire(), fleet.acquire()]

    def wait(priority: Priority) -> None:
        assignment = fleet.acquire(priority=priority)
        order.append(priority)
        assignment.lease.done(Outcome.END)

    waiting = []
    for priority in reversed(Priority):
        waiting.append(gevent.spawn(wait, priority))
        gevent.sleep(0)
    taken[0].lease.done(Outcome.END)
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert [*Priority] == order


def test_another_model_need_not_wait():
    """A waiter that no node can serve now does not hold up those behind it."""
    fleet = Fleet()
    only_slow = RoutingRequest("m:latest", frozenset({"fast"}))
    held = fleet.acquire(only_slow)
    stuck = gevent.spawn(fleet.acquire, only_slow)
    gevent.sleep(0)
    assert fleet.acquire().node.name == "fast"
    held.lease.done(Outcome.END)
    assert stuck.get(timeout=5).node.name == "slow"


def test_full_queue():
    """One more than the bound is refused at arrival, with a time to retry."""
    fleet = Fleet(limit=0)
    fleet.acquire()
    fleet.acquire()
    with pytest.raises(OverloadedError) as caught:
        fleet.acquire()
    assert caught.value.message == "the queue is full: 0 requests wait already"
    assert caught.value.retry_after_seconds == 5


def test_deadline_in_the_queue():
    """Whoever waited too long hears so, and leaves no trace."""
    fleet = Fleet()
    fleet.acquire()
    fleet.acquire()
    with pytest.raises(DeadlineError):
        fleet.acquire(seconds=0.02)
    assert len(fleet.dispatcher.queue) == 0


def test_client_gone_in_the_queue():
    """A client that leaves while it waits takes no slot later."""
    fleet, cancellation = Fleet(), Cancellation()
    taken = [fleet.acquire(), fleet.acquire()]
    waiting = gevent.spawn(fleet.acquire, cancellation=cancellation)
    gevent.sleep(0)
    cancellation.stop(Outcome.CLIENT_GONE)
    with pytest.raises(CancelledError):
        waiting.get(timeout=5)
    taken[0].lease.done(Outcome.END)
    assert fleet.ledger.free("fast") == 1


def test_lifted_hold_serves_the_queue():
    """A node that comes back takes waiters at once."""
    fleet = Fleet()
    fleet.hold("slow")
    fleet.acquire()
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    fleet.holds.lift("slow", HoldKind.CORDON, "operator:x", by="t", why="done")
    assert waiting.get(timeout=5).node.name == "slow"


def test_no_node_has_the_model():
    """Ollama's own words when no node knows the model."""
    with pytest.raises(NotFoundError) as caught:
        Fleet().acquire(RoutingRequest("other:latest"))
    assert caught.value.message == "model 'other' not found"


def test_all_nodes_held():
    """The client hears each node's reason."""
    fleet = Fleet()
    for name in ("fast", "slow"):
        fleet.hold(name)
    with pytest.raises(UnavailableError) as caught:
        fleet.acquire()
    assert caught.value.message == (
        "no node may take model 'm:latest':"
        " fast: cordon: service; slow: cordon: service"
    )


def test_hopeless_wait(monkeypatch):
    """Who could not have a slot in time is told at arrival, with a time to retry."""
    fleet = Fleet()
    held = [fleet.acquire(), fleet.acquire()]
    waiting = [gevent.spawn(fleet.acquire) for _ in range(5)]
    gevent.sleep(0)
    monkeypatch.setattr(fleet.ledger, "slot_seconds", lambda _: 10.0)
    with pytest.raises(OverloadedError) as caught:
        fleet.acquire(seconds=3)
    assert caught.value.message == (
        "a slot for model 'm:latest' is expected in 30 s, the time limit is 3 s"
    )
    assert caught.value.retry_after_seconds == pytest.approx(27, abs=0.5)
    gevent.killall(waiting)
    for assignment in held:
        assignment.lease.done(Outcome.END)


def test_unknown_wait_is_waited():
    """With nothing learned nobody is turned away."""
    fleet = Fleet()
    fleet.acquire()
    fleet.acquire()
    with pytest.raises(DeadlineError):
        fleet.acquire(seconds=0.02)


@pytest.mark.parametrize("priority", [Priority.CONTINUED, Priority.INTERACTIVE])
def test_no_wait_is_hopeless_where_a_job_gives_way(priority, monkeypatch):
    """It leaves the node at once, long before it would end; nobody has to wait."""
    fleet = Fleet()
    held = [fleet.acquire() for _ in range(2)]
    monkeypatch.setattr(fleet.ledger, "slot_seconds", lambda _: 1000.0)
    for assignment in held:
        assignment.lease.allow_revoking(
            lambda g=assignment: g.lease.done(Outcome.REVOKED)
        )
    assignment = fleet.acquire(priority=priority, seconds=3)
    assert held[0].node.name == assignment.node.name
    with pytest.raises(OverloadedError):  # another job is no reason to give way
        fleet.acquire(priority=Priority.BATCH, seconds=3)


def taught() -> Fleet:
    """Return a fleet whose nodes have answered a few times, at their speeds."""
    now = 0.0
    fleet = Fleet(50, lambda: now)
    for node, speed in (("fast", 200), ("slow", 4)):
        for _ in range(6):
            lease = fleet.ledger.take(node, ROUTING.model)
            now += 1.1
            lease.done(Outcome.END, Timings(100, speed, 0.1, 1.0))
    return fleet


def test_held_back_from_a_slow_node():
    """A request waits for the quick node although the slow one is idle."""
    fleet = taught()
    first = fleet.acquire()
    assert first.node.name == "fast"

    decision = fleet.dispatcher.explain(ROUTING)
    assert (decision.picked, decision.busy) == (None, True)
    assert decision.held_back is not None
    assert decision.held_back.free == "slow"
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    assert len(fleet.dispatcher.queue) == 1
    first.lease.done(Outcome.END)
    assert waiting.get(timeout=5).node.name == "fast"


def test_a_broken_stream_is_not_held_back():
    """It goes on at once, wherever that is."""
    fleet = taught()
    fleet.acquire()
    assert fleet.acquire(priority=Priority.CONTINUED).node.name == "slow"


def test_others_than_the_first_few_are_looked_at_too():
    """Those who tried the only free node do not keep it from who comes after them."""
    fleet = Fleet(limit=50)
    taken = [fleet.acquire(), fleet.acquire()]
    not_slow = RoutingRequest("m:latest", frozenset({"slow"}))
    stuck = [gevent.spawn(fleet.acquire, not_slow) for _ in range(20)]
    gevent.sleep(0)
    able = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    taken[1].lease.done(Outcome.END)
    assert able.get(timeout=5).node.name == "slow"
    gevent.killall(stuck)


def test_a_grant_tells_how_long_it_waited():
    """Beside why it waited, where a node was free when it came."""
    fleet = Fleet()
    taken = [fleet.acquire(), fleet.acquire()]
    assert [0.0, 0.0] == [each.decision.waited for each in taken]
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0.01)
    taken[0].lease.done(Outcome.END)
    decided = waiting.get(timeout=5).decision
    assert decided.waited > 0
    assert decided.held_back is None


def test_predictions_are_compared_with_what_happened():
    """First token and completion, from the slot on; a failure is no measure."""
    now = [0.0]
    fleet = Fleet(clock=lambda: now[0])
    kept = fleet.dispatcher.estimates
    for outcome in (Outcome.REFUSED, Outcome.END):
        lease = fleet.acquire().lease
        lease.streams, lease.decoding_since = True, now[0] + 0.5
        now[0] += 2.0
        lease.done(outcome, Timings(10, 100, 0.5, 1.5))
    first, whole = kept.first_tokens.by_model, kept.completions.by_model
    assert (1, 0.5) == (first["m:latest"].replies, first["m:latest"].actual)
    assert (1, 2.0) == (whole["m:latest"].replies, whole["m:latest"].actual)
    assert whole["m:latest"].missed > 0


def test_who_is_waited_for_no_more_may_be_evicted_at_once():
    """Those of higher priority that wanted its place come before others."""
    now = [100.0]
    fleet = Fleet(clock=lambda: now[0])
    model = {m: PresentModel(m, "d", 1) for m in ("x:1", "y:1")}
    node = Node("only", "http://only:1", slots=2)
    views = {"only": NodeView(node, Score(0.5), present=model, resident={})}
    fleet.holds.fleet(views)
    fleet.ledger.configure([node])
    fleet.published.publish(Snapshot(views, made_at=1.0))
    first = fleet.acquire(RoutingRequest("y:1"))
    first.lease.done(Outcome.END)
    fleet.hold("only")
    order = []

    def waiter(name, priority):
        made = Waiter(
            PendingRequest(RoutingRequest(name)),
            priority,
            lambda: order.append(made.priority),
        )
        fleet.dispatcher.queue.join(made)

    waiter("x:1", Priority.CONTINUED)
    waiter("y:1", Priority.CONTINUED)
    waiter("x:1", Priority.INTERACTIVE)
    fleet.holds.lift("only", HoldKind.CORDON, "operator:x", by="t", why="t")
    assert [Priority.CONTINUED] * 2 == order
    assert 1 == len(fleet.dispatcher.queue)


def down(node: str, source: str = "probe") -> Hold:
    return Hold(node, HoldKind.DOWN, source, "refused", 0.0)


def all_down(*, seconds: float = 5.0) -> Fleet:
    fleet = Fleet()
    fleet.holds.place(down("fast"))
    fleet.holds.place(down("slow"))
    fleet.dispatcher.down_wait_seconds = seconds
    return fleet


def test_waits_for_a_node_that_is_down():
    """Where all are down they are asked at once, and the first that is back serves."""
    fleet, asked = all_down(), list[float]()
    fleet.dispatcher.look_again = asked.append
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    assert [pytest.approx(5.0, abs=0.5)] == asked
    fleet.holds.lift("slow", HoldKind.DOWN, "probe", by="probe", why="it answers")
    assert "slow" == waiting.get(timeout=5).node.name


@pytest.mark.parametrize("seconds", [0.0, 0.05], ids=["not at all", "for a while"])
def test_the_wait_is_bounded(seconds):
    """Then the client hears why, of every node."""
    fleet = all_down(seconds=seconds)
    with pytest.raises(UnavailableError, match="fast: down: refused; slow: down"):
        fleet.acquire()
    assert len(fleet.dispatcher.queue) == 0


def test_nobody_waits_for_what_will_not_come():
    """A model that no node has, and nodes that people hold, are no reason to wait."""
    fleet = all_down()
    with pytest.raises(UnavailableError):
        fleet.acquire(RoutingRequest("other:latest"))
    fleet.hold("fast")
    fleet.hold("slow")
    with pytest.raises(UnavailableError):
        fleet.acquire()


def test_a_slot_of_who_came_back_is_waited_for():
    """A node that came back and is full is waited for as any other."""
    fleet = all_down(seconds=0.1)
    waiting = gevent.spawn(fleet.acquire, seconds=5)
    gevent.sleep(0)
    other = fleet.ledger.take("slow", ROUTING.model)
    fleet.holds.lift("slow", HoldKind.DOWN, "probe", by="probe", why="it answers")
    gevent.sleep(0.2)
    other.done(Outcome.END)
    assert "slow" == waiting.get(timeout=5).node.name


def test_a_first_token_that_would_be_too_late_is_refused():
    """Once a slot could not be in time any more, with 429 and when to come again."""
    fleet = Fleet()
    taken = [fleet.acquire(), fleet.acquire()]
    routing = RoutingRequest("m:latest", first_token_by=fleet.clock() + 0.05)
    with pytest.raises(OverloadedError, match="in time for a first token") as caught:
        fleet.acquire(routing)
    assert (caught.value.retry_after_seconds or 0) >= 1
    taken[0].lease.done(Outcome.END)
    assert "fast" == fleet.acquire(routing).node.name
    assert 0 == len(fleet.dispatcher.queue)


def test_reading_the_prompt_counts_towards_the_first_token():
    """A long prompt has to have its slot earlier."""
    now = [100.0]
    fleet = Fleet(clock=lambda: now[0])
    for each in [fleet.acquire(), fleet.acquire()]:
        now[0] += 2.0
        each.lease.done(Outcome.END, Timings(1000, 100, 1.0, 1.0))
    by = now[0] + 2.0
    short, long = (
        fleet.dispatcher.estimates.asking(
            RoutingRequest("m:latest", traits=Traits(size), first_token_by=by),
            Priority.INTERACTIVE,
        )
        for size in (40, 6000)
    )
    when = [
        fleet.dispatcher._slot_by(each, Priority.INTERACTIVE) for each in (short, long)
    ]
    assert by - 0.1 < when[0] <= by
    assert by - 2.0 <= when[1] < by - 1.0
    assert (2.0, 2.0) == (round(short.in_time, 3), round(long.in_time, 3))


@pytest.mark.parametrize("policy", ["shortest_completion", "least_in_flight"])
def test_a_long_queue_serves_some_in_time(policy):
    """More slots go to who came last as waits shorten; by a simple policy none."""
    now = [0.0]
    fleet = Fleet(limit=100, clock=lambda: now[0])
    fleet.dispatcher.policies = Policies(policy)
    for each in [fleet.acquire(), fleet.acquire()]:
        each.lease.done(Outcome.END, Timings(100, 100, 0.1, 1.0))
    leases = deque(fleet.acquire().lease for _ in range(2))
    line = []
    for number in range(50):
        now[0] = float(number)
        line.append(_waiter(fleet))
        fleet.dispatcher.queue.join(line[-1])
    served = []
    for _ in range(48):
        now[0] += 0.1
        line.append(_waiter(fleet))
        fleet.dispatcher.queue.join(line[-1])
        leases.popleft().done(Outcome.END, Timings(100, 100, 0.1, 1.0))
        given = [each for each in line if each.assignment and each not in served]
        served += given
        leases += [each.assignment.lease for each in given]
    places = [line.index(each) for each in served]
    assert 48 == len(served)
    fresh = [place for place in places if place >= 50]
    assert (9 if policy == "shortest_completion" else 0) == len(fresh)
    assert [p for p in places if p < 50] == list(range(48 - len(fresh)))


@pytest.mark.parametrize("policy", ["shortest_completion", "least_in_flight"])
def test_a_slow_node_takes_who_came_last(policy):
    """While a line is late; the quick one goes on with the first."""
    now = [0.0]
    fleet = Fleet(limit=100, clock=lambda: now[0])
    fleet.dispatcher.policies = Policies(policy)
    leases = {}
    for _ in range(2):
        lease = fleet.acquire().lease
        leases[lease.node] = lease
    for _ in range(5):
        for node, seconds in (("fast", 1.0), ("slow", 8.0)):
            leases[node].done(Outcome.END, Timings(100, 100, 0.1, seconds))
            leases[node] = fleet.ledger.take(node, "m:latest")
    line = []
    for _ in range(30):
        now[0] += 0.1
        line.append(_waiter(fleet))
        fleet.dispatcher.queue.join(line[-1])
    leases["slow"].done(Outcome.END, Timings(100, 100, 0.1, 8.0))
    leases["fast"].done(Outcome.END, Timings(100, 100, 0.1, 1.0))
    given = {
        each.assignment.node.name: place
        for place, each in enumerate(line)
        if each.assignment
    }
    newest = policy == "shortest_completion"
    assert given == {"slow": 29 if newest else 0, "fast": 0 if newest else 1}


def _waiter(fleet):
    asking = fleet.dispatcher._asking(ROUTING, Priority.INTERACTIVE)
    return Waiter(asking, Priority.INTERACTIVE, lambda: None)
