"""Has every change noted: of holds, files and settings; requests note their own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from prometheus_client import CollectorRegistry, Gauge, Metric

from router.access.file import KeysFile
from router.audit.store import AuditStore
from router.audit.trail import ROUTER, AuditTrail, changed
from router.config.settings import Config
from router.holds.record import AuditEvent, Change
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.metrics.families import AtScrape, gauges
from router.model import Hold, Inventory, Signal

_WRITE_SECONDS = 0.1
_AGAIN_SECONDS = 2.0  # after the disk took nothing
_PASSWORD = re.compile(r"//[^/@\s]*@")
_GONE = frozenset({Change.LIFTED, Change.OVERRIDE_ENDED})
_NOTED = frozenset({Change.PLACED, Change.OVERRIDDEN}) | _GONE

log = get_logger("audit")


class AuditService:
    """Owns the trail, and tells it what happens without a request."""

    def __init__(self, folder: Path, registry: CollectorRegistry) -> None:
        self.trail = AuditTrail(lambda: AuditStore(folder), time.time)
        entries = Gauge(
            "inferops_audit_entries",
            "Entries of the audit log; it only grows.",
            registry=registry,
        )
        entries.set_function(lambda: self.trail.head.id)
        waiting = Gauge(
            "inferops_audit_entries_waiting",
            "Changes that are not in the audit log yet; the disk takes none.",
            registry=registry,
        )
        waiting.set_function(lambda: len(self.trail) + self.trail.dropped)
        registry.register(AtScrape(partial(_last_entries, self.trail)))

    def start(self) -> None:
        self.trail.record("router.start", "router")
        gevent.spawn(self._write)

    def _write(self) -> None:
        while True:
            try:
                self.trail.flush()
            except Exception:  # the log must outlive any one fault
                log.exception("audit_failed")
            gevent.sleep(_AGAIN_SECONDS if self.trail.fault else _WRITE_SECONDS)

    def watch_holds(self, holds: HoldStore) -> None:
        holds.subscribe(self._of_hold)

    def _of_hold(self, event: AuditEvent) -> None:
        """Note a hold or an override that came or went."""
        if event.change not in _NOTED:
            return
        shown = _hold(event.hold)
        gone = event.change in _GONE
        self.trail.record(
            f"hold.{event.change}",
            f"node:{event.hold.node}",
            actor=event.actor.principal or event.by or ROUTER,
            client=event.actor.client,
            before=shown if gone else None,
            after=None if gone else shown,
            by=event.by,
            why=event.why,
        )

    def settings(self, old: Config, new: Config) -> None:
        before, after = changed(_flat(old), _flat(new))
        self.trail.record("config.reload", "router.yml", before=before, after=after)

    def inventory(self, old: Inventory, new: Inventory) -> None:
        before, after = changed(_nodes(old), _nodes(new))
        self.trail.record("inventory.reload", "nodes.yml", before=before, after=after)

    def signals(self, old: Iterable[Signal], new: Iterable[Signal]) -> None:
        before, after = changed(_signals(old), _signals(new))
        self.trail.record("signals.reload", "signals.yml", before=before, after=after)

    def keys(self, old: KeysFile, new: KeysFile) -> None:
        before, after = changed(_keys(old), _keys(new))
        self.trail.record("keys.reload", "access.keys_file", before=before, after=after)


def _last_entries(trail: AuditTrail) -> Iterator[Metric]:
    yield gauges(
        "inferops_audit_last_entry_timestamp_seconds",
        "When an action was last noted in the audit log, in unix seconds.",
        ("action",),
        [((action,), at) for action, at in sorted(trail.latest.items())],
    )


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "kind": hold.kind.value,
        "source": hold.source,
        "reason": hold.reason,
        "since": hold.since,
        "until": hold.until,
    }


def _flat(config: Config) -> dict[str, Any]:
    """Return each setting by its full name, without any password."""
    return {
        f"{section}.{name}": _PASSWORD.sub("//***@", str(value))
        for section, fields in config.model_dump().items()
        for name, value in fields.items()
    }


def _nodes(inventory: Inventory) -> dict[str, Any]:
    return {
        node.name: {
            "url": _PASSWORD.sub("//***@", node.url),
            "slots": node.slots,
            **node.attributes,
        }
        for node in inventory.nodes
    }


def _signals(signals: Iterable[Signal]) -> dict[str, Any]:
    return {
        each.name: [each.query, each.weight, each.worst, each.best, each.missing.value]
        for each in signals
    }


def _keys(file: KeysFile) -> Mapping[str, Any]:
    """Return what keys may do; nothing of their secrets, not even their digests."""
    return {
        key.name: {
            "owner": key.owner,
            "tags": list(key.tags),
            "scopes": sorted(key.scopes),
            "models": list(key.models),
            "networks": [str(each) for each in key.networks],
            "expires": key.expires,
            "limits": key.limits.given(),
        }
        for key in file.keys
    } | {
        f"limits of {whose}": limits.given()
        for whose, limits in {"everyone": file.everyone, **file.tags}.items()
    }
