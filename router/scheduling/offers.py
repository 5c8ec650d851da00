"""What each node offers a request now, by what was learned of it.

Measured speed overrules the score; the score stands in for what was not measured yet,
in the proportion that the measured nodes show.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from router.capacity.changes import Changes
from router.capacity.throughput import Try, expected_share
from router.scheduling.board import Board, Nodes
from router.scheduling.completion import AGE_OF_FULL, Offer, Others
from router.scheduling.demand import Demand
from router.scheduling.eviction import Evictions, Permit, Victim, price
from router.scheduling.in_flight import InFlight
from router.scheduling.pipeline import PROVING, RoutingContext, failing, filtered
from router.scheduling.prediction import AnswerPrediction
from router.scheduling.prompt_speed import PromptSpeeds
from router.scheduling.residency import Residency, Standing, split
from router.snapshot import LoadView, NodeView, Snapshot

_REFERENCE_SPEED = 100.0  # tokens/s of a node that scores 1, until one is measured
_LEAST_SCORE = 0.01
# A prompt is read 30 to 50 times as fast as an answer is written on the GPUs that were
# measured; replies tell soon.
_PROMPT_TIMES = 30.0
_TYPICAL_PROMPT = 512.0  # tokens, by which nodes are put in order
# A node that was never polled may not be there: any that has the model comes first.
_UNKNOWN_SECONDS = 60.0
_SPILL_COST = 5.0  # a model that does not fit the GPU runs on the CPU in part
# Streams that are so much older than a slot was ever held hang: no slot frees up there.
_HANGING_TIMES = 0.5
# Losses of a moment are no need of a copy: so many times the price must be lost.
_SURE = 2.0
_MOST_BOARDS = 128  # models that are asked for; of others a board is made again


_Key = tuple[str, type[LoadView], bool]


class Slots(LoadView, Protocol):
    """What is read of the ledger beside its load."""

    @property
    def changes(self) -> Changes: ...

    @property
    def unsteady(self) -> set[str]: ...

    def limit(self, node: str, model: str) -> int: ...

    def slot_seconds(self, node: str) -> float | None: ...

    def load_seconds(self, node: str, model: str, size_bytes: int) -> float: ...

    def tried_by(self, node: str, model: str) -> Try | None: ...


class OfferInputs(Protocol):
    """What offers are made of (`router.scheduling.estimates.Estimates`)."""

    prediction: AnswerPrediction
    prompts: PromptSpeeds
    in_flight: InFlight
    residency: Residency
    demand: Demand


class Offers:
    """Keeps a board for each model that is asked for.

    evictions: which of them may be begun
    """

    def __init__(
        self, ledger: Slots, learned: OfferInputs, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._learned = learned
        self._clock = clock
        self.evictions = Evictions(learned.residency, learned.demand)
        self._boards: OrderedDict[_Key, _Kept] = OrderedDict()

    def nodes(self, runner: str, context: RoutingContext) -> Nodes:
        """Return what the nodes offer now for a model, as it is to be loaded."""
        key, now = (runner, type(context.load), context.last_resort), self._clock()
        kept = self._boards.get(key)
        if kept is None or kept.seen != (context.snapshot, context.version):
            kept = self._boards[key] = _Kept(self, runner, context)
            self._boards.move_to_end(key)
            if len(self._boards) > _MOST_BOARDS:
                self._boards.popitem(last=False)
        for name in self._learned.residency.settle(now):
            self.changes.add(name)
        kept.bring_up_to_date(context, now)
        model, learned = kept.model, self._learned
        typical = learned.prediction.mean(model)
        return kept.board.nodes(Others(typical, self._avoidable(runner, now)))

    def quickest(self, runner: str, context: RoutingContext) -> list[str]:
        """Name the nodes that may run it, by a usual request's time there, alone."""
        views, _ = filtered(split(runner)[0], context)
        maker, now = self.maker(runner, {v.node.name: v for v in views}), self._clock()

        def seconds(view: NodeView) -> float:
            standing = maker.standing(view.node.name, now)
            return maker.key(maker.free(view, 0, standing, now))

        return [view.node.name for view in sorted(views, key=seconds)]

    def _avoidable(self, runner: str, now: float) -> float:
        """Return what the model's users lost of late that one more copy would avoid."""
        copies = self._learned.residency.copies[runner]
        lost = self._learned.demand.losses(runner, now) * _one_of(copies + 1)
        return lost / _SURE

    def offer(self, model: str, view: NodeView, streams: int) -> Offer:
        """Return what one node offers where so many streams run."""
        return self.maker(model, {view.node.name: view}).free(
            view, streams, Standing(), self._clock()
        )

    def maker(self, runner: str, views: dict[str, NodeView]) -> _Maker:
        return _Maker(self._ledger, self._learned, runner, views)

    @property
    def changes(self) -> Changes:
        return self._ledger.changes

    @property
    def unsteady(self) -> set[str]:
        """Name the nodes whose offers change by time alone."""
        return self._ledger.unsteady


