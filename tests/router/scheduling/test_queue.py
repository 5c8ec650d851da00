"""Whatever happens, no slot is given twice and nobody who waits is forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.capacity.ledger import Lease, Ledger
from router.holds.store import HoldStore
from router.model import Hold, HoldKind, Node, Outcome, Priority, Score, Timings
from router.pickers import Policies
from router.scheduling.queue import Queue, Waiter
from router.scheduling.request import RoutingRequest
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from tests.router.control.fakes import MemoryJournal

SLOTS = {"a": 1, "b": 3, "c": 4}
MODELS = {"a": ("x:1",), "b": ("x:1", "y:1"), "c": ("y:1",)}


def lease_of(waiter: Waiter) -> Lease:
    assert waiter.assignment is not None
    return waiter.assignment.lease


class Fleet(RuleBasedStateMachine):
    """Requests join, get slots, end, leave; nodes are held and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        views = {
            name: NodeView(
                Node(name, f"http://{name}:1", slots=slots),
                Score(0.5),
                present={m: PresentModel(m, "d", 1) for m in MODELS[name]},
                resident={},
            )
            for name, slots in SLOTS.items()
        }
        self.published = Published(Snapshot(views, made_at=0.0))
        self.holds = HoldStore(MemoryJournal())
        self.holds.fleet(views)
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure(v.node for v in views.values())
        self.queue = Queue(50)
        self.dispatcher = Scheduler(
            self.published,
            self.holds,
            self.ledger,
            self.queue,
            Policies("least_in_flight"),
            clock=lambda: self.now,
        )
        self.waiting: list[Waiter] = []
        self.running: list[Waiter] = []

    @rule(model=st.sampled_from(("x:1", "y:1")), priority=st.sampled_from(Priority))
    def arrive(self, model, priority):
        self.now += 0.01
        asking = self.dispatcher._asking(RoutingRequest(model), priority)
        waiter = Waiter(asking, priority, lambda: None)
        self.waiting.append(waiter)
        self.queue.join(waiter)
        self.dispatcher.serve()

    @rule(pick=st.integers(0, 99), speed=st.floats(1, 500), seconds=st.floats(0.01, 30))
    def end(self, pick, speed, seconds):
        if not self.running:
            return
        self.now += seconds
        waiter = self.running.pop(pick % len(self.running))
        timings = Timings(
            generated_tokens=max(2, int(speed * seconds)), generate_seconds=seconds
        )
        lease_of(waiter).done(Outcome.END, timings)

    @rule(pick=st.integers(0, 99))
    def leave(self, pick):
        if self.waiting:
            waiter = self.waiting.pop(pick % len(self.waiting))
            self.queue.leave(waiter)
            self.dispatcher.serve()

    @rule(node=st.sampled_from(sorted(SLOTS)))
    def hold(self, node):
        self.holds.place(Hold(node, HoldKind.CORDON, "operator:x", "r", 0.0))

    @rule(node=st.sampled_from(sorted(SLOTS)))
    def lift(self, node):
        self.holds.lift(node, HoldKind.CORDON, "operator:x", by="t", why="t")

    @invariant()
    def granted_in_order(self):
        """FIFO within a priority and model, people before batch."""
        granted = [w for w in self.waiting if w.assignment]
        still = [w for w in self.waiting if not w.assignment]
        self.running += granted
        ranks = {p: n for n, p in enumerate(Priority)}
        for late in granted:
            for left in still:
                if left.model == late.model and self.waiting.index(
                    left
                ) < self.waiting.index(late):
                    assert ranks[left.priority] > ranks[late.priority]
        self.waiting = still

    @invariant()
    def within_the_ceiling(self):
        held = dict.fromkeys(SLOTS, 0)
        for waiter in self.running:
            held[lease_of(waiter).node] += 1
        for name, slots in SLOTS.items():
            assert held[name] == self.ledger.in_flight(name) <= slots
            assert held[name] == len(self.ledger.leases(name))

    @invariant()
    def nobody_is_forgotten(self):
        """Whoever has no slot stands in the queue, and no node could take it."""
        wanted = [w for p in Priority for w in self.waiting if w.priority is p]
        assert wanted == list(self.queue)
        for waiter in self.waiting:
            assert self.dispatcher.explain(waiter.asking.routing).picked is None
        for model in ("x:1", "y:1"):
            count = sum(w.model == model for w in self.waiting)
            assert count == self.queue.ahead(model, Priority.BATCH)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40)
