"""People behind a real Caddy, set up as docs/keys.md has it.

What stands in for oauth2-proxy knows a login by its cookie, and names the user.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
import requests

from tests.harness.http_thread import HttpThread, Quiet
from tests.harness.keys import OPERATOR, keyed_router, make_key
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process
from tests.harness.router import Router
from tests.harness.simulator import Simulated

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy on PATH"),
]
HEADER = "X-Auth-Request-Email"
_CADDYFILE = re.compile(r"(?ms)^```\n(ai\.example\.org \{\n.*?)^```")


class LogIn(Quiet, BaseHTTPRequestHandler):
    """Answers `/oauth2/auth` as oauth2-proxy does; a cookie is the user's name."""

    def do_GET(self) -> None:
        user = (self.headers["Cookie"] or "").removeprefix("login=")
        self.send_response(202 if user else 401)
        if user and user != "nameless":
            self.send_header(HEADER, user)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def caddy(tmp_path_factory) -> Iterator[tuple[str, Router]]:
    """Caddy's address, and the router behind it."""
    tmp, login = tmp_path_factory.mktemp("caddy"), HttpThread(LogIn)
    nodes = [Simulated("one", tokens_per_second=2000.0)]
    with keyed_router(tmp, nodes) as router:
        key = make_key(router, "sso", scopes=["inference", "jobs"], user_header=HEADER)
        site = f"http://127.0.0.1:{free_port()}"
        found = _CADDYFILE.search((ROOT / "docs/keys.md").read_text())
        assert found is not None
        text = found[1].replace("ai.example.org", site)
        text = text.replace("127.0.0.1:4180", login.url)
        text = text.replace("127.0.0.1:8000", router.url)
        (tmp / "Caddyfile").write_text(f"{{\n    admin off\n}}\n{text}")
        proxy = Process(
            ["caddy", "run", "--config", tmp / "Caddyfile"],
            log=tmp / "caddy.log",
            env={"INFEROPS_PROXY_KEY": key, "HOME": str(tmp)},
        )
        try:
            until(lambda: _status(site) is not None, "Caddy answers")
            yield site, router
        finally:
            proxy.kill()
            login.stop()


def _status(site: str) -> int | None:
    try:
        return requests.get(site, timeout=5, allow_redirects=False).status_code
    except requests.ConnectionError:
        return None


def ask(site: str, user: str, **headers: str) -> requests.Response:
    body = {"model": "llama3.2:3b", "prompt": "1", "options": {"num_predict": 2}}
    headers |= {"Cookie": f"login={user}"} if user else {}
    return requests.post(
        f"{site}/api/generate",
        json=body,
        headers=headers,
        timeout=20,
        allow_redirects=False,
    )


def test_each_is_who_logged_in(caddy):
    """Whatever a client says of itself, the proxy's word counts; nobody logs in."""
    site, router = caddy
    assert 200 == ask(site, "alice@example.org").status_code
    assert 200 == ask(site, "bob@example.org", **{HEADER: "mallory"}).status_code
    unknown = ask(site, "", **{HEADER: "mallory"})
    assert (302, True) == (
        unknown.status_code,
        unknown.headers["Location"].startswith("/oauth2/sign_in?rd=http://127.0.0.1:"),
    )
    assert 403 == ask(site, "nameless", **{HEADER: "mallory"}).status_code

    def used() -> set[str]:
        found = router.get("/admin/usage", headers=OPERATOR).json()["usage"]
        return {str(each["name"]) for each in found if each["requests"]}

    both = {"user:alice@example.org", "user:bob@example.org"}
    until(lambda: both <= used(), "both are counted")
    assert "user:mallory" not in used()


def test_pages_need_no_other_login(caddy):
    """A page opens for who has logged in there."""
    site, _ = caddy
    page = requests.get(
        f"{site}/jobs",
        headers={"Cookie": "login=alice@example.org", "Accept": "text/html"},
        timeout=10,
    )
    assert (200, []) == (page.status_code, page.history)
