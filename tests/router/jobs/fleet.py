"""A small fleet for the policy: speeds that are given, and items in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from router.jobs.model import Backlog, FreeSlot, Pending, Running, StartCopy
from router.jobs.planning.in_flight import InFlightItems
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.policy import PullPolicy
from router.jobs.planning.view import PlanningContext

MODEL = "m:latest"


def item(number: int, *, weight: float = 100.0, model: str = MODEL, **more) -> Pending:
    return Pending(number, "job", model, weight, **more)


class GivenSpeeds:
    """Each stream runs at its node's speed, however many there are.

    reads:   prompt tokens per second, on each node; None where nobody knows
    sharing: each further stream takes this part of the node's speed from all
    """

    def __init__(
        self, speeds: Mapping[str, float | None], *, slots: int = 1, load: float = 0.0
    ) -> None:
        self.by_node = dict(speeds)
        self.slots = slots
        self.load = load
        self.vain: dict[str, float] = {}
        self.busy: dict[str, int] = {}
        self.reads: float | None = None
        self.sharing = 0.0

    def tokens_per_second(self, node, model, streams):
        speed = self.by_node[node]
        return speed and speed * (1 - self.sharing * (streams - 1))

    def prompt_tokens_per_second(self, node, model):
        return self.reads

    def in_vain(self, node, model):
        return self.vain.get(node, 0.0)

    def worthwhile(self, node, model):
        return self.slots

    def load_seconds(self, node, model):
        return self.load

    def streams(self, node):
        return self.busy.get(node, 0)

    def nodes(self):
        return dict.fromkeys(self.by_node, self.slots)


class Items:
    """What waits, the heaviest first."""

    def __init__(self, items: Sequence[Pending] = ()) -> None:
        self.by_id = {each.id: each for each in items}

    def __len__(self) -> int:
        return len(self.by_id)

    def models(self) -> Mapping[str, Backlog]:
        models = {each.model for each in self.by_id.values()}
        return {model: self._backlog(model) for model in models}

    def _backlog(self, model: str) -> Backlog:
        weights = [each.weight for each in self.by_id.values() if each.model == model]
        return Backlog(len(weights), sum(weights))

    def heaviest(self, model: str) -> Sequence[Pending]:
        of_model = (each for each in self.by_id.values() if each.model == model)
        return sorted(of_model, key=lambda each: -each.weight)

    def take(self, number: int) -> Pending:
        return self.by_id.pop(number)


class Stage:
    """The policy, what waits, what flies and what time it is."""

    def __init__(self, items: Sequence[Pending], speeds: GivenSpeeds) -> None:
        self.waiting = Items(items)
        self.in_flight = InFlightItems()
        self.speeds = speeds
        self.lengths = LengthPredictor()
        self.policy = PullPolicy(self.lengths)
        self.resident: dict[str, frozenset[str]] = {}
        self.models = frozenset(each.model for each in items) or frozenset({MODEL})
        self.now = 0.0
        self.quiet: dict[str, float] = {}

    @property
    def scene(self) -> PlanningContext:
        return PlanningContext(self.waiting, self.in_flight, self.speeds, self.now)

    def free(self, node: str) -> FreeSlot:
        return FreeSlot(
            node=node,
            in_flight=self.speeds.streams(node),
            people=0,
            resident=self.resident.get(node, self.models),
            models=self.models,
            quiet=self.quiet.get(node, inf),
        )

    def choose(self, node: str):
        return self.policy.choose(self.free(node), self.scene)

    def begin(self, node: str, choice) -> Running:
        """Do what the policy said."""
        copy = isinstance(choice, StartCopy)
        if copy:
            found = self.in_flight.attempts(choice.item)[0].item
        else:
            found = self.waiting.take(choice.item)
        return self.run(found, node, copy=copy)

    def run(self, found: Pending, node: str, *, copy: bool = False) -> Running:
        attempt = Running(found, node, self.now, copy)
        self.in_flight.start(attempt)
        self.speeds.busy[node] = self.speeds.streams(node) + 1
        return attempt

    def end(self, attempt: Running) -> None:
        assert self.in_flight.end(attempt.item.id, attempt.node)
        self.speeds.busy[attempt.node] -= 1
