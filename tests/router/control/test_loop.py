"""The loop: stages that fail, wakes that are not lost, the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import structlog

from router.alerts.labels import Ignored
from router.clients.prometheus import AlertRule, Sample
from router.config.settings import ControlSettings
from router.control.loop import Loop, Pass, Sources
from router.control.observe import ALERTS
from router.errors import PrometheusError
from router.holds.store import HoldStore
from router.model import Degrade, HoldState, Inventory, Node, Signal
from router.snapshot import Published, Snapshot
from tests.harness.poll import until
from tests.router.control.fakes import (
    EVIDENCE,
    LABELS,
    Clock,
    FakePrometheus,
    MemoryJournal,
    drain,
)

HEAT = Signal("heat", "node:gpu_temperature:max_celsius", 1, 90, 40)
RIG = Inventory((Node("rig", "http://rig:11434"), Node("b", "http://b:11434")))
FIRES = Sample({**LABELS, "alertstate": "firing"}, 1.0, 5_000.0)
WATCHDOG = Sample({"alertname": "Watchdog", "alertstate": "firing"}, 1.0, 5_000.0)


def reading(value):
    return (Sample({"node": "rig"}, value, 5_000.0),)


class Stats:
    def __init__(self):
        self.seconds, self.stages = [], []

    def passed(self, seconds):
        self.seconds.append(seconds)

    def failed(self, stage):
        self.stages.append(stage)


class Control:
    """A pass over fakes; `settings`, `inventory` may be changed between passes."""

    def __init__(self, *holds):
        self.clock = Clock()
        self.journal = MemoryJournal(*holds)
        self.holds = HoldStore(self.journal, self.clock, 1.0, self.clock)
        self.prometheus = FakePrometheus({HEAT.query: reading(65.0)})
        self.published = Published(Snapshot({}, 0.0))
        self.stats = Stats()
        self.settings = ControlSettings()
        self.inventory = RIG
        self.offloaded = 0
        sources = Sources(
            settings=lambda: self.settings,
            inventory=lambda: self.inventory,
            signals=lambda: (HEAT,),
            models=dict,
            prometheus=self.prometheus,
        )
        self.make = Pass(
            sources,
            self.holds,
            self.published,
            self.stats,
            offload=self._offload,
            clock=self.clock,
            monotonic=self.clock,
        )

    def _offload(self, call):
        self.offloaded += 1
        return call()

    def passes(self, count=1, seconds=2):
        for _ in range(count):
            self.make()
            self.clock.now += seconds
            if not isinstance(self.prometheus.time, PrometheusError):
                self.prometheus.time += seconds
        return self.published.current


@pytest.fixture
def control():
    return Control()


def test_a_pass_publishes_what_prometheus_said(control):
    """Readings become scores; the decision is made where it blocks nobody."""
    snapshot = control.passes()
    assert snapshot.degrade is Degrade.FRESH
    assert snapshot.nodes["rig"].score.value == 0.5
    assert control.stats.seconds == [0.0]
    assert control.stats.stages == []
    assert control.offloaded == 1
    assert control.make.status.failed == ()


def test_a_silent_prometheus_degrades_and_returns(control):
    """Old readings decay, and are forgotten; new ones count at once."""
    control.passes()
    control.prometheus.time = PrometheusError("silent")
    steps = [control.passes(seconds=10).degrade for _ in range(14)]
    assert steps == [Degrade.FRESH] * 2 + [Degrade.LAST_GOOD] * 10 + [Degrade.OWN] * 2
    assert set(control.stats.stages) == {"observe"}
    control.prometheus.time = 9_000.0
    assert control.passes().degrade is Degrade.FRESH


def test_a_prometheus_without_any_series_is_as_good_as_silent(control):
    """Just started and empty, it must not make the fleet look fresh."""
    control.prometheus.answers = {}
    assert control.passes().degrade is Degrade.STATIC
    control.prometheus.answers[HEAT.query] = reading(65.0)
    assert control.passes().degrade is Degrade.FRESH
    control.prometheus.answers = {}
    assert control.passes(10).degrade is Degrade.LAST_GOOD


def test_a_silent_prometheus_is_logged_once(control):
    """A dead dependency is a metric; the log tells when it began."""
    control.prometheus.time = PrometheusError("silent")
    with structlog.testing.capture_logs() as lines:
        control.passes(5)
    assert [line["event"] for line in lines] == ["prometheus_silent"]
    assert control.stats.stages == ["observe"] * 5


def test_a_partial_answer_is_counted_and_logged_once(control):
    """Readings of that signal go missing; the rest is used."""
    control.prometheus.answers[ALERTS] = PrometheusError("refused")
    with structlog.testing.capture_logs() as lines:
        control.passes(3)
    assert [line["faults"] for line in lines] == [{"alerts": "refused"}]
    assert control.stats.stages == ["query"] * 3
    assert control.make.status.faults == {"alerts": "refused"}


def test_the_level_holds_and_lifts_over_passes(control):
    """An alert fires, is gone, and two proven evaluations bring the node back."""
    control.prometheus.answers[ALERTS] = (WATCHDOG, FIRES)
    control.passes()
    (hold,) = control.holds.blocking("rig")
    assert hold.state is HoldState.CONFIRMED

    control.prometheus.answers[ALERTS] = (WATCHDOG,)
    control.passes()
    (hold,) = control.holds.blocking("rig")
    assert hold.state is HoldState.UNKNOWN
    assert control.make.status.undecided == {hold.key: "no rule 'GpuTooHot' is loaded"}

    evidence = Sample({"node": "rig", "uuid": "GPU-1"}, 50.0, 5_000.0)
    control.prometheus.answers[EVIDENCE] = (evidence,)
    for blocked in (True, False):
        at = control.prometheus.time
        rule = AlertRule("GpuTooHot", {}, {"evidence": EVIDENCE}, True, at, 1.0)
        control.prometheus.loaded = (rule,)
        control.passes()
        assert bool(control.holds.blocking("rig")) is blocked


def test_a_silent_prometheus_leaves_holds_unknown():
    """Nothing said is nothing proven."""
    control = Control(drain())
    control.prometheus.time = PrometheusError("silent")
    control.passes(100)
    (hold,) = control.holds.blocking("rig")
    assert hold.state is HoldState.UNKNOWN


def test_alerts_without_consequence_are_shown(control):
    """An alert for a node that nobody knows is a mistake worth seeing."""
    foreign = Sample({**FIRES.labels, "node": "gone"}, 1.0, 5_000.0)
    control.prometheus.answers[ALERTS] = (foreign,)
    control.passes()
    assert control.make.status.ignored == {Ignored.UNKNOWN_NODE: 1}
    assert control.holds.list() == ()


def test_a_full_disk_stops_neither_drain_nor_scores(control):
    """The level's stage fails; the hold acts, and the snapshot is published."""
    control.journal.broken = True
    control.prometheus.answers[ALERTS] = (WATCHDOG, FIRES)
    snapshot = control.passes()
    assert control.stats.stages == ["level"]
    assert control.holds.blocking("rig")
    assert snapshot.degrade is Degrade.FRESH
    control.journal.broken = False
    control.passes()
    assert len(control.journal.rows) == 1


