"""Traces: the real router, simulated nodes and a real OTLP receiver."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.harness.counting import START, listen, request_of
from tests.harness.inventory import entry
from tests.harness.otlp import Collector
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.recording_node import RecordingNode
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.rules.catalogue import programs

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
PARENT = "b7ad6b7169203331"
NODES = (
    Simulated("fast", tokens_per_second=400.0),
    Simulated("slow", tokens_per_second=100.0, tflops=20.0),
)


@pytest.fixture(scope="module")
def collector():
    with Collector() as made:
        yield made


@pytest.fixture(scope="module")
def traced(tmp_path_factory, collector):
    """A fleet, and the router before it, which sends its traces with a token."""
    folder = tmp_path_factory.mktemp("traced")
    token = folder / "token"
    token.write_text("collectors-own-token")
    settings = {
        "TRACES__URL": collector.url,
        "TRACES__TOKEN_FILE": str(token),
        "TRACES__SAMPLE_RATIO": "0",  # a caller decides
        "METRICS__GEN_AI": "on",
    }
    with (
        RecordingNode("m:latest") as recorder,
        SimulatedFleet(folder, NODES) as fleet,
        with_node(fleet, recorder),
        Router(
            folder, fleet.inventory, prometheus_port=free_port(), settings=settings
        ) as router,
    ):
        yield router, fleet, recorder


def with_node(fleet: SimulatedFleet, recorder: RecordingNode):
    """Have the inventory name a node that keeps what it is sent."""
    fleet.write([*fleet.entries, entry("recorder", recorder.url)])
    recorder.answer = b'{"model":"m","response":"hi","done":true,"eval_count":1}'
    return contextlib.nullcontext()


@pytest.fixture(autouse=True)
def _well(traced):
    """No test finds what another has done to a node."""
    yield
    traced[1].clear("fast")


def header(number: int, flags: str = "01") -> tuple[str, dict[str, str]]:
    """Return a trace's id, and what a caller sends who is in it."""
    trace_id = f"{number:032x}"
    return trace_id, {"traceparent": f"00-{trace_id}-{PARENT}-{flags}"}


def by_name(spans):
    return {span.name: span for span in spans}


def test_a_request_is_a_span_with_its_queue_and_attempt(traced, collector):
    """The caller's trace goes on: request, queue, attempt, with the GenAI words."""
    router, *_ = traced
    trace_id, sent = header(1)
    body = request_of("/api/chat", MODEL, 5)
    answer = router.post("/api/chat", body, headers=sent | {"tracestate": "a=1,b=2"})
    spans = by_name(collector.trace(trace_id, 3))
    request, queue = spans["POST /api/chat"], spans["queue"]
    attempt = spans[f"chat {MODEL}"]
    assert answer.headers["traceresponse"] == f"00-{trace_id}-{request.id}-01"
    assert (PARENT, request.id, request.id) == (
        *(request.parent_id, queue.parent_id, attempt.parent_id),
    )
    assert ("server", "internal", "client") == (
        *(request.kind, queue.kind, attempt.kind),
    )
    assert request.began <= queue.began <= queue.ended == attempt.began
    assert attempt.began < attempt.ended <= request.ended
    assert abs(request.ended / 1e9 - time.time()) < 60
    assert (request.state, attempt.state) == ("a=1,b=2", "a=1,b=2")
    assert attempt.events == ("first_token",)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.usage.output_tokens": 5,
        "inferops.node": answer.headers["X-InferOps-Node"],
        "server.address": "127.0.0.1",
    }
    assert expected.items() <= attempt.attributes.items()
    assert attempt.attributes["gen_ai.usage.input_tokens"] > 0
    assert request.attributes["http.response.status_code"] == 200
    assert not any(each.failed for each in spans.values())
    assert collector.resources[-1]["service.name"] == "inferops-router"
    assert collector.headers[-1]["Authorization"] == "Bearer collectors-own-token"


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
def test_a_moved_stream_has_one_continuation(traced, collector, path):
    """A stream that its node breaks off: two attempts, one continuation, no error."""
    router, fleet, _ = traced
    fleet.put("fast", "slow", factor=60.0)
    fleet.put("fast", "cut", tokens=7, variant="socket", times=1)
    trace_id, sent = header(2 + len(path))
    with requests.Session() as session:
        session.headers.update(sent)
        url, body = router.url + path, request_of(path, MODEL, 20)
        with router.cordoned("slow"):
            answer = session.post(url, json=body, timeout=60, stream=True)
        assert answer.headers["X-InferOps-Node"] == "fast"
        assert answer.content
    spans = collector.trace(trace_id, 6)
    request, *_ = spans
    (continuation,) = [each for each in spans if each.name == "continuation"]
    attempts = [each for each in spans if each.kind == "client"]
    queues = [each for each in spans if each.name == "queue"]
    assert [request.id, continuation.id] == [each.parent_id for each in attempts]
    assert [request.id, continuation.id] == [each.parent_id for each in queues]
    assert ["fast", "slow"] == [each.attributes["inferops.node"] for each in attempts]
    assert [True, False] == [each.failed for each in attempts]
    assert attempts[0].attributes["error.type"] == "eof"
    assert (request.id, ("resumed",), False) == (
        *(continuation.parent_id, continuation.events, continuation.failed),
    )
    assert continuation.attributes["inferops.from_node"] == "fast"
    assert continuation.attributes["inferops.pause_seconds"] > 0
    assert attempts[0].ended <= attempts[1].began < continuation.ended
    assert not request.failed


