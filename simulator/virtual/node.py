"""A simulated node in virtual time: slots, prompts and speed of an engine; pure.

Each step of the engine gives one token to each decoding stream and reads up to 512
tokens of the first prompt in line: `b / prompt speed + k / (S(k) * speed)` seconds.
Between two events nothing changes, so it moves from event to event.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, inf
from typing import TYPE_CHECKING

from simulator.speed import Scaling, total_speed

if TYPE_CHECKING:
    from simulator.virtual.clock import Clock

__all__ = ["TOTALS", "Caching", "Scaling", "Spec", "Stream", "VirtualNode"]

_CHUNK = 512


_MOST_STREAMS = 16

TOTALS = {
    scaling: tuple(total_speed(k, scaling) for k in range(1, _MOST_STREAMS + 1))
    for scaling in Scaling
}


class Caching(StrEnum):
    """Which free slot takes a prompt of which none has anything in its cache."""

    NONE = "nothing is cached"
    FIRST = "the first"  # Ollama's default
    OLDEST = "the one that was left longest ago"  # meant by OLLAMA_MULTIUSER_CACHE


@dataclass(frozen=True, slots=True)
class Spec:
    """A node: tokens/s of one stream, of prompts, and its slots.

    models, load_seconds: how many models it holds, and what loading one takes
    """

    name: str
    speed: float
    prompt_speed: float
    slots: int = 4
    models: int = 2
    load_seconds: float = 5.0


@dataclass(slots=True, eq=False)
class Stream:
    """One request on a node; `ended` is called when it is whole.

    key:    whose text it is: what another stream of the same read, it finds read
    head:   how the text begins, as others' texts may, and the tokens of that
    unread: of its prompt, when it began
    first:  called when the first token is there
    model:  streams of two models do not share a step: the GPU serves them in turn
    """

    prompt: float
    tokens: float
    ended: Callable[[Stream], None]
    key: object = None
    first: Callable[[], None] | None = None
    model: str = ""
    head: tuple[object, float] = (None, 0.0)
    unread: float = 0.0
    began: float = 0.0
    first_token_at: float = inf
    cancelled: bool = False
    end: float = 0.0  # on the node's count of tokens
    left: float = 0.0

    def timings(self, now: float) -> tuple[float, float]:
        """Return seconds of prompt, behind others' as well, and of generation."""
        return self.first_token_at - self.began, now - self.first_token_at


@dataclass(slots=True, eq=False)
class _Slot:
    """What one slot's cache holds: so many tokens of a text."""

    key: object = None
    head: object = None
    tokens: float = 0.0
    left_at: float = -inf
    stream: Stream | None = None

    def common(self, stream: Stream) -> float:
        """Return the tokens with which both texts begin."""
        if stream.key is not None and self.key == stream.key:
            return self.tokens
        head, tokens = stream.head
        same = head is not None and self.head == head
        return min(tokens, self.tokens) if same else 0.0


