"""Registers what is counted only when Prometheus scrapes."""

from __future__ import annotations

import time

from router.assembly.dispatch import DispatchServices
from router.assembly.foundation import Foundation, ages
from router.assembly.usage import UsageService
from router.capacity.ledger import Ledger
from router.control.decide import aged
from router.metrics import FleetCollector
from router.metrics.circuits import circuit_families
from router.metrics.families import AtScrape
from router.metrics.gen_ai import GenAiMetrics
from router.metrics.keys import key_families
from router.metrics.predictions import prediction_families
from router.model import Degrade


def register_collectors(
    base: Foundation, dispatch: DispatchServices, usage: UsageService
) -> None:
    """Register the fleet, predictions, keys and circuits."""
    if base.config.metrics.gen_ai == "on":
        _count_gen_ai(base, dispatch.ledger, usage)
    register, estimates = base.registry.register, dispatch.scheduler.estimates
    register(_fleet(base, dispatch))
    register(
        AtScrape(
            lambda: prediction_families(
                estimates.prediction.accuracy,
                {
                    "first_token": estimates.first_tokens,
                    "completion": estimates.completions,
                },
                estimates.reused_tokens,
            )
        )
    )
    register(
        AtScrape(
            lambda: key_families(
                base.keys, base.quotas, time.time(), exposed=base.exposed is not None
            )
        )
    )
    register(AtScrape(lambda: circuit_families(dispatch.traffic.circuits)))


def _count_gen_ai(base: Foundation, leases: Ledger, usage: UsageService) -> None:
    metrics = GenAiMetrics(base.registry)
    leases.listen(
        lambda lease, outcome, reported: metrics.lease_ended(
            lease, outcome, reported, time.monotonic()
        )
    )
    usage.ledger.closed = metrics.request_ended


def _fleet(base: Foundation, dispatch: DispatchServices) -> FleetCollector:
    def degrade() -> Degrade:
        """Say how good the scores are by now: a loop that stands publishes nothing."""
        return aged(base.published.current, ages(base.config), time.monotonic())

    return FleetCollector(
        lambda: base.inventory,
        base.published,
        base.holds,
        dispatch.ledger,
        queue_length=dispatch.scheduler.queue.length,
        files=lambda: tuple(each.status() for each in base.watched()),
        degrade=degrade,
        clock=time.monotonic,
    )