def test_an_attempt_that_fails_is_followed_by_another(traced, collector):
    """A node's error is the attempt's, with its class, and not the request's."""
    router, fleet, _ = traced
    fleet.put("fast", "error", times=1)
    trace_id, sent = header(3)
    body = request_of("/api/chat", MODEL, 2) | {"stream": False}
    with router.cordoned("slow"):  # which is asked once more
        answer = router.post("/api/chat", body, headers=sent)
    assert (200, "2") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    spans = collector.trace(trace_id, 5)
    first, second = [each for each in spans if each.kind == "client"]
    assert (True, False, False) == (first.failed, second.failed, spans[0].failed)
    assert first.attributes["inferops.cause"] == "runner_died"


def test_no_prompt_answer_or_secret_leaves(traced, collector):
    """Nothing of a request's text, key or address is in what was sent."""
    router, *_ = traced
    trace_id, sent = header(4)
    secret = {"Authorization": "Bearer a-key-of-somebody"}
    router.post("/api/chat", request_of("/api/chat", MODEL, 3), headers=sent | secret)
    router.post("/api/generate", {"model": "nobody has it"}, headers=sent | secret)
    collector.trace(trace_id, 4)
    for word in (START, " 104", "a-key-of-somebody", "collectors-own-token"):
        assert word.encode() not in collector.raw


def test_who_is_not_sampled_is_not_recorded(traced, collector):
    """A caller that does not record, and a share of nothing, leave no span."""
    router, *_ = traced
    body = request_of("/api/chat", MODEL, 2)
    trace_id, sent = header(5, "00")
    for headers in (sent, {}, {"traceparent": "00-nonsense"}):
        answer = router.post("/api/chat", body, headers=headers)
        assert "traceresponse" not in answer.headers
    later, sent = header(6)
    router.post("/api/chat", body, headers=sent)
    collector.trace(later, 3)  # in one queue: what came before would be here
    assert trace_id not in {each.trace_id for each in collector.spans}
    assert {each.parent_id for each in collector.spans} & {""} == set()


LATENCIES = (
    "inferops_request_duration_seconds",
    "inferops_queue_wait_seconds",
    "inferops_time_to_first_token_seconds",
    "inferops_time_per_output_token_seconds",
    "inferops_scheduled_seconds",
)


def test_exemplars_lead_to_traces(traced, collector):
    """What Prometheus scrapes names the trace of a request in each latency's bucket."""
    router = traced[0]
    trace_id, sent = header(10)
    router.post("/api/chat", request_of("/api/chat", MODEL, 5), headers=sent)
    collector.trace(trace_id, 3)
    accepted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = requests.get(f"{router.url}/metrics", headers=accepted, timeout=10).text
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    for name in LATENCIES:
        shown = {
            sample.exemplar.labels["trace_id"]
            for sample in samples
            if sample.exemplar and sample.name == f"{name}_bucket"
        }
        assert trace_id in shown, name
    assert any(sample.name.startswith("gen_ai_client_token") for sample in samples)


