"""Puts the usage ledger together and runs it beside the requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from router.assembly.dispatch import DispatchServices
from router.assembly.foundation import Foundation
from router.assembly.services import service
from router.capacity.ledger import Ledger
from router.clients.prometheus import PrometheusClient
from router.config.settings import Config
from router.control.metering import read_meters
from router.errors import PrometheusError
from router.logs.events import get_logger
from router.metrics.families import AtScrape
from router.metrics.usage import usage_families
from router.usage.energy import MeterReading
from router.usage.ledger import UsageLedger
from router.usage.report import Prices, UsageQuery
from router.usage.store import UsageStore
from router.usage.writer import UsageWriter

# A router that is killed loses no more than what came in this time.
_WRITE_SECONDS = 0.25
_AGAIN_SECONDS = 2.0  # after the disk took nothing
_FORGET_SECONDS = 3600.0

log = get_logger("usage")


class UsageService:
    """Owns the ledger, its writer and the greenlets that feed both."""

    def __init__(
        self,
        first: Config,
        settings: Callable[[], Config],
        leases: Ledger,
        prometheus: PrometheusClient,
        registry: CollectorRegistry,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._prometheus = prometheus
        self.ledger = UsageLedger(
            leases.leases,
            clock=time.monotonic,
            wall_clock=time.time,
            top=first.usage.top,
        )
        leases.listen(self.ledger.lease_ended)
        folder = first.state.directory
        self.writer = UsageWriter(self.ledger, lambda: UsageStore(folder), time.time)
        registry.register(AtScrape(self._families))

    @property
    def prices(self) -> Prices:
        usage = self._settings().usage
        return Prices(usage.price_per_kwh, usage.price_per_node_hour)

    def report(self, query: UsageQuery) -> dict[str, Any]:
        """Sum up the ledger with what waits to be written. Raises StateError."""
        return self.writer.report(query, self.prices)

    def start(self) -> None:
        gevent.spawn(self._write)
        gevent.spawn(self._meter)
        gevent.spawn(self._forget)

    def _families(self) -> Iterator[Metric]:
        ledger = self.ledger
        rows = self.writer.written, ledger.dropped, len(ledger)
        return usage_families(ledger.top, ledger.nodes, rows)

    def close(self) -> None:
        self.ledger.metered((), self._leases.nodes())
        self.writer.close()

    def _write(self) -> None:
        def seconds() -> float:
            return _AGAIN_SECONDS if self.writer.fault else _WRITE_SECONDS

        _again_and_again(seconds, self.writer.flush)

    def _meter(self) -> None:
        def read() -> None:
            self.ledger.metered(self._readings(), self._leases.nodes())

        _again_and_again(lambda: self._settings().usage.meter_interval_seconds, read)

    def _readings(self) -> tuple[MeterReading, ...]:
        """Return what the meters say; nothing while Prometheus is silent.

        Its alerts say so; here the next answer covers the time between.
        """
        try:
            return read_meters(self._prometheus, time.monotonic())
        except PrometheusError:
            return ()

    def _forget(self) -> None:
        while True:
            self.writer.forget(self._settings().usage.keep_seconds)
            gevent.sleep(_FORGET_SECONDS)


def _again_and_again(seconds: Callable[[], float], act: Callable[[], None]) -> None:
    while True:
        gevent.sleep(seconds())
        try:
            act()
        except Exception:  # the ledger must outlive any one fault
            log.exception("usage_failed")


def build_usage(base: Foundation, dispatch: DispatchServices) -> UsageService:
    """Build it for all requests that get a slot; quotas hear what they use."""
    made = UsageService(
        base.config,
        lambda: base.config,
        dispatch.ledger,
        PrometheusClient(service(base.config.prometheus)),
        base.registry,
    )

    def charge(payer: str, /, *, node_seconds: float = 0.0, **used: float) -> None:
        cost = made.prices.of(used.get("joules", 0.0), node_seconds)
        base.quotas.charge(payer, cost=cost, **used)

    made.ledger.charge = charge
    return made
