"""Clients over https: an own address, certificates that change under a stream."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests

from tests.harness.keys import OPERATOR, admin_token, bearer, make_key
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Have openssl make a certificate that signs itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class Https:
    """A router that speaks https beside http; its files are copies of `first`'s."""

    router: Router  # which needs the files before it starts

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.url = f"https://127.0.0.1:{port}"

    def place(self, name: str) -> None:
        """Put a certificate and its key where the router reads them."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        shutil.copy(cert, self.folder / "server.pem")
        shutil.copy(key, self.folder / "key.pem")

    def get(self, path: str, ca: str, **more) -> requests.Response:
        ca = str(self.folder / f"{ca}.pem")
        return requests.get(self.url + path, verify=ca, timeout=10, **more)

    def stream(self, ca: str, tokens: int, key: dict[str, str]) -> Stream:
        return Stream(self, ca, tokens, key)


class Stream:
    """A streaming request over https, read by the line."""

    def __init__(self, served: Https, ca: str, tokens: int, key: dict) -> None:
        context = ssl.create_default_context(cafile=served.folder / f"{ca}.pem")
        self.client = http.client.HTTPSConnection(
            "127.0.0.1", served.port, timeout=30, context=context
        )
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "count on from 7"}],
            "options": {"num_predict": tokens},
        }
        self.client.request("POST", "/api/chat", json.dumps(body), key)
        self.answer = self.client.getresponse()
        assert self.answer.status == 200

    def lines(self) -> Iterator[dict]:
        with closing(self.client):
            while line := self.answer.readline():
                yield json.loads(line)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Https]:
    port, tmp_path = free_port(), tmp_path_factory.mktemp("https")
    pairs = [certificate(tmp_path, name) for name in ("first", "second")]
    (tmp_path / "both.pem").write_text("".join(cert.read_text() for cert, _ in pairs))
    node = Simulated("one", slots=8, tokens_per_second=400.0)
    settings = {
        "WEB__TLS_ADDRESS": f"127.0.0.1:{port}",
        "WEB__TLS_CERT": str(tmp_path / "server.pem"),
        "WEB__TLS_KEY": str(tmp_path / "key.pem"),
        "ACCESS__KEYS": "required",
        **admin_token(tmp_path),
    }
    files = Https(port, tmp_path)
    files.place("first")
    with (
        SimulatedFleet(tmp_path, [node]) as fleet,
        Router(
            tmp_path, fleet.inventory, prometheus_port=free_port(), settings=settings
        ) as router,
    ):
        files.router = router
        yield files


def ok(served: Https, ca: str) -> bool:
    """Say whether the certificate that is shown is this one."""
    try:
        return served.get("/healthz", ca).status_code == 200
    except requests.exceptions.SSLError:
        return False


def test_a_swap_under_a_stream(served):
    """The stream goes on; new connections see the new certificate, faults the old."""
    key = bearer(make_key(served.router, "alice"))
    stream = served.stream("first", 600, key).lines()
    next(stream)
    shutil.copy(served.folder / "second.pem", served.folder / "server.pem")
    until(
        lambda: any("certificate_rejected" in line for line in served.router.log()),
        "the half of a pair is refused",
    )
    assert served.get("/healthz", "first").status_code == 200
    warnings = served.get("/readyz", "first").json()["warnings"]
    assert any(each.startswith("https: the files are not used") for each in warnings)
    served.place("second")

    until(lambda: ok(served, "second"), "the new certificate is shown")
    assert "warnings" not in served.get("/readyz", "second").json()
    lines = list(stream)
    assert lines[-1]["done"] is True
    assert lines[-1]["eval_count"] == 600
    served.place("first")
    until(lambda: ok(served, "first"), "the first one is back")


def test_both_addresses(served):
    """Plain http stays for this machine; http at the https port hears why not."""
    assert served.router.get("/healthz").status_code == 200
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 400
        assert json.loads(answer.read()) == {"error": "this address speaks https only"}
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=5) as client,
        pytest.raises(OSError),
    ):
        old.wrap_socket(client)


def test_cookies_and_headers(served):
    """A login over https gives a cookie for https; pages and `/admin` are guarded."""
    secret = make_key(served.router, "ann", scopes=["jobs", "admin-read"])
    ca = str(served.folder / "both.pem")
    login = requests.post(
        f"{served.url}/jobs/login",
        data={"key": secret},
        headers={"Origin": served.url},
        verify=ca,
        allow_redirects=False,
        timeout=10,
    )
    assert (303, True) == (
        login.status_code,
        "; Secure;" in login.headers["Set-Cookie"],
    )
    page = served.get("/jobs", "both", cookies=login.cookies)
    admin = served.get("/admin/nodes", "both", headers=bearer(secret))
    for answer in (page, admin):
        assert 200 == answer.status_code
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        assert "no-store" == answer.headers["Cache-Control"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "no-referrer" == answer.headers["Referrer-Policy"]


def test_clients_that_leave(served):
    """Who goes in the middle of a stream, or never shakes hands, leaves nothing."""
    key = bearer(make_key(served.router, "leaver"))
    stream = served.stream("both", 6000, key)
    stream.answer.readline()
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
    stream.client.sock.shutdown(socket.SHUT_RDWR)
    stream.client.close()
    for each in idle:
        each.close()

    def over() -> bool:
        nodes = served.router.get("/admin/nodes", headers=OPERATOR).json()
        return all(node["in_flight"] == 0 for node in nodes)

    until(over, "the slot is free again")
    worker = psutil.Process(served.router.process.pid).children()[0]

    def closed() -> bool:
        ends = [each.laddr.port for each in worker.net_connections("tcp") if each.raddr]
        return served.port not in ends

    until(closed, "no connection is left at the https port")
