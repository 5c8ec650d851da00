"""One router after another on the same address, without losing a stream.

The one that leaves ends its work on jobs, stops accepting and writing state, and
finishes what its clients have under way, on slots that it counts down. The one that
comes begins with what is left. Neither waits for the other to answer a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gevent

from router.assembly.node_health import HealthServices
from router.capacity.handed import GivenUp, OfPredecessor, ceded
from router.capacity.ledger import Ledger
from router.capacity.persistence import LedgerPersistence
from router.capacity.recovered import RecoveredInFlight
from router.jobs.service import JobService
from router.logs.events import get_logger
from router.model import Inventory
from router.scheduling.scheduler import Scheduler
from router.server.handover import (
    HandoverDuties,
    HandoverError,
    HandoverReport,
    HandoverServer,
    Predecessor,
)
from router.server.worker import Worker

_EXCHANGE_SECONDS = 0.05

log = get_logger("handover")


@dataclass(frozen=True, slots=True)
class Handover:
    """Both sides of it: each router comes first, and leaves later.

    folder: the state directory, by which the two find each other
    """

    folder: Path
    inventory: Callable[[], Inventory]
    ledger: Ledger
    scheduler: Scheduler
    persistence: LedgerPersistence
    health: HealthServices
    service: JobService

    # Coming

    def take_over(self) -> None:
        """Have the router before this one finish, and count what it uses as taken."""
        try:
            before = Predecessor(self.folder)
            report = before.finish()
        except HandoverError as error:
            log.warning("not_taken_over", why=str(error))
            return
        self.health.reread()
        taken = OfPredecessor(report.own)
        self.ledger.share(taken)
        log.info("taken_over", streams=sum(report.own.values()), waiting=report.waiting)
        gevent.spawn(self._keep_in_touch, before, report)

    def _keep_in_touch(self, before: Predecessor, report: HandoverReport) -> None:
        try:
            while True:
                gevent.sleep(_EXCHANGE_SECONDS)
                given = ceded(report.waiting, self._free()) if report.waiting else {}
                own = dict(report.own)
                for name, count in given.items():
                    own[name] = own.get(name, 0) + count
                self._count(own)
                report = before.cede(given)
                self._count(report.own)
        except HandoverError:
            before.close()
            self.ledger.share(RecoveredInFlight())
            self.scheduler.serve()
            log.info("predecessor_ended")

    def _count(self, own: Mapping[str, int]) -> None:
        """Take the predecessor's slots as they are now; what it gave up is free."""
        self.ledger.share(OfPredecessor(own))
        self.scheduler.serve()

    def _free(self) -> dict[str, int]:
        room = self.ledger.room
        return {
            name: self.ledger.slots(name) - used
            for name in self.inventory().names()
            if (used := room(name, "")) is not None
        }

    # Leaving

    def await_successor(
        self, worker: Worker, leaves: Callable[[], None]
    ) -> HandoverServer:
        """Be there for whoever takes over; `leaves` is called once that begins."""
        leaving = False

        def finish() -> HandoverReport:
            nonlocal leaving
            if not leaving:  # a successor may die, and another one come
                leaving = True
                leaves()
                self.service.stop()
                self.persistence.note_speeds()
                self.persistence.keep_no_more()
                self.health.keep_no_more()
                worker.retire()
            return self._left(given_up, {})

        def cede(more: Mapping[str, int]) -> HandoverReport:
            return self._left(given_up, more)

        def left() -> None:
            """Use all slots again: nobody else does."""
            self.ledger.share(RecoveredInFlight())
            self.scheduler.serve()

        given_up = GivenUp(self.ledger.slots, {})
        duties = HandoverDuties(finish, cede, left)
        server = HandoverServer(self.folder, worker.listening(), duties)
        server.start()
        return server

    def _left(self, given_up: GivenUp, more: Mapping[str, int]) -> HandoverReport:
        """Keep what is in use and what was ceded just now; the rest is given up."""
        own = {
            name: self.ledger.in_flight(name) + more.get(name, 0)
            for name in self.inventory().names()
        }
        given_up.keep(own)
        self.ledger.share(given_up)
        self.scheduler.serve()
        return HandoverReport(own, len(self.scheduler.queue))
