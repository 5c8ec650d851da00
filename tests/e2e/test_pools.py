"""Slow files, a disk and names do not hold up control, readiness or each other."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
import requests

from tests.harness.cases import long_but
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=400.0),)
PASSES = "inferops_control_pass_duration_seconds_count"
AGE = "inferops_snapshot_age_seconds"
CHAT = {
    "model": "llama3.2:3b",
    "messages": [{"role": "user", "content": "count on from 7"}],
    "options": {"num_predict": 2},
    "stream": False,
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


@pytest.fixture
def start(tmp_path, fleet):
    """Start a router over an inventory of one's own; it is gone after the test."""
    routers = []

    def started(inventory=fleet.inventory, **settings) -> Router:
        router = Router(
            tmp_path, inventory, prometheus_port=free_port(), settings=settings
        )
        routers.append(router)
        return router.wait_ready()

    yield started
    for router in routers:
        router.stop()


def passes(router: Router) -> float:
    return router.metric(PASSES) or 0


def goes_on(router: Router, seconds: float = 4.0) -> None:
    """Control makes passes, and requests are answered, all the while."""
    before, end = passes(router), time.monotonic() + seconds
    while time.monotonic() < end:
        assert router.get("/readyz").status_code == 200
        age = router.metric(AGE)
        assert age is not None
        assert age < 3
        assert router.post("/api/chat", CHAT).status_code == 200
    assert passes(router) > before + 2


def test_slow_previews(start):
    """Files of blank lines: two are read at a time, the others hear that they wait."""
    router = start()
    blank = b"text\n" + b"\n" * 300_000
    form, upload = {"purpose": "dataset"}, {"file": ("blank.csv", blank)}
    file = requests.post(
        f"{router.url}/v1/files", data=form, files=upload, timeout=60
    ).json()["id"]
    answers = []

    def preview() -> None:
        asked = {"file_id": file, "template": "{{ text }}"}
        answers.append(router.post("/v1/jobs/preview", asked, timeout=120).status_code)

    threads = [threading.Thread(target=preview) for _ in range(4)]
    for each in threads:
        each.start()
    goes_on(router)
    cordon = router.post("/admin/nodes/one/cordon", {})
    assert cordon.status_code == 200
    assert router.post("/admin/nodes/one/uncordon", {}).status_code == 200
    for each in threads:
        each.join(120)
    assert len(answers) == 4
    assert set(answers) <= {200, 400, 503}


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def large(path):
    os.truncate(path, 100_000_000)


@pytest.mark.parametrize("make", long_but([fifo, device, large], {fifo}))
def test_inventory_that_is_no_file(start, fleet, tmp_path, make):
    """It is refused, the last good one stays, and nothing waits for it."""
    inventory = tmp_path / "nodes.yml"
    inventory.write_text(fleet.inventory.read_text())
    router = start(inventory)
    good = inventory.read_text()
    make(inventory)
    loaded = 'inferops_config_last_reload_successful{file="nodes.yml"}'
    until(lambda: router.metric(loaded) == 0, "it is refused")
    goes_on(router, 2)
    told = router.post("/admin/reload", {}).json()["files"][-1]
    assert "nodes.yml: cannot be read: it" in told["fault"]
    inventory.unlink()
    inventory.write_text(good)
    until(lambda: router.metric(loaded) == 1, "it is read again")


def test_start_with_a_fifo(tmp_path):
    """A start ends with what is wrong instead of waiting for ever."""
    inventory = tmp_path / "nodes.yml"
    os.mkfifo(inventory)
    router = Router(tmp_path, inventory, prometheus_port=free_port())
    assert router.process.wait(60) == 2
    assert "nodes.yml: cannot be read: it is not a regular file" in (
        router.process.tail()
    )


def dead(count: int, address: str) -> list[dict[str, object]]:
    """Nodes at `127.1` that refuse, or at `198.18` that never answer."""
    return [
        {
            "targets": ["127.0.0.1"],
            "labels": {
                "node": f"dead-{n}",
                "__ollama": f"http://{address}.{n // 250}.{n % 250 + 1}:9",
                "__scrape": "probe",
            },
        }
        for n in range(count)
    ]


def test_large_inventory_is_read_beside_streams(start, fleet, tmp_path):
    """A thousand nodes more, all dead: they are taken up, and requests go on."""
    inventory = tmp_path / "nodes.yml"
    entries = json.loads(fleet.inventory.read_text())
    inventory.write_text(json.dumps(entries))
    router = start(inventory)
    draft = tmp_path / "draft"
    draft.write_text(json.dumps([*entries, *dead(1000, "127.1")], indent=1))
    draft.replace(inventory)
    until(lambda: len(router.nodes()) > 1000, "they are known", seconds=60)
    goes_on(router, 2)

    def held() -> bool:
        nodes = router.nodes().values()
        return sum(not node["schedulable"] for node in nodes) == 1000

    until(held, "all that are dead are out", seconds=60)
    goes_on(router, 2)


@pytest.mark.long
def test_fleet_that_is_nearly_all_dead(start, fleet, tmp_path):
    """It is ready in its time: who cannot be asked keeps nobody out."""
    inventory = tmp_path / "nodes.yml"
    entries = json.loads(fleet.inventory.read_text())
    inventory.write_text(json.dumps([*dead(10_000, "198.18"), *entries]))
    router = start(inventory)
    until(
        lambda: router.post("/api/chat", CHAT).status_code == 200,
        "the live node answers",
        seconds=90,
    )
