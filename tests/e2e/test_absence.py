"""An absent alert is not recovery, whatever made it vanish.

Each case: a node is hot and drained; the alert is made to vanish while it is still
hot; the router is killed with -9 meanwhile; nothing brings the node back but proof.
"""

from __future__ import annotations

import os
import signal

import pytest
import requests

from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import Stack, stack

pytestmark = pytest.mark.e2e

NODES = [Simulated(name) for name in ("sick", "well", "kept")]
MODEL = "llama3.2:3b"
FIRING = 'ALERTS{alertname="GpuTooHot",alertstate="firing",node="sick"}'


@pytest.fixture
def simulated(tmp_path):
    with SimulatedFleet(tmp_path, NODES) as fleet:
        yield fleet


@pytest.fixture
def product(tmp_path, simulated):
    """Everything up, `sick` drained by its alert and `kept` cordoned by a person."""
    with stack(tmp_path, simulated.inventory) as made:
        telemetry = "count(node_gpu:temperature:celsius) == 3"
        until(lambda: made.query(telemetry), "all telemetry is in", seconds=30)
        cordon(made, "kept")
        simulated.put("sick", "hot")
        until(
            lambda: keeping_out(made, "sick") == [("drain", "confirmed")],
            "sick is drained",
            seconds=30,
        )
        yield made


def keeping_out(product: Stack, node: str) -> list[tuple[str, str]]:
    """Return (kind, state) of a node's holds but those that only derate it."""
    return [hold for hold in product.holds(node) if hold[0] != "derate"]


def cordon(product: Stack, node: str) -> None:
    body = {"by": "test", "reason": "planned work"}
    answer = product.admin("POST", f"nodes/{node}/cordon", body)
    assert answer.ok, answer.text


def serve(product: Stack, count: int = 6) -> set[str]:
    """Ask a few times, all must be answered; return who did."""
    body = {"model": MODEL, "prompt": "1 2", "options": {"num_predict": 3}}
    answers = [
        requests.post(f"{product.url}/api/generate", json=body, timeout=30)
        for _ in range(count)
    ]
    assert [200] * count == [answer.status_code for answer in answers]
    return {answer.headers["X-InferOps-Node"] for answer in answers}


class ExporterStopped:
    """The sick node's telemetry is gone."""

    def vanish(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.put("sick", "metrics_down")

    def undo(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.clear("sick")


class InventoryEmptied:
    """An editor's accident: Prometheus takes the empty file, the router does not."""

    def vanish(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.write([])

    def undo(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.write(simulated.entries)
        simulated.clear("sick")


class RuleBroken:
    """The rule's expression fails at each evaluation."""

    def vanish(self, product: Stack, simulated: SimulatedFleet) -> None:
        self._change(product, _LIMIT, _BROKEN)

    def undo(self, product: Stack, simulated: SimulatedFleet) -> None:
        self._change(product, _BROKEN, _LIMIT)
        simulated.clear("sick")

    def _change(self, product: Stack, old: str, new: str) -> None:
        path = product.rules / "health.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        product.reload_prometheus()


_LIMIT = ">= on (node, uuid) # each card against its own limit"
# Several cards on each side and nothing to match them by: an error each time.
_BROKEN = ">= on () # each card against its own limit"


class PrometheusRestarted:
    """It comes back without its telemetry, and without the alert at first."""

    def vanish(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.put("sick", "metrics_down")
        product.kill("prometheus")
        product.restart("prometheus")

    def undo(self, product: Stack, simulated: SimulatedFleet) -> None:
        simulated.clear("sick")


@pytest.mark.parametrize(
    "cause",
    [
        pytest.param(ExporterStopped(), marks=pytest.mark.long),
        pytest.param(InventoryEmptied(), marks=pytest.mark.long),
        pytest.param(RuleBroken(), marks=pytest.mark.long),
        PrometheusRestarted(),
    ],
    ids=[
        "exporter stopped",
        "inventory emptied",
        "rule broken",
        "prometheus restarted",
    ],
)
def test_absent_alert_is_not_recovery(product, simulated, cause):
    """Out and `unknown` until proven well; a -9 of the router changes nothing."""
    cause.vanish(product, simulated)
    until(lambda: not product.query(FIRING), "the alert has vanished", seconds=60)
    until(
        lambda: keeping_out(product, "sick") == [("drain", "unknown")],
        "sick is shown as unknown",
        seconds=30,
    )
    assert serve(product) == {"well"}

    product.kill("router")
    product.restart("router")
    assert keeping_out(product, "sick")[0][0] == "drain"
    assert product.holds("kept") == [("cordon", "confirmed")]
    assert serve(product) == {"well"}
    passes_go_by(product)
    assert keeping_out(product, "sick") == [("drain", "unknown")]

    cause.undo(product, simulated)
    until(lambda: keeping_out(product, "sick") == [], "sick is proven well", seconds=60)
    assert product.holds("kept") == [("cordon", "confirmed")]


def passes_go_by(product: Stack) -> None:
    """Wait until control has looked at the level a few times more."""
    passes = "inferops_control_pass_duration_seconds_count"

    def count() -> float:
        text = requests.get(f"{product.url}/metrics", timeout=5).text
        (line,) = [x for x in text.splitlines() if x.startswith(passes)]
        return float(line.split()[-1])

    before = count()
    until(lambda: count() >= before + 5, "five passes have gone by", seconds=30)


def test_still_hot_after_a_restart_of_prometheus(product):
    """The level comes back by itself; the node is not served in between."""
    product.kill("prometheus")
    assert serve(product) == {"well"}
    product.restart("prometheus")
    until(
        lambda: (
            product.query(FIRING)
            and keeping_out(product, "sick") == [("drain", "confirmed")]
        ),
        "the alert holds the node again",
        seconds=60,
    )


def test_inference_outlives_prometheus(product):
    """Requests go on, the degrade step says so, and returns to fresh."""

    def step() -> float:
        text = requests.get(f"{product.url}/metrics", timeout=5).text
        (line,) = [
            x for x in text.splitlines() if x.startswith("inferops_degrade_step ")
        ]
        return float(line.split()[-1])

    assert step() == 0
    product.kill("prometheus")
    until(lambda: step() >= 1, "degraded says so", seconds=30)
    assert serve(product) == {"well"}
    product.restart("prometheus")
    until(lambda: step() == 0, "readings are fresh again", seconds=30)


def test_router_starts_without_prometheus(product):
    """Nothing of the router needs Prometheus to start, and holds are back."""
    product.kill("prometheus")
    os.killpg(product.processes["router"].pid, signal.SIGKILL)
    product.processes["router"].wait()
    product.restart("router")
    assert serve(product) == {"well"}
