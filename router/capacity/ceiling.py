"""Learns how many requests a node runs at once where `__slots` is not given; pure.

`OLLAMA_NUM_PARALLEL` cannot be asked for, and some models run one at a time whatever
it says. A request beyond it waits inside Ollama, first come first served, and gets no
byte before. So where a request would have to wait here as well, one more than is
known to fit is sent as a probe: it proves a slot if its prompt was read while all the
others ran, and it costs at most that one request's wait if not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

_MOST = 64
# For how long a probe must have run beside all others. Ends are seen a little later
# than they are, and the later the busier the router is.
_OVERLAP_SECONDS = 0.25
_TIMED_OVERLAP_SECONDS = 0.02  # where the node's own times tell
_QUIET_SECONDS = 1.0  # where no end was seen at all
# A request that waited for another of ours begins when that one ends.
_HANDOVER_SECONDS = 0.5
_WAIT_SECONDS = 0.15
# Who was sent so long before a probe, or longer, comes before it in the node as well.
_SENT_BEFORE_SECONDS = 0.1
_STRIKES = 4  # short waits, more than there were replies without
_ENDS = 16
# The families that Ollama's scheduler runs one at a time (server/sched.go, 0.17.4 and
# newer), and of those that only embed the ones that older listings do not tell.
_SINGLE = frozenset(
    ("mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2")
) | frozenset(("lfm2moe", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni"))
_EMBEDS = "bert"

Key = tuple[str, str]


def runs_alone(listing: Mapping[str, object]) -> bool:
    """Say whether Ollama runs a model of `/api/tags` one request at a time."""
    capabilities = listing.get("capabilities")
    if isinstance(capabilities, list) and capabilities:
        embeds = "completion" not in capabilities
    else:
        embeds = False
    details = listing.get("details")
    family = details.get("family") if isinstance(details, Mapping) else None
    known = isinstance(family, str) and (family in _SINGLE or _EMBEDS in family)
    return embeds or known


class Probing(Protocol):
    """What is read of a lease."""

    @property
    def node(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def decoding_since(self) -> float | None: ...
    @property
    def taken_at(self) -> float: ...
    @property
    def streams(self) -> bool: ...


class _Miss(Enum):
    """Why a probe proved nothing: seconds to the next, doubling, and the longest."""

    REFUTED = (60.0, 86_400.0)  # the node's own times say that it waited
    LATE = (10.0, 900.0)  # `/v1` tells no times: its first token came after an end
    UNCLEAR = (0.5, 15.0)  # its client left, or another ended too soon

    def pause(self, before: int) -> float:
        first, longest = self.value
        return min(longest, first * 2.0 ** min(before, 20))


@dataclass(frozen=True, slots=True)
class ReplyRun:
    """How a reply went inside the node; monotonic seconds.

    started: when its prompt began to be read; its first token where that is not told
    waited:  in the node's own queue; None where its timings do not tell
    """

    started: float
    waited: float | None
    life: float

    @property
    def delayed(self) -> bool:
        """Whether it stood in the node's own queue for a time that matters."""
        return self.waited is not None and self.waited > max(1.0, 0.2 * self.life)


@dataclass(slots=True)
class _Trial:
    """One probe.

    first_end: when the first of the others ended, not later than it did if `timed`
    unsure:    of the others, those sent at nearly the same time: they may be the ones
               that wait. When they began, once that is known
    overlapped_at: when it had run beside all others, but for those
    """

    key: Key
    lease: Probing
    others: set[Probing]
    first_end: float | None = None
    timed: bool = True
    unsure: dict[Probing, float | None] = field(default_factory=dict)
    overlapped_at: float | None = None

    def began(self, other: Probing) -> float | None:
        """Return when one of those began; None while that is not known."""
        if self.unsure[other] is None:
            self.unsure[other] = other.decoding_since
        return self.unsure[other]


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    misses: dict[_Miss, int] = field(default_factory=dict)

    def missed(self, miss: _Miss, now: float) -> None:
        before = self.misses.get(miss, 0)
        self.misses[miss] = before + 1
        self.until = now + miss.pause(before)


