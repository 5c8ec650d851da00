"""A node of the HTTP simulator in virtual time: its own engine, without its sockets."""

from __future__ import annotations

from math import inf

from simulator.engine import Engine
from simulator.model import Model, NodeSpec
from simulator.runner import Job, Phase
from simulator.speed import Scaling as Profile
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.ollama import Request


class _Stream:
    """What `simulator.virtual.routed` reads of a stream."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def tokens(self) -> float:
        return float(self._job.ready_tokens)

    def timings(self, _: float) -> tuple[float, float]:
        job = self._job
        return job.decode_at - job.started_at, job.done_at - job.decode_at


class SimulatedNode:
    """Plays `simulator.virtual.ollama.VirtualOllama` with the simulator's engine."""

    loads = evictions = 0

    def __init__(
        self, spec: Spec, scaling: Scaling, clock: Clock, model: Model
    ) -> None:
        node = NodeSpec(
            spec.name,
            0,
            slots=spec.slots,
            tokens_per_second=spec.speed,
            prompt_tokens_per_second=spec.prompt_speed,
        )
        self.spec = spec
        self._clock = clock
        self._model = model
        self._engine = Engine(node, clock.now, Profile(scaling.value))
        self._jobs: dict[Job, Request] = {}
        self._plan = 0
        load = Job(model, 0, 0, clock.now, keep_alive=inf, load_only=True)
        self._engine.submit(load, clock.now)
        self._engine.advance(clock.now + 3600.0)  # it is loaded when the run begins
        self._late = 3600.0

    @property
    def resident(self) -> dict[str, str]:
        return {each.model.name: "" for each in self._engine.resident()}

    def submit(self, request: Request) -> None:
        now = self._now
        job = Job(self._model, int(request.prompt), int(request.tokens), now)
        request.came = self._clock.now
        request.stream = _Stream(job)  # type: ignore[assignment]
        self._jobs[job] = request
        self._engine.submit(job, now)
        self._look()

    def tokens(self, request: Request) -> float:
        """Return the tokens that a request has had so far."""
        self._engine.advance(self._now)
        stream: _Stream | None = request.stream  # type: ignore[assignment]
        return stream.tokens if stream else 0.0

    @property
    def _now(self) -> float:
        return self._clock.now + self._late

    def _look(self) -> None:
        """Tell who began to answer or ended; look again when the next thing is due."""
        for job, request in list(self._jobs.items()):
            if job.answering and request.first:
                first, request.first = request.first, None
                first(request)
            if job.phase is Phase.DONE:
                del self._jobs[job]
                request.over = True
                request.ended(request)
        self._plan += 1
        due, plan = self._engine._next_event(), self._plan  # noqa: SLF001
        if self._jobs and due < inf:
            self._clock.at(self._clock.now + due, lambda: self._due(plan))

    def _due(self, plan: int) -> None:
        if plan == self._plan:
            self._engine.advance(self._now)
            self._look()
