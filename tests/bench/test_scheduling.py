"""The scheduling benchmark: nodes like Ollama, requests as greenlets, figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from math import inf

import pytest

from bench.scheduling import (
    FLEETS,
    ORACLE,
    OURS,
    Cell,
    compare,
    losses,
    main,
    measure,
)
from router.model import Outcome
from router.runtime.cancellation import CancelledError
from simulator.virtual.clock import Clock
from simulator.virtual.figures import Figures
from simulator.virtual.greenlets import VirtualCancellation, spawn
from simulator.virtual.node import TOTALS, Scaling, Spec
from simulator.virtual.ollama import Request, VirtualOllama
from simulator.virtual.peers import PEERS, run_peer
from simulator.virtual.routed import Routed, Setup
from simulator.virtual.traffic import SHAPES, Traffic
from simulator.virtual.workload import Ask

pytestmark = pytest.mark.long

NODE = Spec("n", 100, 1000, slots=2, models=1, load_seconds=5.0)


class Node:
    """One node, and when each of its requests began to answer and ended."""

    def __init__(self, spec=NODE, resident=("a",)):
        self.clock = Clock()
        self.node = VirtualOllama(spec, TOTALS[Scaling.FLAT], self.clock, resident)
        self.ends = {}

    def send(self, name, model="a", tokens=100, options=""):
        request = Request(model, 1, tokens, self._ended(name), options=options)
        self.node.submit(request)
        return request

    def _ended(self, name):
        def ended(_):
            self.ends[name] = self.clock.now

        return ended


def test_more_than_its_slots_wait_in_turn():
    """The third of three on two slots begins when one of the others has ended."""
    made = Node()
    for name in ("one", "two", "three"):
        made.send(name)
    made.clock.run()
    assert made.ends["one"] == pytest.approx(2.0, rel=0.01)
    assert made.ends["three"] == pytest.approx(3.0, rel=0.01)


def test_another_model_pushes_out_what_is_idle():
    """It waits until nothing runs there, and then for its load."""
    made = Node()
    made.send("mine")
    made.send("other", model="b")
    made.clock.run()
    assert made.ends["mine"] == pytest.approx(1.0, rel=0.01)
    assert made.ends["other"] == pytest.approx(1.0 + 5.0 + 1.0, rel=0.01)
    assert ({"b"}, 1, 1) == (set(made.node.resident), made.node.loads, 1)


def test_other_load_options_load_the_model_again():
    """Ollama reloads for another context length as for another model."""
    made = Node(replace(NODE, models=3))
    made.send("plain")
    made.send("long context", options="num_ctx=8192")
    made.clock.run()
    assert made.node.loads == 1
    assert len(made.node.resident) == 1


def test_a_client_that_leaves_frees_its_slot():
    """Whether it ran or waited."""
    made = Node()
    running, _, waiting = (made.send(name) for name in ("one", "two", "three"))
    made.node.cancel(waiting)
    made.clock.run(until=0.5)
    made.clock.now = 0.5
    made.node.cancel(running)
    made.clock.run()
    assert set(made.ends) == {"two"}
    assert made.ends["two"] == pytest.approx(1.25, rel=0.02)


def test_greenlets_sleep_in_virtual_time():
    """Until nudged, until their time is over, or until they are stopped."""
    clock, seen = Clock(), []
    ready, never = VirtualCancellation(clock), VirtualCancellation(clock)

    def sleeper(name, cancellation, deadline):
        try:
            woken = cancellation.until(
                lambda: clock.now >= 3, deadline, lambda: clock.now
            )
        except CancelledError as error:
            woken = error.outcome
        seen.append((name, clock.now, woken))

    spawn(clock, 1.0, lambda: sleeper("late", VirtualCancellation(clock), 2.5))
    spawn(clock, 1.0, lambda: sleeper("woken", ready, inf))
    spawn(clock, 1.0, lambda: sleeper("stopped", never, inf))
    clock.at(2.0, ready.wake)  # too early: it sleeps on
    clock.at(2.0, lambda: never.stop(Outcome.CLIENT_GONE))
    clock.at(4.0, ready.wake)
    clock.run()
    assert seen == [
        ("stopped", 2.0, Outcome.CLIENT_GONE),
        ("late", 2.5, False),
        ("woken", 4.0, True),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_load_is_a_share_of_what_the_fleet_can_do(shape):
    """At a load above 1 a queue grows, well below it does not."""
    traffic, specs = Traffic.of(shape), FLEETS["equal-8"]
    most = traffic.saturation(specs, Scaling.KERNEL)
    waits = []
    for load in (0.3, 1.5):
        asks = traffic.draw(load * most, 1500, seed=1)
        replies = run_peer("least connections", specs, Scaling.KERNEL, asks, 1)
        waits.append(Figures.of(replies).first_p50)
    assert waits[1] > 5 * waits[0]


def test_the_same_requests_for_every_policy():
    """A seed is one piece of traffic; another seed is another."""
    traffic = Traffic.of("chat")
    assert traffic.draw(1.0, 50, 3) == traffic.draw(1.0, 50, 3)
    assert traffic.draw(1.0, 50, 3) != traffic.draw(1.0, 50, 4)


def test_more_requests_than_a_trace_has():
    """It is gone through again, at the same rate."""
    asks = Traffic.of("chat").draw(10.0, 50_000, 3)
    times = [each.at for each in asks]
    assert sorted(times) == times
    assert 0.98 < times[-1] / 5000.0 < 1.02
    assert 0.98 < times[25_000] / 2500.0 < 1.02


@pytest.mark.parametrize("peer", PEERS)
def test_peers_lose_nothing(peer):
    """Each request ends, once, whoever chose its node."""
    asks = Traffic.of("chat").draw(2.0, 200, 1)
    replies = run_peer(peer, FLEETS["mixed-8"], Scaling.H200, asks, 1)
    assert len(asks) == sum(each.ended_at < inf for each in replies)


def test_the_router_loses_nothing():
    """Each request ends, slots are all free then, and nothing is left behind."""
    asks = Traffic.of("chat").draw(4.0, 400, 1)
    routed = Routed(Setup(FLEETS["mixed-8"], Scaling.H200), Clock())
    replies = routed.run(asks)
    assert all(each.ended_at < inf and not each.failure for each in replies)
    assert 0 == sum(map(routed.ledger.in_flight, routed.nodes))
    assert 0 == len(routed.dispatcher.queue)
    assert not routed.dispatcher.estimates.in_flight._running


def test_the_queue_has_a_limit_in_time():
    """Whoever waited too long is refused, and counted."""
    setup = Setup([NODE], Scaling.FLAT, queue_seconds=3.0, models=("m:latest",))
    asks = [Ask(1, 400, 0.0) for _ in range(6)]
    replies = Routed(setup, Clock()).run(asks)
    assert 4 == sum("DeadlineError" in each.failure for each in replies)


def _figures(*p99):
    return [Figures(1.0, 2.0, each, 0.1, 1.0, 0.99, 0.0) for each in p99]


def test_a_loss_is_one_beyond_the_interval():
    """Seeds that differ either way are no loss; all of them worse are one."""
    even = {OURS: _figures(9, 11, 10), "random": _figures(10, 10, 10)}
    worse = {OURS: _figures(12, 11, 13), "random": _figures(10, 10, 10)}
    assert [] == losses(even)
    assert ["p99 1.20 of random"] == losses(worse)
    same = even["random"]
    assert 1.0 == pytest.approx(compare(same, same, "p99").ratio)


def test_prediction_and_hold_back_pay():
    """A small cell, with the router ahead of every simple policy's tail."""
    cell = Cell("chat", "mixed-8", Scaling.KERNEL, 0.7)
    policies = ["least connections", "random", OURS, ORACLE]
    row = measure([cell], policies, [2], 1500, 1)[cell]
    assert row[OURS][0].p99 < 0.8 * row["least connections"][0].p99
    assert row[ORACLE][0].p99 < 0.8 * row["least connections"][0].p99


def test_prints_a_row_for_each_cell(tmp_path, capsys):
    """And writes every run."""
    out = tmp_path / "out.json"
    argv = ["--fleets", "equal-8", "--loads", "0.3", "0.5", "--seeds", "2"]
    argv += ["--requests", "120", "--peers", "least connections", "random"]
    main([*argv, "--processes", "1", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("chat, equal-8, h200-2026-11") for line in lines) == 2
    assert lines[-1].endswith("of 2 cells")
    assert len(json.loads(out.read_text())["cells"]) == 2 * 4


def test_the_same_in_every_process():
    """Hashes of names differ from process to process; decisions do not."""
    code = (
        "from bench.scheduling import OURS, Cell, Run;"
        "from simulator.virtual.node import Scaling;"
        "cell = Cell('bursts', 'mixed-8 + CPU', Scaling.H200, 0.9);"
        "print(Run(cell, OURS, 203, 2000)())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
