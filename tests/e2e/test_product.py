"""The whole product, well and unprovoked: its webhook, its targets, its rules."""

from __future__ import annotations

import json

import pytest
import requests

from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import stack

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """Two simulated nodes with everything over them."""
    folder = tmp_path_factory.mktemp("product")
    with (
        SimulatedFleet(folder, [Simulated("one"), Simulated("two")]) as simulated,
        stack(folder, simulated.inventory) as made,
    ):
        until(
            lambda: made.query("count(node_gpu:temperature:celsius) == 2"),
            "all telemetry is in",
            seconds=30,
        )
        yield made


def notification(**changes: object) -> dict[str, object]:
    """One firing drain of node `one`, as Alertmanager sends it."""
    alert = {
        "status": "firing",
        "labels": {
            "alertname": "GpuTooHot",
            "node": "one",
            "uuid": "GPU-forged",
            "severity": "critical",
            "action": "drain",
            "clear": "auto",
        },
        "annotations": {"summary": "too hot"},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "00000000000000aa",
    }
    alert["labels"] |= changes.pop("labels", {})
    alert |= changes
    return {
        "version": "4",
        "groupKey": "{}",
        "truncatedAlerts": 0,
        "status": alert["status"],
        "receiver": "router",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": [alert],
    }


def ring(product, body: object, token: str | None = None) -> requests.Response:
    secret = product.paths.webhook_token.read_text().strip()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(
        f"{product.url}/webhook/alertmanager",
        data=data,
        headers={
            "Authorization": f"Bearer {secret if token is None else token}",
            "Content-Type": "application/json",
        },
        timeout=10,
    )


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        (notification(), "wrong", 401),
        (notification(), "", 401),
        (b"{", None, 400),
        (b"[]", None, 400),
        (b" " * 10_000_000, None, 413),
        (notification(labels={"node": "nobody"}), None, 200),
        (notification(labels={"action": "explode"}), None, 200),
    ],
    ids=[
        "wrong token",
        "no token",
        "bad JSON",
        "no object",
        "10 MB",
        "unknown node",
        "unknown action",
    ],
)
def test_webhook_refuses_or_ignores(product, body, token, status):
    """The right answer for each bad notification, and never a hold."""
    assert ring(product, body, token).status_code == status
    assert product.nodes()["one"]["schedulable"]


def test_forged_notification_drains_only_until_the_level_speaks(product):
    """A ring with the right token and no truth behind it is refuted, for good."""
    (card,) = product.query('node_gpu:temperature:celsius{node="one"}')
    uuid = {"uuid": card["metric"]["uuid"]}
    assert ring(product, notification(labels=uuid)).status_code == 200
    assert product.holds("one") == [("drain", "doorbell")]
    until(lambda: product.holds("one") == [], "the level refutes it", seconds=30)
    for turn in range(1_000):
        status = "resolved" if turn % 3 == 0 else "firing"
        told = notification(labels=uuid, status=status)
        assert ring(product, told).status_code == 200
    assert product.holds("one") == []


def test_every_target_is_up(product):
    """Everything that is scraped answers, each node under its own name."""
    until(
        lambda: (
            not product.query('up{job!="node"} == 0')
            and {s["metric"]["job"] for s in product.query("up")}
            >= {"router", "prometheus", "alertmanager", "probe", "dcgm"}
        ),
        "all targets are up",
        seconds=30,
    )

    def probed() -> set[str]:
        found = product.query("node:ollama:up == 1")
        return {sample["metric"]["node"] for sample in found}

    until(lambda: probed() == {"one", "two"}, "both nodes were probed", seconds=30)


def test_rules_are_healthy(product):
    """Each rule evaluates without an error."""
    answer = requests.get(
        f"http://127.0.0.1:{product.ports.prometheus}/api/v1/rules", timeout=5
    ).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    unwell = [r["name"] for r in rules if r["health"] not in {"ok", "unknown"}]
    assert unwell == []