@dataclass(slots=True)
class CeilingSearch:
    """Ceilings learned by probes, by node and model.

    learned: what ran at once of each node and model; of a node as a whole under ""
    most:    the largest of each node
    """

    learned: dict[Key, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    _trials: dict[str, _Trial] = field(default_factory=dict)
    _pauses: dict[Key, _Pause] = field(default_factory=dict)
    _ends: dict[Key, list[float]] = field(default_factory=dict)
    _over: dict[str, float] = field(default_factory=dict)
    _strikes: dict[Key, int] = field(default_factory=dict)

    def recall(self, ceilings: Mapping[Key, int]) -> None:
        """Take over what was learned before."""
        for key, ceiling in ceilings.items():
            self._set(key, ceiling)

    def settled(self, node: str, model: str) -> bool:
        """Say whether one request more was seen to wait."""
        pause = self._pauses.get((node, model))
        return pause is not None and (
            _Miss.REFUTED in pause.misses or _Miss.LATE in pause.misses
        )

    def forget(self, key: Key) -> None:
        self.learned.pop(key, None)
        self._pauses.pop(key, None)
        self._ends.pop(key, None)
        self._strikes.pop(key, None)

    def ceiling(self, node: str, model: str, default: int) -> int:
        known = self.learned.get((node, model))
        return known or self.learned.get((node, ""), default)

    def may_try(self, node: str, model: str, ceiling: int, now: float) -> bool:
        """Say whether one request more than `ceiling` may be sent now."""
        if ceiling >= _MOST:
            return False
        self.look(node, now)
        pause = self._pauses.get((node, model))
        return node not in self._trials and (pause is None or now >= pause.until)

    def begin(self, lease: Probing, others: Iterable[Probing]) -> None:
        key, those = (lease.node, lease.model), set(others)
        unsure: dict[Probing, float | None] = {
            each: None
            for each in those
            if each.decoding_since is None
            and lease.taken_at - each.taken_at < _SENT_BEFORE_SECONDS
        }
        self._trials[lease.node] = _Trial(key, lease, those, unsure=unsure)

    def on_trial(self, node: str, since: float) -> bool:
        """Say whether a probe was under way there at any time since."""
        return node in self._trials or self._over.get(node, since - 1) >= since

    def look(self, node: str, now: float) -> None:
        """Let a probe that came to its first token beside all others end as proven."""
        trial = self._trials.get(node)
        if trial and trial.first_end is None:
            self._overlapped(trial, now, _QUIET_SECONDS)

    def _overlapped(self, trial: _Trial, end: float, least: float) -> None:
        began = trial.lease.decoding_since
        if began is not None and end - began >= least:
            self._beside_all(trial, end)

    def _beside_all(self, trial: _Trial, end: float) -> None:
        """Let it be proven if those sent with it had begun as well by `end`.

        A whole reply tells when it began at its own end.
        """
        trial.overlapped_at = end
        late = [each for each in trial.unsure if not _before(trial.began(each), end)]
        if not late:
            self._prove(trial, end)
        elif any(trial.began(each) is not None or each.streams for each in late):
            self._miss(trial, _Miss.UNCLEAR, end)

    def _miss(self, trial: _Trial, miss: _Miss, now: float) -> None:
        self._end(trial, now)
        self._pauses.setdefault(trial.key, _Pause()).missed(miss, now)

    def ended(
        self, lease: Probing, run: ReplyRun | None, now: float, at: float | None = None
    ) -> None:
        """Take the end of any lease of the node.

        at: when it was, or a little before, by the node's own times
        """
        ends = self._ends.setdefault((lease.node, lease.model), [])
        ends.append(now if at is None else at)
        del ends[:-_ENDS]
        trial = self._trials.get(lease.node)
        if trial is None:
            return
        if lease in trial.unsure and trial.unsure[lease] is None:
            trial.unsure[lease] = run.started if run else now
        if trial.overlapped_at is not None:
            if lease in trial.unsure:
                self._beside_all(trial, trial.overlapped_at)
        elif lease is trial.lease:
            self._judge(trial, run, now)
        elif lease in trial.others and trial.first_end is None:
            trial.first_end, trial.timed = ends[-1], at is not None
            least = _TIMED_OVERLAP_SECONDS if trial.timed else _OVERLAP_SECONDS
            self._overlapped(trial, trial.first_end, least)

    def _judge(self, trial: _Trial, run: ReplyRun | None, now: float) -> None:
        end = now if trial.first_end is None else trial.first_end
        miss = _Miss.UNCLEAR
        if run is not None:
            timed = trial.timed and run.waited is not None
            least = _TIMED_OVERLAP_SECONDS if timed else _OVERLAP_SECONDS
            if end - run.started >= least:
                self._beside_all(trial, end)
                return
            if run.waited is None:
                # `/v1` tells no times: its first token came when another had ended.
                miss = _Miss.LATE if end <= run.started else miss
            elif run.waited >= _WAIT_SECONDS:
                miss = _Miss.REFUTED
        self._miss(trial, miss, now)

    def _prove(self, trial: _Trial, now: float) -> None:
        self._end(trial, now)
        self._pauses.pop(trial.key, None)
        self._set(trial.key, len(trial.others) + 1)

    def _end(self, trial: _Trial, now: float) -> None:
        node = trial.key[0]
        del self._trials[node]
        self._over[node] = now

    def contradict(
        self, lease: Probing, run: ReplyRun, default: int, now: float
    ) -> bool:
        """Take a slot back where requests wait for others of ours.

        Says whether this one waited for long, and so must be accounted for.
        """
        key = (lease.node, lease.model)
        waited = run.waited or 0.0
        handed = any(
            abs(end - run.started) <= _HANDOVER_SECONDS
            for end in self._ends.get(key, ())
        )
        strikes = self._strikes.get(key, 0)
        strikes += 1 if handed and waited >= _WAIT_SECONDS else -1
        if strikes >= _STRIKES or (run.delayed and handed):
            self._set(key, max(1, self.ceiling(*key, default) - 1))
            self._pauses.setdefault(key, _Pause()).missed(_Miss.REFUTED, now)
            strikes = 0
        self._strikes[key] = max(0, strikes)
        return handed

    def _set(self, key: Key, ceiling: int) -> None:
        node = key[0]
        self.learned[key] = ceiling
        self.most[node] = max(c for (n, _), c in self.learned.items() if n == node)


def _before(began: float | None, end: float) -> bool:
    return began is not None and began < end
