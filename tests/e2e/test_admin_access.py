"""Who may change something under `/admin`, asked directly and through proxies."""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.proxy import Proxy, with_headers, with_own_host
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.wire import connect, read_answer

pytestmark = pytest.mark.e2e

TOKEN = "admin-token-for-tests"
CORDON = "/admin/nodes/one/cordon"
NODES = (Simulated("one", slots=4, tokens_per_second=400.0),)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def without_token(tmp_path_factory, fleet) -> Iterator[Router]:
    """A router that trusts this machine: no token is configured."""
    folder = tmp_path_factory.mktemp("trusting")
    with Router(folder, fleet.inventory, prometheus_port=free_port()) as router:
        yield router


@pytest.fixture(scope="module")
def with_token(tmp_path_factory, fleet) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("token")
    token = folder / "admin-token"
    token.write_text(f"{TOKEN}\n")
    settings = {"ADMIN__TOKEN_FILE": str(token)}
    with Router(
        folder, fleet.inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        yield router


@pytest.fixture(autouse=True)
def serving(request) -> Iterator[None]:
    """No test leaves the node cordoned for the next."""
    yield
    right = {"Authorization": f"Bearer {TOKEN}"}
    for name in {"without_token", "with_token"} & set(request.fixturenames):
        router = request.getfixturevalue(name)
        assert router.post("/admin/nodes/one/uncordon", {}, headers=right).ok


def held(router: Router) -> bool:
    return bool(router.nodes()["one"]["holds"])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_person_at_this_machine(without_token, name):
    """Without a token, whoever is at the machine itself may change."""
    url = f"http://{name}:{without_token.port}{CORDON}"
    headers = {"Host": f"{name}:{without_token.port}"}
    assert requests.post(url.replace(name, "127.0.0.1"), json={}, headers=headers).ok
    assert held(without_token)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 192.168.1.66",
        "x-forwarded-proto: http",
        "Forwarded: for=192.168.1.66",
        "X-Real-IP: 192.168.1.66",
        "Via: 1.1 proxy",
    ],
)
def test_lan_through_a_proxy_that_says_so(without_token, header):
    """The proxy is at this machine, who asks it is not; inference goes on."""
    with Proxy(without_token.port, with_headers(header)) as proxy:
        answer = requests.post(f"{proxy.url}{CORDON}", json={}, timeout=10)
        assert requests.get(f"{proxy.url}/api/tags", timeout=10).ok
    assert (403, False) == (answer.status_code, held(without_token))


def test_lan_by_the_address_of_the_proxy(without_token):
    """A proxy that passes `Host` on and says nothing else: the name tells it apart."""
    with Proxy(without_token.port, with_headers()) as proxy:
        answer = requests.post(
            f"{proxy.url}{CORDON}",
            json={},
            headers={"Host": "192.168.1.5"},
            timeout=10,
        )
    assert (403, False) == (answer.status_code, held(without_token))


def as_another_user(url: str) -> str:
    """Ask for a change as another user of this machine; returns the status."""
    kind = ["-H", "Content-Type: application/json", "-d", "{}"]
    asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *kind, url]
    who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*who, *asked], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_proxy_that_says_nothing_runs_as_a_user_of_its_own(without_token):
    """A bare `proxy_pass` looks like a person, but for whose process it is."""
    assert as_another_user(without_token.url + CORDON) == "403"
    assert not held(without_token)
    assert without_token.post(CORDON, {}).ok  # the router's own user, root here


