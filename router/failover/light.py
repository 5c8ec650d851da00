"""Calls that need no slot of a node: its files, a model that is loaded, or to unload.

They never wait behind people's requests, nor keep a slot from them. They have a lane
of their own, a few at a time on each node, so that a client which asks for each of
its models at once costs nobody anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gevent.pool import Pool

from router.clients.http_json import Answer, PollError
from router.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from router.failover.verdict import Blame, judge
from router.model import Hold, HoldKind, Node
from router.relay.fields import Need
from router.runtime.cancellation import Cancellation
from router.snapshot import NodeView, Published

__all__ = ["LightAnswer", "LightCalls", "LightRequest"]

_EACH_NODE = 4
_MOST_WAITING = 1024
_MOST_ATTEMPTS = 4
_ANSWER_SECONDS = 30.0
_UNLOADS = "unload"  # their place in the lane: each goes to many nodes
_UNLOADS_AT_ONCE = 16

Ask = Callable[[str, Node, str, bytes, float], Answer]


class Holds(Protocol):
    def blocking(self, node: str) -> tuple[Hold, ...]: ...


@dataclass(frozen=True, slots=True)
class LightRequest:
    """deadline: in the router's monotonic time"""

    need: Need
    model: str  # canonical
    path: str
    body: bytes
    deadline: float


@dataclass(frozen=True, slots=True)
class LightAnswer:
    """A node's answer, and how many were asked for it."""

    node: str
    answer: Answer
    attempts: int


