"""observe → reconcile → decide → publish, every few seconds and whenever it is woken.

APScheduler is only the clock. One thread makes the passes, so that two never overlap
and a wake during a pass leads to another pass. A failed pass is counted by stage and
changes nothing; the loop goes on. Start it after gunicorn's fork.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from router.alerts import reconcile as level
from router.alerts.flapping import Flapping
from router.alerts.labels import Ignored
from router.alerts.verify import Verifier
from router.clients.prometheus import Prometheus
from router.config.settings import ControlSettings
from router.control.decide import Ages, DecisionInput, PolledModels, decide
from router.control.observe import Observation, observe
from router.errors import PrometheusError, StateError
from router.holds.effect import by_alert
from router.holds.record import Key
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Inventory, Signal
from router.snapshot import Published, Snapshot

_STOP_SECONDS = 5.0


class PassStats(Protocol):
    """Counts passes."""

    def passed(self, seconds: float) -> None: ...

    def failed(self, stage: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What each pass reads again, since it may have been reloaded."""

    settings: Callable[[], ControlSettings]
    inventory: Callable[[], Inventory]
    signals: Callable[[], tuple[Signal, ...]]
    models: Callable[[], Mapping[str, PolledModels]]
    prometheus: Prometheus


@dataclass(frozen=True, slots=True)
class PassStatus:
    """The result of the last pass, for /readyz, metrics and the admin API.

    at:        monotonic seconds of its end; None before the first
    failed:    the stages that failed
    faults:    queries that failed, and why
    undecided: why nothing can be concluded about a hold, by hold
    stays:     seconds that a hold stays because its alert flaps, by hold
    ignored:   alerts with an action that has no consequence, by reason
    """

    at: float | None = None
    failed: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    undecided: Mapping[Key, str] = field(default_factory=dict)
    stays: Mapping[Key, float] = field(default_factory=dict)
    ignored: Mapping[Ignored, int] = field(default_factory=dict)


