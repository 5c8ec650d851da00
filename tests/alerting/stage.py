"""A real Alertmanager on loopback, with recorders in the place of its receivers."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
import yaml

from alerting.render import render
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process
from tests.rules.catalogue import programs

ALERTMANAGERS = programs("alertmanager") + programs("prometheus-alertmanager")
TEMPLATES = str(ROOT / "alerting/templates")
TOKEN = "made-up-token"


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP request that a recorder got."""

    path: str
    authorization: str | None
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Recorder:
    """What arrived: requests by HTTP, messages by SMTP."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    smarthost: str = ""
    mails: list[str] = field(default_factory=list)

    def at(self, path: str) -> list[Received]:
        return [each for each in self.requests if each.path == path]

    def alerts(self, path: str) -> list[tuple[str, str]]:
        """Give (alertname, status) of each alert posted there, in order."""
        return [
            (alert["labels"]["alertname"], alert["status"])
            for each in self.at(path)
            for alert in each.json["alerts"]
        ]


class _Web(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(("127.0.0.1", 0), _Http)


class _Http(BaseHTTPRequestHandler):
    server: _Web

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        token = self.headers.get("Authorization")
        self.server.recorder.requests.append(Received(self.path, token, body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # what Slack says

    def log_message(self, *_: object) -> None: ...


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(("127.0.0.1", 0), _Smtp)


class _Smtp(socketserver.StreamRequestHandler):
    server: _Relay

    def handle(self) -> None:
        with suppress(ConnectionError):  # Alertmanager was stopped
            self._talk()

    def _talk(self) -> None:
        self._say("220 recorder")
        for line in self.rfile:
            match line.decode().strip().upper():
                case "QUIT":
                    self._say("221 bye")
                    return
                case "DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    self.server.recorder.mails.append(b"".join(lines).decode())
            self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def recording() -> Iterator[Recorder]:
    """Listen by HTTP and SMTP until the end of the block."""
    recorder = Recorder()
    with _Web(recorder) as web, _Relay(recorder) as relay:
        recorder.url = f"http://127.0.0.1:{web.server_address[1]}"
        recorder.smarthost = f"127.0.0.1:{relay.server_address[1]}"
        for each in (web, relay):
            threading.Thread(target=each.serve_forever, daemon=True).start()
        try:
            yield recorder
        finally:
            web.shutdown()
            relay.shutdown()


def secrets_for(recorder: Recorder, folder: Path) -> Path:
    """Write a secret for every receiver, all of them the recorder."""
    folder.mkdir()
    mail = {
        "smarthost": recorder.smarthost,
        "sender": "inferops@fleet.test",
        "to": "people@fleet.test",
        "require_tls": False,
    }
    for name, text in {
        "webhook-token": TOKEN,
        "slack-api-url": f"{recorder.url}/slack",
        "webhook-url": f"{recorder.url}/people",
        "watchdog-url": f"{recorder.url}/watchdog",
        "smtp.yml": yaml.safe_dump(mail),
    }.items():
        (folder / name).write_text(f"{text}\n")
    return folder


@contextmanager
def alertmanager(program: Path, tmp: Path, text: str) -> Iterator[str]:
    """Run an Alertmanager with this configuration; gives its URL."""
    tmp.mkdir(exist_ok=True)
    config = tmp / "alertmanager.yml"
    config.write_text(text)
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [
        str(program),
        f"--config.file={config}",
        f"--storage.path={tmp / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.external-url=http://alertmanager.test",
        "--cluster.listen-address=",
    ]
    process = Process(argv, log=tmp / "alertmanager.log")

    def ready() -> bool:
        assert process.running, process.tail()
        return requests.get(f"{url}/-/ready", timeout=5).ok

    try:
        until(ready, "Alertmanager is ready")
        yield url
    finally:
        process.kill()  # an orderly end takes a second, and nothing of it is kept


def rendered(secrets: Path, recorder: Recorder) -> str:
    """Give the shipped file for these secrets; people are told after 1 s, not later."""
    text = render(
        secrets,
        secrets_at=str(secrets),
        templates=TEMPLATES,
        router_url=f"{recorder.url}/webhook/alertmanager",
        grafana_url="http://grafana.test",
    )
    return re.sub(
        r"group_(wait|interval): (10s|30s|1m|5m)",
        r"group_\1: 1s",
        text,
    )


def post(url: str, *alerts: Mapping[str, Any]) -> None:
    """Send alerts as Prometheus does."""
    reply = requests.post(f"{url}/api/v2/alerts", json=list(alerts), timeout=5)
    reply.raise_for_status()
