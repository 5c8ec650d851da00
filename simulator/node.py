"""One simulated node: its engine, its GPUs and its faults behind one port."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from simulator import metrics
from simulator.api import Api
from simulator.body import ApiError
from simulator.catalogue import models_of
from simulator.clock import Clock
from simulator.engine import Engine
from simulator.exchange import Exchange
from simulator.faults import (
    AnyFault,
    Cut,
    Error,
    FaultError,
    Hang,
    MetricsDown,
    OutOfMemory,
    Refuse,
    Slow,
)
from simulator.gpu import SLOWDOWN_TIMES
from simulator.hardware import Hardware
from simulator.http import Connection, Reply, Request
from simulator.model import NodeSpec
from simulator.runner import Job
from simulator.speed import Scaling

F = TypeVar("F", bound=AnyFault)

_OBSERVE_SECONDS = 0.25
_HOST_ENDINGS = (".localhost", ".local", ".internal")


@dataclass(slots=True)
class Counts:
    """What became of the inferences that came."""

    started: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0


class Node:
    """The shell around one engine; every request comes in by `__call__`."""

    def __init__(
        self,
        spec: NodeSpec,
        clock: Clock,
        *,
        listen: str,
        seed: int,
        scaling: Scaling,
        wake: Callable[[], None],
    ) -> None:
        now = clock.monotonic()
        # Read once: an `expires_at` that moved by a microsecond would be a use.
        self.unix_ahead = clock.unix() - now
        self.spec = spec
        self.models = models_of(spec)
        self.engine = Engine(spec, now, scaling)
        self.clock = clock
        self.counts = Counts()
        self._listen = listen
        self._wake = wake
        self._hardware = Hardware(spec, now)
        self._observed = (now, 0)
        self._faults: dict[str, AnyFault] = {}
        self._left: dict[str, int] = {}  # how often a fault with `times` still strikes
        self._parked: list[tuple[Request, Reply]] = []
        self._exchanges: list[Exchange] = []
        self._connections: set[Connection] = set()
        self._api = Api(self, seed)
        self._listener: asyncio.Server | None = None

    # --- its socket ---

    async def open(self) -> None:
        """Listen on the node's port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self, self._connections),
            self._listen,
            self.spec.port,
            backlog=1024,
        )

    def close(self, *, reset: bool) -> None:
        """Stop listening; connections with nothing under way go, or all."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections):
            if reset:
                connection.reset()
            else:
                connection.close_when_idle()

    # --- requests ---

    def __call__(self, request: Request, reply: Reply) -> None:
        hang = self.fault(Hang)
        if hang is not None and (hang.metrics or request.path != "/metrics"):
            self._park(request, reply)
        elif request.path == "/metrics":
            self._send_metrics(reply)
        elif not self._may_name(request.headers.get("host", "")):
            reply.send(403, b"")
        else:
            self._api(request, reply)

    def _park(self, request: Request, reply: Reply) -> None:
        parked = (request, reply)
        self._parked.append(parked)
        reply.on_gone = lambda: self._parked.remove(parked)

    def _send_metrics(self, reply: Reply) -> None:
        if self.fault(MetricsDown) is not None:
            reply.send(503, b"simulated fault: metrics_down\n", "text/plain")
            return
        now = self.catch_up()
        views = self._hardware.view(self.engine.vram_used_bytes)
        body = metrics.exposition(self.spec.name, views, now)
        reply.send(200, body, metrics.CONTENT_TYPE)

    def _may_name(self, host: str) -> bool:
        """Ollama bound to loopback answers only to names of this machine."""
        if not ipaddress.ip_address(self._listen).is_loopback:
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in ("", "localhost", socket.gethostname().lower()):
            return True
        if name.endswith(_HOST_ENDINGS):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    # --- inferences ---

    def begin(self, job: Job, exchange: Exchange) -> None:
        """Run a job, and feed its exchange until it is over or the client goes."""
        self.counts.started += 1
        self._exchanges.append(exchange)
        exchange.reply.on_gone = lambda: self._give_up(exchange)
        self.catch_up()
        self.engine.submit(job, self.engine.now)
        self._wake()

    def _give_up(self, exchange: Exchange) -> None:
        self._exchanges.remove(exchange)
        self._cancel(exchange.job)
        self.counts.cancelled += 1

    def _cancel(self, job: Job) -> None:
        self.catch_up()
        self.engine.cancel(job, self.engine.now)

    def tick(self, stamp: str) -> bool:
        """Move on and send what is ready; tells whether anything is under way."""
        self.catch_up()
        if self.fault(Hang) is None:
            for exchange in tuple(self._exchanges):
                self._poll(exchange, stamp)
        return bool(self._exchanges)

    def _poll(self, exchange: Exchange, stamp: str) -> None:
        # What ends here went away by our hand, and is not given up by the client.
        gone, exchange.reply.on_gone = exchange.reply.on_gone, None
        if not exchange.poll(stamp):
            exchange.reply.on_gone = gone
            return
        self._exchanges.remove(exchange)
        whole = exchange.job.ended and not exchange.job.error
        self.counts.finished += whole
        self.counts.failed += not whole
        if not exchange.job.ended:
            self._cancel(exchange.job)

    def catch_up(self) -> float:
        """Let the engine and the GPUs catch up with the clock."""
        now = self.clock.monotonic()
        if self.fault(Hang) is None:
            self.engine.advance(now)
        else:
            self.engine.skip(now)
        at, streams = self._observed
        if streams != self.engine.running or now - at >= _OBSERVE_SECONDS:
            self._hardware.observe(now, self.engine.running)
            self._observed = (now, self.engine.running)
            self._set_pace(now)
        return now

    def _set_pace(self, now: float) -> None:
        slow = self.fault(Slow)
        times = slow.factor if slow else 1.0
        times *= SLOWDOWN_TIMES if self._hardware.throttled else 1.0
        if times != self.engine.slowdown:
            self.engine.slow_down(times, now)

    # --- faults ---

    def fault(self, kind: type[F]) -> F | None:
        for each in self._faults.values():
            if isinstance(each, kind):
                return each
        return None

    def _strike(self, kind: type[F]) -> F | None:
        """Take one of the `times` of a fault that strikes requests."""
        fault = self.fault(kind)
        if fault is None or fault.fault not in self._left:
            return fault
        self._left[fault.fault] -= 1
        if self._left[fault.fault] <= 0:
            del self._faults[fault.fault], self._left[fault.fault]
        return fault

    def cut(self) -> Cut | None:
        return self._strike(Cut)

    def injected_error(self) -> ApiError | None:
        fault = self._strike(Error)
        return ApiError(fault.status, fault.text) if fault else None

    def put(self, fault: AnyFault) -> None:
        """Put a fault on; one of the same name is replaced."""
        gpu = getattr(fault, "gpu", None)
        if gpu is not None and gpu >= len(self._hardware):
            raise FaultError(f"gpu: must be below {len(self._hardware)}, got {gpu!r}")
        now = self.catch_up()
        self._faults[fault.fault] = fault
        self._left.pop(fault.fault, None)
        if isinstance(fault, (Cut, Error)) and fault.times is not None:
            self._left[fault.fault] = fault.times
        self._hardware.put(fault, now)
        if isinstance(fault, OutOfMemory):
            self.engine.exhaust_memory(exhausted=True, now=self.engine.now)
        elif isinstance(fault, Refuse):
            self.close(reset=fault.reset)
        self._set_pace(self.engine.now)

    async def clear(self, name: str) -> bool:
        """Take a fault off; tells whether it was on."""
        now = self.catch_up()
        fault = self._faults.pop(name, None)
        self._left.pop(name, None)
        if fault is None:
            return False
        self._hardware.clear(fault, now)
        if isinstance(fault, OutOfMemory):
            self.engine.exhaust_memory(exhausted=False, now=self.engine.now)
        elif isinstance(fault, Refuse):
            await self.open()
        elif isinstance(fault, Hang):
            parked, self._parked = self._parked, []
            for request, reply in parked:
                reply.on_gone = None
                self(request, reply)
        self._set_pace(self.engine.now)
        return True

    # --- what the control endpoint shows ---

    def state(self) -> Mapping[str, Any]:
        self.catch_up()
        views = self._hardware.view(self.engine.vram_used_bytes)
        return {
            "name": self.spec.name,
            "simulated": True,
            "port": self.spec.port,
            "listening": self._listener is not None,
            "slots": self.spec.slots,
            "running": self.engine.running,
            "waiting": self.engine.waiting,
            "models": list(self.models),
            "resident": [each.model.name for each in self.engine.resident()],
            "inferences": {
                "started": self.counts.started,
                "finished": self.counts.finished,
                "cancelled": self.counts.cancelled,
                "failed": self.counts.failed,
            },
            "gpus": [
                {
                    "uuid": view.spec.uuid,
                    "celsius": round(view.state.celsius, 2),
                    "watts": round(view.state.watts, 1),
                    "utilisation": round(view.state.utilisation, 3),
                    "used_bytes": int(view.used_bytes),
                }
                for view in views
            ],
            "faults": [each.model_dump() for each in self._faults.values()],
        }
