"""Asks nodes for their models when a request names a model that none is known to have.

A model that was pulled a second ago is in no poll yet. The nodes are asked at once, one
time for all requests that wait, and not again for a while: a client that repeats an
unknown name must not cause load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import gevent
from gevent.event import Event

from router.control.decide import PolledModels
from router.snapshot import NodeView, Published

_PAUSE_SECONDS = 1.0
_MOST_WAITING = 64


class Polls(Protocol):
    """The part of `router.control.probe.Probe` that is needed here."""

    def look_for_models(self) -> None:
        """Ask every reachable node for its models; return when all have answered."""

    def view(self) -> Mapping[str, PolledModels]: ...


class Discovery:
    """Asks in rounds, one at a time; a caller waits for a round that began after it."""

    def __init__(
        self,
        polls: Polls,
        published: Published,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = gevent.sleep,
    ) -> None:
        self._polls = polls
        self._published = published
        self._clock = clock
        self._sleep = sleep
        self._waiting = 0
        self._began = self._ended = float("-inf")
        self._over: Event | None = None  # set at the end of the round under way

    def find(self, model: str) -> frozenset[str]:
        """Return the nodes that have the model; waits for a round of polls."""
        if self._waiting < _MOST_WAITING:
            self._waiting += 1
            try:
                self._ask_since(self._clock())
            finally:
                self._waiting -= 1
        views = self._published.current.nodes
        return frozenset(
            name for name, view in views.items() if model in (view.present or {})
        )

    def _ask_since(self, wanted: float) -> None:
        while self._began < wanted:
            if self._over is not None:
                self._over.wait()
                continue
            pause = self._ended + _PAUSE_SECONDS - self._clock()
            if pause > 0:
                self._sleep(pause)
            elif self._over is None:
                self._round()

    def _round(self) -> None:
        self._over = over = Event()
        self._began = self._clock()
        try:
            self._polls.look_for_models()
            self._publish()
        finally:
            self._ended, self._over = self._clock(), None
            over.set()

    def _publish(self) -> None:
        """Put into the snapshot what the next pass would."""
        current, found = self._published.current, self._polls.view()
        views = {n: _with(v, found.get(n)) for n, v in current.nodes.items()}
        if any(views[name] is not view for name, view in current.nodes.items()):
            nodes = MappingProxyType(views)
            self._published.publish(replace(current, nodes=nodes))


def _with(view: NodeView, models: PolledModels | None) -> NodeView:
    if models is None or models.present is view.present:
        return view
    return replace(view, present=models.present, version=models.version)
