"""Prometheus over HTTP: what is asked, what comes back, what goes wrong."""

from __future__ import annotations

import http.server
import json
import math
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from router.clients.prometheus import AlertRule, PrometheusClient, Sample
from router.clients.session import Service
from router.errors import PrometheusError
from tests.harness.ports import free_port

VECTOR = [
    {"metric": {"__name__": "up", "node": "a"}, "value": [5000.5, "0.25"]},
    {"metric": {"node": "b"}, "value": [5000.5, "NaN"]},
    {"metric": {"node": "c"}, "value": [5000.5, "+Inf"]},
    {"metric": {"node": "d"}, "value": [5000.5, "-Inf"]},
]
GROUPS = [
    {
        "name": "inferops-health",
        "interval": 1,
        "rules": [
            {
                "name": "GpuTooHot",
                "type": "alerting",
                "health": "ok",
                "lastEvaluation": "2026-11-22T21:18:00.123456789+01:00",
                "labels": {"action": "drain"},
                "annotations": {"evidence": "x"},
            },
            {"name": "x", "type": "recording", "health": "ok"},
            {
                "name": "Fresh",
                "type": "alerting",
                "health": "unknown",
                "lastEvaluation": "0001-01-01T00:00:00Z",
            },
        ],
    }
]


class Peer(http.server.ThreadingHTTPServer):
    """Answers what it is given, `step` bytes at a time with a pause between."""

    daemon_threads = True
    answer: tuple[int, bytes]

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.paths, self.step, self.pause = [], 1 << 20, 0.0
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def do_GET(self):
        self.server.paths.append(self.path)
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), self.server.step):
            self.wfile.write(body[start : start + self.server.step])
            self.wfile.flush()
            if self.server.over.wait(self.server.pause):
                return

    def log_message(self, *_):
        pass


@pytest.fixture
def peer():
    peer = Peer()
    thread = threading.Thread(target=peer.serve_forever, args=(0.01,))
    thread.start()
    yield peer
    peer.over.set()
    peer.shutdown()
    thread.join()
    peer.server_close()


@pytest.fixture
def client(peer):
    client = PrometheusClient(Service(peer.url, 0.5))
    yield client
    client.close()


def result(found, kind="vector"):
    data = {"resultType": kind, "result": found}
    return 200, json.dumps({"status": "success", "data": data}).encode()


def test_the_time_is_prometheus_own(peer, client):
    """Asked without a time, it evaluates at its own clock."""
    peer.answer = result([5000.5, "5000.5"], "scalar")
    assert client.now() == 5000.5
    assert parse_qs(urlsplit(peer.paths[0]).query) == {"query": ["time()"]}


def test_samples_come_with_labels_value_and_time(peer, client):
    """NaN and infinities are values; the series' name is no label."""
    peer.answer = result(VECTOR)
    first, nan, inf, minus = client.query("up", 5000.5)
    assert first == Sample({"node": "a"}, 0.25, 5000.5)
    assert math.isnan(nan.value)
    assert (inf.value, minus.value) == (math.inf, -math.inf)
    assert [each.finite for each in (first, nan, inf, minus)] == [1, 0, 0, 0]
    asked = parse_qs(urlsplit(peer.paths[0]).query)
    assert asked == {"query": ["up"], "time": ["5000.500"]}


def test_alerting_rules_come_with_health_and_evaluation(peer, client):
    """What decides whether a rule could judge."""
    body = {"status": "success", "data": {"groups": GROUPS}}
    peer.answer = 200, json.dumps(body).encode()
    hot, fresh = client.rules()
    assert hot == AlertRule(
        name="GpuTooHot",
        labels={"action": "drain"},
        annotations={"evidence": "x"},
        healthy=True,
        last_evaluation=hot.last_evaluation,
        interval_seconds=1.0,
    )
    assert hot.last_evaluation == pytest.approx(1_795_378_680.123456)
    assert (fresh.healthy, fresh.labels, fresh.annotations) == (False, {}, {})
    assert fresh.last_evaluation < 0


CALLS = {
    "now": lambda client: client.now(),
    "query": lambda client: client.query("up", 1.0),
    "rules": lambda client: client.rules(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "answer",
    [
        (400, b'{"status":"error","error":"parse error"}'),
        (503, b"starting"),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"data": {"result": [{"metric": {}}], "groups": [{}]}}'),
        (200, b'{"data": {"result": 5, "groups": 5}}'),
    ],
    ids=["refused", "starting", "html", "empty", "half", "other"],
)
def test_what_is_no_answer_is_an_error_of_ours(peer, client, call, answer):
    """One class of error, tried once: the next pass is the retry."""
    peer.answer = answer
    with pytest.raises(PrometheusError):
        call(client)
    assert len(peer.paths) == 1


def test_a_scalar_is_no_signal(peer, client):
    """It speaks of no node."""
    peer.answer = result([5000.5, "1"], "scalar")
    with pytest.raises(PrometheusError, match=r"'1' yields a scalar, not series"):
        client.query("1", 5000.5)


def test_the_message_says_what_prometheus_said(peer, client):
    """A typo in signals.yml is found by it."""
    peer.answer = 400, b'{"error":"parse error: unexpected end of input"}'
    with pytest.raises(PrometheusError, match=r"'up': .*400.*unexpected end of input"):
        client.query("up", 1.0)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_answer_that_drips_ends_in_time(peer, client, call):
    """The client library's own timeout would start anew with every byte."""
    peer.answer, peer.step, peer.pause = result(VECTOR), 1, 0.1
    with pytest.raises(PrometheusError, match=r"not within 0\.5 s"):
        call(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nobody_there_is_an_error_of_ours(call):
    """Prometheus may be down; the router is not."""
    client = PrometheusClient(Service(f"http://127.0.0.1:{free_port()}", 0.5))
    where = r"^http://127\.0\.0\.1:\d+.*: \[Errno 111\] Connection refused$"
    with pytest.raises(PrometheusError, match=where):
        call(client)
    client.close()
