"""The same policy with perfect knowledge: lengths, speeds, and the best slots."""

from __future__ import annotations

from router.capacity.external_load import ExternalLoad
from router.capacity.ledger import Ledger
from router.model import Timings
from router.scheduling.estimates import Estimates
from router.scheduling.prediction import AnswerPrediction
from router.scheduling.prompt_speed import PromptSpeeds
from router.scheduling.request import RoutingRequest, Traits, Work
from simulator.virtual.node import TOTALS, Spec
from simulator.virtual.routed import Routed
from simulator.virtual.workload import Ask


class Oracle(Routed):
    """Routes with the lengths, speeds and slots that the router has to learn."""

    def _ledger(self) -> Ledger:
        return _Ledger(self)

    def _estimates(self) -> Estimates:
        prompts = _Prompts({spec.name: spec for spec in self.setup.specs})
        return Estimates(self.ledger, self._now, _Lengths(), prompts)

    def routing(self, ask: Ask) -> RoutingRequest:
        # The answer's length rides in a field that only the oracle reads so.
        traits = Traits(prompt_bytes=ask.prompt, most_tokens=ask.tokens)
        return RoutingRequest(ask.model, traits=traits)


class _Ledger(Ledger):
    def __init__(self, routed: Routed) -> None:
        super().__init__(1, lambda: routed.clock.now)
        setup = routed.setup
        self._specs = {spec.name: spec for spec in setup.specs}
        self._totals = TOTALS[setup.scaling]
        self._external = _NoForeignLoad()

    def speed(self, node: str, model: str, streams: int = 1) -> float:
        del model
        total = self._totals[min(streams, len(self._totals)) - 1]
        return self._specs[node].speed * total / streams

    def limit(self, node: str, model: str) -> int:
        del model
        slots = min(self._specs[node].slots, len(self._totals))
        return max(range(1, slots + 1), key=lambda k: self._totals[k - 1])


class _NoForeignLoad(ExternalLoad):
    def suspect(self, *_: object) -> None: ...


class _Lengths(AnswerPrediction):
    def work(self, model: str, traits: Traits) -> Work:
        del model
        tokens = float(traits.most_tokens or 0)
        return Work(traits.prompt_bytes, tokens, tokens * tokens)

    def learn(self, model: str, traits: Traits, work: Work, timings: Timings) -> None:
        del traits
        super().learn(model, Traits(), work, timings)


class _Prompts(PromptSpeeds):
    def __init__(self, specs: dict[str, Spec]) -> None:
        super().__init__()
        self._specs = specs

    def speed(self, node: str, model: str) -> float:
        del model
        return self._specs[node].prompt_speed
