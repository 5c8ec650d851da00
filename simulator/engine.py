"""One simulated node: residency, slots and speed as functions of time.

The caller tells the time; between two calls the engine moves from event to
event (a load ends, a prompt is read, an answer is complete), so a coarse clock
changes when things are seen, not when they happen.
"""

from __future__ import annotations

import math
from collections import deque

from simulator.model import Model, NodeSpec
from simulator.runner import EPSILON, Job, Phase, Runner
from simulator.speed import Scaling, total_speed

_GIB = 1024**3


class Engine:
    """The models in a node's memory and the jobs on them."""

    def __init__(
        self, node: NodeSpec, now: float, scaling: Scaling = Scaling.H200
    ) -> None:
        self._node = node
        self._scaling = scaling
        self._now = now
        self._slowdown = 1.0
        self._loads_fail = False
        self._runners: dict[str, Runner] = {}
        self._lane: deque[Job] = deque()  # jobs whose model is not resident
        self._loading: tuple[Runner, float] | None = None

    # --- what the shell does ---

    def submit(self, job: Job, now: float) -> None:
        self.advance(now)
        runner = self._runners.get(job.model.name)
        if runner is None:
            self._lane.append(job)
        else:
            runner.take(job, self._now)
        self._settle()

    def cancel(self, job: Job, now: float) -> None:
        """Forget a job whose client went away; its slot is free at once."""
        self.advance(now)
        if job.ended:
            return
        if job in self._lane:
            self._lane.remove(job)
        for runner in self._runners.values():
            if runner.model is job.model:
                runner.release(job, self._now)
        job.phase, job.error = Phase.FAILED, "cancelled"
        self._settle()

    def unload(self, model: Model, now: float) -> None:
        """Let a model go as soon as nothing runs on it."""
        self.advance(now)
        runner = self._runners.get(model.name)
        if runner is not None:
            runner.keep_alive = 0.0
        self._settle()

    def slow_down(self, times: float, now: float) -> None:
        """Run `times` slower than the node's own speed from now on."""
        self.advance(now)
        self._slowdown = times

    def exhaust_memory(self, *, exhausted: bool, now: float) -> None:
        """Let another process hold the memory: idle models go, loads fail."""
        self.advance(now)
        self._loads_fail = exhausted
        if exhausted:
            self._drop([runner for runner in self._runners.values() if runner.idle])
        self._settle()

    def skip(self, now: float) -> None:
        """Let time pass without work: the node hung."""
        self._now = max(self._now, now)

    def advance(self, now: float) -> None:
        """Move to `now`; a clock that went back is ignored."""
        while self._now < now:
            step = min(self._next_event(), now - self._now)
            self._move(max(step, 0.0))
            self._now = now if now - self._now - step <= EPSILON else self._now + step
            self._settle()

    # --- what can be seen ---

    def resident(self) -> tuple[Runner, ...]:
        return tuple(self._runners.values())

    @property
    def now(self) -> float:
        return self._now

    @property
    def slowdown(self) -> float:
        return self._slowdown

    @property
    def running(self) -> int:
        return sum(len(runner.running) for runner in self._runners.values())

    @property
    def waiting(self) -> int:
        queued = sum(len(runner.waiting) for runner in self._runners.values())
        return queued + len(self._lane)

    @property
    def vram_used_bytes(self) -> int:
        loading = self._loading[0].vram_bytes if self._loading else 0
        return loading + sum(each.vram_bytes for each in self._runners.values())

    # --- how time passes ---

    def _rates(self) -> tuple[float, float]:
        """Speeds of each decoding and each reading job, for a model of speed 1."""
        runners = self._runners.values()
        phases = [job.phase for runner in runners for job in runner.running]
        streams, prompts = phases.count(Phase.DECODE), phases.count(Phase.PROMPT)
        node = self._node
        decode = node.tokens_per_second * total_speed(streams, self._scaling)
        return (
            decode / max(streams, 1) / self._slowdown,
            node.prompt_tokens_per_second / max(prompts, 1) / self._slowdown,
        )

    def _next_event(self) -> float:
        decode, prompt = self._rates()
        soonest = math.inf
        if self._loading is not None:
            soonest = self._loading[1] - self._now
        for runner in self._runners.values():
            if runner.idle:
                soonest = min(soonest, runner.expires_at - self._now)
            speed = runner.model.speed
            for job in runner.running:
                if job.phase is Phase.DECODE:
                    left = (job.tokens - job.produced) / (decode * speed)
                else:
                    left = job.prompt_left / (prompt * speed)
                soonest = min(soonest, left)
        return soonest

    def _move(self, seconds: float) -> None:
        decode, prompt = self._rates()
        for runner in self._runners.values():
            speed = runner.model.speed
            for job in runner.running:
                if job.phase is Phase.DECODE:
                    job.produced += decode * speed * seconds
                else:
                    job.prompt_left -= prompt * speed * seconds

    def _settle(self) -> None:
        """Do all that is due at this very time."""
        moved = True
        while moved:
            moved = self._finish_load() or self._serve_lane()
            for runner in tuple(self._runners.values()):
                moved = runner.settle(self._now) or moved
            moved = self._expire() or moved

    def _finish_load(self) -> bool:
        if self._loading is None or self._loading[1] > self._now + EPSILON:
            return False
        runner = self._loading[0]
        self._loading = None
        runner.used_at = self._now
        self._runners[runner.model.name] = runner
        return True

    def _serve_lane(self) -> bool:
        """Serve the head of the lane: one load at a time, the rest waits behind it."""
        for job in tuple(self._lane):
            runner = self._runners.get(job.model.name)
            if runner is not None:
                self._lane.remove(job)
                runner.take(job, self._now)
                return True
        if not self._lane or self._loading is not None:
            return False
        return self._start_load(self._lane[0])

    def _start_load(self, job: Job) -> bool:
        model, node = job.model, self._node
        needed = model.vram_bytes(node.slots)
        if self._loads_fail:
            self._lane.popleft()
            job.phase, job.done_at = Phase.FAILED, self._now
            job.error = _out_of_memory(needed)
            return True
        if not self._make_room(needed):
            return False  # busy models finish first, and all behind waits
        seconds = node.load_seconds / model.speed
        runner = Runner(model, model.slots(node.slots), needed, self._now)
        self._loading = (runner, self._now + seconds)
        return True

    def _make_room(self, needed: int) -> bool:
        """Evict idle models, the least recently used first."""
        idle = [each for each in self._runners.values() if each.idle]
        for runner in sorted(idle, key=lambda each: each.used_at):
            if self._free_bytes() >= needed:
                break
            self._drop([runner])
        return self._free_bytes() >= needed

    def _free_bytes(self) -> float:
        return self._node.vram_bytes - self.vram_used_bytes

    def _expire(self) -> bool:
        over = [
            each
            for each in self._runners.values()
            if each.idle and each.expires_at <= self._now + EPSILON
        ]
        self._drop(over)
        return bool(over)

    def _drop(self, runners: list[Runner]) -> None:
        for runner in runners:
            del self._runners[runner.model.name]


def _out_of_memory(needed: int) -> str:
    """Ollama's own words; what is left is made up, and too little."""
    return (
        f"model requires more system memory ({needed / _GIB:.1f} GiB)"
        f" than is available ({needed / _GIB / 10:.1f} GiB)"
    )