def test_old_http_is_a_proxys(without_token):
    """As nginx passes requests on where nothing else is said."""
    with connect(without_token.port) as client:
        client.sendall(_change(CORDON).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert read_answer(client).status == 403
    assert not held(without_token)


def test_silent_proxy_needs_the_token(with_token):
    """A proxy that cannot be told from a person gives nothing away: a token does."""
    with Proxy(with_token.port, with_own_host(with_token.port)) as proxy:
        url = f"{proxy.url}{CORDON}"
        refused = requests.post(url, json={}, timeout=10)
        wrong = requests.post(
            url, json={}, headers={"Authorization": "Bearer x"}, timeout=10
        )
        assert [401, 401] == [refused.status_code, wrong.status_code]
        assert not held(with_token)
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.post(url, json={}, headers=right, timeout=10).ok
        assert held(with_token)


@pytest.mark.parametrize(
    "target",
    [
        f"/{CORDON}",
        "/admin//nodes/one/cordon",
        "/admin/./nodes/one/cordon",
        "/api/../admin/nodes/one/cordon",
        "/%61dmin/nodes/one/cordon",
        "/admin%2fnodes/one/cordon",
        "/%2fadmin/nodes/one/cordon",
        "/admin;a/nodes/one/cordon",
        "/Admin/nodes/one/cordon",
        "/admin\\nodes/one/cordon",
        "/metrics/../admin/nodes/one/cordon",
        "http://x/admin/nodes/one/cordon",
        "http://localhost/admin/nodes/one/cordon",
        "//localhost/admin/nodes/one/cordon",
    ],
)
def test_admin_has_one_spelling(without_token, target):
    """What a rule of a proxy for `/admin` would let pass reaches nothing."""
    with connect(without_token.port) as client:
        client.sendall(_change(target))
        answer = read_answer(client)
    assert answer.status in {400, 404, 405}, answer
    assert "location" not in answer.headers
    assert not held(without_token)


def _change(target: str) -> bytes:
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Content-Length: 2",
    ]
    return ("\r\n".join([*lines, "", "{}"])).encode()


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_page_of_this_machine_is_no_admin(without_token, method):
    """A page on localhost may ask for inference, and for nothing else."""
    origin = {"Origin": "http://localhost:5173"}
    url = without_token.url

    def status(path: str) -> int:
        found = requests.request(
            method, url + path, json={}, headers=origin, timeout=10
        )
        return found.status_code

    assert [403] * 4 == [
        status(path) for path in (CORDON, "/admin/nodes", "/v1/jobs", "/metrics")
    ]
    assert status("/api/tags") != 403
    assert not held(without_token)


@pytest.mark.parametrize("name", ["evil", "evil.local", "evil.lan", "gpu-box.internal"])
def test_name_of_a_neighbour(without_token, name):
    """A page at a name that a LAN neighbour answers for, led to this machine."""
    host = f"{name}:{without_token.port}"
    answer = requests.post(
        f"{without_token.url}{CORDON}",
        json={},
        headers={"Host": host, "Origin": f"http://{host}"},
        timeout=10,
    )
    assert (403, False) == (answer.status_code, held(without_token))
    assert "web.hosts" in answer.text


