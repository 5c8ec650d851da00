"""What the door bounds over all clients, and whom it sends away.

One router with small limits for all tests of this file.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import WEBHOOK_TOKEN, Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.wire import Answer, connect, post, read_answer

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
MODEL = "llama3.2:3b"
KEEPALIVE_SECONDS = 15  # router/gunicorn.conf.py
HELD = "inferops_request_bodies_bytes"
REFUSED = 'inferops_rejections_total{reason="bodies_full"}'
FOREIGN = 'inferops_rejections_total{reason="foreign_host"}'
SETTINGS = {
    "DISPATCH__MAX_BODY_BYTES": str(2 * MIB),
    "DISPATCH__MAX_BODIES_BYTES": str(3 * MIB),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    nodes = (Simulated("one", slots=4, tokens_per_second=100.0),)
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), nodes) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def router(tmp_path_factory, fleet) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("door")
    with Router(
        folder, fleet.inventory, prometheus_port=free_port(), settings=SETTINGS
    ) as router:
        yield router


@pytest.fixture
def dial(router) -> Iterator[Callable[[], socket.socket]]:
    """Open connections to the router; all are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(connect(router.port))
    until(lambda: not router.metric(HELD), "no body is held")


def asking(size: int, tokens: int = 1000) -> dict[str, object]:
    """A request whose body has a size of `size`; a node does not look at it all."""
    return {
        "model": MODEL,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": "count on from 7"}],
        "options": {"num_predict": tokens},
        "stream": True,
        "padding": "x" * size,
    }


def begin(dial: Callable[[], socket.socket], size: int) -> socket.socket:
    client = dial()
    client.sendall(post("/api/chat", asking(size)))
    assert client.recv(1, socket.MSG_PEEK), "its first token is there"
    return client


ERRORS = {
    "/api/chat": lambda body: body["error"],
    "/v1/chat/completions": lambda body: body["error"]["message"],
    "/v1/messages": lambda body: body["error"]["message"],
}


@pytest.mark.parametrize("path", ERRORS)
def test_one_body_too_many(router, dial, path):
    """It is told so in the route's dialect; those that are served are not touched."""
    before = router.metric(REFUSED) or 0.0
    clients = [begin(dial, MIB), begin(dial, MIB)]
    assert 1.9 * MIB < (router.metric(HELD) or 0.0) < 2.1 * MIB
    answer = router.post(path, asking(MIB + MIB // 2))
    told = ERRORS[path](answer.json())
    assert (429, "5") == (answer.status_code, answer.headers["Retry-After"])
    assert f"do not fit into {3 * MIB} (dispatch.max_bodies_bytes)" in told
    assert before + 1 == router.metric(REFUSED)
    assert router.post("/api/chat", asking(1000, tokens=2)).status_code == 200
    clients.pop().close()
    until(lambda: (router.metric(HELD) or 0.0) < 1.1 * MIB, "its body is let go")
    assert router.post(path, asking(MIB, tokens=2)).status_code == (
        404 if path == "/v1/messages" else 200
    )


def test_body_of_unknown_length(router, dial):
    """Chunks are counted as they come: the one too many is refused in the middle."""
    begin(dial, MIB), begin(dial, MIB)
    data = json.dumps(asking(MIB + MIB // 2)).encode()
    pieces = (data[at : at + 8192] for at in range(0, len(data), 8192))
    answer = requests.post(f"{router.url}/api/chat", data=pieces, timeout=30)
    assert (429, "close") == (answer.status_code, answer.headers["Connection"])


def test_announced_bytes_take_no_room(router, dial):
    """Who announces much and sends nothing keeps nobody out."""
    for _ in range(5):
        client = dial()
        client.sendall(post("/api/chat", asking(MIB))[:200])
    assert router.post("/api/chat", asking(2 * MIB - 500, 2)).status_code == 200


def test_client_that_leaves_in_its_body(router, dial):
    """What had come of it is let go."""
    client = dial()
    client.sendall(post("/api/chat", asking(MIB))[: MIB // 2])
    until(lambda: (router.metric(HELD) or 0.0) > MIB / 4, "half of it is held")
    client.close()
    until(lambda: not router.metric(HELD), "it is let go")


def test_other_routes_have_the_same_bound(router, dial):
    """A webhook's body is counted too, and refused in that route's own words."""
    begin(dial, MIB), begin(dial, MIB), begin(dial, MIB - 20_000)
    token = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}
    answer = router.post("/webhook/alertmanager", data=b"x" * 900_000, headers=token)
    assert (429, "5") == (answer.status_code, answer.headers["Retry-After"])
    assert answer.json()["error"]["code"] == "bodies_full"


def test_file_on_its_way_to_the_disk_is_not_held(router, dial):
    """An upload may be larger than all bodies together: it is not in memory."""
    begin(dial, MIB)
    form, upload = {"purpose": "batch"}, {"file": ("items.jsonl", b"x" * 8 * MIB)}
    answer = requests.post(
        f"{router.url}/v1/files", data=form, files=upload, timeout=60
    )
    assert (200, 8 * MIB) == (answer.status_code, answer.json()["bytes"])


def test_connection_goes_on_after_a_large_body(router, dial):
    """The next request of a connection begins to count at nothing."""
    client = dial()
    for _ in range(3):
        client.sendall(post("/api/chat", asking(MIB + MIB // 2, tokens=2)))
        answer: Answer = read_answer(client)
        assert answer.status == 200


@pytest.mark.long
def test_idle_connections_end(dial):
    """Whoever asks for nothing is sent away after a while; who waits is not."""
    began, busy, idle = time.monotonic(), dial(), [dial(), dial()]
    busy.sendall(post("/api/chat", asking(0, tokens=2000)))  # for 20 s
    idle[1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert read_answer(idle[1]).status == 200
    for each in idle:
        each.settimeout(2 * KEEPALIVE_SECONDS)
        assert not each.recv(1)
        assert KEEPALIVE_SECONDS <= time.monotonic() - began < KEEPALIVE_SECONDS + 5
    assert read_answer(busy).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/nodes"),
        ("POST", "/admin/reload"),
        ("GET", "/jobs"),
        ("POST", "/api/chat"),
        ("POST", "/v1/chat/completions"),
        ("OPTIONS", "/api/chat"),
        ("GET", "/metrics"),
    ],
)
def test_page_that_rebinds_its_name(router, method, path):
    """It is of the same origin to its browser; only the name tells it apart."""
    before = router.metric(FOREIGN) or 0.0
    name = f"rebound.evil.example:{router.port}"
    answer = requests.request(
        method,
        f"{router.url}{path}",
        json=asking(10, tokens=2),
        headers={"Host": name, "Origin": f"http://{name}"},
        timeout=10,
    )
    assert (403, before + 1) == (answer.status_code, router.metric(FOREIGN))
    assert "web.hosts" in answer.text
