"""The circuits of a fleet: one for each node and one for each model on a node.

Told of every attempt that failed or was answered; says whom not to ask. A node's open
circuit is a `down` hold of its own source, which probes do not lift; a model's is a
filter's reason. Does no I/O: trials are `router.failover.trials`'.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from router.health.circuit import Circuit, CircuitRule, Failure, State
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Cause, Hold, HoldKind, Outcome

CIRCUIT = "traffic:circuit"  # the source of a hold that an open circuit places
NODE = ""  # in a key: the node itself, not a model on it

Key = tuple[str, str]  # node, model

# What a proxy or an account says, not a model.
_OF_THE_NODE = frozenset({Cause.DENIED, Cause.NOT_OLLAMA, Cause.GATEWAY})
# One runner's death ends all that runs on it: that is no more than two failures.
_OF_ONE_DEATH = frozenset({Cause.RUNNER_DIED, Cause.RESET, Cause.BROKE_OFF})
# What a server that is found down explains: it holds the node, and a poll lifts that.
_OF_A_SERVER = frozenset({Cause.RESET, Cause.BROKE_OFF, Cause.TIMEOUT, Cause.STALLED})
_DOUBT_SECONDS = 1.0
# Of a node and model nobody asks for any more, the oldest are forgotten.
_MOST_CIRCUITS = 4096
_BROKEN = {
    Outcome.EOF: Cause.BROKE_OFF,
    Outcome.ERROR_LINE: Cause.RUNNER_DIED,
    Outcome.STALLED: Cause.STALLED,
}

log = get_logger("health")


class AnswerView(Protocol):
    """What is read of a reply under way (`router.relay.upstream.Reply`)."""

    @property
    def answered(self) -> bool: ...


class InFlightView(Protocol):
    """What is read of a lease (`router.capacity.ledger.Lease`)."""

    @property
    def node(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def taken_at(self) -> float: ...
    @property
    def reply(self) -> AnswerView | None: ...


@dataclass(frozen=True, slots=True)
class CircuitView:
    """A circuit for people; `model` is empty for the node's own."""

    node: str
    model: str
    circuit: Circuit


