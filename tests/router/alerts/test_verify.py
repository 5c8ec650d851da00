"""A check of a node: what passes it, how often it is tried, what voids it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from router.alerts.verify import CheckLimits, Verifier, generates
from router.holds.record import Change
from router.model import Clear, Inventory, Node
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.router.control.fakes import Clock, drain, store

SETTINGS = CheckLimits(answer_seconds=1, generate_seconds=2, retry_seconds=10)


class Bench:
    """A verifier over one held node; `why` is what its check says."""

    def __init__(self):
        self.clock = Clock()
        self.holds = store(self.clock, drain(clear=Clear.VERIFIED))
        self.why, self.ran, self.woken = None, 0, 0
        self.counted: Counter[bool] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.verifier = Verifier(
            lambda: Inventory((Node("rig", "http://rig:1"),)),
            lambda: SETTINGS,
            self.holds,
            self.wake,
            self,
            check=self.check,
            monotonic=self.clock,
        )

    def check(self, node, answer_seconds, generate_seconds):
        assert (node.name, answer_seconds, generate_seconds) == ("rig", 1, 2)
        self.ran += 1
        self.gate.wait(10)
        return self.why

    def wake(self):
        self.woken += 1

    def verified(self, *, passed):
        self.counted[passed] += 1

    def want(self, *standings):
        self.verifier.want(standings)
        if self.gate.is_set():
            until(lambda: not self.busy(), "the check has run")

    def busy(self):
        return any(each.under_way for each in self.verifier._tasks.values())

    @property
    def standing(self):
        (standing,) = self.holds.standings()
        return standing

    @property
    def key(self):
        return (self.standing.hold.key, self.standing.revision)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.gate.set()
    bench.verifier.stop()


def test_a_check_that_passes_is_told_and_counted(bench):
    """The loop is woken; metric and history say so; it is not asked again."""
    bench.want(bench.standing)
    assert bench.verifier.passed() == {bench.key}
    assert (bench.woken, bench.counted) == (1, {True: 1})
    (line,) = bench.holds.history()
    assert (line.change, line.by) == (Change.VERIFIED, "verification")
    bench.want(bench.standing)
    assert bench.ran == 1
    assert bench.holds.blocking("rig")  # it lifts nothing itself


def test_a_check_that_fails_is_tried_again_later(bench):
    """The wait doubles; what was wrong is shown, counted and kept."""
    bench.why = "m:latest: 500: CUDA error"
    ran = []
    for _ in range(80):
        bench.want(bench.standing)
        ran.append(bench.ran)
        bench.clock.now += 1
    assert [ran[0], ran[9], ran[10], ran[29], ran[30], ran[69], ran[70]] == [
        *(1, 1, 2, 2, 3, 3, 4)
    ]
    assert bench.verifier.passed() == frozenset()
    assert bench.verifier.waiting() == {("rig", "GpuTooHot"): bench.why}
    assert bench.counted == {False: 4}
    assert bench.holds.history()[-1].change is Change.UNVERIFIED


def test_a_check_is_void_when_the_level_takes_it_back(bench):
    """The alert fired again while the node generated."""
    bench.gate.clear()
    bench.want(bench.standing)
    bench.want()
    bench.want(bench.standing)
    bench.gate.set()
    until(lambda: not bench.busy(), "the check has run")
    assert bench.verifier.passed() == frozenset()
    bench.want(bench.standing)
    assert bench.ran == 2
    assert bench.verifier.passed() == {bench.key}


def test_what_was_passed_is_void_later_too(bench):
    """One good generation does not outlast the next firing."""
    bench.want(bench.standing)
    bench.want()
    assert bench.verifier.passed() == frozenset()


def test_one_check_at_a_time(bench):
    """A node is not asked again while it is being asked."""
    bench.gate.clear()
    for _ in range(5):
        bench.want(bench.standing)
    until(lambda: bench.ran == 1, "it has begun")
    assert bench.busy()


# The check itself, on simulated nodes.


@pytest.fixture
def fleet(tmp_path):
    with SimulatedFleet(tmp_path, [Simulated("rig")]) as made:
        yield made


def test_a_node_that_is_well_generates(fleet):
    """A real generation, loading included."""
    assert generates(Node("rig", fleet.url("rig")), 2, 20) is None


@pytest.mark.parametrize(
    ("fault", "details", "why"),
    [
        ("refuse", {}, "the connection was refused"),
        ("hang", {}, "no answer within 0.5 s"),
        ("error", {"status": 500, "text": "CUDA error"}, "500: CUDA error"),
        ("slow", {"factor": 1000.0}, "no answer within"),
        ("out_of_memory", {}, "500"),
    ],
)
def test_a_node_that_is_not_well_does_not_pass(fleet, fault, details, why):
    """It is told what was wrong, within the bound."""
    fleet.put("rig", fault, **details)
    reported = generates(Node("rig", fleet.url("rig")), 0.5, 1)
    assert reported is not None
    assert why in reported


class Embedding(BaseHTTPRequestHandler):
    """An Ollama whose models cannot generate, or that has none."""

    models: tuple[str, ...] = ()

    def do_GET(self):
        entries = [{"name": n, "digest": "d", "size": 1} for n in self.models]
        body = {
            "/api/version": {"version": "0.17.4"},
            "/api/tags": {"models": entries},
            "/api/ps": {"models": []},
        }[self.path]
        self.answer(200, body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(400, {"error": '"e" does not support generate'})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("models", "why"),
    [((), "no model is on it"), (("e", "f"), "no model on it can generate")],
)
def test_a_node_without_a_model_cannot_be_verified(monkeypatch, models, why):
    """It stays with a person, who is told why."""
    monkeypatch.setattr(Embedding, "models", models)
    port = free_port()
    served = ThreadingHTTPServer(("127.0.0.1", port), Embedding)
    thread = threading.Thread(target=served.serve_forever, args=(0.05,))
    thread.start()
    try:
        assert generates(Node("rig", f"http://127.0.0.1:{port}"), 2, 2) == why
    finally:
        served.shutdown()
        served.server_close()
        thread.join()
