"""Nodes that are named: a name server that hangs holds up nobody else."""

from __future__ import annotations

import time

import pytest

from tests.harness.inventory import write_inventory
from tests.harness.name_server import NameServer, NoNamesError
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.scripted_node import ScriptedNode, answers

pytestmark = pytest.mark.e2e

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": False}
PASSES = "inferops_control_pass_duration_seconds_count"


@pytest.fixture
def names(tmp_path):
    try:
        with NameServer(tmp_path) as server:
            yield server
    except NoNamesError as error:
        pytest.skip(str(error))


def served(router: Router, node: ScriptedNode, seconds: float = 1.0) -> bool:
    """Ask four times, which takes no longer; say whether the node was asked."""
    before = len(node.requests)
    for _ in range(4):
        sent = time.monotonic()
        assert router.post("/api/chat", CHAT).status_code == 200
        assert time.monotonic() - sent < seconds
    return len(node.requests) > before


@pytest.fixture
def start(names, tmp_path):
    """Start a router over two nodes at names of one's own, where both are."""
    names.addresses = {"near.test": "127.0.0.1", "far.test": "127.0.0.1"}
    routers = []

    def started(near: ScriptedNode, far: ScriptedNode) -> Router:
        urls = {
            "near": f"http://near.test:{near.port}",
            "far": f"http://far.test:{far.port}",
        }
        inventory = write_inventory(tmp_path / "nodes.yml", urls)
        router = Router(
            tmp_path, inventory, prometheus_port=free_port(), inside=names.inside
        )
        routers.append(router)
        return router.wait_ready()

    yield started
    for router in routers:
        router.stop()


def held(router: Router) -> str:
    return "; ".join(hold["reason"] for hold in router.nodes()["far"]["holds"])


def test_a_name_server_that_hangs(names, start):
    """The router starts and serves; it says which node has no address, until it has."""
    names.hanging = {"far.test"}
    with ScriptedNode(answers()) as near, ScriptedNode(answers()) as far:
        router = start(near, far)
        before = router.metric(PASSES) or 0
        assert served(router, near)
        why = until(lambda: held(router), "far is down")
        assert "name look-up: no answer within 2 s" in why
        until(lambda: (router.metric(PASSES) or 0) > before, "passes go on")
        assert router.get("/readyz").json() == {"status": "ready"}
        names.hanging.clear()
        until(lambda: not held(router), "far is back")
        with router.cordoned("near"):
            assert served(router, far)


@pytest.mark.long
def test_a_node_that_moves(names, start):
    """It is found at its new address, and stays known while the name server hangs."""
    with (
        ScriptedNode(answers()) as near,
        ScriptedNode(answers()) as far,
        ScriptedNode(answers(), host="127.0.0.2", port=far.port) as moved,
    ):
        router = start(near, far)
        with router.cordoned("near"):
            assert served(router, far)
            names.addresses["far.test"] = "127.0.0.2"
            until(lambda: served(router, moved), "it is found where it moved")
            far.stop()
            names.hanging = {"far.test", "near.test"}
            asked = len(names.asked)
            until(lambda: len(names.asked) > asked + 1, "each is looked up in vain")
            assert served(router, moved)
        assert not held(router)