def test_a_pass_that_breaks_publishes_nothing_and_the_next_is_made(control):
    """A fault of ours must not end the loop."""
    good = control.passes()
    control.inventory = None
    with structlog.testing.capture_logs() as lines:
        assert control.passes(2) is good
    assert control.stats.stages == ["level", "decide"] * 2
    assert [line["stage"] for line in lines] == ["level", "decide"]
    control.inventory = RIG
    assert control.passes() is not good


def test_reloaded_settings_count_from_the_next_pass(control):
    """Panic's share and the fleet are what the files say now."""
    for node in ("rig", "b"):
        control.holds.place(drain(node))
    control.passes()
    assert control.holds.panic
    control.settings = ControlSettings(panic_ratio=1.0)
    control.passes()
    assert not control.holds.panic


class Ticks:
    """Counts passes; each waits for `go`."""

    def __init__(self):
        self.begun = 0
        self.go = threading.Event()
        self.at_once = 0
        self._busy = threading.Lock()

    def __call__(self):
        if not self._busy.acquire(blocking=False):
            self.at_once += 1
            return
        self.begun += 1
        self.go.wait(10)
        self._busy.release()


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
def started(ticks):
    loops = []

    def start(interval):
        loop = Loop(ticks, interval)
        loops.append(loop)
        loop.start()
        return loop

    yield start
    ticks.go.set()
    for loop in loops:
        loop.stop()