class _Kept:
    """A board, and up to which change it is right."""

    def __init__(self, offers: Offers, runner: str, context: RoutingContext) -> None:
        self.seen: tuple[Snapshot, int] = (context.snapshot, context.version)
        self.model = split(runner)[0]
        views, refused = filtered(self.model, context)
        self.board = Board(views, refused)
        self._runner = runner
        self._offers = offers
        self._maker = offers.maker(runner, self.board.views)
        self._position = -1
        self._queue_version = -1
        self._unsteady: set[str] = set()

    def bring_up_to_date(self, context: RoutingContext, now: float) -> None:
        changes = self._offers.changes
        changed: Iterable[str] | None = changes.since(self._position)
        self._position = changes.position
        unsteady = self._offers.unsteady | context.health.troubled
        if changed is None:
            changed = self.board.views
        elif unsteady or self._unsteady:
            changed = (*changed, *sorted(unsteady | self._unsteady))
        self._unsteady = set(unsteady)
        version = self._offers.evictions.waiting.version
        if version != self._queue_version:  # who is waited for may not be evicted
            self._queue_version = version
            changed = (*changed, *self.board.barred)
        # In the same order in every process: which of like nodes comes first counts.
        for name in dict.fromkeys(changed):
            if name in self.board.views:
                self._put(name, context, now)

    def _put(self, name: str, context: RoutingContext, now: float) -> None:
        view, maker = self.board.views[name], self._maker
        if reason := failing(view, self.model, context):
            if reason is PROVING:
                self.board.prove(name)
            else:
                self.board.refuse(name, reason)
            return
        streams = context.load.room(name, self.model)
        standing = maker.standing(name, now)
        if standing.leaving:
            self.board.bar(name)
            return
        permit = Permit.YES
        if streams is not None and standing.victims:
            fleet = len(self.board.views)
            permit = self._offers.evictions.permit(
                name, self._runner, standing, fleet, now
            )
        if permit is Permit.NO:
            self.board.bar(name)
            return
        if streams is None:
            offer = maker.full(view, standing, now)
        else:
            offer = maker.free(view, streams, standing, now)
        if permit is Permit.STRANDED:
            self.board.bar(name, offer)
        else:
            self.board.put(name, offer, maker.key(offer), free=streams is not None)


