"""What is learned of requests and nodes at each end, and what that predicts."""

from __future__ import annotations

from collections.abc import Callable

from router.capacity.ledger import Lease, Ledger
from router.model import Outcome, Priority, Timings
from router.scheduling.accuracy import Deviations
from router.scheduling.completion import Expected
from router.scheduling.demand import Demand
from router.scheduling.in_flight import InFlight, RunningRequest
from router.scheduling.offers import Offers
from router.scheduling.pipeline import Decision
from router.scheduling.prediction import AnswerPrediction
from router.scheduling.prompt_caches import PromptCaches
from router.scheduling.prompt_speed import PromptSpeeds
from router.scheduling.request import PendingRequest, RoutingRequest
from router.scheduling.residency import Residency, split
from router.snapshot import Snapshot

# Of what reading a prompt took, the part that is its own at least: what the node had to
# read before it is an estimate as well.
_OWN_READING = 0.25
# Fewer tokens, read or not, make no difference that can be measured.
_LEAST_REUSED = 64
# Of what was believed to be in the cache. At half of it, misses that were read a little
# quicker than usual count as hits, and the speed that is learned of the others is low.
_IS_HIT = 0.6


class Estimates:
    """Predictions of work, and offers of nodes; learns from every lease's end."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float],
        prediction: AnswerPrediction | None = None,
        prompts: PromptSpeeds | None = None,
    ) -> None:
        self.prediction = prediction or AnswerPrediction()
        self.prompts = prompts or PromptSpeeds()
        self.caches = PromptCaches()
        self.in_flight = InFlight()
        self.residency = Residency()
        self.demand = Demand()
        self.first_tokens = Deviations()
        self.completions = Deviations()
        self.reused_tokens = Deviations()
        self.offers = Offers(ledger, self, clock)
        self._ledger = ledger
        self._clock = clock

    def asking(
        self,
        routing: RoutingRequest,
        priority: Priority,
        picker: str = "",
        *,
        holds_back: bool = True,
    ) -> PendingRequest:
        """Say what a request that comes now wants, with what is expected of it.

        picker: the name of its policy, and whether that one `holds_back`
        """
        if routing.traits.options:
            routing = self._as_loaded(routing)
        work = self.prediction.work(routing.model, routing.traits)
        held = holds_back and priority is not Priority.CONTINUED
        now = self._clock()
        in_time = max(0.0, routing.first_token_by - now)
        reuse = self.caches.look_up(routing.runner, routing.prefixes)
        return PendingRequest(routing, work, now, in_time, held, picker, reuse=reuse)

    def _as_loaded(self, routing: RoutingRequest) -> RoutingRequest:
        """Name the options by what is known to be loaded alike."""
        same = self.residency.same_as(routing.runner)
        if same == routing.runner:
            return routing
        return routing._replace(traits=routing.traits._replace(options=split(same)[1]))

    def look(self, snapshot: Snapshot) -> None:
        """Take what polls saw of the nodes' memory."""
        for name in self.residency.look(snapshot, self._clock()):
            self._ledger.changes.add(name)

    def began(
        self,
        lease: Lease,
        asking: PendingRequest,
        decided: Decision,
        idle_since: float | None = None,
    ) -> None:
        """Take note of a request that goes to a node.

        idle_since: when a node had a slot for it first, but not its model
        """
        now, picked, runner = self._clock(), decided.picked, asking.routing.runner
        load = 0.0
        if picked is not None:
            load = picked.offer.load
            if load:
                self.demand.paid(runner)
                if picked.offer.victims:
                    self.offers.evictions.begun(now)
            elif lost := decided.lost(asking, idle_since):
                self.demand.lost(runner, lost, now)
        self.residency.began(lease, runner, load, now)
        speed = self.prompts.speed(lease.node, lease.model)
        reused = asking.reuse.at(lease.node) if asking.reuse is not None else None
        work = picked.work if picked is not None else asking.work
        seconds = work.unread / speed if speed else 0.0
        expected = picked.expected if picked is not None else None
        self.caches.began(lease.node, runner, loads=load > 0)
        self.in_flight.begin(lease, asking, seconds, expected, reused)

    def ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        """Learn from a lease that ended."""
        now = self._clock()
        self.residency.ended(lease, outcome, now)
        self.residency.reported(lease, timings.load_seconds if timings else 0.0)
        running = self.in_flight.end(lease)
        if running is None:  # a job's item
            self.caches.began(lease.node, lease.model, loads=False)
        elif timings is not None or lease.decoding_since:
            routing = running.asking.routing
            self.caches.read(lease.node, routing.runner, routing.prefixes)
        if timings is None:
            return
        seconds = _reading(lease, timings, running)
        if not self._found_read(lease, timings.prompt_tokens, seconds, running):
            self.prompts.learn(lease.node, lease.model, timings.prompt_tokens, seconds)
        if running is not None and outcome is Outcome.END:
            asking = running.asking
            self.prediction.learn(
                lease.model, asking.routing.traits, asking.work, timings
            )
            self._compare(lease, running.expected, now)

    def _found_read(
        self,
        lease: Lease,
        tokens: int,
        seconds: float,
        running: RunningRequest | None,
    ) -> bool:
        """Say whether much of the prompt was in the cache, as was believed; learn it.

        Such a reply tells nothing of the speed at which prompts are read.
        """
        reused = running.reused if running is not None else None
        speed = self.prompts.speed(lease.node, lease.model)
        if running is None or reused is None or not speed or not seconds:
            return False
        believed = reused.share * tokens
        if believed < _LEAST_REUSED:
            return False
        hit = min(1.0, max(0.0, (tokens - seconds * speed) / believed))
        runner = running.asking.routing.runner
        self.caches.learn(lease.node, runner, reused.between, hit)
        expected = believed * reused.chance
        self.reused_tokens.add(lease.model, expected, believed * hit)
        return hit > _IS_HIT

    def _compare(self, lease: Lease, expected: Expected | None, now: float) -> None:
        """Count by how much the time on the node was missed."""
        if expected is None:
            return
        model, began = lease.model, lease.taken_at
        self.completions.add(model, expected.completion, now - began)
        if lease.streams and lease.decoding_since:
            seconds = lease.decoding_since - began
            self.first_tokens.add(model, expected.first_token, seconds)


def _reading(lease: Lease, timings: Timings, running: RunningRequest | None) -> float:
    """Return how long the prompt took to read; 0 where that cannot be told."""
    seconds = timings.prompt_seconds
    if not seconds and lease.streams and lease.resident and lease.decoding_since:
        # `/v1` tells no times: what passed until the first line came.
        seconds = lease.decoding_since - lease.taken_at
    before = running.reading if running is not None else 0.0
    return max(seconds - before, _OWN_READING * seconds)