def prometheus(program: Path, folder: Path, router: Router) -> tuple[Process, str]:
    """Start one that keeps exemplars and scrapes the router alone."""
    config, port = folder / "exemplars.yml", free_port()
    config.write_text(
        "scrape_configs:\n"
        "  - {job_name: router, scrape_interval: 250ms, scrape_timeout: 250ms,"
        f" static_configs: [{{targets: ['127.0.0.1:{router.port}']}}]}}\n"
    )
    argv = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--scrape.discovery-reload-interval=100ms",  # 5 s else
    ]
    return Process(argv, log=folder / "prometheus.log"), f"http://127.0.0.1:{port}"


def kept_exemplars(url: str, name: str) -> Iterator[tuple[str, float]]:
    """Yield trace and value of each exemplar that a Prometheus has of a histogram."""
    now = time.time()
    asked = {"query": f"{name}_bucket", "start": f"{now - 60}", "end": f"{now + 60}"}
    found = requests.get(f"{url}/api/v1/query_exemplars", params=asked, timeout=5)
    for series in found.json()["data"]:
        for each in series["exemplars"]:
            yield each["labels"]["trace_id"], float(each["value"])


def test_prometheus_keeps_exemplars(traced, collector, tmp_path):
    """A real Prometheus names the trace of a request that was made, by each latency."""
    found = programs("prometheus")
    if not found:
        pytest.skip("prometheus is not on PATH")
    router = traced[0]
    trace_id, sent = header(11)
    answer = router.post("/api/chat", request_of("/api/chat", MODEL, 5), headers=sent)
    request, *_ = collector.trace(trace_id, 3)
    process, url = prometheus(found[0], tmp_path, router)
    try:
        until(lambda: list(kept_exemplars(url, LATENCIES[0])), "some are kept")
        kept = {name: dict(kept_exemplars(url, name)) for name in LATENCIES}
    finally:
        process.kill()
    assert trace_id in answer.headers["traceresponse"]
    assert [] == [name for name, found in kept.items() if trace_id not in found]
    took = kept[LATENCIES[0]][trace_id]
    assert took == pytest.approx((request.ended - request.began) / 1e9, abs=0.05)


def test_a_dead_collector_costs_no_request(traced, collector):
    """Spans that nobody takes are counted; requests are answered as ever."""
    router, *_ = traced
    collector.status = 400
    failed = 'inferops_traced_requests_total{outcome="failed"}'
    before = router.metric(failed)
    try:
        _, sent = header(7)
        assert listen(router.url, "/api/chat", request_of("/api/chat", MODEL, 2)).ended
        router.post("/api/chat", request_of("/api/chat", MODEL, 2), headers=sent)
        until(lambda: router.metric(failed) > before, "the failure is counted")
    finally:
        collector.status = 200
    until(lambda: "traces_not_exported" in "".join(router.log()), "it is logged once")


def test_a_node_is_sent_its_attempts_span(traced, collector):
    """What a node hears is the attempt's own span, in the caller's trace."""
    router, recorder = traced[0], traced[2]
    trace_id, sent = header(8)
    body = {"model": "m", "prompt": "x", "stream": False}
    sent["tracestate"] = "a=1"
    assert router.post("/api/generate", body, headers=sent).status_code == 200
    (asked,) = [each for each in recorder.sent if each.path == "/api/generate"]
    attempt = by_name(collector.trace(trace_id, 3))["text_completion m:latest"]
    assert asked.headers["traceparent"] == f"00-{trace_id}-{attempt.id}-01"
    assert asked.headers["tracestate"] == "a=1"


def test_a_request_that_waits_in_vain(traced, collector):
    """Its queue is the span that failed, and nothing was sent anywhere."""
    trace_id, sent = header(9)
    router = traced[0]
    body = {"model": "m", "prompt": "x", "stream": False}
    with router.cordoned("recorder"):
        answer = router.post("/api/generate", body, headers=sent)
    assert answer.status_code == 503
    request, queue = collector.trace(trace_id, 2)
    assert (queue.name, queue.failed, request.failed) == ("queue", True, True)
    assert request.attributes["error.type"] == "503"
