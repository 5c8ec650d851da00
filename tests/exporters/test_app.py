"""The pages, called as WSGI without a socket."""

from __future__ import annotations

import threading
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from exporters import VERSION
from exporters.allowlist import Targets
from exporters.app import MAX_REQUESTS, App, collection_seconds
from exporters.probe import Prober
from exporters.runner import Runner
from tests.exporters.exposition import series, values
from tests.exporters.test_runner import Hangs, Works
from tests.harness.poll import until


def get(app: App, path: str, query: str = "", **more: str) -> tuple[str, dict, str]:
    environ = {"PATH_INFO": path, "QUERY_STRING": query, **more}
    setup_testing_defaults(environ)
    answer: list = []
    body = b"".join(app(environ, lambda *head: answer.extend(head)))
    status, headers = answer
    return status, dict(headers), body.decode()


@pytest.fixture
def app() -> App:
    prober = Prober(Targets("http://node:1"), lambda *_: Works())
    return App(Runner({"works": Works()}), prober)


def test_metrics_are_in_prometheus_own_type(app) -> None:
    """Prometheus 3 fails a scrape of any other type."""
    status, headers, body = get(app, "/metrics")
    assert status == "200 OK"
    assert headers["Content-Type"] == CONTENT_TYPE_PLAIN_0_0_4
    found = values(body)
    assert found["from_works"] == 1
    assert found[series("inferops_exporter_build_info", version=VERSION)] == 1


def test_openmetrics_is_offered(app) -> None:
    """As Prometheus asks for it first."""
    _, headers, body = get(
        app, "/metrics", HTTP_ACCEPT="application/openmetrics-text;version=1.0.0"
    )
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_a_probe_serves_its_collector_only(app) -> None:
    """No series of this machine, and no build information, on a node's page."""
    status, headers, body = get(app, "/probe", "target=http%3A%2F%2Fnode%3A1")
    assert status == "200 OK"
    assert headers["Content-Type"] == CONTENT_TYPE_PLAIN_0_0_4
    found = values(body)
    assert found[series("inferops_exporter_collector_up", collector="ollama")] == 1
    assert not [name for name in found if "build_info" in name]


def test_the_landing_page_links_to_the_others(app) -> None:
    """Whoever opens the port in a browser finds the way."""
    status, headers, body = get(app, "/")
    assert status == "200 OK"
    assert headers["Content-Type"].startswith("text/html")
    for path in ("/metrics", "/probe?target=", "/healthz"):
        assert f'href="{path}' in body


def test_health_needs_no_collection() -> None:
    """A liveness check must not depend on a driver or an Ollama."""
    assert get(App(Runner({"hangs": Hangs()}), Prober(Targets(""))), "/healthz")[
        ::2
    ] == ("200 OK", "ok\n")


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        pytest.param("/nope", "404 Not Found", "no such page: '/nope'", id="path"),
        pytest.param(
            "/probe", "400 Bad Request", "target: give one, got 0", id="no target"
        ),
        pytest.param(
            "/probe?target=",
            "400 Bad Request",
            "target: must begin with http:// or https://, got ''",
            id="empty target",
        ),
        pytest.param(
            "/probe?target=http://other:1",
            "403 Forbidden",
            "target: not among --probe-targets: 'http://other:1'",
            id="target not allowed",
        ),
    ],
)
def test_what_is_refused(app, url, status, message) -> None:
    """A status and a sentence, never a traceback."""
    path, _, query = url.partition("?")
    got, _, body = get(app, path, query)
    assert (got, body) == (status, f"{message}\n")


def test_nothing_can_be_posted(app) -> None:
    """The exporter changes nothing, so it takes nothing."""
    got, _, body = get(app, "/metrics", REQUEST_METHOD="POST")
    assert (got, body) == ("405 Method Not Allowed", "only GET\n")


def test_too_many_scrapes_at_once_are_refused() -> None:
    """Clients that pile up are told so; a place is free again afterwards."""
    hangs = Hangs()
    app = App(Runner({"hangs": hangs}), Prober(Targets("")))
    threads = [
        threading.Thread(target=get, args=(app, "/metrics"))
        for _ in range(MAX_REQUESTS)
    ]
    for thread in threads:
        thread.start()
    until(
        lambda: get(app, "/metrics", HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS="0.01")[
            0
        ].startswith("503"),
        "all places taken",
    )
    hangs.let_go.set()
    for thread in threads:
        thread.join()
    assert get(app, "/metrics")[0] == "200 OK"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("10", 9.5, id="ten seconds"),
        pytest.param("1", 0.5, id="one second"),
        pytest.param("0.4", 0.2, id="less than the way back"),
        pytest.param("3600", 119.5, id="an hour is too long"),
        pytest.param("", 9.5, id="empty"),
        pytest.param("soon", 9.5, id="words"),
        pytest.param("nan", 9.5, id="not a number"),
        pytest.param("inf", 9.5, id="for ever"),
        pytest.param("-1", 9.5, id="negative"),
    ],
)
def test_the_scrape_timeout_is_honoured(header, expected) -> None:
    """Prometheus' own timeout, less the way back; nonsense counts as its default."""
    environ = {"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": header}
    assert collection_seconds(environ) == pytest.approx(expected)
