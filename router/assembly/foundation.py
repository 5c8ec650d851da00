"""Builds what all else stands on: files, metrics, holds, keys, the first snapshot."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from router import __version__
from router.access.exposure import reached_by_others
from router.access.quota import Quotas
from router.access.service import KeyService
from router.assembly.access import AccessFiles, build_keys
from router.assembly.audit import AuditService
from router.assembly.node_health import HealthContext, HealthServices
from router.config.files import make_private
from router.config.reload import ConfigFiles, Watched, open_config_files
from router.config.settings import Config
from router.control.decide import Ages, DecisionInput, decide
from router.holds.store import HoldStore
from router.logs.events import configure, get_logger, writer
from router.metrics import Metrics
from router.model import Inventory
from router.runtime.clock import wall_clock
from router.runtime.threads import FILES
from router.server.body_budget import BodyBudget
from router.server.tls import Certificate
from router.snapshot import Published, Snapshot

log = get_logger("router")


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every other part is built on.

    exposed:     the address by which other machines reach the router, if they do
    certificate: what https is spoken with, if it is
    """

    files: ConfigFiles
    key_files: AccessFiles
    metrics: Metrics
    bodies: BodyBudget
    health: HealthServices
    audit: AuditService
    keys: KeyService
    quotas: Quotas
    published: Published
    exposed: str | None
    certificate: Certificate | None

    @property
    def config(self) -> Config:
        return self.files.config.value

    @property
    def inventory(self) -> Inventory:
        return self.files.inventory.value

    @property
    def holds(self) -> HoldStore:
        return self.health.holds

    @property
    def registry(self) -> CollectorRegistry:
        return self.metrics.registry

    def watched(self) -> tuple[Watched[object], ...]:
        """Return every file that is read again when it changes."""
        return (*self.files, *self.key_files)


def lay_foundation(path: Path, environ: Mapping[str, str]) -> Foundation:
    """Read the configuration at `path`. Raises ConfigError."""
    files = open_config_files(
        path, environ, get_logger("config"), time.time(), offload=FILES
    )
    config = files.config.value
    configure(config.log)
    metrics = Metrics(CollectorRegistry(), __version__)
    bodies = BodyBudget(config.dispatch.max_bodies_bytes)
    metrics.watch_bodies(bodies)
    metrics.watch_log(writer)
    _make_private(config.state.directory)
    context = HealthContext(
        config=lambda: files.config.value,
        inventory=lambda: files.inventory.value,
        clock=wall_clock(environ),
    )
    health = HealthServices(context, metrics.registry)
    audit = AuditService(config.state.directory, metrics.registry)
    audit.watch_holds(health.holds)
    keys, key_files = build_keys(config, lambda: files.config.value)
    return Foundation(
        files=files,
        key_files=key_files,
        metrics=metrics,
        bodies=bodies,
        health=health,
        audit=audit,
        keys=keys,
        quotas=_quotas(files, keys),
        published=Published(_first_snapshot(files)),
        exposed=reached_by_others(environ, config.web.tls_address),
        certificate=_certificate(config),
    )


def ages(config: Config) -> Ages:
    """Return how old a signal may be before it decays, and before it is dropped."""
    control = config.control
    return Ages(control.stale_after_seconds, control.forget_after_seconds)


def _certificate(config: Config) -> Certificate | None:
    web = config.web
    if web.tls_cert is None or web.tls_key is None:
        return None
    return Certificate(web.tls_cert, web.tls_key, FILES)


def _quotas(files: ConfigFiles, keys: KeyService) -> Quotas:
    return Quotas(
        files.config.value.state.directory,
        rules=lambda: keys.limits,
        shadow=lambda: files.config.value.access.limits == "shadow",
        clock=time.time,
        principal=keys.principal,
    )


def _first_snapshot(files: ConfigFiles) -> Snapshot:
    known = DecisionInput(files.inventory.value, files.signals.value)
    return decide(known, ages(files.config.value), time.monotonic())


def _make_private(folder: Path) -> None:
    """Shut a folder that an earlier release has left open; a disk may refuse it."""
    try:
        make_private(folder)
    except OSError as error:
        log.warning("state_folder", path=str(folder), fault=str(error))
