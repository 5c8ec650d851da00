"""Runs the collectors of one scrape, each isolated, bounded in time and reported.

A collector that fails or hangs withholds its own data only. One that hangs is not
started again until it returns, so that a stuck driver call costs one thread, not
one for each scrape. Scrapes that overlap share the run that is under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import Metric

from exporters import logs
from exporters.collectors import Collector
from exporters.errors import PartialError
from exporters.families import Family, Kind, metrics

# A collector is told to give up before the scrape does: then "Ollama does not
# answer" is data, and only what ignores its deadline counts as hung.
COLLECTOR_SHARE = 0.8
# How long the most hurried scraper is remembered: whoever has more time must not
# have the collectors run for longer than it can wait, since it shares their runs.
HURRY_SECONDS = 60.0
# Whoever claims to have less does not have its way: nobody may make Ollama look
# silent to the others with a header.
LEAST_SECONDS = 0.5

log = logs.get(__name__)


class Failure(StrEnum):
    """Why a run gave less than all of its source."""

    ERROR = "error"
    PARTIAL = "partial"
    LATE = "late"
    HANGS = "hangs"


@dataclass(slots=True)
class _Run:
    """One call of a collector; all but the first three are set once done.

    counted: whether it was counted as a failure; a hung one may end late, or badly
    """

    started: float
    give_up: float
    overdue: float
    done: threading.Event = field(default_factory=threading.Event)
    metrics: tuple[Metric, ...] = ()
    error: str | None = None
    seconds: float = 0
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What one scrape got from one collector; error None means all of it."""

    name: str
    seconds: float
    error: str | None
    failures: Mapping[Failure, int]
    metrics: tuple[Metric, ...] = ()
    last_success: float | None = None


class _Task:
    """One collector, and at most one run of it."""

    def __init__(
        self,
        name: str,
        collector: Collector,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._name = name
        self._collector = collector
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._last_success: float | None = None
        self._last_error: str | None = None
        self._failures = dict.fromkeys(Failure, 0)

    def start(self, seconds: float) -> _Run:
        """Start a run, or join the one under way."""
        with self._lock:
            if self._run is not None and not self._run.done.is_set():
                return self._run
            now = self._clock()
            run = _Run(now, now + seconds * COLLECTOR_SHARE, now + seconds)
            threading.Thread(
                target=self._execute,
                args=(run,),
                name=f"collect-{self._name}",
                daemon=True,  # a hung one must not keep the process
            ).start()
            self._run = run
            return run

    def _execute(self, run: _Run) -> None:
        got: list[Metric] = []
        failure: Failure | None = None
        try:
            got.extend(self._collector.collect(run.give_up))
        except PartialError as error:
            run.error, failure = str(error), Failure.PARTIAL
        except Exception as error:  # noqa: BLE001 - the collector runner
            run.error, failure = f"{type(error).__name__}: {error}", Failure.ERROR
            got = []
        run.seconds = self._clock() - run.started
        if self._clock() > run.overdue:
            run.error, failure = "late", Failure.LATE
            got = []
        run.metrics = tuple(got)
        if failure is None:
            self._last_success = self._wall()
        else:
            self._count(run, failure)
        run.done.set()

    def _count(self, run: _Run, failure: Failure) -> None:
        """Count a run once, however many scrapes share it."""
        with self._lock:
            if not run.counted:
                run.counted = True
                self._failures[failure] += 1

    def report(self, run: _Run, deadline: float) -> Report:
        """Wait for a run, but not beyond `deadline` nor when it is overdue."""
        patience = min(deadline, run.overdue) - self._clock()
        if run.done.wait(max(0, patience)):
            seconds, error, got = run.seconds, run.error, run.metrics
        else:
            seconds, error, got = self._clock() - run.started, "hangs", ()
            if self._clock() >= run.give_up:  # not for a scrape that joined in haste
                self._count(run, Failure.HANGS)
        failures = dict(self._failures)
        report = Report(self._name, seconds, error, failures, got, self._last_success)
        self._note(report)
        return report

    def _note(self, report: Report) -> None:
        if report.error == self._last_error:
            return
        if report.error is None:
            log.info("collector_recovered", collector=self._name)
        else:
            log.warning("collector_failed", collector=self._name, error=report.error)
        self._last_error = report.error


class Runner:
    """Runs a table of collectors at once, for as many scrapes as come."""

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._hurry = (float("inf"), 0.0)  # seconds, and when they were asked for
        self._tasks = tuple(
            _Task(name, collector, clock, wall)
            for name, collector in collectors.items()
        )

    def collect(self, seconds: float) -> list[Metric]:
        """Return within `seconds` what answered, and a report on each collector."""
        deadline = self._clock() + seconds
        shortest = self._shortest(seconds)
        runs = [(task, task.start(shortest)) for task in self._tasks]
        reports = [task.report(run, deadline) for task, run in runs]
        data = [metric for report in reports for metric in report.metrics]
        return data + list(_about(reports))

    def _shortest(self, seconds: float) -> float:
        now = self._clock()
        known, at = self._hurry
        seconds = max(seconds, LEAST_SECONDS)
        if seconds <= known or now - at > HURRY_SECONDS:
            self._hurry = (seconds, now)
            return seconds
        return known


def _about(reports: list[Report]) -> Iterator[Metric]:
    up = Family(
        "inferops_exporter_collector_up",
        "Whether the collector read all of its source in this scrape.",
    )
    duration = Family(
        "inferops_exporter_collector_duration_seconds",
        "Time that the collector took, or has been hanging for.",
    )
    success = Family(
        "inferops_exporter_collector_last_success_timestamp_seconds",
        "When the collector last read all of its source in time.",
    )
    failed = Family(
        "inferops_exporter_collector_failures_total",
        "Runs of the collector that failed, read only a part, or were given up.",
        Kind.COUNTER,
    )
    for report in reports:
        up.add(report.error is None, collector=report.name)
        for failure, count in report.failures.items():
            failed.add(count, collector=report.name, reason=failure)
        duration.add(report.seconds, collector=report.name)
        if report.last_success is not None:
            success.add(report.last_success, collector=report.name)
    yield from metrics((up, duration, success, failed))