def test_named_hosts_end_the_trust(tmp_path, fleet):
    """With `web.hosts` a proxy stands in front, which may look like a person here."""
    settings = {"WEB__HOSTS": "ai.example.org"}
    with Router(
        tmp_path, fleet.inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        assert router.post(CORDON, {}).status_code == 403
        assert not held(router)


def test_change_by_a_unix_socket(tmp_path, fleet, monkeypatch):
    """A proxy on a Unix socket has no address: it is not this machine's person."""
    path = tmp_path / "router.sock"
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--bind unix:{path}")
    router = Router(tmp_path, fleet.inventory, prometheus_port=free_port())
    try:

        def ask(data: bytes) -> int:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(data)
                return read_answer(client).status

        ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        until(lambda: ask(ready) == 200, "it is ready", seconds=60)
        assert ask(_change(CORDON)) == 403
    finally:
        router.stop()


def test_command_line_finds_the_token(with_token, tmp_path):
    """One command holds a node and releases it; without the token it is refused."""
    program = str(ROOT / "launcher" / "inferops")

    def inferops(*words: str, token: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words, "--url", with_token.url],
            env={**os.environ, "INFEROPS_ADMIN__TOKEN_FILE": token},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    here = tmp_path / "admin-token"
    here.write_text(TOKEN)
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    refused = inferops("cordon", "one", token=str(wrong))
    assert (3, False) == (refused.returncode, held(with_token))
    assert "the bearer token is missing or wrong" in refused.stderr
    done = inferops("cordon", "one", "--reason", "new fan", token=str(here))
    assert (0, True) == (done.returncode, held(with_token)), done.stderr
    assert "one drained" in done.stderr
    listed = inferops("nodes", token=str(here))
    assert "one\tdrained\t" in listed.stdout
    assert "cordon: new fan" in listed.stdout
    done = inferops("uncordon", "one", token=str(here))
    assert (0, False) == (done.returncode, held(with_token)), done.stderr


def lines(router: Router, event: str) -> list[dict[str, str]]:
    """Return the fields of each line of one event."""
    found = [line for line in router.log() if f"event={event} " in line]
    return [dict(re.findall(r"(\w+)=([^ ]*)", line)) for line in found]


def last(router: Router, event: str, **fields: str) -> dict[str, str]:
    """Wait for a line of an event with these fields, and return the newest."""

    def newest() -> dict[str, str] | None:
        found = [
            each for each in lines(router, event) if fields.items() <= each.items()
        ]
        return found[-1] if found else None

    return until(newest, f"there is a line {event} with {fields}")


def test_who_changed_what_by_token(with_token):
    """Principal and address are the router's own word, whatever the caller says."""
    with Proxy(with_token.port, with_headers("X-Forwarded-For: 203.0.113.9")) as proxy:
        answer = requests.post(
            f"{proxy.url}{CORDON}",
            json={"by": "the boss", "reason": "a"},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=10,
        )
    assert answer.ok
    history = f"{with_token.url}/admin/holds/history?node=one&change=placed"
    line = requests.get(history, timeout=10).json()[0]
    assert ("operator:the boss", "token:admin", "127.0.0.1") == tuple(
        line[name] for name in ("by", "principal", "client")
    )
    told = last(with_token, "change", path=CORDON, status="200")
    assert ("token:admin", "127.0.0.1", "203.0.113.9") == tuple(
        told[name] for name in ("principal", "client", "forwarded_for")
    )
    assert answer.headers["X-Request-Id"] == told["request_id"]


def test_who_changed_what_from_here(without_token):
    """At this machine it is the user whose process asked."""
    assert without_token.post(CORDON, {"by": "the boss"}).ok
    user = f"local:{pwd.getpwuid(os.getuid()).pw_name}"
    line = without_token.get("/admin/holds/history?node=one&change=placed").json()[0]
    assert (user, "127.0.0.1") == (line["principal"], line["client"])
    assert without_token.post("/admin/nodes/one/uncordon", {}).ok
    lifted = without_token.get("/admin/holds/history?change=lifted").json()[0]
    assert (user, "127.0.0.1") == (lifted["principal"], lifted["client"])
    body = {"alert": "GpuTooHot", "minutes": 5}
    assert without_token.post("/admin/nodes/one/override", body).ok
    overridden = without_token.get("/admin/holds/history?change=overridden").json()[0]
    assert (user, "127.0.0.1") == (overridden["principal"], overridden["client"])


def test_who_was_refused(with_token):
    """A wrong token leaves a line with the address that tried it."""
    headers = {"Authorization": "Bearer guessed"}
    with_token.post("/admin/reload", {}, headers=headers)
    told = last(with_token, "change", path="/admin/reload", status="401")
    assert ("warning", "anonymous", "127.0.0.1") == tuple(
        told[name] for name in ("level", "principal", "client")
    )


def test_who_uploaded_and_who_asked(without_token):
    """Uploads, jobs and requests name their sender; no file's name, no prompt."""
    form, upload = {"purpose": "batch"}, {"file": ("salaries.jsonl", b"{}\n")}
    made = requests.post(
        f"{without_token.url}/v1/files", data=form, files=upload, timeout=10
    ).json()
    told = last(without_token, "change", path="/v1/files")
    assert ("files", "127.0.0.1", "anonymous", made["id"], "3") == tuple(
        told[name] for name in ("route", "client", "principal", "file", "bytes")
    )
    headers = {"X-Request-Id": "mine-1", "X-Forwarded-For": "203.0.113.9, 10.0.0.1"}
    chat = {"model": "llama3.2:3b", "messages": [], "stream": False}
    without_token.post("/api/chat", chat, headers=headers)
    asked = last(without_token, "request", request_id="mine-1")
    assert ("127.0.0.1", "anonymous") == (asked["client"], asked["principal"])
    assert asked["forwarded_for"].strip('"').startswith("203.0.113.9")
    assert not any("salaries" in line for line in without_token.log())
