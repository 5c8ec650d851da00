"""The whole product, well and unprovoked: its webhook, its targets, its rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import stack

pytestmark = pytest.mark.e2e


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


def notification(**changes: Any) -> dict[str, Any]:
    """One firing drain of node `one`, as Alertmanager sends it."""
    alert: dict[str, Any] = {
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


def test_forged_notification_drains_nothing(product):
    """A ring with the right token and no truth behind it: Prometheus is asked first."""
    (card,) = product.query('node_gpu:temperature:celsius{node="one"}')
    uuid = {"uuid": card["metric"]["uuid"]}
    told = ring(product, notification(labels=uuid))
    assert told.json() == {"outcomes": {"not_shown": 1}}
    for turn in range(200):
        status = "resolved" if turn % 3 == 0 else "firing"
        forged = notification(labels=uuid, status=status)
        assert ring(product, forged).status_code == 200
    assert product.holds("one") == []


PAGE = {"Origin": "https://evil.example"}


def test_page_cannot_post_an_alert(product):
    """Alertmanager lets no page in: not to ask first, and not to post."""
    url = f"http://127.0.0.1:{product.ports.alertmanager}/api/v2/alerts"
    asked = requests.options(
        url,
        headers={
            **PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
        timeout=5,
    )
    assert "Access-Control-Allow-Origin" not in asked.headers
    assert [401, 401, 401] == [
        asked.status_code,
        requests.post(url, json=[], headers=PAGE, timeout=5).status_code,
        requests.get(url, headers=PAGE, timeout=5).status_code,
    ]


def test_page_cannot_read_prometheus(product):
    """No origin may; what has none still reads."""
    url = f"http://127.0.0.1:{product.ports.prometheus}/api/v1/alerts"
    for origin in (PAGE["Origin"], "http://localhost:3000", "null"):
        answer = requests.get(url, headers={"Origin": origin}, timeout=5)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert requests.get(url, timeout=5).ok


def test_forged_alert_in_alertmanager_holds_nothing(product):
    """Who may post to Alertmanager, and knows all labels, still holds no node."""
    before = counted(product, "not_shown")
    (card,) = product.query('node_gpu:temperature:celsius{node="one"}')
    labels = notification(labels={"uuid": card["metric"]["uuid"]})["alerts"][0]
    url = f"http://127.0.0.1:{product.ports.alertmanager}/api/v2/alerts"
    posted = requests.post(
        url,
        json=[{"labels": labels["labels"], "annotations": {"summary": "forged"}}],
        auth=product.login,
        timeout=5,
    )
    assert posted.ok, posted.text
    until(lambda: counted(product, "not_shown") > before, "the router was notified")
    assert product.holds("one") == []
    placed = requests.get(f"{product.url}/admin/holds/history?node=one", timeout=5)
    assert [e for e in placed.json() if e["reason"] == "forged"] == []


def counted(product, outcome):
    name = f'inferops_webhook_notifications_total{{outcome="{outcome}"}}'
    for line in requests.get(f"{product.url}/metrics", timeout=5).text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return 0.0


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
