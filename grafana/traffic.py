"""What clients ask for and how they are served: load, latency, tokens."""

from __future__ import annotations

from grafana import promql
from grafana.grid import Band, Section
from grafana.panels import Field, Json, Query, heatmap, timeseries
from grafana.promql import NODE, per_node

TIME_TO_FIRST = "inferops_time_to_first_token_seconds"


def load() -> Section:
    return Section(
        "Load",
        (
            Band(8, (_in_flight(), _queue_length(), _queue_wait()), (12, 6, 6)),
            Band(8, (_requests(), _attempts(), _troubles())),
        ),
    )


def latency() -> Section:
    return Section(
        "Latency",
        (
            Band(8, (_first_token(), _first_token_spread())),
            Band(8, (_duration(), _speed())),
        ),
    )


def tokens() -> Section:
    by_node = promql.rate("inferops_tokens_total", NODE, by="node, kind")
    by_model = promql.rate("inferops_tokens_total", NODE, by="model, kind")
    return Section(
        "Tokens",
        (
            Band(
                8,
                (
                    timeseries(
                        "Tokens per second by node",
                        "Prompt tokens read and tokens generated, as the nodes "
                        "themselves counted them at the end of each reply.",
                        [Query(promql.or_node_zero(by_node), "{{node}} {{kind}}")],
                        Field("short", 1, low=0),
                    ),
                    timeseries(
                        "Tokens per second by model",
                        "The same by model: what the fleet is used for.",
                        [Query(promql.or_zero(by_model), "{{model}} {{kind}}")],
                        Field("short", 1, low=0),
                    ),
                ),
            ),
        ),
    )


def _in_flight() -> Json:
    return timeseries(
        "In flight by node",
        "Requests on each node, and dashed the slots in use now: the router never "
        "sends more. A line that lies on its slots is a node that is full.",
        [
            Query(per_node("inferops_in_flight"), "{{node}}"),
            Query(per_node("inferops_slots"), "{{node}} slots"),
        ],
        Field("none", 0, low=0),
        dashed="/ slots$/",
    )


def _queue_length() -> Json:
    return timeseries(
        "Queue",
        "Requests that wait for a slot, by priority.",
        [Query("sum by (priority) (inferops_queue_length)", "{{priority}}")],
        Field("none", 0, low=0),
        stacked=True,
    )


def _queue_wait() -> Json:
    wait = promql.quantile(0.95, "inferops_queue_wait_seconds", by="priority")
    nobody = "0 * max by (priority) (inferops_queue_length)"
    return timeseries(
        "Queue wait, p95",
        "How long 95 % of requests waited at most; 0 where nobody did.",
        [Query(f"{wait} or {nobody}", "{{priority}}")],
        Field("s", 2, low=0),
    )


def _requests() -> Json:
    requests = promql.rate("inferops_requests_total", by="outcome, code")
    return timeseries(
        "Requests by outcome",
        "Requests per second by how they ended and the status the client saw.",
        [Query(promql.or_zero(requests), "{{outcome}} {{code}}")],
        Field("reqps", 2, low=0),
        stacked=True,
    )


def _attempts() -> Json:
    attempts = promql.rate("inferops_attempts_total", NODE, by="node, outcome")
    return timeseries(
        "Attempts by node",
        "Attempts per second; more than one for a request is failover. A node whose "
        "attempts end in errors is about to be held as down.",
        [Query(promql.or_node_zero(attempts), "{{node}} {{outcome}}")],
        Field("reqps", 2, low=0),
        stacked=True,
    )


def _troubles() -> Json:
    def rate_or_zero(counter: str, label: str) -> str:
        return promql.or_zero(promql.rate(counter, by=label))

    return timeseries(
        "Retries, failovers, rejections",
        "Per second, by reason. Rejections are what clients hear as 429 or 503: "
        "the fleet is full, or nothing may serve the model.",
        [
            Query(rate_or_zero("inferops_retries_total", "reason"), "retry {{reason}}"),
            Query(
                rate_or_zero("inferops_failovers_total", "phase, outcome"),
                "failover {{phase}} {{outcome}}",
            ),
            Query(
                rate_or_zero("inferops_rejections_total", "reason"),
                "rejection {{reason}}",
            ),
        ],
        Field("reqps", 2, low=0),
    )


def _first_token() -> Json:
    return timeseries(
        "Time to first token by node, p95",
        "A gap: nobody asked. One node above the others: it loads "
        "models, or it is slow; compare its score parts.",
        [Query(promql.quantile(0.95, TIME_TO_FIRST, NODE, by="node"), "{{node}}")],
        Field("s", 2, low=0),
    )


def _first_token_spread() -> Json:
    buckets = f"{TIME_TO_FIRST}_bucket{{{NODE}}}[$__rate_interval]"
    return heatmap(
        "Time to first token, spread",
        "How many requests took how long. Two bands are warm and cold models.",
        f"sum by (le) (increase({buckets}))",
        Field("s"),
    )


def _duration() -> Json:
    series = "inferops_request_duration_seconds"
    return timeseries(
        "Request duration by route",
        "From arrival to the last byte. It grows with the tokens asked for, so it "
        "says less about the fleet than the time to first token does.",
        [
            Query(promql.quantile(0.5, series, by="route"), "{{route}} p50"),
            Query(promql.quantile(0.95, series, by="route"), "{{route}} p95"),
        ],
        Field("s", 2, low=0),
    )


def _speed() -> Json:
    speed = f"max by (node, model) (inferops_generation_tokens_per_second{{{NODE}}})"
    return timeseries(
        "Generation speed of one stream",
        "Tokens per second that one stream gets, learned for each node and model. "
        "Dispatch trusts this more than it trusts a data sheet.",
        [Query(speed, "{{node}} {{model}}")],
        Field("short", 1, low=0),
    )