def test_the_loop_begins_with_a_pass(ticks, started):
    """The first requests must not wait for an interval."""
    started(lambda: 3600.0)
    until(lambda: ticks.begun == 1, "the first pass")


def test_a_wake_during_a_pass_makes_one_more(ticks, started):
    """What rang while the pass was under way may not be in it."""
    loop = started(lambda: 3600.0)
    until(lambda: ticks.begun == 1, "the first pass")
    for _ in range(5):
        loop.wake()
    assert ticks.begun == 1
    ticks.go.set()
    until(lambda: ticks.begun == 2, "the pass that was asked for")
    loop.stop()
    assert (ticks.begun, ticks.at_once) == (2, 0)


def test_the_clock_rings_each_interval(ticks, started):
    """Nobody has to wake it."""
    ticks.go.set()
    started(lambda: 0.05)
    until(lambda: ticks.begun >= 5, "five passes")
    assert ticks.at_once == 0


def test_a_reloaded_interval_counts(ticks, started):
    """The clock is set anew by the pass that sees it."""
    ticks.go.set()
    interval = [3600.0]
    loop = started(lambda: interval[0])
    until(lambda: ticks.begun == 1, "the first pass")
    interval[0] = 0.05
    loop.wake()
    until(lambda: ticks.begun >= 5, "passes at the new interval")


def test_a_stopped_loop_makes_no_pass(ticks, started):
    """After stop, nothing touches the holds."""
    ticks.go.set()
    loop = started(lambda: 0.05)
    until(lambda: ticks.begun >= 2, "two passes")
    loop.stop()
    begun = ticks.begun
    loop.wake()
    assert not any(each.name == "control" for each in threading.enumerate())
    assert ticks.begun == begun


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import socket, threading, time
import gevent
from router.config.settings import ControlSettings
from router.control.loop import Loop
from router.control.probe import Probe
from router.model import Inventory, Node
from tests.router.control.fakes import Clock, store

hung = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{hung.getsockname()[1]}"
nodes = tuple(Node(f"n{each}", url) for each in range(100))
settings = ControlSettings(probe_timeout_seconds=0.2, resident_interval_seconds=0.2)
holds = store(Clock())
passes, turns = [], 0
loop = Loop(lambda: passes.append(threading.get_ident()), lambda: 0.05)
probe = Probe(lambda: Inventory(nodes), lambda: settings, holds, loop.wake)
loop.start(); probe.start()
end = time.monotonic() + 2
while time.monotonic() < end:
    gevent.sleep(0.01)
    turns += 1
loop.stop(); probe.stop()
print(len(passes), len(holds.list()), turns)
"""


def test_loop_and_probe_run_as_greenlets_under_gevent():
    """Gunicorn's worker: a hundred hung nodes stop neither passes nor streams."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
        timeout=60,
    )
    passes, down, turns = map(int, done.stdout.splitlines()[-1].split())
    # A poll that held the loop for its 0.2 s would leave ten of each.
    assert passes > 12
    assert turns > 20
    assert down == 100
