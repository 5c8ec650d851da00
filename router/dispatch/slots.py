"""How many slots of a node are used for a model, below its ceiling; pure.

`SlotPolicy` is what the ledger asks. `AllSlots` uses what there is;
`LearnedSlots` stops where one more stream lowers the node's total.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from router.dispatch.curve import ENOUGH, Curve

# A look at fewer slots takes at most a tenth of a node's replies: it costs what
# one slot brings, for as long as it lasts.
_REST = 10
_LONGEST_LOOK = int(4 * ENOUGH)


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
    """A while with fewer slots, to see a k that load alone would never show."""

    target: int | None = None
    replies: int = 0
    rest: int = 0


@dataclass(slots=True)
class LearnedSlots:
    """Caps at the k from which one more stream lowers the total.

    More streams than are known to be good are tried only while nobody waits.
    Fewer can only be seen while somebody does; see `_REST` for what that costs.
    """

    _looks: dict[tuple[str, str], _Look] = field(default_factory=dict)

    def limits(
        self, key: tuple[str, str], curve: Curve, ceiling: int, now: float
    ) -> Limits:
        look = self._looks.get(key)
        best = curve.best(ceiling)
        pressed = best
        if look and look.target is not None:
            pressed = min(best, look.target)
        return Limits(pressed, max(best, curve.best(ceiling, now)))

    def replied(
        self,
        key: tuple[str, str],
        curve: Curve,
        ceiling: int,
        streams: int,
        *,
        pressed: bool,
    ) -> None:
        look = self._looks.setdefault(key, _Look())
        if look.target is None:
            look.rest = max(0, look.rest - 1)
            cap = curve.best(ceiling)
            if pressed and look.rest == 0 and streams == cap and curve.known(cap):
                look.target = curve.untried_below(cap)
                look.replies = 0
            return
        look.replies += 1
        if curve.known(look.target) or look.replies >= _LONGEST_LOOK or not pressed:
            look.rest = _REST * look.replies
            look.target = None
