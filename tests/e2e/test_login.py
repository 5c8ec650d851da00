"""Pages with keys: log in, work, log out; nobody else's page changes anything."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from tests.harness.browser import DESKTOP, chromium
from tests.harness.keys import OPERATOR, keyed_router, make_key
from tests.harness.router import Router
from tests.harness.simulator import Simulated

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=2000.0),)
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def router(tmp_path_factory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("login")
    with keyed_router(folder, NODES) as router:
        yield router


def make(router: Router, name: str, *scopes: str) -> str:
    return make_key(router, name, scopes=scopes)


def log_in(router: Router, key: str, **form: str) -> requests.Response:
    return requests.post(
        f"{router.url}/jobs/login",
        data={"key": key, **form},
        allow_redirects=False,
        timeout=10,
    )


def test_who_is_not_logged_in_is_asked(router):
    """A browser is led to the page for it, a program hears 401."""
    answer = router.get("/jobs/new", headers=HTML, allow_redirects=False)
    where = answer.headers["Location"]
    assert (303, "/jobs/login?next=/jobs/new") == (answer.status_code, where)
    assert 401 == router.get("/jobs/new").status_code
    page = router.get("/jobs/login")
    assert "API key" in page.text
    # Without it a browser sends the form with the origin `null`, which is refused.
    assert page.headers["Referrer-Policy"] == "same-origin"


def test_a_session(router):
    """The cookie opens what the key does; a change needs the page's token as well."""
    key = make(router, "page", "jobs", "inference")
    answer = log_in(router, key, next="/jobs/new")
    assert (303, "/jobs/new") == (answer.status_code, answer.headers["Location"])
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert key not in cookie
    session = dict(answer.cookies)
    page = router.get("/jobs", cookies=session)
    csrf = re.search('name="csrf-token" content="([^"]+)"', page.text)
    assert csrf, page.text
    upload = {"filename": "a.csv", "purpose": "dataset", "bytes": 3}
    for headers, status in (
        ({}, 403),
        ({"X-CSRF-Token": "guessed"}, 403),
        ({"X-CSRF-Token": csrf[1]}, 200),
    ):
        made = router.post("/v1/uploads", upload, headers=headers, cookies=session)
        assert status == made.status_code, made.text
    assert 403 == router.get("/admin/nodes", cookies=session).status_code
    assert 403 == router.post("/jobs/logout", cookies=session).status_code
    out = router.post(
        "/jobs/logout", cookies=session, headers={"X-CSRF-Token": csrf[1]}
    )
    assert 204 == out.status_code
    assert 401 == router.get("/jobs", cookies=session).status_code


def test_a_revoked_key_ends_its_sessions(router):
    """At once, as it does for everything else."""
    session = dict(log_in(router, make(router, "brief", "jobs")).cookies)
    assert router.get("/jobs", cookies=session).ok
    headers = {**OPERATOR, "Content-Type": "application/json"}
    url = f"{router.url}/admin/keys/brief"
    assert requests.delete(url, headers=headers, timeout=10).ok
    assert 401 == router.get("/jobs", cookies=session).status_code


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/jobs/batch_1", "/jobs/batch_1"),
        ("/boards/overview?from=now-1h", "/boards/overview?from=now-1h"),
        ("/usage?month=2026-11&by=model", "/usage?month=2026-11&by=model"),
        ("https://evil.example/jobs", "/jobs"),
        ("//evil.example", "/jobs"),
        ("/jobs//evil.example", "/jobs"),
        ("/jobs/\\evil", "/jobs"),
        ("", "/jobs"),
    ],
)
def test_where_a_login_leads(router, wanted, led_to):
    """To a page of ours, whatever the link says."""
    key = make(router, f"next-{abs(hash(wanted))}", "jobs")
    assert led_to == log_in(router, key, next=wanted).headers["Location"]


def test_keys_that_do_not_log_in(router):
    """Unknown, or for no page; by https the cookie is for https only."""
    wrong = log_in(router, "sk-inferops-nobody")
    assert (401, True) == (wrong.status_code, "not known here" in wrong.text)
    other = log_in(router, make(router, "scrape-only", "metrics"))
    assert (401, True) == (other.status_code, "for none of jobs" in other.text)
    foreign = requests.post(
        f"{router.url}/jobs/login",
        headers={"Origin": "https://evil.example"},
        timeout=10,
    )
    assert 403 == foreign.status_code
    secure = requests.post(
        f"{router.url}/jobs/login",
        data={"key": make(router, "by-https", "jobs")},
        headers={"X-Forwarded-Proto": "https"},
        allow_redirects=False,
        timeout=10,
    )
    assert "Secure" in secure.headers["Set-Cookie"].split("; ")


def test_in_a_browser(router, tmp_path):
    """Log in, start a job over a file, see it, log out."""
    key = make(router, "browser", "jobs", "inference")
    file = tmp_path / "rows.csv"
    file.write_text("text\none\ntwo\n")
    with chromium(router.url, DESKTOP, tmp_path) as page:
        page.open("/jobs/new")
        page.shown("key").send_keys(key)
        page.css("main button[type=submit]")[0].click()
        page.until(lambda: page.by_id("file"), "the page that was asked for")
        page.by_id("file").send_keys(str(file))
        page.shown("sample")
        page.by_id("template").send_keys("Say {{ text }}")
        page.by_id("start").click()
        page.until(lambda: "/jobs/batch_" in page.driver.current_url, "a job's page")
        page.until(lambda: page.text("state") == "completed", "the job's end", 60)
        assert [] == page.complaints()
        page.by_id("log-out").click()
        page.until(lambda: "/jobs/login" in page.driver.current_url, "the login")
        page.open("/jobs")
        page.shown("key")