class Pass:
    """Makes one pass after another over the same state; never two at once."""

    def __init__(
        self,
        sources: Sources,
        holds: HoldStore,
        published: Published,
        stats: PassStats,
        *,
        flapping: Flapping | None = None,
        verification: Verifier | None = None,
        offload: Callable[[Callable[[], Snapshot]], Snapshot] = lambda call: call(),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `offload` runs the pure part where it keeps nobody waiting."""
        self._sources = sources
        self._holds = holds
        self._published = published
        self._stats = stats
        self._flapping = flapping
        self._verification = verification
        self._offload = offload
        self._clock = clock
        self._monotonic = monotonic
        self._log = get_logger("control")
        self._last_good: Observation | None = None
        self._proofs: level.Proofs = {}
        self._failed: list[str] = []
        self.status = PassStatus()

    def __call__(self) -> None:
        """Make one pass; raises nothing."""
        started = self._monotonic()
        self._failed = []
        observation = None
        reconciled = level.Reconciled()
        with self._stage("observe"):
            observation = self._observe()
        with self._stage("level"):
            reconciled = self._reconcile(observation, started)
        with self._stage("decide"):
            self._published.publish(self._offload(self._decision()))
        self._finish(started, observation, reconciled)

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        try:
            yield
        except PrometheusError as error:
            if self._fail(name):
                self._log.warning("prometheus_silent", why=str(error))
        except StateError as error:
            if self._fail(name):
                self._log.error("holds_not_saved", why=str(error))
        except Exception:  # noqa: BLE001  the loop must outlive any one pass
            if self._fail(name):
                self._log.exception("pass_failed", stage=name)

    def _fail(self, stage: str) -> bool:
        """Count a failure; says whether it is new: the log is not a metric."""
        self._failed.append(stage)
        self._stats.failed(stage)
        return stage not in self.status.failed

    def _observe(self) -> Observation:
        sources = self._sources
        held = {
            hold.labels.get("alertname", "")
            for hold in self._holds.list()
            if by_alert(hold)
        }
        observation = observe(
            sources.prometheus,
            sources.signals(),
            held,
            clock=self._monotonic,
            budget_seconds=sources.settings().stale_after_seconds,
        )
        # An answer without any series (an empty Prometheus) says nothing either.
        if any(observation.readings.values()):
            self._last_good = observation
        if observation.faults:
            self._stats.failed("query")
        return observation

    def _reconcile(
        self, observation: Observation | None, started: float
    ) -> level.Reconciled:
        fleet = self._sources.inventory().names()
        self._holds.fleet(fleet, self._sources.settings().panic_ratio)
        view = level.ReconcileInput(
            level=observation.level if observation else None,
            fleet=fleet,
            started_at=started,
            now=self._clock(),
            hold_downs=self._flapping.hold_downs() if self._flapping else {},
            verified=self._verification.passed() if self._verification else (),
        )
        # Should this fail, nothing counts as proven by it.
        proofs, self._proofs = self._proofs, {}
        reconciled = level.reconcile(self._holds.standings(), view, proofs)
        level.carry_out(reconciled.actions, self._holds)
        self._proofs = reconciled.proofs
        if self._verification:
            self._verification.want(reconciled.unverified)
        self._holds.expire()
        return reconciled

    def _decision(self) -> Callable[[], Snapshot]:
        sources, settings = self._sources, self._sources.settings()
        known = DecisionInput(
            inventory=sources.inventory(),
            signals=sources.signals(),
            last_good=self._last_good,
            models=sources.models(),
            factors=self._holds.factors,
        )
        ages = Ages(settings.stale_after_seconds, settings.forget_after_seconds)
        now = self._monotonic()
        return lambda: decide(known, ages, now)

    def _finish(
        self,
        started: float,
        observation: Observation | None,
        reconciled: level.Reconciled,
    ) -> None:
        ended = self._monotonic()
        self._stats.passed(ended - started)
        faults = observation.faults if observation else {}
        if faults and faults.keys() != self.status.faults.keys():
            self._log.warning("prometheus_answered_in_part", faults=faults)
        self.status = PassStatus(
            at=ended,
            failed=tuple(self._failed),
            faults=faults,
            undecided=reconciled.undecided,
            stays=reconciled.stays,
            ignored=reconciled.ignored,
        )


class Loop:
    """Calls `tick` every `interval()` seconds, and at once when woken."""

    def __init__(self, tick: Callable[[], None], interval: Callable[[], float]) -> None:
        self._tick = tick
        self._interval = interval
        self._woken = threading.Event()
        self._stopping = False
        self._runner = threading.Thread(target=self._run, name="control", daemon=True)
        self._ringing: float | None = None
        # The job only sets an event: no pool of threads is needed for that.
        self._scheduler = BackgroundScheduler(
            timezone="UTC", executors={"default": DebugExecutor()}
        )

    def start(self) -> None:
        """Start with a pass at once; call it after the fork."""
        self._scheduler.start()
        self._runner.start()
        self.wake()

    def stop(self) -> None:
        """Stop after the running pass, which is waited for with a time limit."""
        self._stopping = True
        self.wake()
        self._runner.join(_STOP_SECONDS)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def wake(self) -> None:
        """Make a pass now, or another one after the running pass."""
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._set_clock()
            # APScheduler goes by the wall clock. Should that be set back, it is
            # silent until it has caught up; this wait is not.
            self._woken.wait(2 * self._interval())
            # Cleared before the pass: a wake from here on asks for another one.
            self._woken.clear()
            if self._stopping:
                return
            self._tick()

    def _set_clock(self) -> None:
        seconds = self._interval()  # a reload may have changed it
        if seconds == self._ringing:
            return
        self._ringing = seconds
        self._scheduler.add_job(
            self.wake,
            "interval",
            seconds=seconds,
            id="pass",
            replace_existing=True,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,  # late is better than not at all
        )
