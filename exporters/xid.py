"""XIDs, the driver's error events: counted by GPU and code as they arrive.

Events from before the watch began are lost, since NVML keeps none. What was
counted outlives the GPU and the library: a code often comes last of all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from exporters.families import Family, Kind
from exporters.nvml_library import (
    EVENT_XID,
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    meaning,
)

# Hardware-class codes. They exist at 0 from the start of a watch: a counter that
# is born at 1 shows no increase.
CRITICAL = (48, 62, 64, 74, 79, 95, 119, 120)

WAIT_MILLISECONDS = 250  # how long ending a watch may take


@dataclass(slots=True)
class _Count:
    total: int = 0
    last: float | None = None


class XidLog:
    """The counts; written by the watches, read by each scrape."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._counts: dict[tuple[str, int], _Count] = {}

    def watched(self, uuid: str) -> None:
        with self._lock:
            self._watched.add(uuid)

    def unwatched(self, uuid: str) -> None:
        """Forget the zeros of a GPU: nobody would see its events now."""
        with self._lock:
            self._watched.discard(uuid)

    def add(self, uuid: str, code: int) -> None:
        with self._lock:
            count = self._counts.setdefault((uuid, code), _Count())
            count.total += 1
            count.last = self._wall()

    def families(self) -> Iterator[Family]:
        total = Family(
            "inferops_gpu_xid_errors_total",
            "XID errors since the exporter began to watch, nvmlEventSetWait_v2.",
            Kind.COUNTER,
        )
        last = Family(
            "inferops_gpu_xid_last_timestamp_seconds",
            "When an XID error was last seen, nvmlEventSetWait_v2.",
        )
        with self._lock:
            zeros = {
                (uuid, code): _Count() for uuid in self._watched for code in CRITICAL
            }
            for (uuid, code), count in sorted((zeros | self._counts).items()):
                total.add(count.total, uuid=uuid, xid=str(code))
                if count.last is not None:
                    last.add(count.last, uuid=uuid, xid=str(code))
        yield from (total, last)


class XidWatch:
    """One GPU's own event set, and the thread that waits on it.

    A set for each GPU, because an event's device handle may not be asked for its
    name any more when that GPU has just been lost.
    """

    def __init__(self, nvml: Nvml, handle: Handle, uuid: str, log: XidLog) -> None:
        """Begin to watch; raises NvmlError where the GPU tells no XIDs."""
        self._nvml = nvml
        self._uuid = uuid
        self._log = log
        self._stop = threading.Event()
        self._events = nvml.nvmlEventSetCreate()
        try:
            nvml.nvmlDeviceRegisterEvents(handle, EVENT_XID, self._events)
        except NvmlError:
            nvml.nvmlEventSetFree(self._events)
            raise
        log.watched(uuid)
        self._thread = threading.Thread(
            target=self._run, name=f"xid-{uuid}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        # Ends on any error but "no event": the GPU or the library is gone, and
        # each scrape finds that out by itself.
        with suppress(NvmlError):
            while not self._stop.is_set():
                self._wait()
        self._log.unwatched(self._uuid)
        with suppress(NvmlError):
            self._nvml.nvmlEventSetFree(self._events)

    def _wait(self) -> None:
        try:
            event = self._nvml.nvmlEventSetWait(self._events, WAIT_MILLISECONDS)
        except NvmlError as error:
            if meaning(error) is not Meaning.TIMEOUT:
                raise
            return
        if event.eventType == EVENT_XID:
            self._log.add(self._uuid, int(event.eventData))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """Ask the thread to end; `ended` waits for it."""
        self._stop.set()

    def ended(self) -> bool:
        """Whether it has ended; not where the driver keeps hold of the thread."""
        self._thread.join(4 * WAIT_MILLISECONDS / 1000)
        return not self.alive
