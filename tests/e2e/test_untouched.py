"""What a client sends reaches the node byte for byte, and so does the reply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from router.relay.protocols import ROUTES
from tests.harness.inventory import write_inventory
from tests.harness.ports import free_port
from tests.harness.recording_node import RecordingNode
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

# Odd spacing, numbers, order and an escape: whoever parses and writes loses some.
_FIELDS = {
    "tools": '[{"type":"function","function":{"name":"f","parameters":{}}}]',
    "format": '{"type":"object","properties":{"n":{"type":"integer"}}}',
    "images": '["iVBORw0KGgo="]',
    "think": '"high"',
    "logprobs": 'true,"top_logprobs":3',
    "keep_alive": '"10m"',
    "options": '{"num_ctx":8192,"temperature":0.10}',
    "response_format": '{"type":"json_object"}',
    "stream_options": '{"include_usage":true}',
    "a field of tomorrow": '{"n":1e3000,"text":"caf\\u00e9 \\ud83d"}',
}
BODIES = {
    name: f'{{ "{name}" :{value},\n\t"model":"recorder", "stream": false }}'.encode()
    for name, value in _FIELDS.items()
}


@pytest.fixture(scope="module")
def node() -> Iterator[RecordingNode]:
    with RecordingNode("recorder:latest") as node:
        yield node


@pytest.fixture(scope="module")
def router(tmp_path_factory, node) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("untouched")
    urls = {"recorder": node.url}
    inventory = write_inventory(folder / "nodes.yml", urls, slots=None)
    settings = {"WEB__HOSTS": "inference.example.org"}
    with Router(
        folder, inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        yield router


def send(router, path, body, **headers):
    kind = {"Content-Type": "application/json"}
    return requests.post(
        router.url + path, data=body, headers={**kind, **headers}, timeout=20
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_fields(router, node, path, body):
    """Known or not, a field arrives as it was written."""
    assert send(router, path, body).status_code == 200
    assert (path, body) == (node.sent[-1].path, node.sent[-1].body)


def test_a_callers_trace(router, node):
    """Without tracing its headers go on as they came, and no SDK is in the process."""
    node.answer = b'{"done":true}'
    trace = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=1,b=2",
    }
    body = b'{"model":"recorder","stream":false}'
    answer = send(router, "/api/chat", body, **trace)
    assert trace.items() <= node.sent[-1].headers.items()
    assert "traceresponse" not in answer.headers
    gunicorn = psutil.Process(router.process.pid)
    for each in (gunicorn, *gunicorn.children()):
        files = {Path(part.path).name for part in each.memory_maps()}
        assert not [name for name in files if name.startswith("_message.abi3")]


@pytest.mark.parametrize("path", [p for p, route in ROUTES.items() if not route.form])
def test_routes(router, node, path):
    """Every route that nodes offer goes to the same path there."""
    body = b'{"model":"recorder","n":1.0,"stream":false}'
    node.answer = b'{ "odd":1e2,\n "x":"\\u00e9" }'
    answer = send(router, path, body)
    assert node.answer == answer.content
    assert answer.headers["Content-Type"] == node.content_type
    assert (path, body) == (node.sent[-1].path, node.sent[-1].body)


def test_form(router, node):
    """A transcription's form passes with its boundary, chosen by its own field."""
    fields, file = {"model": "recorder"}, {"file": ("a.wav", b"RIFF\r\n\r\n--\0")}
    form = requests.Request("POST", "http://x", data=fields, files=file).prepare()
    kind = form.headers["Content-Type"]
    path = "/v1/audio/transcriptions"
    answer = send(router, path, form.body, **{"Content-Type": kind})
    assert answer.status_code == 200
    sent = node.sent[-1]
    assert (path, kind, form.body) == (
        sent.path,
        sent.headers["Content-Type"],
        sent.body,
    )


def test_headers(router, node):
    """The node is named as itself; a client's credentials stay with the router."""
    answer = send(
        router,
        "/api/chat",
        b'{"model":"recorder","stream":false}',
        Authorization="Bearer secret",
        Cookie="a=b",
        Host="inference.example.org",
        **{"X-Request-Id": "mine", "User-Agent": "mine/1"},
    )
    assert answer.status_code == 200
    headers = node.sent[-1].headers
    assert (node.address, "mine", "mine/1") == (
        headers["Host"],
        headers["X-Request-Id"],
        headers["User-Agent"],
    )
    assert not {"Authorization", "Cookie"} & headers.keys()


def test_browser(router, node):
    """A page on localhost may ask and read; a page of another site may not."""
    node.answer = b"{}"
    body = b'{"model":"recorder","stream":false}'
    before = len(node.sent)
    page = send(router, "/api/chat", body, Origin="http://localhost:5173")
    assert page.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert "X-InferOps-Node" in page.headers["Access-Control-Expose-Headers"]
    assert page.headers["X-InferOps-Node"] == "recorder"
    foreign = send(router, "/api/chat", body, Origin="https://evil.example")
    assert foreign.status_code == 403
    assert len(node.sent) == before + 1