class Circuits:
    """Opens and closes the circuits of a fleet; one for the process."""

    def __init__(
        self,
        holds: HoldStore,
        *,
        leases: Callable[[str], Iterable[InFlightView]],
        present: Callable[[str], Collection[str] | None],
        rule: Callable[[], CircuitRule] = CircuitRule,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._holds = holds
        self._leases = leases
        self._present = present
        self._rule = rule
        self._clock = clock
        self._wall_clock = wall_clock
        self._circuits: dict[Key, Circuit] = {}
        self._listeners: list[Callable[[], None]] = []
        self.troubled: frozenset[str] = frozenset()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.openings: Counter[str] = Counter()
        self.trials: Counter[tuple[str, str]] = Counter()
        holds.listen(self._look_at_holds)

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back after each change of who may be asked."""
        self._listeners.append(callback)

    # What is asked for each candidate of each decision

    def reason(self, node: str, model: str) -> str | None:
        """Say why the model is not to be asked for there; None where it may be."""
        circuit = self._circuits.get((node, model))
        if circuit is None or not circuit.is_open:
            return None
        return f"circuit open: {_shown_circuit(circuit)}"

    def is_open(self, node: str) -> bool:
        """Say whether the node's own circuit is open."""
        circuit = self._circuits.get((node, NODE))
        return circuit is not None and circuit.is_open

    def one_at_a_time(self, node: str, model: str) -> bool:
        """Say whether a request there must show first that the next may be sent."""
        return any(
            circuit is not None and self._occupied(key, circuit)
            for key in ((node, model), (node, NODE))
            if (circuit := self._circuits.get(key))
        )

    def healthy(self, node: str, model: str) -> bool:
        """Say whether nothing speaks against it: no failure since the last answer."""
        if node not in self.troubled:
            return True
        return all(
            circuit.state is State.CLOSED and not circuit.failing
            for key in ((node, model), (node, NODE))
            if (circuit := self._circuits.get(key))
        )

    # What is told

    def failed(
        self, node: str, model: str, failure: Failure, *, began_at: float
    ) -> None:
        """Take in an attempt that failed, and when it began."""
        self.failures[node, failure.cause] += 1
        self._fail((node, model), failure, began_at, may_open=True)
        if failure.cause is not Cause.MODEL_MISSING:
            wide = self._wide(node, failure)
            self._fail((node, NODE), failure, began_at, may_open=wide)

    def succeeded(self, node: str, model: str, *, began_at: float) -> None:
        """Take in an answer: a stream's first line, or a whole reply."""
        if node not in self.troubled:
            return
        for key in ((node, model), (node, NODE)):
            if circuit := self._circuits.get(key):
                now, rule = self._clock(), self._rule()
                self._put(key, circuit.succeeded(began_at, now, rule))

    def ended(self, lease: InFlightView, outcome: Outcome, _: object = None) -> None:
        """Take in the end of a lease: a stream may have broken."""
        cause = _BROKEN.get(outcome)
        if cause is not None:
            text = f"a stream ended in the middle: {outcome}"
            failure = Failure(self._clock(), cause, text, model=lease.model)
            self.failed(lease.node, lease.model, failure, began_at=lease.taken_at)

    def forgive(self, request: str) -> None:
        """Take back what was charged for a request that was at fault itself."""
        for key, circuit in tuple(self._circuits.items()):
            rest = circuit.without(lambda f: f.request == request, self._rule())
            self._put(key, rest)

    def keep(self, nodes: Collection[str]) -> None:
        """Forget nodes that left, models that are gone, and what was long ago."""
        now, rule = self._clock(), self._rule()
        for key, circuit in tuple(self._circuits.items()):
            node, model = key
            present = self._present(node)
            gone = model != NODE and present is not None and model not in present
            if node not in nodes or gone or circuit.calm(now, rule):
                self._put(key, _NEW)

    # Trials

    def due(self) -> list[tuple[Key, Failure]]:
        """Give the open circuits whose trial is due, and what opened each."""
        now = self._clock()
        return [
            (key, circuit.last)
            for key, circuit in self._open()
            if circuit.try_at <= now and circuit.last
        ]

    def try_now(self, node: str) -> int:
        """Have every open circuit of a node tried at once; return how many."""
        mine = [each for each in self._open() if each[0][0] == node]
        for key, circuit in mine:
            self._put(key, circuit.tried_now())
        return len(mine)

    def tried(self, key: Key, *, passed: bool) -> None:
        """Take in the end of a trial."""
        circuit = self._circuits.get(key)
        if circuit is None or not circuit.is_open:
            return
        self.trials[key[0], "passed" if passed else "failed"] += 1
        now, rule = self._clock(), self._rule()
        tell = circuit.trial_passed if passed else circuit.trial_failed
        self._put(key, tell(now, rule))

    # For people

    def shown(self) -> Iterator[CircuitView]:
        """Yield the circuits that are not clean."""
        for (name, model), circuit in tuple(self._circuits.items()):
            yield CircuitView(name, model, circuit)

    # Inside

    def _open(self) -> list[tuple[Key, Circuit]]:
        return [(key, each) for key, each in self._circuits.items() if each.is_open]

    def _occupied(self, key: Key, circuit: Circuit) -> bool:
        """Say whether one under way is to be waited for."""
        if circuit.state is State.HALF_OPEN:
            since = circuit.opened_at
        elif circuit.failing and (last := circuit.last):
            if self._clock() - last.at > _DOUBT_SECONDS:
                return False
            since = float("-inf")
        else:
            return False
        return any(
            key[1] in (NODE, lease.model)
            and lease.taken_at >= since
            and not (lease.reply and lease.reply.answered)
            for lease in self._leases(key[0])
        )

    def _wide(self, node: str, failure: Failure) -> bool:
        """Say whether a failure may be the node's, not just the model's."""
        if failure.cause in _OF_THE_NODE:
            return True
        failing = {failure.model}
        circuit = self._circuits.get((node, NODE))
        for result in reversed(circuit.results if circuit else ()):
            if result is None:
                break
            failing.add(result.model)
        present = self._present(node)
        return len(failing) > 1 or (bool(present) and failing.issuperset(present or ()))

    def _fail(
        self, key: Key, failure: Failure, began_at: float, *, may_open: bool
    ) -> None:
        circuit = self._circuits.get(key, _NEW)
        if not _same_death(circuit.results[-2:], failure, began_at):
            self._put(key, circuit.failed(failure, self._rule(), may_open=may_open))

    def _put(self, key: Key, circuit: Circuit) -> None:
        before = self._circuits.pop(key, _NEW)
        if circuit.clean:
            self._name_troubled()
        else:
            self._circuits[key] = circuit  # the newest stands last
            if key[0] not in self.troubled:
                self._name_troubled()
            self._bound()
        if before.state is not circuit.state:
            self._changed(key, circuit)

    def _bound(self) -> None:
        """Let go of the oldest that is closed: an open one may hold its node."""
        if len(self._circuits) > _MOST_CIRCUITS:
            closed = (k for k, c in self._circuits.items() if c.state is State.CLOSED)
            if (oldest := next(closed, None)) is not None:
                del self._circuits[oldest]

    def _name_troubled(self) -> None:
        self.troubled = frozenset(node for node, _ in self._circuits)

    def _changed(self, key: Key, circuit: Circuit) -> None:
        node, model = key
        if circuit.is_open:
            self.openings[node] += 1
        log.warning(
            "circuit_changed",
            node=node,
            model=model or "all",
            state=circuit.state.value,
            why=_shown_circuit(circuit),
        )
        if model == NODE:
            self._hold(node, circuit)
        for callback in self._listeners:
            callback()

    def _look_at_holds(self) -> None:
        """Leave to the probe what a server that is down explains."""
        for node in self.troubled:
            found = (h for h in self._holds.of(node) if h.kind is HoldKind.DOWN)
            if any(hold.source != CIRCUIT for hold in found):
                self._explained(node)

    def _explained(self, node: str) -> None:
        for key, circuit in tuple(self._circuits.items()):
            if key[0] == node:
                rule = self._rule()
                self._put(key, circuit.without(lambda f: f.cause in _OF_A_SERVER, rule))

    def _hold(self, node: str, circuit: Circuit) -> None:
        if circuit.is_open:
            now = self._wall_clock()
            hold = Hold(node, HoldKind.DOWN, CIRCUIT, _shown_circuit(circuit), now)
            self._holds.find_down(hold)
        else:
            why = (
                "a trial passed"
                if circuit.state is State.HALF_OPEN
                else "it is healthy"
            )
            self._holds.lift(node, HoldKind.DOWN, CIRCUIT, by="traffic", why=why)


_NEW = Circuit()


def _same_death(
    last_two: tuple[Failure | None, ...], failure: Failure, began_at: float
) -> bool:
    """Say whether a failure is one more request that ran when its runner died."""
    if len(last_two) < 2:
        return False
    deaths = [each for each in last_two if each and each.cause in _OF_ONE_DEATH]
    both = len(deaths) == 2 and failure.cause in _OF_ONE_DEATH
    return both and began_at <= deaths[0].at


def _shown_circuit(circuit: Circuit) -> str:
    last = circuit.last
    return f"{last.cause}: {last.text}" if last else "answered again"
