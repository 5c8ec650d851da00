"""The series of nodes and models: the router's and the collector's, told by replies."""

from __future__ import annotations

import json
import threading

import pytest
import requests

from exporters.collectors.ollama import OllamaCollector
from router.capacity.load_time import COLD_LOAD_SECONDS
from tests.exporters.exposition import collected, series, text, values
from tests.harness.inventory import write_inventory
from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

SIMULATED = "llama3.2:3b"


def ask(model: str, tokens: int, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "count on from 7"}]
    return {
        "model": model,
        "messages": messages,
        "options": {"num_predict": tokens},
        **more,
    }


def found(router: Router) -> dict[str, float]:
    return values(router.get("/metrics").text)


class Series:
    """The router's samples of one node and model."""

    def __init__(self, router: Router, node: str, model: str) -> None:
        self._router = router
        self._labels = {"node": node, "model": model}

    def __call__(self, name: str, **labels: str) -> float | None:
        key = series(f"inferops_{name}", **self._labels, **labels)
        return found(self._router).get(key)


def test_what_a_reply_tells_is_counted(router):
    """Tokens and their time are those of the last lines, over all dialects."""
    told = []
    for _ in range(3):
        answer = router.post("/api/chat", ask(SIMULATED, 50))
        told.append(json.loads(answer.text.splitlines()[-1]))
    node = answer.headers["X-InferOps-Node"]
    of = Series(router, node, SIMULATED)
    for phase, field in (("generate", "eval"), ("prompt", "prompt_eval")):
        tokens = sum(each[f"{field}_count"] for each in told)
        seconds = sum(each[f"{field}_duration"] for each in told) / 1e9
        assert of("reply_phase_tokens_total", phase=phase) == tokens
        counted = of("reply_phase_seconds_total", phase=phase)
        assert counted == pytest.approx(seconds)
    load = sum(each.get("load_duration", 0) for each in told) / 1e9
    assert of("reply_phase_seconds_total", phase="load") == pytest.approx(load)
    streams = {s: of("time_to_first_token_seconds_count", start=s) for s in STARTS}
    assert sum(count or 0 for count in streams.values()) == 3
    assert of("silent_longest_seconds", reply="stream")
    whole = router.post("/v1/chat/completions", ask(SIMULATED, 20))
    tokens = of("tokens_total", kind="generated")
    usage = whole.json()["usage"]["completion_tokens"]
    if whole.headers["X-InferOps-Node"] == node:
        assert tokens == sum(each["eval_count"] for each in told) + usage
        assert of("silent_longest_seconds", reply="whole")


STARTS = ("warm", "cold", "unknown")


def test_a_request_that_waits_too_long_is_seen(router, fleet):
    """A node that takes work and says nothing, beside what it ever needed."""
    node = router.post("/api/chat", ask(SIMULATED, 5)).headers["X-InferOps-Node"]
    of = Series(router, node, SIMULATED)
    needed = of("silent_longest_seconds", reply="stream")
    assert needed is not None
    assert of("silent_requests", reply="stream") is None
    fleet.put(node, "hang")
    stuck = threading.Thread(
        target=router.post,
        args=("/api/chat", ask(SIMULATED, 5)),
        kwargs={"headers": {"X-Request-Timeout": "6"}},
    )
    stuck.start()
    until(
        lambda: (of("silent_oldest_seconds", reply="stream") or 0) > 2 * needed,
        "it is silent for longer than ever",
    )
    assert of("silent_requests", reply="stream") == 1
    stuck.join()
    assert of("silent_oldest_seconds", reply="stream") is None
    # What never came must not become what was needed.
    assert of("silent_longest_seconds", reply="stream") == needed


@pytest.fixture
def real(tmp_path):
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    with RealOllama(tmp_path / "ollama") as ollama:
        yield ollama


@pytest.fixture
def in_front(tmp_path, real):
    urls = {"real": real.url}
    inventory = write_inventory(tmp_path / "nodes.yml", urls, slots=None)
    with Router(tmp_path, inventory, prometheus_port=free_port()) as made:
        yield made


