"""What replies taught of each node and model: speeds, and the slots worth using; pure.

Speeds are those of streams that nothing disturbs: time in which prompts of ours were
read beside a reply is taken off, since the streams of a real Ollama stand nearly
still meanwhile (65 to 82 ms for each batch of 512 tokens, on an H200).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from itertools import islice
from typing import Any

from router.capacity.concurrency import MOST_READ, STANDS_STILL
from router.capacity.scaling import Limits, Looks, Reply
from router.capacity.slot_policy import LearnedSlots, SlotPolicy
from router.capacity.throughput import ThroughputCurve

Key = tuple[str, str]

_TELLING = 32  # tokens: a shorter reply shows the moment, such as another's prompt
# As many nodes and models as a large fleet has, at 2 to 3 kB each; of those that nobody
# asks for any more, the oldest are forgotten.
_MOST_CURVES = 131_072
_MOST_NEW = 4096
MOST_SHOWN = 4096  # in metrics and on pages, the newest


@dataclass(frozen=True, slots=True)
class ReplyEvidence:
    """What a finished reply showed: tokens in seconds beside `streams` - 1 others.

    purity:   how much of the time they were just so many, 0 to 1
    read:     seconds of these in which prompts of ours were read beside it
    in_doubt: there may have been more streams than we know of
    """

    streams: int
    purity: float
    tokens: int
    seconds: float
    read: float = 0.0
    in_doubt: bool = False

    @property
    def weight(self) -> float:
        """Return what it counts for, 0 to 1."""
        if self.read > MOST_READ * self.seconds:
            return 0.0
        undisturbed = 1 - self.read / self.seconds
        return min(1.0, self.tokens / _TELLING) * undisturbed * undisturbed

    @property
    def long(self) -> bool:
        return self.tokens >= _TELLING

    def reply(self, now: float) -> Reply:
        seconds = self.seconds - STANDS_STILL * min(self.read, self.seconds)
        weight = self.weight * self.purity
        return Reply(self.streams, self.tokens, seconds, now, weight)

    @property
    def most_speed(self) -> float:
        """Return its tokens/s, had it stood still while prompts were read."""
        return self.tokens / max(1e-9, self.seconds - self.read)


class LearnedCapacity:
    """Curves and limits by node and model; `slots` gives a model's ceiling."""

    def __init__(
        self,
        policy: SlotPolicy | None,
        slots: Callable[[str, str], int],
        forget: Callable[[Key], None],
        *,
        changed: Callable[[str], None],
    ) -> None:
        self.policy = policy or LearnedSlots()
        self.curves: dict[Key, ThroughputCurve] = {}
        self.limits: dict[Key, Limits] = {}
        self.capped: Counter[str] = Counter()  # limits of a node
        self.slowed: dict[Key, None] = {}  # slower than usual, when last looked at
        self._of_model: dict[str, dict[Key, None]] = {}
        self._new: dict[Key, None] = {}  # asked for the first time, no reply yet
        self._slots = slots
        self._forget = forget  # called with what nobody asks for any more
        self._changed = changed  # called with the node whose limits are others now

    def taken(self, key: Key, now: float) -> None:
        """Let what the fleet showed count for a node that is asked the first time."""
        if key not in self.curves and key not in self._new:
            if len(self._new) >= _MOST_NEW:
                self._new.clear()
            self._new[key] = None
            self.set(key, now)

    def learn(
        self, key: Key, shown: ReplyEvidence, now: float, looks: Looks
    ) -> float | None:
        """Take in a reply; return its speed as a share of what was expected.

        None where nothing was known. What is read off the share is an accusation, so
        it is the most that the reply may have been: all reading taken off.
        """
        curve = self._curve(key)
        reply = shown.reply(now)
        expected = curve.shown(shown.streams)
        if shown.in_doubt:
            curve.keep_pace(shown.streams, reply.speed, now, shown.weight)
        elif reply.weight > 0:
            curve.learn(shown.streams, reply.speed, now, shown.weight)
            self._share(key, reply, now, looks)
        if curve.slowed_at is not None:
            self.slowed[key] = None
        return shown.most_speed / expected if expected else None

    def drift(self, key: Key, share: float, now: float) -> None:
        """Take what running streams show: a share of the known speed."""
        curve = self.curves[key]
        curve.drift(share, now)
        if curve.slowed_at is not None:
            self.slowed[key] = None

    def _curve(self, key: Key) -> ThroughputCurve:
        curve = self.curves.pop(key, None) or ThroughputCurve(
            ratio=self.policy.ratio(key)
        )
        self._keep(key, curve)
        self._new.pop(key, None)
        if len(self.curves) > _MOST_CURVES:
            self._drop(next(iter(self.curves)))
        return curve

    def _keep(self, key: Key, curve: ThroughputCurve) -> None:
        self.curves[key] = curve  # the newest stands last
        self._of_model.setdefault(key[1], {})[key] = None

    def _drop(self, key: Key) -> None:
        del self.curves[key]
        of_model = self._of_model[key[1]]
        del of_model[key]
        if not of_model:
            del self._of_model[key[1]]
        self._limit(key, None)
        self.policy.forget(key)
        self._forget(key)

    def _share(self, key: Key, reply: Reply, now: float, looks: Looks) -> None:
        ceiling = self._slots(*key)
        if self.policy.replied(key, reply, ceiling, looks):
            self.set_all(now, key[1])
        else:
            self.set(key, now)

    def recall(
        self, curves: Mapping[Key, ThroughputCurve], scaling: Sequence[Any], now: float
    ) -> None:
        """Take over what was kept; `now` is when that was."""
        self.policy.recall(scaling, now)
        for key, curve in curves.items():
            curve.ratio = self.policy.ratio(key)
            self._keep(key, curve)
            if curve.slowed_at is not None:
                self.slowed[key] = None

    def set(self, key: Key, now: float) -> None:
        """Work out the limits of a node and model anew."""
        ceiling = self._slots(*key)
        limits = self.policy.limits(key, ceiling, now)
        kept = limits if min(limits.pressed, limits.idle) < ceiling else None
        if self._limit(key, kept) != kept:
            self._changed(key[0])

    def _limit(self, key: Key, limits: Limits | None) -> Limits | None:
        """Keep the limits of a node and model, or none; return those before."""
        before = self.limits.pop(key, None)
        if before is not None:
            self.capped[key[0]] -= 1
            if not self.capped[key[0]]:
                del self.capped[key[0]]
        if limits is not None:
            self.limits[key] = limits
            self.capped[key[0]] += 1
        return before

    def set_all(self, now: float, model: str) -> None:
        """The same for all nodes that ran a model."""
        keys: Iterable[Key] = (
            *self._of_model.get(model, ()),
            *(key for key in self._new if key[1] == model),
        )
        for key in keys:
            self.set(key, now)

    def set_nodes(self, names: Container[str], now: float) -> None:
        """The same for all models that some nodes ran."""
        for key in (*self.curves, *self._new):
            if key[0] in names:
                self.set(key, now)

    def newest(
        self, count: int, nodes: Container[str] | None = None
    ) -> list[tuple[Key, ThroughputCurve]]:
        """Return those that replies taught last, of some nodes or of all."""
        found = (
            (key, curve)
            for key, curve in reversed(self.curves.items())
            if nodes is None or key[0] in nodes
        )
        return list(islice(found, count))[::-1]
