"""Checks nodes by a real generation before their hold is lifted (`clear: verified`).

A reconcile pass asks for a check once the alert is proven gone. Checks run beside the
control loop, a bounded number at a time, with a growing wait after each failure. A
check lifts nothing: the next reconcile pass does, if its own proof still holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.alerts.reconcile import Revision
from router.clients import ollama as listings
from router.clients.http_json import PollError, exchange, get_json
from router.holds.record import Change, HoldRecord
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Inventory, Node

# Takes a node and both limits; returns why it fails, None where it passes.
Check = Callable[[Node, float, float], str | None]

_CONCURRENCY = 16  # a load may take minutes, and keeps nobody from being checked
_LONGEST_WAIT_SECONDS = 600.0
_MODELS_TRIED = 3  # embedding models cannot generate
_BY = "verification"


class VerificationCounters(Protocol):
    """Counts checks."""

    def verified(self, *, passed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """How long a check may take, and the wait after a failed one; seconds."""

    answer_seconds: float
    generate_seconds: float
    retry_seconds: float


@dataclass(slots=True)
class _Task:
    """The checks of one node; `asked_for`: the holds that the running one is for."""

    wanted: dict[Revision, HoldRecord] = field(default_factory=dict)
    asked_for: set[Revision] = field(default_factory=set)
    under_way: bool = False
    failures: int = 0
    not_before: float = 0.0
    why: str = "not checked yet"


class Verifier:
    """Checks nodes whose holds could be lifted otherwise; one for the process."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        settings: Callable[[], CheckLimits],
        holds: HoldStore,
        wake: Callable[[], None],
        tally: VerificationCounters,
        *,
        check: Check | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory = inventory
        self._settings = settings
        self._holds = holds
        self._wake = wake
        self._tally = tally
        self._check = check or generates
        self._monotonic = monotonic
        self._log = get_logger("verify")
        self._tasks: dict[str, _Task] = {}
        self._passed: set[Revision] = set()
        self._pool = ThreadPoolExecutor(_CONCURRENCY, "verify")

    def passed(self) -> Collection[Revision]:
        """Return the holds whose node has passed its check."""
        return frozenset(self._passed)

    def waiting(self) -> Mapping[tuple[str, str], str]:
        """Return the result of the last check, by node and alert."""
        return {
            (node, standing.hold.alert or ""): task.why
            for node, task in tuple(self._tasks.items())
            for standing in tuple(task.wanted.values())
        }

    def want(self, unverified: Sequence[HoldRecord]) -> None:
        """Check the nodes of these holds; results for other holds are dropped."""
        wanted: dict[str, dict[Revision, HoldRecord]] = {}
        for each in unverified:
            wanted.setdefault(each.hold.node, {})[each.hold.key, each.revision] = each
        keys = {key for found in wanted.values() for key in found}
        self._passed &= keys
        for node in self._tasks.keys() - wanted.keys():
            if not self._tasks[node].under_way:
                del self._tasks[node]
        for node, task in self._tasks.items():
            task.wanted = wanted.get(node, {})
            task.asked_for &= task.wanted.keys()
        for node, found in wanted.items():
            self._begin(node, self._tasks.setdefault(node, _Task(found)))

    def stop(self) -> None:
        """Begin no more checks; a running one ends by its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, name: str, task: _Task) -> None:
        node = next((n for n in self._inventory().nodes if n.name == name), None)
        done = task.wanted.keys() <= self._passed
        early = self._monotonic() < task.not_before
        if node is None or done or early or task.under_way:
            return
        task.under_way, task.asked_for = True, set(task.wanted)
        self._pool.submit(self._run, node, task).add_done_callback(self._report)

    def _run(self, node: Node, task: _Task) -> None:
        settings = self._settings()
        try:
            why = self._check(node, settings.answer_seconds, settings.generate_seconds)
            self._judge(node, task, why, settings.retry_seconds)
        finally:
            task.under_way = False

    def _judge(self, node: Node, task: _Task, why: str | None, retry: float) -> None:
        self._tally.verified(passed=why is None)
        change = Change.VERIFIED if why is None else Change.UNVERIFIED
        reported = why or "it answers and has generated"
        for key, standing in tuple(task.wanted.items()):
            if key in task.asked_for:
                self._holds.annotate(standing, change, _BY, reported)
        self._log.info("checked", node=node.name, passed=why is None, why=reported)
        task.why = reported
        if why is None:
            self._passed |= task.asked_for
            self._wake()
            return
        wait = min(_LONGEST_WAIT_SECONDS, retry * 2.0 ** min(task.failures, 20))
        task.failures += 1
        task.not_before = self._monotonic() + wait

    def _report(self, ran: Future[None]) -> None:
        error = None if ran.cancelled() else ran.exception()
        if error is not None:
            self._log.error("check_failed", error=repr(error))


def generates(node: Node, answer_seconds: float, generate_seconds: float) -> str | None:
    """Generate a few tokens on a node; return why that failed, None if it worked."""
    try:
        get_json(node, "/api/version", answer_seconds)
        models = _models(node, answer_seconds)
        deadline = time.monotonic() + generate_seconds
        for model in models[:_MODELS_TRIED]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            status, answer = exchange(
                "POST", node, "/api/generate", left, body=_request(model)
            )
            if status != 400:  # 400: a model that embeds and does not generate
                return _judged(model, status, answer)
    except PollError as error:
        return str(error)
    return "no model on it can generate" if models else "no model is on it"


def _models(node: Node, seconds: float) -> list[str]:
    """Return the models to try: loaded ones, then the others, smallest first."""
    resident = listings.resident(get_json(node, "/api/ps", seconds))
    present = listings.present(get_json(node, "/api/tags", seconds))
    others = sorted(present.values(), key=lambda each: each.size_bytes)
    return list(dict.fromkeys([*resident, *(each.name for each in others)]))


def _request(model: str) -> dict[str, Any]:
    # No option that would reload the model (num_ctx and the like).
    return {
        "model": model,
        "prompt": "Count on from 1 2 3",
        "stream": False,
        "options": {"num_predict": 8, "temperature": 0},
    }


def _judged(model: str, status: int, answer: Any) -> str | None:
    if status != 200:
        text = answer.get("error") if isinstance(answer, dict) else answer
        return f"{model}: {status}: {str(text)[:200]}"
    made = answer.get("eval_count", 0) if isinstance(answer, dict) else 0
    if not made or not answer.get("done"):
        return f"{model}: no token was made"
    return None