def unload(ollama: RealOllama) -> None:
    body = {"model": MODEL, "keep_alive": 0}
    requests.post(f"{ollama.url}/api/generate", json=body, timeout=60)
    until(
        lambda: not requests.get(f"{ollama.url}/api/ps", timeout=10).json()["models"],
        "it is unloaded",
    )


def test_starts_of_a_real_ollama_are_told_apart(real, in_front):
    """By its own load_duration, which the router's series follow to the digit."""
    of = Series(in_front, "real", f"{MODEL}:latest")
    expected = dict.fromkeys(STARTS, 0)
    loads = []
    for fresh in (True, False, False):
        if fresh:
            unload(real)
        answer = in_front.post("/api/chat", ask(MODEL, 20))
        load = json.loads(answer.text.splitlines()[-1])["load_duration"] / 1e9
        expected["cold" if load >= COLD_LOAD_SECONDS else "warm"] += 1
        loads.append(load)
    print(f"\nload_duration: {', '.join(f'{load:.3f}' for load in loads)} s")
    assert loads[0] > max(loads[1:])
    assert expected["warm"] >= 2
    counts = {s: of("time_to_first_token_seconds_count", start=s) for s in STARTS}
    assert {s: count or 0 for s, count in counts.items()} == expected
    seconds = of("reply_phase_seconds_total", phase="load")
    assert seconds == pytest.approx(sum(loads))
    assert (of("model_load_seconds_count") or 0) == expected["cold"]


def test_why_replies_of_a_real_ollama_ended(in_front):
    """By its own words, streamed and whole, on /api and /v1, loads and unloads too."""
    of = Series(in_front, "real", f"{MODEL}:latest")
    in_front.post("/api/generate", {"model": MODEL})
    whole = {"stream": False}
    in_front.post("/api/chat", ask(MODEL, 3))
    in_front.post("/api/chat", ask(MODEL, 3, **whole))
    for more in ({}, {"stream": True}):
        in_front.post("/v1/chat/completions", ask(MODEL, 1) | {"max_tokens": 3} | more)
    stop = {"options": {"num_predict": 20, "stop": [" 10"]}}
    for more in ({}, whole):
        in_front.post("/api/chat", ask(MODEL, 20) | stop | more)
    in_front.post("/api/embed", {"model": MODEL, "input": "has no end"})
    in_front.post("/api/generate", {"model": MODEL, "keep_alive": 0})
    expected = {"load": 1, "length": 4, "stop": 2, "unload": 1}
    counts = {word: of("replies_total", reason=word) for word in (*expected, *NEVER)}
    assert expected == {word: count for word, count in counts.items() if count}


NEVER = ("none", "other", "cut", "tool_calls")


def test_loads_of_a_real_ollama_are_counted(real):
    """And its silence, stopped as it is, is told within the deadline."""
    collector = OllamaCollector(real.url)

    def scrape() -> dict[str, float]:
        metrics, error = collected(collector)
        assert error is None
        return values(text(metrics))

    name = f"{MODEL}:latest"
    unload(real)
    loads = series("inferops_ollama_loads_total", model=name)
    early = series("inferops_ollama_unloads_total", model=name, reason="early")
    before = scrape()
    assert (before["inferops_ollama_up"], before[loads], before[early]) == (1, 0, 0)
    requests.post(f"{real.url}/api/chat", json=ask(MODEL, 2), timeout=60)
    loaded = scrape()
    assert (loaded[loads], loaded[early]) == (1, 0)
    assert loaded[series("inferops_ollama_resident_overdue_seconds", model=name)] == 0
    digests = {
        kind: [
            key.partition("digest=")[2].partition(",")[0].rstrip("}")
            for key in loaded
            if key.startswith(f"inferops_ollama_{kind}_info{{digest")
        ]
        for kind in ("model", "resident")
    }
    assert len(digests["model"]) == 1
    assert digests["model"] == digests["resident"]
    unload(real)
    gone = scrape()
    assert (gone[loads], gone[early]) == (1, 1)
    real.freeze()
    try:
        metrics, error = collected(collector)
    finally:
        real.thaw()
    assert error is None
    silent = values(text(metrics))
    assert silent["inferops_ollama_up"] == 0
    failures = "inferops_ollama_endpoint_failures_total"
    assert silent[series(failures, endpoint="version", reason="no_answer")] == 1
    assert silent[loads] == 1
