"""A resident model: its slots, its unbounded FIFO and its keep-alive; pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from simulator.model import Model

KEEP_ALIVE_SECONDS = 300.0
EPSILON = 1e-9


class Phase(StrEnum):
    """Where a job is."""

    LOADING = "loading"  # waits until its model is resident
    WAITING = "waiting"  # waits for a slot
    PROMPT = "prompt"  # the prompt is evaluated
    DECODE = "decode"  # tokens come
    DONE = "done"
    FAILED = "failed"


@dataclass(eq=False, slots=True)
class Job:
    """One inference on a node.

    tokens:     to generate; 0 for an embedding or a mere load
    keep_alive: seconds to stay resident afterwards; None: Ollama's default
    load_only:  needs the model resident, no slot
    All `*_at` are seconds of the engine's clock.
    """

    model: Model
    prompt_tokens: int
    tokens: int
    submitted_at: float
    keep_alive: float | None = None
    load_only: bool = False
    phase: Phase = Phase.LOADING
    ready_at: float = 0.0
    started_at: float = 0.0
    decode_at: float = 0.0
    done_at: float = 0.0
    prompt_left: float = 0.0
    produced: float = 0.0
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED)

    @property
    def answering(self) -> bool:
        """Whether the prompt has been read."""
        return self.phase in (Phase.DECODE, Phase.DONE)

    @property
    def ready_tokens(self) -> int:
        """How many whole tokens there are by now."""
        return min(self.tokens, int(self.produced + EPSILON))


@dataclass(eq=False, slots=True)
class Runner:
    """A model in memory and the jobs on it."""

    model: Model
    slots: int
    vram_bytes: int
    used_at: float
    keep_alive: float = KEEP_ALIVE_SECONDS
    waiting: deque[Job] = field(default_factory=deque)
    running: list[Job] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def expires_at(self) -> float:
        return self.used_at + self.keep_alive

    def take(self, job: Job, now: float) -> None:
        """Accept a job whose model is resident now."""
        job.ready_at = now
        if job.keep_alive is not None:
            self.keep_alive = job.keep_alive
        if job.load_only:
            job.phase, job.done_at = Phase.DONE, now
            self.used_at = now
            return
        job.phase = Phase.WAITING
        self.waiting.append(job)
        self.fill(now)

    def fill(self, now: float) -> None:
        """Give free slots to those that wait, first come first served."""
        while self.waiting and len(self.running) < self.slots:
            job = self.waiting.popleft()
            job.phase, job.started_at = Phase.PROMPT, now
            job.prompt_left = float(job.prompt_tokens)
            self.running.append(job)

    def settle(self, now: float) -> bool:
        """Move on each job that reached the end of a phase; tells if any did."""
        moved = False
        for job in list(self.running):
            if job.phase is Phase.PROMPT and job.prompt_left <= EPSILON:
                job.phase, job.decode_at = Phase.DECODE, now
                moved = True
            if job.phase is Phase.DECODE and job.produced >= job.tokens - EPSILON:
                job.phase, job.done_at = Phase.DONE, now
                job.produced = float(job.tokens)
                self.release(job, now)
                moved = True
        return moved

    def release(self, job: Job, now: float) -> None:
        """Take a job off; its slot goes to the next at once."""
        if job in self.running:
            self.running.remove(job)
        elif job in self.waiting:
            self.waiting.remove(job)
        self.used_at = now
        self.fill(now)
