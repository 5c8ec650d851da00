"""From a hot card to people's first message, which says what the router did.

Prometheus, the shipped rules, the rendered routes and Alertmanager are real, with
the waits that are shipped; card and router are played by a page of metrics.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml

from alerting.render import render
from tests.alerting.stage import (
    ALERTMANAGERS,
    TEMPLATES,
    Recorder,
    alertmanager,
    recording,
    secrets_for,
)
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process
from tests.rules.catalogue import programs

pytestmark = pytest.mark.e2e

CALM = """\
inferops_gpu_temperature_celsius{node="rig",uuid="GPU-1"} 60
inferops_panic 0
inferops_node_schedulable{node="rig"} 1
inferops_node_schedulable{node="other"} 1
inferops_slots{node="rig"} 8
inferops_slots{node="other"} 4
inferops_in_flight{node="rig"} 3
inferops_in_flight{node="other"} 1
"""
HOT = CALM.replace(" 60\n", " 95\n")
HELD = HOT.replace(
    'schedulable{node="rig"} 1',
    'schedulable{node="rig"} 0\n'
    'inferops_node_hold{node="rig",kind="drain",source="alert:GpuTooHot",'
    'state="confirmed"} 1',
)


class Played(ThreadingHTTPServer):
    """A page of metrics that the test changes."""

    daemon_threads = True
    text = CALM

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)


class _Page(BaseHTTPRequestHandler):
    server: Played

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def played() -> Iterator[Played]:
    with Played() as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        try:
            yield page
        finally:
            page.shutdown()


def resend_delay() -> str:
    """Give the flag as it is shipped."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    flags = compose["services"]["prometheus"]["command"]
    (flag,) = (each for each in flags if each.startswith("--rules.alert.resend-delay"))
    return str(flag)


@contextmanager
def prometheus(program: Path, tmp: Path, page: Played, told: str) -> Iterator[str]:
    target = f"127.0.0.1:{page.server_address[1]}"
    config = {
        "rule_files": [str(ROOT / "alerting/rules/health.yml")],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [told.removeprefix("http://")]}]}
            ]
        },
        "scrape_configs": [
            {
                "job_name": "router",
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "static_configs": [{"targets": [target]}],
            }
        ],
    }
    (tmp / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [
        str(program),
        f"--config.file={tmp}/prometheus.yml",
        f"--storage.tsdb.path={tmp}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.external-url=http://prometheus.test",
        "--web.route-prefix=/",
        resend_delay(),
    ]
    with Process(argv, log=tmp / "prometheus.log"):
        yield url


PAIRS = [
    pytest.param(first, second, id=f"{first.parent}+{second.parent}")
    for first, second in zip(programs("prometheus"), ALERTMANAGERS, strict=False)
] or [pytest.param(None, None, id="none")]


@pytest.mark.parametrize(("program", "notifier"), PAIRS)
def test_the_first_message_says_what_the_router_did(tmp_path, program, notifier):
    """The alert is sent anew with the hold before people are told of it at all."""
    if program is None:
        pytest.skip("prometheus or alertmanager is not on PATH")
    with recording() as recorder, played() as page:
        secrets = secrets_for(recorder, tmp_path / "secrets")
        text = render(
            secrets,
            secrets_at=str(secrets),
            templates=TEMPLATES,
            router_url=f"{recorder.url}/webhook/alertmanager",
        )
        with (
            alertmanager(notifier, tmp_path / "notifier", text) as told,
            prometheus(program, tmp_path, page, told) as url,
        ):
            act(recorder, page, url)
    (message,) = recorder.at("/people")[0].json["alerts"]
    assert message["annotations"]["router"] == (
        "The router holds rig: drain. Without it, 1 of 2 nodes take work, with 4 "
        "slots, of which 1 are in use."
    )


def act(recorder: Recorder, page: Played, url: str) -> None:
    """Heat the card; as the router would, hold the node once the bell has rung."""

    def cards() -> object:
        query = {"query": "node_gpu:temperature:celsius"}
        reply = requests.get(f"{url}/api/v1/query", params=query, timeout=5)
        return reply.json()["data"]["result"]

    until(cards, "the card is in the vocabulary")
    page.text = HOT
    until(lambda: recorder.at("/webhook/alertmanager"), "the bell rings")
    page.text = HELD
    until(lambda: recorder.at("/people"), "people are told", seconds=30)
