"""XIDs and the driver's other events: counted by card as they arrive.

Events from before the watch began are lost, since NVML keeps none. What was counted
outlives the card and the library: a code often comes last of all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from exporters.gpu.rows import Row
from exporters.nvml_library import (
    EVENT_XID,
    EVENTS,
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    meaning,
)

# Hardware-class codes. They exist at 0 from the start of a watch: a counter that
# is born at 1 shows no increase.
CRITICAL = (48, 62, 64, 74, 79, 95, 119, 120)

WAIT_MILLISECONDS = 500  # how long ending a watch may take

MOST_CODES = 256  # of one card; a driver has some 150


@dataclass(slots=True)
class _Count:
    total: int = 0
    last: float | None = None


class EventLog:
    """The counts; written by the watches, read by each scrape."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._watched: dict[str, int] = {}
        self._xids: dict[str, dict[int, _Count]] = {}
        self._events: dict[str, dict[str, _Count]] = {}

    def watched(self, uuid: str, kinds: int) -> None:
        """From now on events of these kinds are heard of: they exist at 0."""
        with self._lock:
            self._watched[uuid] = kinds

    def unwatched(self, uuid: str) -> None:
        """Forget the zeros of a card: nobody would see its events now."""
        with self._lock:
            self._watched.pop(uuid, None)

    def add(self, uuid: str, kind: int, data: int) -> None:
        """Count an event; `data` is an XID's code."""
        with self._lock:
            if kind == EVENT_XID:
                counts = self._xids.setdefault(uuid, {})
                if data not in counts and len(counts) >= MOST_CODES:
                    return
                count = counts.setdefault(data, _Count())
            else:
                name = EVENTS.get(kind, "other")
                count = self._events.setdefault(uuid, {}).setdefault(name, _Count())
            count.total += 1
            count.last = self._wall()

    def uuids(self) -> set[str]:
        """Return the cards that there is something to tell of."""
        with self._lock:
            return {*self._watched, *self._xids, *self._events}

    def rows(self, uuid: str) -> list[Row]:
        """Return one card's counts, and when each was last seen."""
        with self._lock:
            kinds = self._watched.get(uuid, 0)
            codes = {code: _Count() for code in CRITICAL if kinds & EVENT_XID}
            names = {name: _Count() for kind, name in EVENTS.items() if kinds & kind}
            xids = codes | self._xids.get(uuid, {})
            events = names | self._events.get(uuid, {})
            labelled = {str(code): count for code, count in sorted(xids.items())}
            return [
                *_told("xid_errors_total", "xid_last_timestamp", "xid", labelled),
                *_told("events_total", "event_last_timestamp", "event", events),
            ]


def _told(
    total: str, last: str, label: str, counts: dict[str, _Count]
) -> Iterator[Row]:
    for value, count in counts.items():
        labels = {label: value}
        yield Row(f"inferops_gpu_{total}", count.total, labels)
        if count.last is not None:
            yield Row(f"inferops_gpu_{last}_seconds", count.last, labels)


class EventWatch:
    """One card's own event set, waited on by one thread.

    A set for each card, because an event's device handle may not be asked for its
    name any more when that card has just been lost.
    """

    def __init__(self, nvml: Nvml, handle: Handle, uuid: str, log: EventLog) -> None:
        """Begin to watch; raises NvmlError where the card tells no events."""
        self._nvml = nvml
        self._uuid = uuid
        self._log = log
        self._events = nvml.nvmlEventSetCreate()
        try:
            self._kinds = self._register(handle)
        except NvmlError:
            with suppress(NvmlError):
                nvml.nvmlEventSetFree(self._events)
            raise
        log.watched(uuid, self._kinds)

    def _register(self, handle: Handle) -> int:
        wanted = EVENT_XID | sum(EVENTS)
        kinds = wanted & self._nvml.nvmlDeviceGetSupportedEventTypes(handle)
        try:
            self._nvml.nvmlDeviceRegisterEvents(handle, kinds, self._events)
        except NvmlError as error:
            # Some drivers list kinds that an unprivileged caller may not have.
            if meaning(error) is not Meaning.ABSENT:
                raise
            kinds = EVENT_XID
            self._nvml.nvmlDeviceRegisterEvents(handle, kinds, self._events)
        return kinds

    def step(self) -> None:
        """Wait for one event, at most `WAIT_MILLISECONDS`; raises NvmlError."""
        try:
            event = self._nvml.nvmlEventSetWait(self._events, WAIT_MILLISECONDS)
        except NvmlError as error:
            if meaning(error) is Meaning.TIMEOUT:
                return
            self._log.unwatched(self._uuid)
            raise
        self._log.add(self._uuid, int(event.eventType), int(event.eventData))

    def end(self) -> None:
        """Give the event set back; from the thread that calls `step`."""
        self._log.unwatched(self._uuid)
        with suppress(NvmlError):
            self._nvml.nvmlEventSetFree(self._events)
