"""The router's own code in front of simulated nodes, in virtual time.

Each request is a greenlet that goes through `Failover.attempt`, `Dispatcher`, the
queue, the policy and the ledger with its learned slots and speeds; polls of what the
nodes hold are published every few seconds. Sockets and bodies are left out: `take`
runs the request on a node of `simulator/virtual/ollama.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar, cast

from router.capacity.drift import LOOK_SECONDS
from router.capacity.ledger import Ledger
from router.errors import InferOpsError
from router.failover.attempts import AttemptLimits, Failover
from router.failover.builds import Builds
from router.failover.course import TrafficKnowledge
from router.failover.dead_runner import DeadRunners
from router.failover.destinations import MigrationTargets
from router.failover.isolation import Isolation
from router.failover.liveness import Inquiry, Liveness, SilenceLimits
from router.failover.proxied import ProxiedRequest
from router.failover.releases import Releases
from router.failover.retry import RetryBudget
from router.health.circuits import Circuits
from router.health.offenders import Offenders
from router.holds.store import HoldStore
from router.model import Node, Outcome, Priority, Score, Timings
from router.pickers import Policies
from router.relay.pool import UpstreamRequest
from router.runtime.cancellation import CancelledError
from router.scheduling.estimates import Estimates
from router.scheduling.queue import Assignment, Queue
from router.scheduling.request import RoutingRequest, Traits
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace
from router.snapshot import NodeView, PresentModel, Published, ResidentModel, Snapshot
from router.text.prompt_prefixes import NO_PREFIXES, PromptPrefixes
from simulator.virtual.clock import Clock
from simulator.virtual.greenlets import VirtualCancellation, spawn
from simulator.virtual.node import TOTALS, Caching, Scaling, Spec
from simulator.virtual.ollama import Request, VirtualOllama
from simulator.virtual.passed import PassedOn
from simulator.virtual.workload import Ask

MODEL = "m:latest"
MODEL_BYTES = 4_700_000_000
QUEUE_SECONDS = 120.0  # the router's default
_POLL_SECONDS = 3.0
_BYTES_PER_TOKEN = 4.2  # which the router has to find out
_FASTEST = 140.0  # tokens/s that score 1
_MESSAGE = UpstreamRequest("POST", "/api/chat", {}, b"")

T = TypeVar("T")


@dataclass(slots=True)
class Reply:
    """What one request saw; seconds of the virtual clock.

    failure: what the router answered instead; empty where the reply came
    """

    ask: Ask
    slot_at: float = inf
    first_at: float = inf
    ended_at: float = inf
    node: str = ""
    failure: str = ""
    load_seconds: float = 0.0


class _Forgetful:
    """A hold store's journal that restarts nothing."""

    def load(self) -> tuple[()]:
        return ()

    def save(self, changes: Callable[[], T]) -> T:
        return changes()


class _Uncounted:
    """Attempts that nobody counts."""

    def scheduled(
        self, priority: Priority, waited: float, reason: str, trace_id: str = ""
    ) -> None: ...

    def attempted(self, node: str, outcome: str) -> None: ...

    def retried(self, reason: str) -> None: ...

    def runner_died(self, node: str, model: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is made of.

    slots_given: whether the inventory says `__slots`
    models:      what the nodes have on disk
    resident:    what is in memory at first, by the node's number
    caching:     how nodes keep prompts that they have read
    affinity:    whether the router knows how prompts begin
    """

    specs: Sequence[Spec]
    scaling: Scaling
    policy: str = "shortest_completion"
    slots_given: bool = True
    models: Sequence[str] = (MODEL,)
    resident: Callable[[int], Sequence[str]] = lambda _: (MODEL,)
    queue_seconds: float = QUEUE_SECONDS
    first_token_seconds: float = inf
    max_waiting: int = 1_000_000
    caching: Caching = Caching.NONE
    affinity: bool = True


class Routed:
    """One router before one fleet."""

    def __init__(self, setup: Setup, clock: Clock) -> None:
        self.setup, self.clock = setup, clock
        self.nodes = self._nodes()
        self.replies: list[Reply] = []
        self._static = {spec.name: self._view(spec) for spec in setup.specs}
        self.published = Published(self._snapshot())
        self.holds = HoldStore(_Forgetful(), self._now, monotonic=self._now)
        self.holds.fleet(self._static)
        self.ledger = self._ledger()
        self.ledger.configure(view.node for view in self._static.values())
        self.dispatcher = self._dispatcher()
        self.failover = self._failover()

    def _nodes(self) -> dict[str, VirtualOllama]:
        setup, totals = self.setup, TOTALS[self.setup.scaling]
        return {
            spec.name: VirtualOllama(
                spec,
                totals,
                self.clock,
                setup.resident(number),
                caching=setup.caching,
            )
            for number, spec in enumerate(setup.specs)
        }

    def _now(self) -> float:
        return self.clock.now

    def _ledger(self) -> Ledger:
        return Ledger(1, self._now)

    def _dispatcher(self) -> Scheduler:
        return Scheduler(
            self.published,
            self.holds,
            self.ledger,
            Queue(self.setup.max_waiting),
            Policies(self.setup.policy),
            clock=self._now,
            estimates=self._estimates(),
        )

    def _estimates(self) -> Estimates:
        return Estimates(self.ledger, self._now)

    def _failover(self) -> Failover:
        liveness = Liveness(
            Inquiry(lambda _: True),
            self.ledger,
            MigrationTargets(self.dispatcher, self.published, lambda *_: None),
            SilenceLimits(600.0, 120.0),
            clock=self._now,
        )
        tally = _Uncounted()
        return Failover(
            self.dispatcher,
            cast(Any, None),  # no backends: `take` is ours
            self.holds,
            tally,
            AttemptLimits(3),
            learned=self._learned(),
            budget=RetryBudget(0.2, 10),
            releases=Releases(self.published, self._now),
            liveness=liveness,
            runners=DeadRunners(
                self.ledger,
                self.published,
                liveness,
                tally,
                runs=lambda *_: True,
                clock=self._now,
            ),
            clock=self._now,
        )

    def _learned(self) -> TrafficKnowledge:
        """Return what failures teach; here nothing fails but by the bench's will."""
        circuits = Circuits(
            self.holds,
            leases=self.ledger.leases,
            present=lambda node: self._static[node].present,
            clock=self._now,
            wall_clock=self._now,
        )
        isolation = Isolation(
            Offenders(self._now),
            self.ledger,
            self.dispatcher.explain,
            lambda: tuple(self._static),
            spawn=spawn,
            pause=lambda _: None,
            clock=self._now,
        )
        return TrafficKnowledge(circuits, isolation, Builds(self.published, self._now))

    def _view(self, spec: Spec) -> NodeView:
        slots = spec.slots if self.setup.slots_given else None
        present = {m: PresentModel(m, "0" * 64, MODEL_BYTES) for m in self.setup.models}
        return NodeView(
            Node(spec.name, f"http://{spec.name}:11434", slots=slots),
            Score(min(1.0, spec.speed / _FASTEST)),
            present=present,
        )

    def _snapshot(self) -> Snapshot:
        views = {}
        for name, view in self._static.items():
            resident = {
                model: ResidentModel(
                    model, "0" * 64, MODEL_BYTES, MODEL_BYTES, {"expires_at": at}
                )
                for model, at in self.nodes[name].resident.items()
            }
            views[name] = NodeView(
                view.node, view.score, present=view.present, resident=resident
            )
        return Snapshot(views, made_at=self.clock.now)

    def poll(self, until: float) -> None:
        """Publish what the nodes hold, every few seconds."""
        self.published.publish(self._snapshot())
        if self.clock.now < until:
            due = self.clock.now + _POLL_SECONDS
            self.clock.at(due, lambda: self.poll(until))

    def _look_at_streams(self, until: float) -> None:
        self.ledger.look_at_streams()
        if self.clock.now < until:
            due = self.clock.now + LOOK_SECONDS
            self.clock.at(due, lambda: self._look_at_streams(until))

    def run(self, asks: Sequence[Ask]) -> list[Reply]:
        """Have each request come at its time, and run them all to their ends."""
        sessions: dict[int, list[Ask]] = {}
        for ask in asks:
            if ask.session and ask.old:
                sessions[ask.session].append(ask)
                continue
            turns = [ask]
            if ask.session:
                sessions[ask.session] = turns
            spawn(self.clock, ask.at, lambda turns=turns: self._session(turns))  # type: ignore[misc]
        until = max(ask.at for ask in asks)
        self.poll(until)
        self._look_at_streams(until)
        self.clock.run()
        return self.replies

    def _session(self, turns: Sequence[Ask]) -> None:
        """Have each turn come at its time, and after the reply to the one before."""
        pause = VirtualCancellation(self.clock)
        for ask in turns:
            if ask.at > self.clock.now:
                pause.sleep(ask.at - self.clock.now)
            reply = Reply(replace(ask, at=self.clock.now))
            self.replies.append(reply)
            self._request(reply)

    def people(
        self, model: str, count: int, until: float, ask: Ask, options: str = ""
    ) -> None:
        """Have so many ask for a model again and again, each once it has heard."""

        def person() -> None:
            while self.clock.now < until:
                again = replace(ask, at=self.clock.now, model=model, options=options)
                reply = Reply(again)
                self.replies.append(reply)
                self._request(reply)

        for number in range(count):
            spawn(self.clock, 0.01 * number, person)

    def _request(self, reply: Reply) -> None:
        cancellation = VirtualCancellation(self.clock)
        ask, now = reply.ask, self.clock.now
        call = ProxiedRequest(
            self.routing(ask),
            _MESSAGE,
            Priority.INTERACTIVE,
            now + self.setup.queue_seconds,
            streams=True,
        )
        trace = DecisionTrace("", "/api/chat", ask.model, now)
        attempts = self.failover.attempts(call, cancellation, trace)
        try:  # no attempt fails: nodes of this fleet always answer
            self._take(attempts.next(), reply, cancellation)
        except (InferOpsError, CancelledError) as error:
            reply.failure = f"{type(error).__name__}: {error}"
            reply.ended_at = self.clock.now

    def routing(self, ask: Ask) -> RoutingRequest:
        size = round(_BYTES_PER_TOKEN * ask.prompt)
        traits = Traits(prompt_bytes=size, options=ask.options)
        by = ask.at + self.setup.first_token_seconds
        return RoutingRequest(
            ask.model,
            traits=traits,
            first_token_by=by,
            principal=ask.principal,
            prefixes=_prefixes(ask) if self.setup.affinity else NO_PREFIXES,
        )

    def _take(
        self, assignment: Assignment, reply: Reply, cancellation: VirtualCancellation
    ) -> None:
        lease, ask = assignment.lease, reply.ask
        node = self.nodes[lease.node]

        def first(_: Request) -> None:
            reply.first_at = lease.decoding_since = self.clock.now
            lease.first_token_seconds = self.clock.now - ask.at

        def ended(_: Request) -> None:
            cancellation.wake()

        request = Request(
            ask.model,
            ask.prompt,
            ask.tokens,
            ended,
            first,
            ask.options,
            session=ask.session or None,
            head=(ask.head[0] or None, ask.head[1]),
        )
        reply.node, reply.slot_at = lease.node, self.clock.now
        lease.reply = PassedOn(lambda: node.tokens(request))
        node.submit(request)
        cancellation.until(lambda: request.over, inf, lambda: 0.0)
        now = self.clock.now
        reply.ended_at, reply.load_seconds = now, request.load_seconds
        lease.done(Outcome.END, _timings(request, now))


def _prefixes(ask: Ask) -> PromptPrefixes:
    """Return digests as the router makes them of a body, which there is none of."""
    known, kept = [], []
    if ask.session:
        kept.append(hash((ask.session, ask.turn)))
        if ask.old:
            before = hash((ask.session, ask.turn - 1))
            known.append((before, ask.old / ask.prompt))
    if ask.head[0]:
        digest = hash(("head", ask.head[0]))
        known.append((digest, ask.head[1] / ask.prompt))
        kept.append(digest)
    return PromptPrefixes(tuple(known), tuple(kept))


def _timings(request: Request, now: float) -> Timings:
    assert request.stream is not None
    read, generated = request.stream.timings(now)
    return Timings(
        int(request.prompt),
        int(request.tokens),
        read,
        generated,
        request.load_seconds,
        now - request.came,
    )
