"""DNS rebinding: by which names the router may be asked, and who must use one."""

from __future__ import annotations

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from router.web.hosts import Hosts
from tests.router.web.ingress import ingress

REBOUND = "rebound.evil.example:8000"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1:8000",
        "192.168.1.20",
        "[::1]:8000",
        "[fe80::1]",
        "localhost:8000",
        "LOCALHOST",
        "localhost.",
        "gpu-box.example.com:8000",
        "x.localhost",
        "host.docker.internal:8000",
        "inferops.tail1234.ts.net",
    ],
)
def test_names_that_no_stranger_can_give_out(host):
    """Addresses, this machine's own names, a tailnet's."""
    hosts = Hosts(machine="gpu-box.example.com")
    assert host in hosts
    assert host in hosts, "it is remembered"


@pytest.mark.parametrize(
    "host",
    [
        REBOUND,
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "evilts.net",
        "local.evil.example.",
        "gpu-box.example.com.evil.example",
        "a.b, localhost",
        "300.1.1.1",
        "gpu-box:8000",
        "router:8000",
        "evil.local",
        "gpu-box.local",
        "evil.lan",
        "evil.internal",
        "evil.docker.internal",
        "nas.home.arpa",
    ],
)
def test_names_that_anybody_may_own(host):
    """Public DNS gives them out, or a neighbour on the LAN answers for them."""
    assert host not in Hosts(machine="gpu-box.example.com")


@pytest.mark.parametrize(
    ("more", "host", "expected"),
    [
        ("ai.example.org", "AI.example.org:443", True),
        ("ai.example.org", "x.ai.example.org", False),
        ("a.example, *.example.org", "ai.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("*", REBOUND, True),
    ],
)
def test_more_by_configuration(more, host, expected):
    """An operator names the names of a proxy, or a whole domain."""
    assert expected == (host in Hosts(more))


@pytest.mark.parametrize(
    ("more", "peer", "status"),
    [
        ("", "127.0.0.1", 403),
        ("", "127.8.0.1", 403),
        ("", "::1", 403),
        ("", "::ffff:127.0.0.1", 403),
        ("", "192.168.1.7", 200),
        ("", "", 200),
        ("localhost", "192.168.1.7", 403),
        ("localhost", "127.0.0.1", 403),
        ("*", "127.0.0.1", 200),
        ("rebound.evil.example", "127.0.0.1", 200),
    ],
)
def test_who_must_use_one(more, peer, status):
    """A browser on this machine; anybody, once the operator has named a name."""
    sent_away: list[object] = []
    check = ingress(Response("said"), Hosts(more), refused=sent_away.append)
    answer = Client(check).get(
        "/admin/nodes", headers={"Host": REBOUND}, environ_base={"REMOTE_ADDR": peer}
    )
    assert status == answer.status_code
    assert sent_away == (["foreign_host"] if status == 403 else [])


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/api/chat", lambda body: body["error"]),
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: body["error"]["message"]),
        ("/jobs", lambda body: body["error"]),
    ],
)
def test_refusal_tells_the_operator(path, read):
    """In the route's dialect, with the name, the setting and what to set it to."""
    app = ingress(Response("said"), Hosts())
    headers = {"Host": REBOUND, "Origin": f"http://{REBOUND}"}
    base = {"REMOTE_ADDR": "127.0.0.1"}
    answer = Client(app).post(path, headers=headers, environ_base=base)
    told = read(answer.json)
    assert answer.status_code == 403
    assert "'rebound.evil.example:8000'" in told
    assert "web.hosts (INFEROPS_WEB__HOSTS=rebound.evil.example)" in told
    assert answer.headers["X-Request-Id"]


def test_what_is_remembered_is_bounded():
    """Names without end take no memory without end; they are still let in."""
    hosts = Hosts()
    for number in range(5000):
        assert f"x{number}.localhost" in hosts
    assert len(hosts._known) <= 1024
