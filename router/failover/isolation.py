"""Keeps requests that end runners from going through the fleet, and from company.

A request whose runner died may have ended it. It is sent on where it can end nobody's
stream, if there is such a place, and apart from others of which the same is said. When
a second runner dies under it alone, and that node then generates for the router, the
request is refused (`router.health.offenders`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import gevent

from router.capacity.ledger import Lease
from router.errors import AttemptError, EndsRunnersError, NotSentError
from router.failover.findings import Aboard, Findings
from router.health.offenders import Offenders, digest_of
from router.logs.events import get_logger
from router.model import Cause, Outcome
from router.scheduling.pipeline import Decision, RoutingRequest

__all__ = ["Isolation", "LeaseCounts", "Trial"]


# Has a node generate a little; says why it did not, None when it did.
Trial = Callable[[Aboard], AttemptError | None]

_ENOUGH_DEATHS = 2
_ENOUGH_BROKEN = 3  # answers that broke off, over a client's own retries
_LOOKS, _LOOK_SECONDS = 6, 0.5
_DEATHS_KEPT = 256
_DIED = frozenset({Outcome.EOF, Outcome.ERROR_LINE})

log = get_logger("failover")


class _Death(NamedTuple):
    """A suspect's, at that time."""

    at: float
    node: str
    findings: Findings


class LeaseCounts(Protocol):
    """What is read of the ledger."""

    def leases(self, node: str) -> tuple[Lease, ...]: ...


class Isolation:
    """Decides where a request that may end runners is sent; one for the process.

    trial: set by who builds it
    """

    def __init__(
        self,
        offenders: Offenders,
        load: LeaseCounts,
        explain: Callable[[RoutingRequest], Decision],
        nodes: Callable[[], tuple[str, ...]],
        *,
        spawn: Callable[..., object] = gevent.spawn,
        pause: Callable[[float], object] = gevent.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `spawn` runs a call beside this one: a trial may take a while."""
        self.trial: Trial = lambda _: None
        self._spawn = spawn
        self._pause = pause
        self._offenders = offenders
        self._load = load
        self._explain = explain
        self._nodes = nodes
        self._clock = clock
        self._aboard: dict[Lease, Findings] = {}
        self._deaths: deque[_Death] = deque(maxlen=_DEATHS_KEPT)

    def admit(self, findings: Findings) -> None:
        """Raise EndsRunnersError for a body that is known to end runners."""
        if not self._offenders:
            return
        record = self._offenders.find(digest_of(findings.body))
        if record.verdict:
            raise EndsRunnersError(record.verdict)
        findings.deaths, findings.suspect = record.deaths, record.deaths > 0

    def place(
        self, routing: RoutingRequest, findings: Findings, last: str
    ) -> RoutingRequest:
        """Keep a suspect from nodes where it could end streams, if another will do.

        last: where it ended a runner; once, it may go back there: all others who ran
              on it are lost already
        """
        if not findings.suspect or not self._explain(routing).picked:
            return routing
        crowded = self._nodes_with(lambda _: True)
        fragile = self._nodes_with(_breaks)
        for spared in (crowded, fragile | self._with_suspects(findings), fragile):
            choice = routing._replace(spared=spared)
            if self._explain(choice).at_once:
                return choice
        back = routing._replace(spared=crowded - {last}, tried=routing.tried - {last})
        if findings.went_back or not self._explain(back).at_once:
            return routing
        findings.went_back = True
        return back

    def board(self, lease: Lease, findings: Findings) -> None:
        """Note who is on which slot, until that is given back."""
        self._aboard[lease] = findings

    def ended(self, lease: Lease, outcome: Outcome, _: object = None) -> None:
        """Take in the end of a lease: a stream may have died with its runner."""
        findings = self._aboard.pop(lease, None)
        if findings is not None and outcome in _DIED:
            answering = lease.decoding_since is not None
            findings.died(lease.node, answering=answering)

    def blame(
        self, lease: Lease, aboard: Aboard, findings: Findings, error: AttemptError
    ) -> None:
        """Judge a request under which a runner died unanswered.

        Raises EndsRunnersError when it is the second one, and the node is well.
        """
        before = findings.suspect
        tells_nothing = self._in_company(lease, findings) or self._again(
            aboard, findings
        )
        findings.died(lease.node, answering=False)
        first, findings.first = findings.first, findings.first or aboard
        if before:
            self._deaths.append(_Death(self._clock(), lease.node, findings))
        if findings.deaths < _ENOUGH_DEATHS:
            return
        if tells_nothing:
            findings.deaths -= 1
            return
        if self._ended_by_request(aboard, first):
            raise EndsRunnersError(self._convict(findings.body, str(error)))
        findings.deaths -= 1  # that one is the node's

    def _ended_by_request(self, aboard: Aboard, first: Aboard | None) -> bool:
        """Try the node: it is well, or its whole server has gone as the first one's."""
        fault = self._tried(aboard)
        if fault is None or first is None or not isinstance(fault, NotSentError):
            return fault is None
        fault = self._tried(first)
        return fault is None or isinstance(fault, NotSentError)

    def _tried(self, aboard: Aboard) -> AttemptError | None:
        """Try a node; one that is about to go closes connections for a moment."""
        for _ in range(_LOOKS):
            fault = self.trial(aboard)
            if fault is None or fault.cause != Cause.RESET:
                break
            self._pause(_LOOK_SECONDS)
        return fault

    def settle(self, findings: Findings, aboard: Aboard | None) -> None:
        """Remember how a request with deaths ended; `aboard`: where it broke off."""
        digest = digest_of(findings.body)
        if aboard is None:
            self._offenders.clear(digest)
            return
        deaths = self._offenders.find(digest).deaths + 1
        self._offenders.died(digest, deaths)
        if deaths >= _ENOUGH_BROKEN:
            self._spawn(self._check, findings.body, aboard)

    def _check(self, body: bytes, aboard: Aboard) -> None:
        if self.trial(aboard) is None:
            self._convict(body, "its answers broke off each time")

    def _convict(self, body: bytes, why: str) -> str:
        reported = (
            "this request has ended the model's runner on each node that it was sent"
            f" to, and is not sent to another; last: {why}"
        )
        self._offenders.convict(digest_of(body), reported)
        log.warning("request_ends_runners", last=why)
        return reported

    def _in_company(self, lease: Lease, findings: Findings) -> bool:
        """Whether another suspect was there: one that is still, or that died too."""
        return lease.node in self._with_suspects(findings) or any(
            each.node == lease.node
            and each.at >= lease.taken_at
            and each.findings is not findings
            for each in self._deaths
        )

    def _again(self, aboard: Aboard, findings: Findings) -> bool:
        """Whether it died where it had died before, while others are only busy."""
        node = aboard.node.name
        if findings.died_on != node or findings.went_back:
            return False
        rest = RoutingRequest(aboard.model, tried=frozenset({node}))
        return self._explain(rest).possible

    def _with_suspects(self, but: Findings) -> frozenset[str]:
        return frozenset(
            lease.node
            for lease, findings in self._aboard.items()
            if findings.suspect and findings is not but
        )

    def _nodes_with(self, kind: Callable[[Lease], bool]) -> frozenset[str]:
        return frozenset(
            node for node in self._nodes() if any(map(kind, self._load.leases(node)))
        )


def _breaks(lease: Lease) -> bool:
    """Say whether a request under way would be lost with its runner."""
    reply = lease.reply
    return reply is not None and reply.answered and not reply.movable
