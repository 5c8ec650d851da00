"""Which slots go to who came last while a line is late; pure.

In order alone a line of some seconds serves nobody in time. Two things cost those who
wait little, or nothing:

* A slot on a slow node. Who came last is complete there before those who waited for
  long are on quick nodes; and these would wait and then take long as well.
* A slot while the line is short beside what it was lately. Who goes first delays those
  who wait now by one slot each, and nobody who comes later. While they will be served
  well within the longest waits, those do not become longer.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import exp, log

from router.runtime.recent import Recent
from router.scheduling.completion import Offer
from router.scheduling.request import PendingRequest

# A reader stays for a first token within 2 s, and reads along with ten a second.
LATE_SECONDS = 2.0
_READ_ALONG = 0.1  # seconds for each token
# Let W be the wait in line, and D how much longer the slow node takes. Exchanging the
# first for the newest there, all others being served later by one, changes the sum of
# squared completion times by W (W - 2 D). Slow long answers make the longest times, so
# it pays for longer.
_TIMES_LONGER = 3.0
_MOST = 0.8  # of the slots
_OF_WAITS = 0.8  # of the longest waits, so that they do not grow by themselves
# Where long answers make the longest times, waits that are short beside these may be
# dealt out otherwise: some of the longest become longer by it, and as many shorter.
_OF_TIMES = 0.3

# Seconds are counted by steps, each so many times the one before.
_SHORTEST, _STEP, _STEPS = 0.5, 1.15, 56
_MORE = exp(log(2) / 4000)  # each counts as the one before; half after 4,000 requests
_TAIL = 0.01
_ALMOST = 1 - 1e-9
_MOST_KNOWN = 4096  # lines
_RESCALE = 1e9


def pays_off(waited: float, longer: float) -> bool:
    """Say whether the newest rather than the first in line takes a slow node's slot.

    waited: seconds by the first
    longer: seconds that the slow node takes more than a quick one
    """
    return LATE_SECONDS <= waited < _TIMES_LONGER * longer


def in_time(asking: PendingRequest, offer: Offer, now: float) -> bool:
    """Say whether somebody who reads along would find it quick on a node."""
    work = asking.on(offer.view.node.name)
    first = now - asking.since + offer.first_token(work, now)
    return first <= LATE_SECONDS and offer.per_token <= _READ_ALONG


class Longest:
    """Seconds that one in a hundred took at least, of some thousand requests lately."""

    def __init__(self) -> None:
        self._counts = [0.0] * _STEPS
        self._weight = 1.0
        self._total = 0.0

    def count(self, seconds: float) -> None:
        step = 0
        if seconds > _SHORTEST:
            step = min(_STEPS - 1, 1 + int(log(seconds / _SHORTEST) / log(_STEP)))
        self._weight *= _MORE
        self._counts[step] += self._weight
        self._total += self._weight
        if self._weight > _RESCALE:
            self._counts = [count / _RESCALE for count in self._counts]
            self._total /= _RESCALE
            self._weight = 1.0

    @property
    def seconds(self) -> float:
        left = _TAIL * self._total
        for step in range(_STEPS - 1, 0, -1):
            left -= self._counts[step]
            if left < 0:
                return _SHORTEST * float(_STEP ** (step - 0.5))
        return 0.0


class LateLine:
    """One line: what its requests waited and took, and which slots are its newest's."""

    def __init__(self) -> None:
        self.waits = Longest()
        self.times = Longest()
        self._credit = 0.0

    @property
    def due(self) -> bool:
        """Whether the next slot on which it would be quick is the newest's."""
        return self._credit >= _ALMOST

    def took(self) -> None:
        """Take note that the newest had its slot."""
        self._credit = 0.0

    def waited(self, seconds: float) -> None:
        """Take note of a slot for who waited for so long."""
        self.waits.count(seconds)
        if seconds >= LATE_SECONDS:
            share = self.share(seconds)
            self._credit = min(1.0, self._credit + share / (1 - share))

    def share(self, waited: float) -> float:
        """Return the newest's share of the slots where the first waited for so long.

        The others wait longer by it, and shall be served in time to leave the longest
        waits as they are.
        """
        bound = max(_OF_WAITS * self.waits.seconds, _OF_TIMES * self.times.seconds)
        return min(_MOST, 1 - waited / bound) if waited < bound else 0.0


class Newcomers:
    """The lines that were late lately: one for each runner and principal."""

    def __init__(self) -> None:
        self._lines: Recent[tuple[str, str], LateLine] = Recent(_MOST_KNOWN)
        self._running: dict[Hashable, tuple[LateLine, float]] = {}

    def due(self, runner: str, principal: str) -> bool:
        line = self._lines.get((runner, principal))
        return line is not None and line.due

    def took(self, runner: str, principal: str) -> None:
        self._lines[runner, principal].took()

    def began(self, running: Hashable, asking: PendingRequest, now: float) -> None:
        """Take note of a slot; a line is known once it was late."""
        key = asking.routing.runner, asking.routing.principal
        waited = now - asking.since
        line = self._lines.get(key)
        if line is None:
            if waited < LATE_SECONDS:
                return
            line = self._lines[key] = LateLine()
        line.waited(waited)
        self._running[running] = line, asking.since

    def ended(self, running: Hashable, now: float, *, complete: bool) -> None:
        """Do nothing where its line was not known."""
        if self._running:
            line, since = self._running.pop(running, (None, 0.0))
            if line is not None and complete:
                line.times.count(now - since)