class _Maker:
    """Makes offers for one model."""

    def __init__(
        self,
        ledger: Slots,
        learned: OfferInputs,
        runner: str,
        views: dict[str, NodeView],
    ) -> None:
        self._ledger = ledger
        self._learned = learned
        self._runner = runner
        self._model = split(runner)[0]
        self._views = views
        self._per_score: float | None = None
        self._times: float | None = None

    def standing(self, name: str, now: float) -> Standing:
        return self._learned.residency.standing(name, self._runner, now)

    def free(
        self, view: NodeView, streams: int, standing: Standing, now: float
    ) -> Offer:
        name = view.node.name
        each = self._per_token(view, streams + 1)
        slowed = max(0.0, each - self._per_token(view, streams)) if streams else 0.0
        count, arrivals, read_until = self._learned.in_flight.on(name)
        return Offer(
            view,
            streams,
            self._load(view, each, standing) if standing.cold else 0.0,
            standing.ready_at,
            self._per_prompt_token(view),
            each,
            slowed,
            count,
            arrivals,
            count,
            read_until,
            self._ledger.speed(name, self._model) is not None,
            price=self._price(view, standing, now) if standing.victims else 0.0,
            victims=standing.victims,
            short_only=self._ledger.tried_by(name, self._model) is Try.SHORT,
        )

    def full(self, view: NodeView, standing: Standing, now: float) -> Offer:
        """Return what a full node offers once a slot frees up."""
        name = view.node.name
        limit = max(1, self._ledger.limit(name, self._model))
        each = self._per_token(view, limit)
        slowed = max(0.0, each - self._per_token(view, limit - 1)) if limit > 1 else 0.0
        reads = self._per_prompt_token(view)
        held = self._ledger.slot_seconds(name)
        if held is None:
            held = self._typical * each + _TYPICAL_PROMPT * reads
        waited, ran = self._learned.in_flight.ages(name, now)
        held = max(held, _HANGING_TIMES * ran)
        return Offer(
            view,
            limit - 1,
            0.0,
            standing.ready_at,
            reads,
            each,
            slowed,
            0,
            -waited * (limit - 1),  # so that its streams are as old as a free node's
            AGE_OF_FULL * (limit - 1),
            0.0,
            self._ledger.speed(name, self._model) is not None,
            0.0 if standing.cold else limit / max(held, 1e-3),
        )

    def key(self, offer: Offer) -> float:
        """Return seconds of a usual request, by which nodes are put in order."""
        reads = _TYPICAL_PROMPT * offer.per_prompt_token
        return offer.load + reads + self._typical * offer.per_token

    @property
    def _typical(self) -> float:
        return self._learned.prediction.mean(self._model)

    def _per_token(self, view: NodeView, streams: int) -> float:
        speed = self._ledger.speed(view.node.name, self._model, streams)
        if speed is None:
            if self._per_score is None:
                self._per_score = self._speed_per_score()
            score = max(view.score.value, _LEAST_SCORE)
            speed = self._per_score * score * expected_share(streams)
        return 1.0 / speed

    def _speed_per_score(self) -> float:
        """Return tokens/s of one stream for a score of 1, as measured nodes have it."""
        ratios = [
            alone / max(view.score.value, _LEAST_SCORE)
            for name, view in self._views.items()
            if (alone := self._ledger.speed(name, self._model))
        ]
        return sum(ratios) / len(ratios) if ratios else _REFERENCE_SPEED

    def _per_prompt_token(self, view: NodeView) -> float:
        speed = self._learned.prompts.speed(view.node.name, self._model)
        if speed is not None:
            return 1.0 / speed
        if self._times is None:
            self._times = self._prompt_times()
        return self._per_token(view, 1) / self._times

    def _prompt_times(self) -> float:
        """Return how many times as fast prompts are read as answers are written."""
        prompts = self._learned.prompts
        times = [
            reads / writes
            for name in self._views
            if (reads := prompts.speed(name, self._model))
            and (writes := self._ledger.speed(name, self._model))
        ]
        return sum(times) / len(times) if times else _PROMPT_TIMES

    # Loads

    def _load(self, view: NodeView, each: float, standing: Standing) -> float:
        """Return what loading the model costs on this node beside the reply itself."""
        size = _file_bytes(view, self._model)
        vram = view.node.attributes.get("vram_bytes")
        spill = _SPILL_COST * self._typical * each if vram and size > vram else 0.0
        ends = self._ledger.slot_seconds(view.node.name) or 0.0
        load = self._load_seconds(view, self._model)
        return load + spill + (ends if standing.busy else 0)

    def _load_seconds(self, view: NodeView, model: str) -> float:
        if view.present is None or model not in view.present:
            return _UNKNOWN_SECONDS
        size = _file_bytes(view, model)
        return self._ledger.load_seconds(view.node.name, model, size)

    def _price(self, view: NodeView, standing: Standing, now: float) -> float:
        """Return what those lose whose models go."""
        demand, residency = self._learned.demand, self._learned.residency
        total = 0.0
        for runner in standing.victims:
            load = self._load_seconds(view, split(runner)[0])
            left = residency.copies[runner] - 1
            lost = demand.losses(runner, now) * _one_of(left)
            total += price(Victim(demand.per_second(runner, now), left, load, lost))
        return total


def _one_of(copies: int) -> float:
    """Return the share of losses that hangs on one of so many copies.

    A wait goes with the square of the load, so one copy less is felt twice.
    """
    return 1.0 if copies < 1 else min(1.0, 2.0 / copies)


def _file_bytes(view: NodeView, model: str) -> int:
    listed = view.present.get(model) if view.present is not None else None
    return listed.size_bytes if listed else 0
