"""The composition root: builds every part of the router and starts it.

Imported by gunicorn's worker after the fork, so that threads, sockets and the
event loop belong to the process that serves.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import gevent
from prometheus_client import CollectorRegistry

from router import __version__
from router.access.exposure import reached_by_others
from router.access.quota import Quotas
from router.access.sessions import Sessions
from router.alerts.firing import Firing
from router.alerts.notify import NotificationHandler
from router.assembly.access import build_keys, operators
from router.assembly.audit import AuditService
from router.assembly.boards import build_boards
from router.assembly.failover import FailoverParts, build_failover
from router.assembly.failover import apply as apply_failover
from router.assembly.handover import Handover
from router.assembly.inventory import add_entry
from router.assembly.jobs import JobDependencies, build_batches
from router.assembly.node_health import HealthContext, HealthServices
from router.assembly.services import service
from router.assembly.traffic_health import TrafficHealth
from router.assembly.usage import UsageService
from router.audit.store import FILE as AUDIT_FILE
from router.capacity.ledger import Ledger
from router.capacity.persistence import LedgerPersistence
from router.clients.http_json import ask
from router.clients.prometheus import PrometheusClient
from router.clock import wall_clock
from router.config.files import make_private, read_text
from router.config.reload import open_config_files
from router.config.settings import Config, pickers_by_model
from router.control.decide import Ages, DecisionInput, aged, decide
from router.control.discovery import Discovery
from router.control.loop import Loop, Pass, Sources
from router.control.probe import Probe
from router.errors import UnavailableError
from router.failover.light import LightCalls
from router.logs.events import RequestLog, configure, get_logger, writer
from router.metrics import FleetCollector, Metrics
from router.metrics.circuits import CircuitCollector
from router.metrics.keys import KeyCollector
from router.metrics.predictions import Predictions
from router.model import Degrade, Inventory, Outcome
from router.pickers import Policies
from router.relay.pool import Backends
from router.scheduling.idle import FleetView
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTraces
from router.server.body_budget import BodyBudget
from router.server.handover import HandoverServer
from router.server.resolver import Resolver
from router.server.take_over import TAKES_OVER
from router.snapshot import Published, Snapshot
from router.threads import CONTROL, DISK, FILES
from router.usage.store import FILE as USAGE_FILE
from router.web.admin.routes import AdminContext
from router.web.app import flask_app, own_paths
from router.web.authentication import Authentication
from router.web.caller import local
from router.web.cors import Cors, Origins
from router.web.hosts import HostCheck, Hosts
from router.web.inference.handler import Inference
from router.web.inference.request import IngressLimits
from router.web.jobs.routes import JobContext
from router.web.models import present_models
from router.web.pages import PageContext
from router.web.pages.login import LoginContext
from router.web.routes import WebParts, blueprints

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_FILE_CHECK_SECONDS = 1.0
_TICK_SECONDS = 0.25
_IN_USE_SECONDS = 1.0
_SPEEDS_EVERY = 30  # notes of slots in use
_MEND_SECONDS = 1.0
_LIMITS_SECONDS = 1.0  # of counts are lost by a kill
_POLLS_SECONDS = 20.0  # some polls of a node that hangs, at the longest usual limit
_STILL_SECONDS = 30.0  # beyond the longest pass; as the alert RouterSnapshotStale
_FIRST_PASS_SECONDS = 3.0  # beside the time limit of one query
_ASKED_SECONDS = 0.5  # while Alertmanager waits, before a node is held
_FIRST_LOOK_SECONDS = 0.01

log = get_logger("router")


class GunicornWorker(Protocol):
    """What is used of `router.server.worker.Worker`.

    alive turns false on SIGTERM; hasty turns true when there is to be no grace.
    """

    alive: bool
    hasty: bool
    head_seconds: Callable[[], float]
    body_seconds: Callable[[], float]
    refused: Callable[[str], None]
    bodies: BodyBudget
    ending: bool

    @property
    def serving(self) -> bool: ...

    def listening(self) -> list[int]: ...

    def retire(self) -> None: ...

    def hang_up_idle(self) -> None: ...

    def hang_up(self) -> None: ...


class Router:
    """Everything that one router process owns."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.files = open_config_files(
            path, environ, get_logger("config"), time.time(), offload=FILES
        )
        config = self.config
        configure(config.log)
        self.metrics = Metrics(CollectorRegistry(), __version__)
        self.bodies = BodyBudget(config.dispatch.max_bodies_bytes)
        self.metrics.watch_bodies(self.bodies)
        self.metrics.watch_log(writer)
        _keep_to_itself(config.state.directory)
        self.health = HealthServices(
            HealthContext(
                config=lambda: self.config,
                inventory=lambda: self.inventory,
                clock=wall_clock(environ),
            ),
            self.metrics.registry,
        )
        self.holds = self.health.holds
        self.audit = AuditService(config.state.directory, self.metrics.registry)
        self.audit.watch_holds(self.holds)
        self.keys, self.key_files = build_keys(config, lambda: self.config)
        self._exposed = reached_by_others(environ)
        self.quotas = Quotas(
            config.state.directory,
            rules=lambda: self.keys.limits,
            shadow=lambda: self.config.access.limits == "shadow",
            clock=time.time,
        )
        self.published = Published(self._first_snapshot())
        self._build_dispatch(config)
        self._build_control(config)
        self._build_usage(config)
        self.health.other_files = {
            USAGE_FILE: lambda: self.usage.writer.fault,
            AUDIT_FILE: lambda: self.audit.trail.fault,
        }
        self._build_batch(config)
        self.app = self._build_web(config)
        self._apply(config)
        self._stopping = False
        self._taken_over = False
        self._successor: HandoverServer | None = None
        self._takes_over = environ.get(TAKES_OVER) == "1"
        self._polled = False
        self._polls_until = time.monotonic() + _POLLS_SECONDS
        # gunicorn's own deadline was set by this at start; a reload cannot move it.
        self._grace_seconds = config.shutdown.grace_seconds

    @property
    def config(self) -> Config:
        return self.files.config.value

    @property
    def inventory(self) -> Inventory:
        return self.files.inventory.value

    def start(self) -> None:
        """Start control, the polls and the watch over files."""
        self.files.config.listen(lambda _, new: self._apply(new))
        self.files.signals.listen(lambda *_: self.loop.wake())
        self.files.inventory.listen(lambda *_: self._take_inventory())
        self._audit_files()
        self.probe.start()
        self.loop.start()
        self.traffic.begin_trials(self.failover)
        if not self._takes_over:
            self.batches.start()
        self.usage.start()
        gevent.spawn(self._watch_files)
        gevent.spawn(self._watch_lag)
        gevent.spawn(self._recollect)
        gevent.spawn(self._mend)
        gevent.spawn(self._save_limits)
        log.info("started", version=__version__, nodes=len(self.inventory.nodes))

    def _audit_files(self) -> None:
        self.files.config.listen(self.audit.settings)
        self.files.signals.listen(self.audit.signals)
        self.files.inventory.listen(self.audit.inventory)
        for keys in self.key_files:
            keys.listen(self.audit.keys)
        self.audit.start()

    def await_first_pass(self) -> None:
        """Take no request before the level was asked who is unwell.

        An alert may have begun while no router was there. A Prometheus that is
        down answers at once; one that hangs is given up after its time limit.
        """
        prometheus = self.config.prometheus
        deadline = time.monotonic() + prometheus.timeout_seconds + _FIRST_PASS_SECONDS
        while not self.health.looked and time.monotonic() < deadline:
            gevent.sleep(_FIRST_LOOK_SECONDS)

    def attend(self, worker: GunicornWorker) -> None:
        """End streams with a frame when gunicorn stops this worker."""
        worker.head_seconds = lambda: self.config.web.head_timeout_seconds
        worker.body_seconds = lambda: self.config.dispatch.body_timeout_seconds
        worker.refused = lambda why: self.metrics.rejections.labels(why).inc()
        worker.bodies = self.bodies
        handover = Handover(
            self.config.state.directory,
            lambda: self.inventory,
            self.ledger,
            self.dispatcher,
            self.recollection,
            self.health,
            self.batches,
        )
        if self._takes_over:
            handover.take_over()
            self.batches.start()
        self._successor = handover.await_successor(worker, self._leave)
        gevent.spawn(self._end_with, worker)

    def _leave(self) -> None:
        self._taken_over = True

    def not_ready(self) -> str | None:
        """Say why `/readyz` must not say yes; None when it may."""
        if self._stopping:
            return "the router is shutting down"
        if not self.health.looked:
            return "alerts have not been looked at yet"
        still = self.health.still_seconds
        if still > self._longest_pass():
            return f"the control loop has stood still for {still:.0f} s"
        return self._not_polled()

    def _not_polled(self) -> str | None:
        """Say at the start which node is not known yet; later none is waited for.

        A fleet that is nearly all dead takes long to be asked, and what was added
        since is no reason to send people away.
        """
        if self._polled:
            return None
        views = self.published.current.nodes  # what dispatch reads, not the polls
        for node in self.inventory.nodes:
            view = views.get(node.name)
            known = view is not None and view.present is not None
            late = time.monotonic() > self._polls_until
            if not (known or late or self.holds.of(node.name)):
                return f"node {node.name!r} has not been polled yet"
        self._polled = True
        return None

    def _warnings(self) -> list[str]:
        found = self.health.warnings()
        for file, fault in self.health.other_files.items():
            if why := fault():
                found.append(f"{file} is not written: {why}")
        if self.keys.fault:
            found.append(f"API keys that were made here do not work: {self.keys.fault}")
        if self._exposed and not self.keys.required:
            found.append(
                f"access.keys is {self.config.access.keys!r}: whoever reaches"
                f" {self._exposed} may use everything"
            )
        return found

    def _longest_pass(self) -> float:
        """Say how long a pass may take that is slow, but goes on; see `observe`."""
        control = self.config.control
        return _STILL_SECONDS + control.stale_after_seconds + control.interval_seconds

    def _degrade(self) -> Degrade:
        """Say how good the scores are by now: a loop that stands publishes nothing."""
        return aged(self.published.current, self._ages(), time.monotonic())

    # Building

    def _first_snapshot(self) -> Snapshot:
        known = DecisionInput(self.inventory, self.files.signals.value)
        return decide(known, self._ages(), time.monotonic())

    def _ages(self) -> Ages:
        control = self.config.control
        return Ages(control.stale_after_seconds, control.forget_after_seconds)

    def _build_dispatch(self, config: Config) -> None:
        dispatch = config.dispatch
        self.ledger = Ledger(dispatch.default_slots, time.monotonic)
        self.ledger.configure(self.inventory.nodes)
        self.health.ease(self.ledger)  # listens before the queue is served
        self.ledger.listen(self.metrics.replies.ended)
        self.recollection = LedgerPersistence(
            config.state.directory,
            self.ledger,
            clock=time.time,
            monotonic=time.monotonic,
            offload=DISK,
        )
        self.recollection.load(self.inventory)
        self.trails = DecisionTraces()
        self.traffic = TrafficHealth(
            lambda: self.config, self.holds, self.ledger, self.published
        )
        self.dispatcher = Scheduler(
            self.published,
            self.holds,
            self.ledger,
            Queue(dispatch.max_waiting),
            Policies(dispatch.picker, pickers_by_model(dispatch.pickers)),
            clock=time.monotonic,
            health=self.traffic.circuits,
        )
        self.backends = Backends(dispatch.connect_timeout_seconds, self.bodies)
        destinations = self.health.destinations(self.dispatcher, self.published)
        self.failover = build_failover(
            FailoverParts(
                config=lambda: self.config,
                dispatcher=self.dispatcher,
                backends=self.backends,
                holds=self.holds,
                metrics=self.metrics,
                ledger=self.ledger,
                published=self.published,
                destinations=destinations,
                learned=self.traffic.learned(self.dispatcher),
            )
        )
        self.health.empty_nodes(destinations, self.ledger, self.published)

    def _build_control(self, config: Config) -> None:
        prometheus = service(config.prometheus)
        asked = replace(prometheus, timeout_seconds=_ASKED_SECONDS)
        sources = Sources(
            settings=lambda: self.config.control,
            inventory=lambda: self.inventory,
            signals=lambda: self.files.signals.value,
            models=lambda: self.probe.view(),  # noqa: PLW0108 - made below
            prometheus=PrometheusClient(prometheus),
        )
        health = self.health
        health.watch(wake=lambda: self.loop.wake())  # noqa: PLW0108 - made below
        health.one_pass = Pass(
            sources,
            self.holds,
            self.published,
            self.metrics,
            flapping=health.flapping,
            verification=health.verifier,
            offload=CONTROL,
            clock=health.clock,
        )
        self.loop = Loop(health.one_pass, lambda: self.config.control.interval_seconds)
        self.probe = Probe(
            inventory=lambda: self.inventory,
            settings=lambda: self.config.control,
            holds=self.holds,
            changed=self.loop.wake,
            moves=self.failover.liveness.moves,
            clock=self.health.clock,
        )
        self.dispatcher.look_again = self.probe.hurry
        self.discovery = Discovery(self.probe, self.published)
        self.doorbell = NotificationHandler(
            self.holds,
            fleet=lambda: self.inventory.names(),  # noqa: PLW0108 - it is replaced
            wake=self.loop.wake,
            seconds=lambda: self.config.control.provisional_hold_seconds,
            firing=Firing(PrometheusClient(asked).firing),
            clock=self.health.clock,
        )

    def _build_usage(self, config: Config) -> None:
        self.usage = UsageService(
            config,
            lambda: self.config,
            self.ledger,
            PrometheusClient(service(config.prometheus)),
            self.metrics.registry,
        )

    def _build_batch(self, config: Config) -> None:
        dispatcher = self.dispatcher
        fleet = FleetView(
            self.published,
            self.holds,
            self.ledger,
            dispatcher.queue,
            dispatcher.estimates,
            self.traffic.circuits,
        )
        self.batches, self.files_of_jobs = build_batches(
            JobDependencies(
                folder=config.state.directory,
                fleet=fleet,
                failover=self.failover,
                registry=self.metrics.registry,
                settings=lambda: self.config.batch,
            )
        )

    def _build_web(self, config: Config) -> WSGIApplication:
        self.metrics.registry.register(self._fleet_collector())
        self.metrics.registry.register(self._predictions())
        self.metrics.registry.register(
            KeyCollector(
                self.keys, self.quotas, time.time, exposed=self._exposed is not None
            )
        )
        self.metrics.registry.register(CircuitCollector(self.traffic.circuits))
        token = _secret(config.admin.token_file)
        sessions = Sessions()
        admin = AdminContext(
            published=self.published,
            holds=self.holds,
            ledger=self.ledger,
            dispatcher=self.dispatcher,
            trails=self.trails,
            token=token,
            reload=self._reload,
            add_entry=lambda entry: add_entry(self.files, self.config, entry),
            keys=self.keys,
            trusts=self._trusts,
            find=self.health.find,
            silences=self.health.silences,
            waits=self.health.waits,
            clock=self.health.clock,
            circuits=self.traffic.circuits,
            usage=self.usage.reports,
            audit=self.audit.trail,
        )
        parts = WebParts(
            admin=admin,
            published=self.published,
            find=self.discovery.find,
            bell=self.doorbell,
            webhook_token=_secret(config.webhook.token_file),
            notified=lambda outcome: self.metrics.notifications.labels(outcome).inc(),
            batches=self.batches,
            settings=lambda: self.config.batch,
            jobs=JobContext(
                self.batches, self.files_of_jobs, lambda: self.config.batch
            ),
            pages=self._page_parts(),
            login=LoginContext(self.keys, sessions, time.time),
            boards=build_boards(config),
        )
        flask = flask_app(
            blueprints(parts), self.metrics.registry, self.not_ready, self._warnings
        )
        self.inference = Inference(
            self.failover,
            self.metrics,
            self.trails,
            _door_limits(config),
            light=LightCalls(
                self.published, self.holds, ask, unloaded=self.probe.look_at
            ),
            find=self.discovery.find,
            log=RequestLog(lambda: self.config.log),
            usage=self.usage.ledger,
            audit=self.audit.trail,
            quotas=self.quotas,
            own=own_paths(flask),
            fallback=flask,
        )
        authentication = Authentication(
            self.inference,
            self.keys,
            sessions,
            operators(
                {
                    "admin": token,
                    "metrics": _secret(config.access.metrics_token_file),
                },
                self._trusts,
            ),
            refused=lambda code: self.metrics.rejections.labels(code).inc(),
            now=time.time,
        )
        self.cors = Cors(authentication, Origins(config.web.origins))
        self.host_check = HostCheck(
            self.cors,
            Hosts(config.web.hosts),
            lambda: self.metrics.rejections.labels("foreign_host").inc(),
        )
        return self.host_check

    def _trusts(self, environ: Mapping[str, Any]) -> bool:
        """Say whether only a person at this machine can have sent a request.

        Named hosts mean a proxy in front, which may look like one.
        """
        return not self.host_check.hosts.everywhere and local(environ)

    def _page_parts(self) -> PageContext:
        return PageContext(
            self.batches,
            models=lambda: present_models(self.published.current),
            max_file_bytes=lambda: self.config.batch.max_file_bytes,
        )

    def _predictions(self) -> Predictions:
        estimates = self.dispatcher.estimates
        return Predictions(
            estimates.prediction.accuracy,
            {
                "first_token": estimates.first_tokens,
                "completion": estimates.completions,
            },
        )

    def _fleet_collector(self) -> FleetCollector:
        return FleetCollector(
            lambda: self.inventory,
            self.published,
            self.holds,
            self.ledger,
            queue_length=self.dispatcher.queue.length,
            files=lambda: (
                *self.files.statuses(),
                *(each.status() for each in self.key_files),
            ),
            degrade=self._degrade,
            clock=time.monotonic,
        )

    # Changing

    def _apply(self, config: Config) -> None:
        """Take over settings that need no restart; streams are not touched."""
        configure(config.log)
        dispatch = config.dispatch
        self.bodies.most_bytes = dispatch.max_bodies_bytes
        self.ledger.default_slots = dispatch.default_slots
        self.dispatcher.queue.limit = dispatch.max_waiting
        by_model = pickers_by_model(dispatch.pickers)
        self.dispatcher.policies = Policies(dispatch.picker, by_model)
        self.dispatcher.down_wait_seconds = dispatch.down_wait_seconds
        self.backends.connect_timeout_seconds = dispatch.connect_timeout_seconds
        apply_failover(self.failover, config)
        self.inference.limits = _door_limits(config)
        self.keys.apply()
        self.cors.origins = Origins(config.web.origins)
        self.host_check.hosts = Hosts(config.web.hosts)
        self._take_inventory()

    def _take_inventory(self) -> None:
        self.ledger.configure(self.inventory.nodes)
        self.metrics.replies.keep(self.inventory.names())
        self.holds.fleet(self.inventory.names())
        self.loop.wake()

    def _reload(self, confirmed: bool) -> list[dict[str, Any]]:
        now = time.time()
        return [
            {
                "file": status.file,
                "successful": status.successful,
                "fault": status.fault,
            }
            for status in (
                each.reload(now, confirmed=confirmed)
                for each in (*self.files, *self.key_files)
            )
        ]

    # Running

    def _watch_files(self) -> None:
        while True:
            gevent.sleep(_FILE_CHECK_SECONDS)
            for each in (*self.files, *self.key_files):
                each.check(time.time())

    def _recollect(self) -> None:
        while True:
            for _ in range(_SPEEDS_EVERY):
                gevent.sleep(_IN_USE_SECONDS)
                self.recollection.note_in_use(self.inventory)
            self.recollection.note_speeds()

    def _mend(self) -> None:
        while True:
            gevent.sleep(_MEND_SECONDS)
            self.health.mend()

    def _save_limits(self) -> None:
        while True:
            gevent.sleep(_LIMITS_SECONDS)
            self.save_limits()

    def close(self) -> None:
        """Leave nothing undone, at the end of the process."""
        self.save_limits()
        if self._successor is not None:
            self._successor.close()

    def save_limits(self) -> None:
        """Keep what was counted, unless another router does by now."""
        if not self._taken_over:
            self.quotas.save()

    def _watch_lag(self) -> None:
        while True:
            due = time.monotonic() + _TICK_SECONDS
            gevent.sleep(_TICK_SECONDS)
            self.metrics.loop_lag.set(max(0.0, time.monotonic() - due))

    def _finish_streams(self, worker: GunicornWorker) -> None:
        """Serve who is there until nobody is, or a signal says to end now."""
        log.info("finishing", under_way=len(self.inference.visits))
        while worker.serving and not worker.ending:
            gevent.sleep(_TICK_SECONDS)

    def _end_with(self, worker: GunicornWorker) -> None:
        while worker.alive:
            gevent.sleep(_TICK_SECONDS)
        if self._taken_over:
            self._finish_streams(worker)
        self._stopping = True
        visits = self.inference.visits
        log.info("stopping", under_way=len(visits), hasty=worker.hasty)
        visits.turn_away(Outcome.SHUTDOWN)
        self.batches.take_no_more()
        worker.hang_up_idle()
        deadline = time.monotonic() + self._grace_seconds
        while visits and time.monotonic() < deadline and not worker.hasty:
            gevent.sleep(_TICK_SECONDS)
        visits.stop_all(Outcome.SHUTDOWN)
        self.batches.stop()
        self.recollection.note_speeds()
        self.usage.close()
        self.audit.trail.close()
        self.loop.stop()
        self.health.stop()
        self.probe.stop()
        worker.hang_up()  # after the stop: who waits for a body must hear of it


