"""A router that others reach starts with API keys, or where a lab says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=400.0),)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


def router(tmp_path, fleet, **settings: str) -> Router:
    port = free_port()
    everywhere = {"BIND": f"0.0.0.0:{port}", **settings}
    return Router(
        tmp_path,
        fleet.inventory,
        prometheus_port=free_port(),
        port=port,
        settings=everywhere,
    )


def test_without_keys_it_does_not_start(tmp_path, fleet):
    """It ends at once, and says what to do."""
    started = router(tmp_path, fleet)
    try:
        until(lambda: not started.process.running, "it has ended", seconds=30)
    finally:
        started.stop()
    log = "\n".join(started.log())
    assert "is reached by other machines, and there are no API keys" in log
    assert "INFEROPS_ACCESS__KEYS=required" in log


def test_what_docker_publishes_counts(tmp_path, fleet):
    """On all of a container's addresses, published on this machine's own only."""
    with router(tmp_path, fleet, PUBLISHED_ADDRESS="127.0.0.1") as started:
        assert started.get("/api/tags").ok
        assert 0.0 == started.metric("inferops_open_to_network")


def test_keys_are_made_with_the_admin_token(tmp_path, fleet):
    """Locked from its start; Prometheus' token reads metrics and nothing else."""
    for name in ("admin", "metrics"):
        (tmp_path / f"{name}-token").write_text(f"the-{name}-token")
    settings = {
        "ACCESS__KEYS": "required",
        "ADMIN__TOKEN_FILE": str(tmp_path / "admin-token"),
        "ACCESS__METRICS_TOKEN_FILE": str(tmp_path / "metrics-token"),
    }
    with router(tmp_path, fleet, **settings) as started:
        assert 401 == started.get("/api/tags").status_code
        assert 401 == started.get("/metrics").status_code
        prometheus = {"Authorization": "Bearer the-metrics-token"}
        assert (
            "inferops_api_keys_required 1.0"
            in started.get("/metrics", headers=prometheus).text
        )
        assert 403 == started.get("/api/tags", headers=prometheus).status_code
        operator = {"Authorization": "Bearer the-admin-token"}
        made = started.post("/admin/keys", {"name": "first"}, headers=operator).json()
        key = {"Authorization": f"Bearer {made['key']}"}
        assert started.get("/api/tags", headers=key).ok
        shown = started.get("/metrics", headers=prometheus).text
        assert 'inferops_api_keys{source="store",state="active"} 1.0' in shown
        assert "warnings" not in started.get("/readyz").json()
        started.stop()
    # There are keys now: it starts without that setting, and asks for one.
    with router(tmp_path, fleet) as again:
        assert 401 == again.get("/api/tags").status_code
        assert again.get("/api/tags", headers=key).ok


def test_a_lab_says_so(tmp_path, fleet):
    """Open on purpose: `/readyz` and a metric keep saying it."""
    with router(tmp_path, fleet, ACCESS__KEYS="off") as started:
        assert started.get("/api/tags").ok
        anything = {"Authorization": "Bearer unused"}
        assert started.get("/api/tags", headers=anything).ok
        (warning,) = started.get("/readyz").json()["warnings"]
        assert "whoever reaches 0.0.0.0:" in warning
        assert 1.0 == started.metric("inferops_open_to_network")


def test_a_person_at_this_machine_makes_the_first_key(tmp_path, fleet):
    """Where there is no admin token, as it is without keys; not through a proxy."""
    with router(tmp_path, fleet, ACCESS__KEYS="required") as started:
        proxied = {"X-Forwarded-For": "10.0.0.9"}
        refused = started.post("/admin/keys", {"name": "first"}, headers=proxied)
        assert 401 == refused.status_code
        assert 201 == started.post("/admin/keys", {"name": "first"}).status_code
        assert started.get("/admin/keys").ok
        assert 401 == requests.get(f"{started.url}/v1/jobs", timeout=10).status_code