class VirtualNode:
    """The streams of one node; the clock tells it when something is due.

    With `caching` a text finds in a slot's cache what was read and said of it there,
    until another one has used the slot; the free slot that has most of it is taken.
    """

    def __init__(
        self,
        spec: Spec,
        totals: Sequence[float],
        clock: Clock,
        *,
        caching: Caching = Caching.NONE,
        most: int | None = None,
    ) -> None:
        self.spec = spec
        self._most = most or spec.slots
        cached = 0 if caching is Caching.NONE else spec.slots
        self._slots = [_Slot() for _ in range(cached)]
        self._caching = caching
        self.slowdown = 1.0
        self._totals = totals
        self._clock = clock
        self._now = 0.0
        self._count = 0.0  # tokens that each decoding stream has had
        self._streams: dict[Stream, None] = {}
        self._counts: dict[str, int] = {}  # decoding streams of each model
        self._reading: deque[Stream] = deque()
        self._decoding: list[tuple[float, int, Stream]] = []
        self._number = 0
        self._tick = 0

    def __len__(self) -> int:
        return len(self._streams)

    def slow(self, times: float) -> None:
        """Take so many times as long for everything from now on."""
        self._advance()
        self.slowdown = times
        self._plan()

    def had(self, stream: Stream) -> float:
        """Return the tokens that a stream has had so far."""
        self._advance()
        if stream.first_token_at == inf:
            return 0.0
        return stream.tokens - max(0.0, stream.end - self._count)

    def begin(self, stream: Stream) -> None:
        self._advance()
        if len(self._streams) >= self._most:
            raise ValueError(f"{self.spec.name}: no slot is free")
        self._streams[stream] = None
        stream.began = self._now
        stream.unread = stream.left = max(1.0, stream.prompt - self._cached(stream))
        self._reading.append(stream)
        self._plan()

    def cancel(self, stream: Stream) -> float:
        """Forget a stream whose client went away; returns the tokens it had."""
        stream.cancelled = True
        if stream not in self._streams:
            return 0.0
        self._advance()
        del self._streams[stream]
        had = 0.0
        if stream.first_token_at < inf:
            had = stream.tokens - (stream.end - self._count)
            self._counts[stream.model] -= 1
        else:
            self._reading.remove(stream)
        self._leave(stream)
        self._plan()
        return had

    def _cached(self, stream: Stream) -> float:
        """Put it into a slot; returns what of its prompt is there already."""
        idle = [slot for slot in self._slots if slot.stream is None]
        if not idle:
            return 0.0
        slot = max(idle, key=lambda each: each.common(stream))
        common = slot.common(stream)
        if not common and self._caching is Caching.OLDEST:
            slot = min(idle, key=lambda each: each.left_at)
        slot.key, slot.head = stream.key, stream.head[0]
        slot.tokens, slot.stream = common, stream
        return common

    def _leave(self, stream: Stream) -> None:
        """Keep in the slot's cache what was read and said."""
        for slot in self._slots:
            if slot.stream is stream:
                slot.stream, slot.left_at = None, self._now
                said = stream.tokens - (stream.end - self._count)
                read = stream.prompt - max(0.0, stream.left)
                slot.tokens = read + (said if stream.first_token_at < inf else 0.0)

    def _rates(self) -> tuple[float, float]:
        """Tokens/s of each decoding stream, and of the prompt being read."""
        spec = self.spec
        step = 0.0
        for streams in self._counts.values():
            if streams:
                total = self._totals[min(streams, len(self._totals)) - 1]
                step += streams / (total * spec.speed)
        chunk = 0.0
        if self._reading:
            prompt = self._reading[0].unread
            chunk = prompt / ceil(prompt / _CHUNK)
            step += chunk / spec.prompt_speed
        step *= self.slowdown
        return (1 / step, chunk / step) if step else (0.0, 0.0)

    def _advance(self) -> None:
        spent = self._clock.now - self._now
        if spent > 0 and self._streams:
            decode, read = self._rates()
            self._count += decode * spent
            if self._reading:
                self._reading[0].left -= read * spent
        self._now = self._clock.now

    def _plan(self) -> None:
        """Have the clock call when the next thing is due."""
        while self._decoding and self._decoding[0][2].cancelled:
            heapq.heappop(self._decoding)
        self._tick += 1
        if not self._streams:
            return
        decode, read = self._rates()
        due = inf
        if self._decoding:
            due = (self._decoding[0][0] - self._count) / decode
        if self._reading:
            due = min(due, self._reading[0].left / read)
        tick = self._tick
        self._clock.at(self._now + max(0.0, due), lambda: self._due(tick))

    def _due(self, tick: int) -> None:
        if tick != self._tick:
            return
        self._advance()
        if self._reading and self._reading[0].left <= 1e-6:
            self._read()
        ended = []
        while self._decoding and self._decoding[0][0] <= self._count + 1e-6:
            stream = heapq.heappop(self._decoding)[2]
            if not stream.cancelled:
                del self._streams[stream]
                self._counts[stream.model] -= 1
                self._leave(stream)
                ended.append(stream)
        self._plan()
        for stream in ended:
            if not stream.cancelled:  # by one that ended in the same moment
                stream.ended(stream)

    def _read(self) -> None:
        stream = self._reading.popleft()
        stream.first_token_at = self._now
        stream.end = self._count + stream.tokens
        self._number += 1
        heapq.heappush(self._decoding, (stream.end, self._number, stream))
        self._counts[stream.model] = self._counts.get(stream.model, 0) + 1
        if stream.first:
            stream.first()
