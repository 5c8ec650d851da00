"""The shipped stack on a real engine, in one go: the part of `make test`."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from contextlib import contextmanager

import pytest
import requests

from tests.compose.real.stack import Clone, Stack
from tests.harness.poll import until

# From nothing the engine and its images take three minutes.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

RULE = """
groups:
  - name: own
    rules:
      - record: site:proof:flag
        expr: vector(1)
"""
ALERT = [{"labels": {"alertname": "Proof", "severity": "critical", "node": "n"}}]
OWN_DATA_HIDDEN = 0o077


@contextmanager
def inbox(address: str):
    """Receive notifications, at an address that containers reach."""
    got: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer((address, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address}:{server.server_address[1]}/", got
        server.shutdown()


def gateway(stack: Stack) -> str:
    """Give the address of this machine in the stack's control network."""
    name = f"{stack.environment['COMPOSE_PROJECT_NAME']}_control"
    return subprocess.run(
        [
            *("docker", "network", "inspect", name),
            *("--format", "{{(index .IPAM.Config 0).Gateway}}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout.strip()


def test_the_product_from_a_private_clone(engine, tmp_path) -> None:
    """A clone under umask 077 gets healthy, and answers.

    A second `up` recreates nothing; the control plane's disk is measured; a rule and a
    receiver that are added are in force without a restart, proven by a notification
    whose links lead where people reach the services.
    """
    stack = Stack(Clone(tmp_path / "clone", umask=OWN_DATA_HIDDEN))
    stack.environment["INFEROPS_EXTERNAL_HOST"] = "ai.lan"
    try:
        stack.up()
        stack.healthy()
        assert 200 == stack.generate().status_code
        before = stack.ids()

        stack.clone.write("site/rules/own.yml", RULE)
        with inbox(gateway(stack)) as (url, got):
            stack.clone.write("site/secrets/webhook-url", url)
            stack.up()
            assert before == stack.ids()
            assert "people by webhook" in stack.compose("logs", "init").stdout
            until(
                lambda: (
                    stack.compose("logs", "config-reloader").stdout.count("has the") > 1
                ),
                "Alertmanager has the receiver",
                seconds=20,
                every=0.5,
            )
            sent = requests.post(
                stack.url("alertmanager", "/api/v2/alerts"),
                json=ALERT,
                auth=("inferops", stack.secret("alertmanager-password")),
                timeout=10,
            )
            assert 200 == sent.status_code, sent.text
            until(lambda: got, "the notification is delivered", seconds=40)
            assert "Proof" == got[0]["alerts"][0]["labels"]["alertname"]
            alertmanager = f"http://ai.lan:{stack.ports['alertmanager']}"
            assert alertmanager == got[0]["externalURL"]
        page = requests.get(stack.url("prometheus", "/user/NodeDown.md"), timeout=10)
        assert f"http://ai.lan:{stack.ports['grafana']}/d/" in page.text

        until(
            lambda: stack.query('node:disk_available:ratio{node="control-plane"}'),
            "the disk of the control plane is measured",
            seconds=40,
            every=0.5,
        )
        until(
            lambda: stack.query("site:proof:flag"),
            "the added rule is in force",
            seconds=40,
            every=0.5,
        )
    finally:
        stack.remove()