class LightCalls:
    """Answers them; `unloaded` hears which nodes may have let go of a model."""

    def __init__(
        self,
        published: Published,
        holds: Holds,
        ask: Ask,
        *,
        unloaded: Callable[[Sequence[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._published = published
        self._holds = holds
        self._ask = ask
        self._unloaded = unloaded
        self._clock = clock
        self._lane = Lane(clock)

    def answer(
        self, request: LightRequest, cancellation: Cancellation
    ) -> LightAnswer | None:
        """Return an answer; None where the model must be loaded, on a slot.

        Raises NotFoundError, UnavailableError, OverloadedError, DeadlineError,
        StoppedError.
        """
        having = self._having(request.model)
        if request.need is Need.UNLOAD:
            return self._everywhere(request, having, cancellation)
        if request.need is Need.LOADED:
            return self._where_loaded(request, having, cancellation)
        nodes = self._open(having) or self._up(having)
        return self._one_of(request, nodes, cancellation)

    def _having(self, model: str) -> list[NodeView]:
        views = self._published.current.nodes.values()
        having = [v for v in views if v.present is None or model in v.present]
        if not having:
            short = model.removesuffix(":latest")
            raise NotFoundError(f"model {short!r} not found")
        return having

    def _open(self, views: Sequence[NodeView]) -> list[NodeView]:
        return [view for view in views if not self._holds.blocking(view.node.name)]

    def _up(self, views: Sequence[NodeView]) -> list[NodeView]:
        """Leave out what is down; a node that is cordoned or too hot can read files."""

        def down(view: NodeView) -> bool:
            holds = self._holds.blocking(view.node.name)
            return any(hold.kind is HoldKind.DOWN for hold in holds)

        up = [view for view in views if not down(view)]
        if not up:
            names = ", ".join(view.node.name for view in views)
            raise UnavailableError(
                f"every node that has the model is down: {names}",
                retry_after_seconds=5,
            )
        return up

    def _where_loaded(
        self,
        request: LightRequest,
        having: Sequence[NodeView],
        cancellation: Cancellation,
    ) -> LightAnswer | None:
        loaded = [v for v in self._open(having) if request.model in (v.resident or {})]
        if not loaded:
            return None
        found = self._one_of(request, loaded, cancellation)
        elsewhere = found.answer.status >= 500 or found.answer.status == 404
        return None if elsewhere else found

    def _one_of(
        self,
        request: LightRequest,
        views: Sequence[NodeView],
        cancellation: Cancellation,
    ) -> LightAnswer:
        """Ask one node after the other until one gives an answer to the request."""
        left = {view.node.name: view for view in views}
        last, attempts = Answer(502, "", b""), 0
        name = ""
        while left and attempts < _MOST_ATTEMPTS:
            name = self._lane.enter(list(left), request.deadline, cancellation)
            try:
                cancellation.check()
                last = self._asked(left.pop(name), request)
            finally:
                self._lane.leave(name)
            attempts += 1
            if last.status < 500 and last.status != 404:
                break
        return LightAnswer(name, last, attempts)

    def _asked(self, view: NodeView, request: LightRequest) -> Answer:
        seconds = min(_ANSWER_SECONDS, request.deadline - self._clock())
        try:
            seconds = max(0.1, seconds)
            path, body = request.path, request.body
            answer = self._ask("POST", view.node, path, body, seconds)
        except PollError as error:
            return Answer(502, "", f"{view.node.name}: {error}".encode())
        if text := _speaks_of_node(request.path, answer):
            return Answer(502, "", f"{view.node.name}: {text}".encode())
        return answer

    def _everywhere(
        self,
        request: LightRequest,
        having: Sequence[NodeView],
        cancellation: Cancellation,
    ) -> LightAnswer:
        """Have all nodes let go of the model: a client cannot name the one it means."""
        views = self._up(having)
        self._lane.enter([_UNLOADS], request.deadline, cancellation)
        try:
            pool = Pool(_UNLOADS_AT_ONCE)
            answers = pool.map(lambda view: self._asked(view, request), views)
        finally:
            self._lane.leave(_UNLOADS)
        names = [view.node.name for view in views]
        self._unloaded(names)
        asked = list(zip(views, answers, strict=True))
        return replace(_of_all(request.model, asked), attempts=len(names))


def _speaks_of_node(path: str, answer: Answer) -> str:
    """Return what is wrong with a node whose answer does not say so by itself."""
    if answer.status >= 500 or answer.status == 404:
        return ""
    verdict = judge(path, answer.status, answer.content_type, answer.body)
    if verdict is None or verdict.blame is not Blame.NODE:
        return ""
    return f"{answer.status}: {verdict.text or verdict.cause}"


def _of_all(model: str, asked: Sequence[tuple[NodeView, Answer]]) -> LightAnswer:
    """Choose the answer: a failure where a node kept the model, else what one said."""
    failed = [
        (view, answer)
        for view, answer in asked
        if answer.status >= 500 and model in (view.resident or {})
    ]
    if failed:
        reported = "; ".join(
            f"{view.node.name}: {answer.body[:200].decode(errors='replace')}"
            for view, answer in failed
        )
        text = f"model {model!r} may still be loaded: {reported}"
        return LightAnswer(failed[0][0].node.name, Answer(502, "", text.encode()), 0)
    view, answer = min(asked, key=lambda each: each[1].status)
    return LightAnswer(view.node.name, answer, 0)


class Lane:
    """A few places at each node, the longest waiting first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._waiting: dict[int, tuple[Sequence[str], Cancellation]] = {}

    def enter(
        self, nodes: Sequence[str], deadline: float, cancellation: Cancellation
    ) -> str:
        """Take a place at the least busy node; give it back by `leave`.

        Raises OverloadedError, DeadlineError, StoppedError.
        """
        if self._full(nodes) or self._waiting:
            self._wait(nodes, deadline, cancellation)
        name = min(nodes, key=self._taken.__getitem__)
        self._taken[name] += 1
        self._wake_next()  # there may be another place
        return name

    def leave(self, name: str) -> None:
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
        self._wake_next()

    def _full(self, nodes: Sequence[str]) -> bool:
        return all(self._taken[name] >= _EACH_NODE for name in nodes)

    def _wake_next(self) -> None:
        for nodes, cancellation in self._waiting.values():
            if not self._full(nodes):
                cancellation.wake()
                return

    def _wait(
        self, nodes: Sequence[str], deadline: float, cancellation: Cancellation
    ) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            raise OverloadedError(
                f"{_MOST_WAITING} calls that need no slot wait already",
                retry_after_seconds=1,
            )
        key = id(cancellation)
        self._waiting[key] = nodes, cancellation
        in_time = False
        try:
            in_time = cancellation.until(lambda: self._turn(key), deadline, self._clock)
        finally:
            del self._waiting[key]
            if not in_time:
                self._wake_next()
        if not in_time:
            raise DeadlineError("no node answered within the time limit")

    def _turn(self, key: int) -> bool:
        """Whether this one is the first of those who can be served now."""
        if self._full(self._waiting[key][0]):
            return False
        for each, (nodes, _) in self._waiting.items():
            if not self._full(nodes):
                return each == key
        return False
