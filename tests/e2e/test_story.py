"""The loop closes: a hot node leaves and comes back, a killed node is gone at once.

Real Prometheus, Alertmanager, router and exporter on loopback; three simulated
nodes, and two real Ollama nodes where `ollama` is on PATH. Clients stream all the
time. Prints how long each step took.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
import requests

from tests.harness.counting_model import Shape
from tests.harness.crowd import Crowd
from tests.harness.inventory import entry
from tests.harness.ollama import ollama_binary, real_nodes
from tests.harness.poll import until
from tests.harness.recorder import Recorder
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import Stack, stack

pytestmark = pytest.mark.e2e

NODES = (
    Simulated("alpha", tokens_per_second=200.0),
    Simulated("beta", tokens_per_second=100.0),
    Simulated("gamma", tokens_per_second=60.0),
)
CONTINUED = 'inferops_failovers_total{outcome="continued",phase="mid_stream"}'
SIMULATED, REAL = "llama3.2:3b", "counting"


@pytest.fixture
def real(tmp_path):
    """Two real Ollama nodes with the counting model; none without `ollama`."""
    if ollama_binary() is None:
        yield {}
        return
    with real_nodes(
        tmp_path, ("real-one", "real-two"), models={REAL: Shape()}
    ) as nodes:
        yield nodes


@pytest.fixture
def simulated(tmp_path, real):
    with SimulatedFleet(tmp_path, NODES) as fleet:
        more = [entry(name, ollama.url) for name, ollama in real.items()]
        fleet.write([*fleet.entries, *more])
        yield fleet


class Clock:
    """Takes the time of each step and prints it."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    def took(self, step: str, since: float, check: Callable[[], object]) -> float:
        until(check, step, seconds=60)
        at = time.monotonic()
        self.steps.append((step, at - since))
        return at

    def print(self) -> None:
        print()
        for step, seconds in self.steps:
            print(f"  {seconds:7.2f} s  {step}")


def test_the_story(tmp_path, simulated, real, capsys):
    """0 failed requests and 0 broken streams, those on the killed node included."""
    clock = Clock()
    models = (SIMULATED, REAL) if real else (SIMULATED,)
    with (
        Recorder() as people,
        stack(tmp_path, simulated.inventory, people=people.url) as product,
        Crowd(product.url, models) as crowd,
    ):
        everybody_serves(product, crowd, {node.name for node in NODES} | set(real))
        a_hot_node_leaves(product, simulated, people, crowd, clock)
        it_comes_back(product, simulated, people, crowd, clock)
        victim = "real-one" if real else "beta"
        kill = real["real-one"].kill if real else lambda: cut_off(simulated, "beta")
        killed_at = a_killed_node_is_gone(product, crowd, clock, victim, kill)
        continued = seams(product)
    with capsys.disabled():
        clock.print()
        tell(crowd, continued, killed_at)
    assert [] == [a for a in crowd.answers if a.result != "ok"]


def everybody_serves(product: Stack, crowd: Crowd, names: set[str]) -> None:
    """Every node is schedulable, and the crowd is being served."""
    until(
        lambda: (
            all(n["schedulable"] for n in product.nodes().values())
            and names == set(product.nodes())
        ),
        "all nodes are schedulable",
        seconds=30,
    )
    until(
        lambda: product.query('count(node_gpu:temperature:celsius{node="alpha"})'),
        "telemetry of alpha is in Prometheus",
        seconds=30,
    )
    until(lambda: served_by(crowd, "alpha", 0.0), "alpha serves", seconds=30)


def served_by(crowd: Crowd, node: str, since: float) -> bool:
    return any(a.node == node and a.result == "ok" for a in crowd.since(since))


def a_hot_node_leaves(product, simulated, people, crowd, clock) -> None:
    began = time.monotonic()
    simulated.put("alpha", "hot")
    firing = 'ALERTS{alertname="GpuTooHot",alertstate="firing",node="alpha"}'
    fired = clock.took("hot → the alert fires", began, lambda: product.query(firing))
    left = clock.took(
        "the alert fires → alpha is out",
        fired,
        lambda: not product.nodes()["alpha"]["schedulable"],
    )
    clock.took(
        "hot → people are told",
        began,
        lambda: people.first("GpuTooHot", "firing", "alpha"),
    )
    clock.took(
        "out → its streams have finished",
        left,
        lambda: product.nodes()["alpha"]["in_flight"] == 0,
    )
    until(lambda: len(crowd.since(left)) >= 8, "the others serve meanwhile", seconds=30)
    assert not [a for a in crowd.since(left) if a.node == "alpha"]
    assert ("drain", "confirmed") in product.holds("alpha")


def it_comes_back(product, simulated, people, crowd, clock) -> None:
    began = time.monotonic()
    simulated.clear("alpha")
    back = clock.took(
        "cool → alpha is schedulable",
        began,
        lambda: product.nodes()["alpha"]["schedulable"],
    )
    clock.took("back → it serves", back, lambda: served_by(crowd, "alpha", back))
    clock.took(
        "cool → people are told",
        began,
        lambda: people.first("GpuTooHot", "resolved", "alpha"),
    )


def cut_off(simulated: SimulatedFleet, node: str) -> None:
    """What SIGKILL does to a node: streams are reset, nothing listens."""
    simulated.put(node, "refuse", reset=True)


def a_killed_node_is_gone(product, crowd, clock, victim, kill) -> float:
    until(
        lambda: product.nodes()[victim]["in_flight"] > 0, "the victim serves", every=0.0
    )
    kill()
    killed_at = time.monotonic()
    clock.took(
        "killed → it is out",
        killed_at,
        lambda: not product.nodes()[victim]["schedulable"],
    )
    until(lambda: len(crowd.since(killed_at)) >= 12, "the others serve on", seconds=30)
    return killed_at


def seams(product: Stack) -> float:
    """How many streams the router has continued on another node so far."""
    text = requests.get(f"{product.url}/metrics", timeout=10).text
    values = [
        x.rpartition(" ")[2] for x in text.splitlines() if x.startswith(CONTINUED)
    ]
    return sum(map(float, values))


def tell(crowd: Crowd, continued: float, killed_at: float) -> None:
    results = Counter(answer.result for answer in crowd.answers)
    after = len(crowd.since(killed_at))
    print(
        f"  requests: {dict(results)}; streams that went on elsewhere:"
        f" {continued:.0f}; asked after the kill: {after}"
    )
