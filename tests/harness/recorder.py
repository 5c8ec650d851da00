"""A receiver for people's notifications that remembers what it got, and when."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.harness.http_thread import Quiet, Served


@dataclass(frozen=True)
class Received:
    """One alert of a notification; `at` in monotonic seconds."""

    at: float
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Recorder(Served):
    """Listens on a free port; `url` is what Alertmanager is given."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        recorder = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                recorder.take(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(Handler)

    def take(self, notification: dict[str, Any]) -> None:
        now = time.monotonic()
        self.received += [
            Received(now, each["status"], each["labels"], each["annotations"])
            for each in notification["alerts"]
        ]

    def first(self, alertname: str, status: str, node: str) -> Received | None:
        wanted = (alertname, status, node)
        return next(
            (
                each
                for each in self.received
                if (each.labels["alertname"], each.status, each.labels.get("node"))
                == wanted
            ),
            None,
        )
