"""Collects changes from any thread and writes them in order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from router.audit.store import AuditSearch, AuditStore
from router.errors import StateError
from router.logs.events import get_logger
from router.text.audit_chain import ChainHead

ROUTER = "router"  # the actor of what nobody asked for
_MOST_WAITING = 10_000
_AT_ONCE = 500
_SELDOM_SECONDS = 60.0
_MOST_LATELY = 1024

log = get_logger("audit")


class AuditTrail:
    """Keeps entries until they are written.

    fault:   why nothing can be written; None while it can
    dropped: number of entries for which there was no room
    latest:  time of the last entry in unix seconds, by action
    """

    def __init__(
        self, open_store: Callable[[], AuditStore], clock: Callable[[], float]
    ) -> None:
        self._open_store = open_store
        self._clock = clock
        self._store: AuditStore | None = None
        self._waiting: deque[dict[str, Any]] = deque()
        self._writing = False
        self._lately: dict[Hashable, float] = {}
        self.fault: str | None = None
        self.dropped = 0
        self.latest: dict[str, float] = {}
        self.head = ChainHead()

    def __len__(self) -> int:
        return len(self._waiting)

    def record(
        self,
        action: str,
        target: str,
        *,
        actor: str = ROUTER,
        client: str = "",
        before: object = None,
        after: object = None,
        **more: object,
    ) -> None:
        """Add an entry; never waits."""
        at = self.latest[action] = round(self._clock(), 3)
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(
            {
                "at": at,
                "actor": actor,
                "client": client,
                "action": action,
                "target": target,
                "before": before,
                "after": after,
                **{name: value for name, value in more.items() if value},
            }
        )

    def seldom(self, what: Hashable) -> bool:
        """Return True once a minute at most for the same `what`.

        For changes that anybody may make as often as they like.
        """
        now = self._clock()
        last = self._lately.pop(what, -math.inf)
        again = not 0 <= now - last < _SELDOM_SECONDS
        self._lately[what] = now if again else last
        if len(self._lately) > _MOST_LATELY:
            del self._lately[next(iter(self._lately))]
        return again

    def flush(self) -> None:
        """Write what waits, oldest first; only one caller writes at a time."""
        if self._writing:
            return
        self._writing = True
        try:
            self._flush()
        finally:
            self._writing = False

    def _flush(self) -> None:
        while self._waiting:
            some = [self._waiting[n] for n in range(min(_AT_ONCE, len(self._waiting)))]
            try:
                self.head = self.store().append(some)
            except StateError as error:
                if self.fault is None:
                    log.error("audit_not_written", fault=str(error))  # noqa: TRY400
                self.fault = str(error)
                return
            self.fault = None
            for _ in some:
                self._waiting.popleft()
            # With the head in the ordinary log, a truncated audit log can be detected.
            log.info("audit_head", id=self.head.id, hash=self.head.hash)

    def find(self, search: AuditSearch) -> list[dict[str, Any]]:
        """Return matching entries, also those not written before. Raises StateError."""
        self.flush()
        return self.store().find(search)

    def store(self) -> AuditStore:
        """Return the opened file. Raises StateError."""
        if self._store is None:
            self._store = self._open_store()
            self.head = self._store.head()
        return self._store

    def close(self) -> None:
        self.flush()
        if self._store is not None:
            self._store.close()


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values that differ, before and after."""
    names = [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return (
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )
