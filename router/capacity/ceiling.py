"""Learns the ceiling of a node whose `__slots` is not given; pure.

`OLLAMA_NUM_PARALLEL` cannot be asked for. A request beyond it waits inside Ollama
until another has ended, unseen: it gets no byte before. So one request more than
is known to fit is sent as a trial, only where it would have had to wait here as
well, and it proves a slot if it ran beside all the others and did not wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_MOST = 32
_PAUSE_SECONDS = 60.0  # between two trials on a node
_BACK_OFF_SECONDS = 900.0  # after a refuted one, twice as long each time
_LONGEST_BACK_OFF_SECONDS = 86_400.0
_LEAST_OVERLAP_SECONDS = 0.2  # ends are seen a little later than they are


@dataclass(frozen=True, slots=True)
class Run:
    """How a reply went inside the node: when it began to decode, and its wait.

    waited: None where the node's timings do not tell
    """

    began: float
    waited: float | None
    life: float

    @property
    def delayed(self) -> bool:
        """Whether it stood in the node's own queue for a time that matters."""
        return self.waited is not None and self.waited > max(1.0, 0.2 * self.life)


@dataclass(slots=True)
class _Trial:
    lease: object
    others: set[object]
    first_end: float | None = None


class Growth:
    """Ceilings learned by trials, by node."""

    def __init__(self) -> None:
        self.learned: dict[str, int] = {}
        self._trials: dict[str, _Trial] = {}
        self._not_before: dict[str, float] = {}
        self._refusals: dict[str, int] = {}

    def may_try(self, node: str, ceiling: int, now: float) -> bool:
        """Say whether one request more than `ceiling` may be sent now."""
        return (
            ceiling < _MOST
            and node not in self._trials
            and now >= self._not_before.get(node, 0.0)
        )

    def begin(self, node: str, lease: object, others: Iterable[object]) -> None:
        self._trials[node] = _Trial(lease, set(others))

    def ended(self, node: str, lease: object, run: Run | None, now: float) -> None:
        """Take the end of any lease of the node; a trial's own end judges it."""
        trial = self._trials.get(node)
        if trial is None:
            return
        if lease is not trial.lease:
            if lease in trial.others and trial.first_end is None:
                trial.first_end = now
            return
        del self._trials[node]
        self._not_before[node] = now + _PAUSE_SECONDS
        if run is None or run.waited is None:
            return  # it says nothing either way
        together = _together(trial, run, now)
        if run.delayed or together < 0:
            self._refuse(node, now)
        elif together >= _LEAST_OVERLAP_SECONDS:
            self._refusals.pop(node, None)
            self.learned[node] = len(trial.others) + 1

    def on_trial(self, node: str) -> bool:
        return node in self._trials

    def contradict(self, node: str, now: float) -> None:
        """Take one slot back where a request waited inside the node after all."""
        if self.learned.get(node, 1) > 1:
            self.learned[node] -= 1
        self._refuse(node, now)

    def _refuse(self, node: str, now: float) -> None:
        times = self._refusals.get(node, 0)
        self._refusals[node] = times + 1
        pause = min(_LONGEST_BACK_OFF_SECONDS, _BACK_OFF_SECONDS * 2.0 ** min(times, 9))
        self._not_before[node] = now + pause


def _together(trial: _Trial, run: Run, now: float) -> float:
    """Return how long all of them decoded at once; below 0 if they never did."""
    end = now if trial.first_end is None else trial.first_end
    return end - run.began
