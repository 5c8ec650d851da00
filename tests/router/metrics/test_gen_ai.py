"""The GenAI metrics, and exemplars, as Prometheus scrapes them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from router.metrics.gen_ai import GenAiMetrics
from router.metrics.plain import PlainHistogram
from router.model import Outcome, Timings
from router.usage.account import UsageAccount


@pytest.fixture
def registry():
    return CollectorRegistry()


def scraped(registry):
    """Read what a scrape gets, as OpenMetrics; samples by name and labels."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def account(path, outcome="end"):
    made = UsageAccount(1, 0.0, 0.0, "p", "p", path=path, model="m:latest")
    made.tokens_in, made.tokens_out, made.seconds = 10, 70, 3.0
    made.outcome = outcome
    return made


def lease(path, first=0.3):
    return SimpleNamespace(
        account=account(path),
        model="m:latest",
        decoding_since=1.0,
        first_token_seconds=first,
    )


def test_a_request(registry):
    """Duration, tokens, first token and pace, with the conventions' labels."""
    metrics = GenAiMetrics(registry)
    told = Timings(generated_tokens=10, generate_seconds=0.4)
    metrics.lease_ended(lease("/api/chat"), Outcome.END, told, 5.0)
    metrics.request_ended(account("/api/chat"))
    found = scraped(registry)
    common = ("chat", "m:latest", "ollama")
    start = "gen_ai_server_"
    assert found[start + "request_duration_seconds_sum", "", *common].value == 3.0
    assert found[start + "time_to_first_token_seconds_sum", *common].value == 0.3
    assert found[start + "time_per_output_token_seconds_sum", *common].value == 0.04
    assert [10, 70] == [
        found["gen_ai_client_token_usage_sum", *sorted((*common, kind))].value
        for kind in ("input", "output")
    ]


def test_what_is_not_generation(registry):
    """Jobs, other routes and attempts that failed are not counted."""
    metrics = GenAiMetrics(registry)
    for path in ("", "/api/show", "other"):
        metrics.request_ended(account(path))
        metrics.lease_ended(lease(path), Outcome.END, Timings(), 5.0)
    metrics.lease_ended(lease("/api/chat"), Outcome.EOF, None, 5.0)
    assert scraped(registry) == {}


def test_a_failure_has_its_class(registry):
    """As the conventions: `error_type` only says something where it failed."""
    GenAiMetrics(registry).request_ended(account("/v1/completions", "deadline"))
    name = "gen_ai_server_request_duration_seconds_count"
    labels = ("deadline", "m:latest", "ollama", "text_completion")
    assert scraped(registry)[name, *labels].value == 1


def test_names_of_the_conventions(registry):
    """Each name is one that OpenTelemetry's own package knows, in its unit."""
    GenAiMetrics(registry)
    known = {
        getattr(gen_ai_metrics, name).replace(".", "_")
        for name in dir(gen_ai_metrics)
        if name.startswith("GEN_AI_")
    }
    names = {family.name.removesuffix("_seconds") for family in registry.collect()}
    assert len(names) == 4
    assert names <= known


def test_exemplars(registry):
    """A bucket shows the newest traced request in it; without a trace nothing."""
    seconds = PlainHistogram("h", "H.", ("a",), (1.0, 2.0), registry=registry)
    seconds.labels("x").observe(0.5)
    seconds.labels("x").observe(1.5, "1" * 32)
    seconds.labels("x").observe(1.25, "2" * 32)
    seconds.labels("x").observe(9.0, "3" * 32)
    found = scraped(registry)
    shown = {
        le: found["h_bucket", *sorted((le, "x"))].exemplar
        for le in ("1.0", "2.0", "+Inf")
    }
    assert shown["1.0"] is None
    assert ({"trace_id": "2" * 32}, 1.25) == shown["2.0"][:2]
    assert ({"trace_id": "3" * 32}, 9.0) == shown["+Inf"][:2]
