"""The life of one router process: what starts it, what it does by the clock, its end.

Imported by gunicorn's worker after the fork, so that threads, sockets and the
event loop belong to the process that serves. `router.assembly` says what it is made of.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gevent

from router import __version__
from router.assembly.build import RouterServices, build_router
from router.assembly.handover import Handover
from router.capacity.drift import LOOK_SECONDS
from router.logs.events import get_logger
from router.model import Outcome
from router.server.handover import HandoverServer
from router.server.resolver import Resolver
from router.server.take_over import TAKES_OVER
from router.server.tls import tls_of
from router.server.worker import Worker

_FILE_CHECK_SECONDS = 1.0
_TICK_SECONDS = 0.25
_IN_USE_SECONDS = 1.0
_SPEEDS_EVERY = 30  # notes of slots in use
_REPAIR_SECONDS = 1.0
_LIMITS_SECONDS = 0.5  # with the write, no more than a second is lost by a kill
_FIRST_PASS_SECONDS = 3.0  # beside the time limit of one query
_FIRST_LOOK_SECONDS = 0.01

log = get_logger("router")


class RouterProcess:
    """One router from its start to its end.

    takes_over: another router leaves this address to it
    """

    def __init__(self, services: RouterServices, *, takes_over: bool) -> None:
        self.services = services
        self._takes_over = takes_over
        self._taken_over = False
        self._successor: HandoverServer | None = None
        # gunicorn's own deadline was set by this at start; a reload cannot move it.
        self._grace_seconds = services.config.shutdown.grace_seconds
        self._requests = services.web.inference.context.under_way

    def start(self) -> None:
        """Start control, the polls and the watch over files."""
        services, base = self.services, self.services.base
        self._listen_to_files()
        base.audit.start()
        services.control.probe.start()
        services.control.loop.start()
        services.dispatch.traffic.begin_trials(services.dispatch.failover)
        if not self._takes_over:
            services.jobs.service.start()
        services.usage.start()
        if services.dispatch.tracing is not None:
            services.dispatch.tracing.start()
        gevent.spawn(self._watch_lag)
        gevent.spawn(self._save_learned)
        gevent.spawn(_repeat, _FILE_CHECK_SECONDS, self._check_files)
        gevent.spawn(_repeat, LOOK_SECONDS, services.dispatch.ledger.look_at_streams)
        gevent.spawn(_repeat, _REPAIR_SECONDS, base.health.mend)
        gevent.spawn(_repeat, _LIMITS_SECONDS, self.save_limits)
        log.info("started", version=__version__, nodes=len(base.inventory.nodes))

    def _listen_to_files(self) -> None:
        services, base = self.services, self.services.base
        files, audit = base.files, base.audit
        files.config.listen(lambda *_: services.apply_settings())
        files.signals.listen(lambda *_: services.control.loop.wake())
        files.inventory.listen(lambda *_: services.apply_inventory())
        files.config.listen(audit.settings)
        files.signals.listen(audit.signals)
        files.inventory.listen(audit.inventory)
        for keys in base.key_files:
            keys.listen(audit.keys)

    def await_first_pass(self) -> None:
        """Take no request before Prometheus was asked which alerts fire.

        An alert may have begun while no router was there. A Prometheus that is
        down answers at once; one that hangs is given up after its time limit.
        """
        prometheus = self.services.config.prometheus
        deadline = time.monotonic() + prometheus.timeout_seconds + _FIRST_PASS_SECONDS
        while not self.services.base.health.looked and time.monotonic() < deadline:
            gevent.sleep(_FIRST_LOOK_SECONDS)

    def attend(self, worker: Worker) -> None:
        """End streams with a frame when gunicorn stops this worker."""
        services, base = self.services, self.services.base
        worker.head_seconds = lambda: base.config.web.head_timeout_seconds
        worker.body_seconds = lambda: base.config.dispatch.body_timeout_seconds
        worker.refused = lambda why: base.metrics.rejections.labels(why).inc()
        worker.bodies = base.bodies
        if base.certificate is not None:
            worker.tls = tls_of(base.config.web.tls_address, base.certificate)
        handover = Handover(
            base.config.state.directory,
            lambda: base.inventory,
            services.dispatch.ledger,
            services.dispatch.scheduler,
            services.dispatch.persistence,
            base.health,
            services.jobs.service,
        )
        if self._takes_over:
            handover.take_over()
            services.jobs.service.start()
        self._successor = handover.await_successor(worker, self._leave)
        gevent.spawn(self._end_with, worker)

    def close(self) -> None:
        """Leave nothing undone, at the end of the process."""
        self.save_limits()
        if self._successor is not None:
            self._successor.close()

    def save_limits(self) -> None:
        """Keep what was counted, unless another router does by now."""
        if not self._taken_over:
            self.services.base.quotas.save()

    def _leave(self) -> None:
        self._taken_over = True

    # By the clock

    def _check_files(self) -> None:
        for each in self.services.base.watched():
            each.check(time.time())
        if self.services.base.certificate is not None:
            self.services.base.certificate.check()

    def _save_learned(self) -> None:
        persistence = self.services.dispatch.persistence
        while True:
            for _ in range(_SPEEDS_EVERY):
                gevent.sleep(_IN_USE_SECONDS)
                persistence.note_in_use(self.services.base.inventory)
            persistence.note_speeds()

    def _watch_lag(self) -> None:
        lag = self.services.base.metrics.loop_lag
        while True:
            due = time.monotonic() + _TICK_SECONDS
            gevent.sleep(_TICK_SECONDS)
            lag.set(max(0.0, time.monotonic() - due))

    # The end

    def _end_with(self, worker: Worker) -> None:
        while worker.alive:
            gevent.sleep(_TICK_SECONDS)
        if self._taken_over:
            self._finish_streams(worker)
        self.services.readiness.stopping = True
        self._end_requests(worker)
        self._stop_services()
        # After the stop: a client that waits for a body must hear of it.
        worker.close_connections()

    def _finish_streams(self, worker: Worker) -> None:
        """Serve who is there until nobody is, or a signal says to end now."""
        log.info("finishing", under_way=len(self._requests))
        while worker.serving and not worker.ending:
            gevent.sleep(_TICK_SECONDS)

    def _end_requests(self, worker: Worker) -> None:
        """Give requests their time of grace; then end each with a frame."""
        requests = self._requests
        log.info("stopping", under_way=len(requests), immediate=worker.immediate)
        requests.turn_away(Outcome.SHUTDOWN)
        self.services.jobs.service.take_no_more()
        worker.close_idle()
        deadline = time.monotonic() + self._grace_seconds
        while requests and time.monotonic() < deadline and not worker.immediate:
            gevent.sleep(_TICK_SECONDS)
        requests.stop_all(Outcome.SHUTDOWN)

    def _stop_services(self) -> None:
        services, base = self.services, self.services.base
        services.jobs.service.stop()
        services.dispatch.persistence.note_speeds()
        services.usage.close()
        if services.dispatch.tracing is not None:
            services.dispatch.tracing.close()
        base.audit.trail.close()
        services.control.loop.stop()
        base.health.stop()
        services.control.probe.stop()


def _repeat(seconds: float, act: Callable[[], object]) -> None:
    while True:
        gevent.sleep(seconds)
        act()


def _started() -> RouterProcess:
    hub = gevent.get_hub()
    hub.resolver = cast("Any", Resolver(hub))  # gevent takes what has its methods
    path = Path(os.environ.get("INFEROPS_CONFIG", "router/router.yml"))
    takes_over = os.environ.get(TAKES_OVER) == "1"
    process = RouterProcess(build_router(path, os.environ), takes_over=takes_over)
    process.start()
    process.await_first_pass()
    _tune_interpreter()
    return process


def _tune_interpreter() -> None:
    # A native thread that computes gives the event loop its turn twice as soon as a
    # stream could notice; with Python's 5 ms, each of its turns is one.
    sys.setswitchinterval(0.0005)
    # What was built stays for good: no collection needs to look at it again, and
    # a full one would hold up every stream. Requests leave few cycles: a twentieth
    # of the CPU went into looking for them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 4, 250)


router = _started()
app = router.services.web.app
