"""Small generations that prove a node, or a model on it, before it gets requests.

Asked as the request that failed was: on its route and for its model, on a slot of the
ledger's. One is never started on a node that anything but its circuit keeps out, nor
where it would push out a model that is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent
import orjson

from router.capacity.ledger import Lease, Ledger
from router.errors import AttemptError, MaybeSentError
from router.failover.findings import Aboard
from router.health.circuit import Failure
from router.health.circuits import CIRCUIT, NODE, Circuits, Key
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Cause, Outcome
from router.relay.pool import UpstreamRequest
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.pipeline import Decision
from router.scheduling.queue import Assignment
from router.snapshot import NodeView, Published

__all__ = ["Fetch", "Trials", "trial_message"]

# `router.failover.attempts.Failover.fetch`
Fetch = Callable[[Assignment, Sequence[UpstreamRequest], Cancellation], object]

_TICK_SECONDS = 0.25
_HEADERS = {"Content-Type": "application/json", "X-Request-Id": "inferops-trial"}
_PROMPT = "Count on from 1 2 3"
_MESSAGES = [{"role": "user", "content": _PROMPT}]
_TOKENS = 4
_NO_DECISION = Decision(None, (), {})  # its slot is taken without one
_NATIVE = {"stream": False, "options": {"num_predict": _TOKENS, "temperature": 0}}
_BODIES: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": _PROMPT, **_NATIVE},
    "/api/chat": {"messages": _MESSAGES, **_NATIVE},
    "/api/embed": {"input": _PROMPT},
    "/api/embeddings": {"prompt": _PROMPT},
    "/v1/chat/completions": {"messages": _MESSAGES, "max_tokens": _TOKENS},
    "/v1/completions": {"prompt": _PROMPT, "max_tokens": _TOKENS},
    "/v1/embeddings": {"input": _PROMPT},
    "/v1/responses": {"input": _PROMPT, "max_output_tokens": _TOKENS},
    "/v1/messages": {"messages": _MESSAGES, "max_tokens": _TOKENS},
}

log = get_logger("health")


def trial_message(path: str, model: str) -> UpstreamRequest:
    """Make the request of a trial; a route without a cheap one is tried by another."""
    path = path if path in _BODIES else "/api/generate"
    body = orjson.dumps({"model": model, **_BODIES[path]})
    return UpstreamRequest("POST", path, _HEADERS, body)


class Trials:
    """Makes the trials that circuits wait for; one for the process."""

    def __init__(
        self,
        circuits: Circuits,
        fetch: Fetch,
        ledger: Ledger,
        published: Published,
        holds: HoldStore,
        *,
        seconds: Callable[[], float],
        spoke: Callable[[Lease], None],
    ) -> None:
        """Prepare.

        seconds: the longest a trial may take, a load included
        spoke:   told of a model that generated, and is loaded therefore
        """
        self._circuits = circuits
        self._fetch = fetch
        self._ledger = ledger
        self._published = published
        self._holds = holds
        self._seconds = seconds
        self._spoke = spoke
        self._under_way: set[Key] = set()

    def run(self) -> None:
        """Make trials as they fall due, for ever."""
        while True:
            gevent.sleep(_TICK_SECONDS)
            self.look()

    def look(self) -> None:
        """Start what is due."""
        for key, failure in self._circuits.due():
            view = self._published.current.nodes.get(key[0])
            if key in self._under_way or view is None or not self._allowed(view, key):
                continue
            self._under_way.add(key)
            gevent.spawn(self._try, view, key, failure)

    def attempt(self, aboard: Aboard) -> AttemptError | None:
        """Generate a little; returns why it did not work, None when it did."""
        cancellation = Cancellation()
        lease = self._ledger.take(aboard.node.name, aboard.model)
        timer = gevent.spawn_later(self._seconds(), cancellation.stop, Outcome.DEADLINE)
        message = trial_message(aboard.path, aboard.model)
        try:
            self._fetch(
                Assignment(lease, aboard.node, _NO_DECISION), [message], cancellation
            )
        except AttemptError as error:
            return error.bare()
        except CancelledError:
            return MaybeSentError("no answer to a trial", Cause.TIMEOUT)
        else:
            self._spoke(lease)
        finally:
            timer.kill(block=False)
            lease.done(Outcome.REFUSED)  # it is nobody's reply: nothing is learned
        return None

    def _try(self, view: NodeView, key: Key, failure: Failure) -> None:
        node, passed = key[0], False
        try:
            for model in _models(view, key, failure):
                error = self.attempt(Aboard(view.node, model, failure.path))
                passed = error is None
                why = str(error) if error else "it has generated"
                log.info("tried", node=node, model=model, why=why)
                if key[1] == NODE:  # the model's own circuit learns of it, too
                    self._circuits.tried((node, model), passed=passed)
                if passed:
                    break
        finally:
            self._circuits.tried(key, passed=passed)
            self._under_way.discard(key)

    def _allowed(self, view: NodeView, key: Key) -> bool:
        node, model = key
        if model != NODE and self._circuits.is_open(node):
            return False  # the node's own trial comes first
        if any(hold.source != CIRCUIT for hold in self._holds.blocking(node)):
            return False
        resident = model in (view.resident or ())
        if model != NODE and not resident and self._ledger.in_flight(node):
            return False  # loading it might push out what is in use
        return self._ledger.room(node, model) is not None


def _models(view: NodeView, key: Key, failure: Failure) -> list[str]:
    """Name the models that prove it: of a node, the one that failed or another."""
    if key[1] != NODE:
        return [key[1]]
    others = [*(view.resident or ()), *(view.present or ())]
    return list(dict.fromkeys([failure.model, *others]))[:2]
