"""What traffic teaches, put together: circuits, trials, requests that end runners.

Part of the composition root; it decides nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import gevent

from router.capacity.ledger import Ledger
from router.config.settings import Config
from router.failover.attempts import Failover
from router.failover.builds import Builds
from router.failover.course import TrafficKnowledge
from router.failover.isolation import Isolation
from router.failover.trials import Trials
from router.health.circuit import CircuitRule
from router.health.circuits import Circuits
from router.health.offenders import Offenders
from router.holds.store import HoldStore
from router.scheduling.scheduler import Scheduler
from router.snapshot import Published


class TrafficHealth:
    """Builds circuits, trials and isolation, once for the process."""

    def __init__(
        self,
        config: Callable[[], Config],
        holds: HoldStore,
        ledger: Ledger,
        published: Published,
    ) -> None:
        self._config = config
        self._holds = holds
        self._ledger = ledger
        self._published = published
        self.circuits = Circuits(
            holds, leases=ledger.leases, present=self._present, rule=self._rule
        )
        ledger.listen(self.circuits.ended)
        published.listen(lambda: self.circuits.keep(published.current.nodes))

    def learned(self, dispatcher: Scheduler) -> TrafficKnowledge:
        """Build what attempts are told by, and tell."""
        isolation = Isolation(
            Offenders(time.monotonic),
            self._ledger,
            dispatcher.explain,
            lambda: tuple(self._published.current.nodes),
        )
        self._ledger.listen(isolation.ended)
        self.circuits.listen(dispatcher.serve)
        self._isolation = isolation
        return TrafficKnowledge(self.circuits, isolation, Builds(self._published))

    def begin_trials(self, failover: Failover) -> None:
        """Try what has failed, from now on."""
        trials = Trials(
            self.circuits,
            failover.fetch,
            self._ledger,
            self._published,
            self._holds,
            seconds=lambda: self._config().control.verify_timeout_seconds,
            spoke=failover.runners.spoke,
        )
        self._isolation.trial = trials.attempt
        gevent.spawn(trials.run)

    def _present(self, node: str) -> Collection[str] | None:
        view = self._published.current.nodes.get(node)
        return view.present if view else None

    def _rule(self) -> CircuitRule:
        dispatch = self._config().dispatch
        return CircuitRule(
            first_wait_seconds=dispatch.circuit_wait_seconds,
            longest_wait_seconds=dispatch.longest_circuit_wait_seconds,
        )
