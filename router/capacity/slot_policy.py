"""How many slots of a node are used for a model, below its ceiling; pure.

`SlotPolicy` is what the ledger asks. `AllSlots` uses what there is;
`LearnedSlots` stops where one more stream lowers the node's total.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from router.capacity.throughput import ENOUGH, Curve

# A look at fewer slots takes at most a tenth of a node's replies: it costs what
# one slot brings, for as long as it lasts.
_REST = 10
_LONGEST_LOOK = int(4 * ENOUGH)
# Replies at a cap until one stream more is looked at again, twice as many each time
# that the cap was right.
_UP_REST = 100
_LONGEST_UP_REST = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Slots of a node for a model: while requests wait, and while none does."""

    pressed: int
    idle: int


class SlotPolicy(Protocol):
    """Decides after each reply that taught something."""

    def limits(
        self, key: tuple[str, str], curve: Curve, ceiling: int, now: float
    ) -> Limits: ...

    def replied(
        self,
        key: tuple[str, str],
        curve: Curve,
        ceiling: int,
        streams: int,
        *,
        pressed: bool,
    ) -> None:
        """Take note of a reply that ran beside `streams` - 1 others."""


class AllSlots:
    """Uses every slot."""

    def limits(
        self, _key: tuple[str, str], _curve: Curve, ceiling: int, _now: float
    ) -> Limits:
        return Limits(ceiling, ceiling)

    def replied(
        self,
        key: tuple[str, str],
        curve: Curve,
        ceiling: int,
        streams: int,
        *,
        pressed: bool,
    ) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class _Look:
    """A while at a k that load alone would never show."""

    target: int | None = None
    replies: int = 0
    rest: int = 0


@dataclass(slots=True)
class _LookUp:
    """A while at one stream more than the cap; `cap` is 0 while there is none."""

    cap: int = 0
    open: bool = False
    replies: int = 0
    rest: int = _UP_REST


@dataclass(slots=True)
class LearnedSlots:
    """Caps at the k from which one more stream lowers the total.

    More streams than are known to be good are tried only while nobody waits.
    Fewer can only be seen while somebody does; see `_REST` for what that costs.
    """

    _looks: dict[tuple[str, str], _Look] = field(default_factory=dict)
    _ups: dict[tuple[str, str], _LookUp] = field(default_factory=dict)

    def limits(
        self, key: tuple[str, str], curve: Curve, ceiling: int, now: float
    ) -> Limits:
        look, up = self._looks.get(key), self._ups.get(key)
        best = curve.best(ceiling)
        pressed = best
        if look and look.target is not None:
            pressed = min(best, look.target)
        idle = max(best, curve.best(ceiling, now))
        if up and up.open:
            idle = max(idle, min(ceiling, up.cap + 1))
        return Limits(pressed, idle)

    def replied(
        self,
        key: tuple[str, str],
        curve: Curve,
        ceiling: int,
        streams: int,
        *,
        pressed: bool,
    ) -> None:
        cap = curve.best(ceiling)
        self._look_up(key, cap, ceiling, streams, pressed=pressed)
        look = self._looks.setdefault(key, _Look())
        if look.target is None:
            look.rest = max(0, look.rest - 1)
            if pressed and look.rest == 0 and streams == cap and curve.known(cap):
                look.target = curve.untried_below(cap)
                look.replies = 0
            return
        look.replies += 1
        if curve.known(look.target) or look.replies >= _LONGEST_LOOK or not pressed:
            # What seems better is looked at again soon: once proves nothing.
            again = curve.promising(look.target, cap)
            look.rest = int(ENOUGH) if again else _REST * look.replies
            look.target = None

    def _look_up(
        self,
        key: tuple[str, str],
        cap: int,
        ceiling: int,
        streams: int,
        *,
        pressed: bool,
    ) -> None:
        """See from time to time whether the stream that was dropped pays by now.

        A cap hides what would refute it.
        """
        if cap >= ceiling:
            self._ups.pop(key, None)
            return
        up = self._ups.setdefault(key, _LookUp(cap))
        if up.cap != cap:
            up.cap, up.open, up.replies, up.rest = cap, False, 0, _UP_REST
        if up.open:
            up.replies += streams > cap
            if up.replies >= ENOUGH or pressed:
                up.open, up.replies = False, 0
                up.rest = min(_LONGEST_UP_REST, 2 * up.rest)
        elif streams == cap:
            up.replies += 1
            if up.replies >= up.rest and not pressed:
                up.open, up.replies = True, 0
