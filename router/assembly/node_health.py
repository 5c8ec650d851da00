"""Node health put together: holds, their history, what lifts and what follows them.

Part of the composition root; it decides nothing itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from router.alerts.flapping import Flapping, FlapPolicy
from router.alerts.verify import CheckLimits, Verifier
from router.assembly.services import service
from router.capacity.ledger import Ledger
from router.clients.alertmanager import Silences
from router.clients.http_json import PollError, exchange
from router.config.settings import Config
from router.control.loop import Pass
from router.errors import StateError
from router.failover.destinations import MigrationTargets
from router.failover.eviction import Evictor
from router.holds.history import AuditQuery, SqliteAuditLog
from router.holds.mending import MendingJournal
from router.holds.overrides import Overrides
from router.holds.record import AuditEvent, Change, Key
from router.holds.store import HoldStore
from router.metrics.families import AtScrape
from router.metrics.holds import HealthCounters, health_families
from router.model import Clear, Inventory
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, Published

_MOST_RETURNS = 1000
_HOLDS = "holds.db"
_HISTORY = "history.db"


@dataclass(frozen=True, slots=True)
class HealthContext:
    """What node health lives in; all of it but the clock may be reloaded."""

    config: Callable[[], Config]
    inventory: Callable[[], Inventory]
    clock: Callable[[], float]


class HealthServices:
    """The hold store and everything around it; a `router.metrics.holds.View`.

    one_pass: the control loop's pass, set by who builds it
    other_files: why files that are not of holds cannot be written; None: they can
    """

    one_pass: Pass
    verifier: Verifier
    flapping: Flapping

    def __init__(self, setting: HealthContext, registry: CollectorRegistry) -> None:
        config = setting.config()
        directory = config.state.directory
        self.setting = setting
        self.clock = setting.clock
        self.counters = HealthCounters(registry)
        self.archive = SqliteAuditLog(
            directory / _HISTORY, lambda: setting.config().control.history_events
        )
        self.journal = journal = MendingJournal(
            directory / _HOLDS, self.archive.standing
        )
        self.holds = HoldStore(
            journal,
            self.clock,
            panic_ratio=config.control.panic_ratio,
            overrides=Overrides(journal, self.clock),
            archive=self.archive,
        )
        self.holds.fleet(setting.inventory().names())
        self.silences = Silences(service(config.alertmanager), self.counters)
        self._ledger: Ledger | None = None
        self.other_files: Mapping[str, Callable[[], str | None]] = {}
        registry.register(AtScrape(lambda: health_families(self.holds, self)))

    # Building

    def ease(self, ledger: Ledger) -> None:
        """Ease nodes in after a return, and while they are derated."""
        self._ledger = ledger

        def look(nodes: Collection[str] | None = None) -> None:
            seconds = self.setting.config().control.slow_start_seconds
            ledger.slow_start.look(self.holds, seconds, time.monotonic(), nodes)

        self.holds.follow(look)
        look()

    def destinations(
        self, dispatcher: Scheduler, published: Published
    ) -> MigrationTargets:
        """Build what knows who else could take a request."""
        return MigrationTargets(dispatcher, published, self._show)

    def empty_nodes(
        self, destinations: MigrationTargets, ledger: Ledger, published: Published
    ) -> None:
        """Move requests off nodes that an alert evicts, or that hang."""
        evictor = Evictor(self.holds, ledger, destinations, self.counters.evicted)
        self.holds.follow(evictor.after_change)
        published.listen(evictor.after_pass)

    def _show(self, view: NodeView, model: str) -> Mapping[str, Any] | None:
        seconds = self.setting.config().control.probe_timeout_seconds
        body = {"model": model}
        try:
            status, answer = exchange(
                "POST", view.node, "/api/show", seconds, body=body
            )
        except PollError:
            return None
        return answer if status == 200 and isinstance(answer, dict) else None

    def watch(self, wake: Callable[[], None]) -> None:
        """Count returns, those under the last router too, and check nodes."""
        self.flapping = Flapping(self._patience)
        self.flapping.recall(self._returns(), self.clock())
        self.holds.subscribe(self.flapping.see)
        self.verifier = Verifier(
            self.setting.inventory, self._checks, self.holds, wake, self.counters
        )

    def stop(self) -> None:
        self.verifier.stop()

    def keep_no_more(self) -> None:
        """Leave all files to the router that has taken over."""
        self.journal.keep_no_more()
        self.holds.archive_no_more()

    def reread(self) -> None:
        """Take over holds that the router before this one placed since the start."""
        with contextlib.suppress(StateError):  # it is in `faults`
            found = self.journal.reread()
            self.holds.overrides.adopt(found.overrides)
            self.holds.adopt(found.holds, "taken over from the router before")

    def mend(self) -> None:
        """Save holds again where that is possible again; to be called now and then."""
        self.archive.mend()
        found = self.journal.mend()
        if found is None:
            return
        with contextlib.suppress(StateError):  # it is in `faults`, and tried again
            self.holds.overrides.adopt(found.overrides)
            self.holds.adopt(found.holds, "found when its file could be read again")
            self.holds.overrides.save()

    # Asking

    def warnings(self) -> list[str]:
        """Say what a restart would lose, and what was lost at the start."""
        found = [self.journal.fault, self.archive.fault, self.journal.notice]
        return [each for each in found if each]

    @property
    def looked(self) -> bool:
        """Whether a pass was made, so that it is known which alerts fire."""
        return self.one_pass.status.at is not None

    @property
    def still_seconds(self) -> float:
        """How long ago the last pass ended."""
        at = self.one_pass.status.at
        return 0.0 if at is None else time.monotonic() - at

    def find(self, query: AuditQuery) -> tuple[AuditEvent, ...]:
        """Look into the history; what just happened is put away first."""
        with contextlib.suppress(StateError):
            self.holds.expire()
        return self.archive.find(query)

    def waits(self) -> dict[Key, str]:
        """Say what holds wait for beside their alerts' end."""
        status, checks = self.one_pass.status, self.verifier.waiting()
        waits = dict(status.undecided)
        for key, seconds in status.stays.items():
            waits[key] = f"it flaps: to be proven well for {seconds:.0f} s more"
        for hold in self.holds.list():
            why = checks.get((hold.node, hold.alert or ""))
            if why is not None and hold.clear is Clear.VERIFIED:
                waits[hold.key] = f"a generation that succeeds; so far: {why}"
        return waits

    # What a scrape asks.

    def nodes(self) -> list[str]:
        return [node.name for node in self.setting.inventory().nodes]

    def ramp(self, node: str) -> float:
        return self._ledger.ramp(node) if self._ledger else 1.0

    def hold_downs(self) -> Mapping[tuple[str, str], float]:
        return self.flapping.hold_downs()

    def verifying(self) -> list[tuple[str, str]]:
        return list(self.verifier.waiting())

    def state_files(self) -> Mapping[str, bool]:
        return {
            _HOLDS: self.journal.fault is None,
            _HISTORY: self.archive.fault is None,
            **{file: fault() is None for file, fault in self.other_files.items()},
        }

    def ignored(self) -> Mapping[str, int]:
        return {why.value: n for why, n in self.one_pass.status.ignored.items()}

    # Settings, as they are now.

    def _patience(self) -> FlapPolicy:
        control = self.setting.config().control
        return FlapPolicy(
            control.flap_returns,
            control.flap_window_seconds,
            control.hold_down_seconds,
            control.longest_hold_down_seconds,
        )

    def _checks(self) -> CheckLimits:
        control = self.setting.config().control
        return CheckLimits(
            control.probe_timeout_seconds,
            control.verify_timeout_seconds,
            control.verify_retry_seconds,
        )

    def _returns(self) -> tuple[AuditEvent, ...]:
        since = self.clock() - self.setting.config().control.flap_window_seconds
        query = AuditQuery(change=Change.LIFTED, since=since, limit=_MOST_RETURNS)
        try:
            return self.archive.find(query)
        except StateError:  # how often a node flapped is not known, and it serves
            return ()