def _door_limits(config: Config) -> IngressLimits:
    dispatch = config.dispatch
    return IngressLimits(
        max_body_bytes=dispatch.max_body_bytes,
        queue_seconds=dispatch.queue_timeout_seconds,
        request_seconds=dispatch.request_timeout_seconds,
        first_token_seconds=dispatch.first_token_seconds or float("inf"),
    )


def _keep_to_itself(folder: Path) -> None:
    """Shut a folder that an earlier release has left open; a disk may refuse it."""
    try:
        make_private(folder)
    except OSError as error:
        log.warning("state_folder", path=str(folder), fault=str(error))


def _secret(path: Path | None) -> Callable[[], str | None]:
    """Read a token at each use, so that a rotated one needs no restart.

    A token that is configured and cannot be read opens nothing.
    """

    def read() -> str | None:
        if path is None:
            return None
        try:
            token = DISK(lambda: read_text(path)).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise UnavailableError(
                f"token file {path.name!r} cannot be read: {why}"
            ) from error
        if not token:
            raise UnavailableError(f"token file {path.name!r} is empty")
        return token

    return read


def _built() -> Router:
    hub = gevent.get_hub()
    hub.resolver = cast("Any", Resolver(hub))  # gevent takes what has its methods
    path = Path(os.environ.get("INFEROPS_CONFIG", "router/router.yml"))
    router = Router(path, os.environ)
    router.start()
    router.await_first_pass()
    # A native thread that computes gives the event loop its turn twice as soon as a
    # stream could notice; with Python's 5 ms, each of its turns is one.
    sys.setswitchinterval(0.0005)
    # What was built stays for good: no collection needs to look at it again, and
    # a full one would hold up every stream. Requests leave few cycles: a twentieth
    # of the CPU went into looking for them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    return router


router = _built()
app = router.app
