"""A fleet in one process whose nodes answer as a test says; only sending is played."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from router.capacity.ledger import Ledger
from router.errors import (
    AttemptError,
    EvictedError,
    GoneError,
    MaybeSentError,
    NotSentError,
    OtherBuildError,
    RefusedError,
    RunnerDiedError,
    UnclearError,
)
from router.failover.attempts import AttemptLimits, Failover
from router.failover.builds import Builds
from router.failover.course import TrafficKnowledge
from router.failover.dead_runner import DIED, DeadRunners
from router.failover.destinations import MigrationTargets
from router.failover.findings import Findings
from router.failover.isolation import Isolation
from router.failover.judgement import route_missing
from router.failover.liveness import Inquiry, Liveness, SilenceLimits
from router.failover.proxied import ProxiedRequest
from router.failover.releases import Releases
from router.failover.retry import RetryBudget
from router.health.circuits import Circuits
from router.health.offenders import Offenders
from router.holds.store import HoldStore
from router.model import Cause, Hold, HoldKind, Node, Outcome, Priority, Score
from router.pickers import Policies
from router.relay.pool import Backends, UpstreamRequest
from router.runtime.cancellation import Cancellation
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from tests.router.control.fakes import MemoryJournal

MODEL = "m:latest"


class Tally:
    """Counts what it is told."""

    def __init__(self):
        self.retries: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, object]] = Counter()

    def scheduled(self, priority, waited, reason, trace_id=""):
        """Waits are not counted, nor what decided."""

    def attempted(self, node, outcome):
        self.attempts[node, outcome] += 1

    def runner_died(self, node, model):
        self.attempts[node, "runner_died"] += 1

    def retried(self, reason):
        self.retries[reason] += 1


class Running:
    """A request under way, as an eviction sees it.

    ended: why it was abandoned; moved: how often it was evicted; moves: whether the
    node took or said something of it just now
    """

    def __init__(self, *, answered=True, movable=True):
        self.answered, self.movable, self.mark = answered, movable, 0
        self.ended, self.moved, self.moves = [], 0, False
        self.reads, self.lines = None, 0

    def moved_within(self, seconds):
        return self.moves

    def evict(self):
        self.moved += 1
        return True

    def abandon(self, why):
        self.ended.append(why)
        return len(self.ended) == 1


# What a node may answer with: a word to an error.
ERRORS = {
    "gpu": lambda n: RefusedError(
        f"{n}: 500: CUDA error", Cause.GPU_ERROR, status=500, body=b"{}"
    ),
    "denied": lambda n: RefusedError(
        f"{n}: 401: who are you", Cause.DENIED, status=401, body=b""
    ),
    "boom": lambda n: UnclearError(
        f"{n}: 500: boom 17", Cause.ERROR, status=500, body=b'{"error":"boom"}'
    ),
    "long": lambda n: UnclearError(
        f"{n}: 400: exceeds the context length", Cause.TOO_LARGE, status=400, body=b""
    ),
    "died": lambda n: RefusedError(
        f"{n}: 500: model runner has unexpectedly stopped",
        Cause.RUNNER_DIED,
        status=500,
        body=b"",
    ),
    "reset": lambda n: MaybeSentError(f"{n}: connection reset", Cause.RESET),
    "gone": lambda n: GoneError(f"{n}: cannot connect: refused", Cause.RESET),
    "abandoned": lambda n: RunnerDiedError(
        f"{n}: {DIED}", Cause.RUNNER_DIED, status=500, body=b""
    ),
    "lacks": lambda n: route_missing(n, "/api/chat"),
    "moved": lambda n: EvictedError(f"{n}: the node is being emptied"),
    "refused": lambda n: NotSentError(f"{n}: cannot connect: refused"),
    "tools": lambda n: OtherBuildError(
        f"{n}: 400: does not support tools", status=400, body=b"", headers=()
    ),
}


class Fleet:
    """Nodes by name, the best first; `answers` says what each gives, "ok" at first."""

    def __init__(self, names="abc", *, slots=4, budget=0, digests=None):
        self.now = 1000.0
        self.answers: dict[str, str | list[str]] = dict.fromkeys(names, "ok")
        self.asked: list[str] = []
        self.tried: list[str] = []
        self.trial_fails: set[str] = set()
        self.gone: set[str] = set()
        self.going: set[str] = set()
        views = {}
        for n, name in enumerate(names):
            digest = (digests or {}).get(name, "d1")
            views[name] = NodeView(
                Node(name, f"http://{name}:1", slots=slots),
                Score(0.9 - n / 10),
                version="0.17.4",
                present={MODEL: PresentModel(MODEL, digest, 1)},
                resident={},
            )
        self.published = Published(Snapshot(views, made_at=0.0))
        self.holds = HoldStore(MemoryJournal())
        self.holds.fleet(views)
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure(v.node for v in views.values())
        self.circuits = Circuits(
            self.holds,
            leases=self.ledger.leases,
            present=lambda n: views[n].present,
            clock=lambda: self.now,
        )
        self.ledger.listen(self.circuits.ended)
        self.tally = Tally()
        self._build(budget)

    def _build(self, budget):
        self.dispatcher = Scheduler(
            self.published,
            self.holds,
            self.ledger,
            Queue(10),
            Policies(),
            clock=lambda: self.now,
            health=self.circuits,
        )
        self.offenders = Offenders(lambda: self.now)
        names = tuple(self.published.current.nodes)
        self.isolation = Isolation(
            self.offenders,
            self.ledger,
            self.dispatcher.explain,
            lambda: names,
            spawn=lambda call, *args: call(*args),
            pause=lambda _: self.gone.update(self.going),
            clock=lambda: self.now,
        )
        self.isolation.trial = self._trial
        self.ledger.listen(self.isolation.ended)
        self.liveness = Liveness(
            Inquiry(lambda _: True),
            self.ledger,
            MigrationTargets(self.dispatcher, self.published, lambda *_: None),
            SilenceLimits(600.0, 120.0),
            clock=lambda: self.now,
        )
        self.runners = DeadRunners(
            self.ledger,
            self.published,
            self.liveness,
            self.tally,
            runs=lambda *_: True,
            clock=lambda: self.now,
        )
        self.failover = Failover(
            self.dispatcher,
            Backends(1.0),
            self.holds,
            self.tally,
            AttemptLimits(attempts=3),
            learned=TrafficKnowledge(
                self.circuits, self.isolation, Builds(self.published, lambda: self.now)
            ),
            budget=RetryBudget(0.0, budget),
            releases=Releases(self.published),
            liveness=self.liveness,
            runners=self.runners,
            clock=lambda: self.now,
        )

    def _trial(self, aboard):
        self.tried.append(aboard.node.name)
        if aboard.node.name in self.gone:
            return NotSentError("refused")
        failed = aboard.node.name in self.trial_fails | self.going
        return MaybeSentError("no trial", Cause.RESET) if failed else None

    def call(self, body=b"{}"):
        return ProxiedRequest(
            RoutingRequest(MODEL),
            UpstreamRequest("POST", "/api/chat", {"X-Request-Id": "r"}, body),
            Priority.INTERACTIVE,
            self.now + 5,
            findings=Findings(body),
        )

    def ask(self, call=None):
        """Ask as a client does; returns the node that answered."""
        call = call or self.call()
        if not call.findings.deaths:
            self.isolation.admit(call.findings)

        def take(assignment):
            node = assignment.node.name
            self.asked.append(node)
            self.now += 0.01
            answer = self.answers[node]
            if isinstance(answer, list):
                answer = answer.pop(0)
            if answer == "ok":
                lease = assignment.lease
                self.circuits.succeeded(node, MODEL, began_at=lease.taken_at)
                lease.done(Outcome.END)
                return node
            if answer == "hangs":  # the probe finds it down, and the evictor moves it
                hold = Hold(node, HoldKind.DOWN, "probe", "no answer", self.now)
                self.holds.place(hold)
                answer = "moved"
            error = ERRORS[answer](node)
            self.failover.note(assignment, "/api/chat", error, "r")
            assignment.lease.done(Outcome.REFUSED)
            raise error

        trace = DecisionTrace("r", "/api/chat", MODEL, self.now)
        attempts = self.failover.attempts(call, Cancellation(), trace)
        while True:
            assignment = attempts.next()
            try:
                return take(assignment)
            except AttemptError as error:
                attempts.failed(error)

    def lack_the_route(self, names):
        """Have some nodes run an older release, which answers 404."""
        views = dict(self.published.current.nodes)
        for name in names:
            views[name] = replace(views[name], version="0.1")
            self.answers[name] = "lacks"
        self.published.publish(Snapshot(views, made_at=0.0))

    def open_on(self):
        """Name the nodes where the model's circuit is open."""
        return sorted(
            each.node
            for each in self.circuits.shown()
            if each.model and each.circuit.is_open
        )
