"""A node as Ollama runs it, in virtual time: loads, evictions, and its own queue.

A request of a resident model takes one of its slots, or waits for one: first come,
first served, without a bound. One model is loaded at a time; what comes for others
that are not resident waits behind it. Room is made by unloading idle models, the one
that was used longest ago first. Another set of load options is another runner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulator.virtual.clock import Clock
from simulator.virtual.node import Caching, Spec, Stream, VirtualNode

KEEP_ALIVE_SECONDS = 300.0


@dataclass(slots=True, eq=False)
class Request:
    """One request on a node.

    options: what Ollama loads the model with, where it is not the default
    session, head: whose text it is, and how that begins, for the prompt cache
    first, ended: called at the first token and at the end
    """

    model: str
    prompt: float
    tokens: float
    ended: Callable[[Request], None]
    first: Callable[[Request], None] | None = None
    options: str = ""
    session: object = None
    head: tuple[object, float] = (None, 0.0)
    came: float = 0.0
    load_seconds: float = 0.0
    stream: Stream | None = None
    over: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.options


@dataclass(slots=True, eq=False)
class _Runner:
    """A model in memory."""

    key: tuple[str, str]
    used_at: float
    running: int = 0
    waiting: deque[Request] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting


class VirtualOllama:
    """Simulates one node; `engine` has the running streams.

    apart: whether streams of two models share no step, as with two processes
    """

    def __init__(
        self,
        spec: Spec,
        totals: Sequence[float],
        clock: Clock,
        resident: Sequence[str] = (),
        *,
        apart: bool = False,
        caching: Caching = Caching.NONE,
    ) -> None:
        self._apart = apart
        self.spec = spec
        self.engine = VirtualNode(spec, totals, clock, caching=caching, most=10_000)
        self.loads = 0
        self.evictions = 0
        self._clock = clock
        self._runners = {(m, ""): _Runner((m, ""), 0.0) for m in resident}
        self._lane: deque[Request] = deque()
        self._loading: tuple[str, str] | None = None

    @property
    def resident(self) -> dict[str, str]:
        """Return each resident model and when it would be unloaded."""
        return {
            key[0]: f"{runner.used_at + KEEP_ALIVE_SECONDS:.3f}"
            for key, runner in self._runners.items()
        }

    def submit(self, request: Request) -> None:
        request.came = self._clock.now
        runner = self._runners.get(request.key)
        if runner is not None and request.key != self._loading:
            self._take(runner, request)
            return
        self._lane.append(request)
        self._serve_lane()

    def tokens(self, request: Request) -> float:
        """Return the tokens that a request has had so far."""
        return self.engine.had(request.stream) if request.stream else 0.0

    def cancel(self, request: Request) -> None:
        """Forget a request whose client went away."""
        if request.over:
            return
        request.over = True
        if request in self._lane:
            self._lane.remove(request)
            return
        runner = self._runners[request.key]
        if request.stream is None:
            runner.waiting.remove(request)
            return
        self.engine.cancel(request.stream)
        self._left(runner)

    def _take(self, runner: _Runner, request: Request) -> None:
        if runner.running >= self.spec.slots:
            runner.waiting.append(request)
        else:
            self._run(runner, request)

    def _run(self, runner: _Runner, request: Request) -> None:
        runner.running += 1

        def ended(_: Stream) -> None:
            request.over = True
            self._left(runner)
            request.ended(request)

        def first() -> None:
            if request.first:
                request.first(request)

        model = request.model if self._apart else ""
        request.stream = Stream(
            request.prompt,
            request.tokens,
            ended,
            key=request.session,
            head=request.head,
            first=first,
            model=model,
        )
        self.engine.begin(request.stream)

    def _left(self, runner: _Runner) -> None:
        runner.running -= 1
        if runner.waiting:
            self._run(runner, runner.waiting.popleft())
        if runner.idle:
            runner.used_at = self._clock.now
            self._serve_lane()

    # Loads

    def _serve_lane(self) -> None:
        while self._lane and self._loading is None:
            request = self._lane[0]
            runner = self._runners.get(request.key)
            if runner is not None:
                self._lane.popleft()
                self._take(runner, request)
                continue
            if not self._make_room(request):
                return
            self._loading = request.key
            self.loads += 1
            due = self._clock.now + self.spec.load_seconds
            self._clock.at(due, self._loaded)

    def _make_room(self, request: Request) -> bool:
        """Unload idle models until this one fits; False where none is idle."""
        own = [r for r in self._runners.values() if r.key[0] == request.model]
        for runner in own:
            if not runner.idle:
                return False
            self._unload(runner)
        while len(self._runners) >= self.spec.models:
            idle = [r for r in self._runners.values() if r.idle]
            if not idle:
                return False
            self._unload(min(idle, key=lambda each: each.used_at))
        return True

    def _unload(self, runner: _Runner) -> None:
        del self._runners[runner.key]
        self.evictions += 1

    def _loaded(self) -> None:
        key, self._loading = self._loading, None
        assert key is not None
        now = self._clock.now
        runner = self._runners[key] = _Runner(key, now)
        mine = [each for each in self._lane if each.key == key]
        for request in mine:
            self._lane.remove(request)
            request.load_seconds = now - request.came
            self._take(runner, request)
        self._serve_lane()
