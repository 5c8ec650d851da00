"""docs/access.md is true: each row is asked of real routers, from each place."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
import requests

from router.web.access import Grant
from router.web.access_page import rows
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=400.0),)
SHUT = {401, 403}
NAMED = "https://chat.example"
PLACES = {
    "here": {},
    "elsewhere": {"X-Forwarded-For": "192.168.1.66"},
    "local_page": {"Origin": "http://localhost:5173"},
    "other_page": {"Origin": "https://evil.example"},
    "named page": {"Origin": NAMED},
}
CASES = [(row, method) for row in rows() for method in row.methods]


@pytest.fixture(scope="module")
def routers(tmp_path_factory) -> Iterator[dict[bool, Router]]:
    """One router without an admin token, one with."""
    folder = tmp_path_factory.mktemp("access")
    token = folder / "admin-token"
    token.write_text("a-token-that-nobody-has")
    common = {"WEB__ORIGINS": NAMED}
    settings = {False: common, True: {**common, "ADMIN__TOKEN_FILE": str(token)}}
    with SimulatedFleet(folder, NODES) as fleet:
        made: dict[bool, Router] = {}
        try:
            for has, given in settings.items():
                home = folder / str(has)
                home.mkdir()
                made[has] = Router(
                    home, fleet.inventory, prometheus_port=free_port(), settings=given
                ).wait_ready()
            yield made
        finally:
            for router in made.values():
                router.stop()


def expected(grant: Grant, *, has_token: bool) -> bool:
    """Say whether somebody without a credential gets in."""
    if grant is Grant.UNLESS_TOKEN:
        return not has_token
    return grant is Grant.OPEN


def gets_in(router: Router, method: str, path: str, headers: dict[str, str]) -> bool:
    """Ask with no credential; a job, file or node of that name need not be there."""
    url = router.url + re.sub("<[^>]*>", "none", path)
    with requests.request(
        method,
        url,
        json={} if method != "GET" else None,
        headers=headers,
        timeout=30,
        stream=True,
    ) as answer:
        return answer.status_code not in SHUT


@pytest.mark.parametrize("has_token", [False, True], ids=["no token file", "token"])
@pytest.mark.parametrize(("row", "method"), CASES, ids=lambda each: str(each)[:60])
def test_row(routers, row, method, has_token):
    """What the table says is what a real router does."""
    router = routers[has_token]
    named = row.access.other_page is Grant.IF_NAMED
    grants = {
        "here": row.access.here,
        "elsewhere": row.access.elsewhere,
        "local_page": row.access.local_page,
        "other_page": row.access.other_page,
        "named page": Grant.OPEN if named else Grant.NO,
    }
    found = {
        place: gets_in(router, method, row.path, headers)
        for place, headers in PLACES.items()
    }
    assert found == {
        place: expected(grant, has_token=has_token) for place, grant in grants.items()
    }


def own_address() -> str:
    """Give an address of this machine that is not loopback; skips where it has none."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with udp as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    pytest.skip("no network but loopback here")


def test_from_the_network(tmp_path):
    """By its address in the network, as the LAN asks: to read, not to change."""
    address, port = own_address(), free_port()
    with (
        SimulatedFleet(tmp_path, NODES) as fleet,
        Router(
            tmp_path,
            fleet.inventory,
            prometheus_port=free_port(),
            port=port,
            settings={"BIND": f"0.0.0.0:{port}", "ACCESS__KEYS": "off"},
        ),
    ):
        base = f"http://{address}:{port}"
        cordon = f"{base}/admin/nodes/one/cordon"
        for host in (f"{address}:{port}", "localhost", "127.0.0.1"):
            answer = requests.post(cordon, json={}, headers={"Host": host}, timeout=10)
            assert answer.status_code == 403, host
        assert requests.get(f"{base}/admin/nodes", timeout=10).ok
        assert requests.get(f"{base}/api/tags", timeout=10).ok
