"""The board "Models": how quickly each answers, where it is, and what loads cost."""

from __future__ import annotations

from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import BLUE, GREEN, Field, Json, Query, heatmap, timeseries
from grafana.promql import (
    BOTH,
    FIRST_BUCKETS,
    LENGTH_BUCKETS,
    LOAD_BUCKETS,
    MODEL,
    PACE_BUCKETS,
    RECORD_STEP,
    or_zero,
    rate,
    recorded_quantile,
    tokens,
)
from grafana.tables import matrix
from grafana.variables import MODEL as MODEL_VARIABLE
from grafana.variables import NODE as NODE_VARIABLE

FIRST = "inferops_time_to_first_token_seconds"
SPEED = "inferops_generation_tokens_per_second"
SECONDS = Field("s", 2, low=0, empty="no replies")


def models() -> Board:
    return Board(
        "ollama",
        "Models",
        "By model: requests, first token, pace, lengths, loads, and where it is.",
        (
            Section(
                "Use",
                Band(8, _requests(), _tokens(), _lengths()),
                Band(8, _where(), _reasons(), widths=(14, 10)),
            ),
            Section(
                "Lengths",
                Band(
                    8,
                    _length_spread("prompt", "Prompt length, spread"),
                    _length_spread("generated", "Answer length, spread"),
                ),
            ),
            Section(
                "First token",
                Band(8, _first_token(), _starts()),
                Band(8, _first_spread("warm"), _first_spread("cold")),
            ),
            Section(
                "Pace",
                Band(8, _per_token(), _token_spread()),
                Band(8, _speed(), _gain()),
            ),
            Section("Loads", Band(8, _loads(), _load_spread(), _resident())),
        ),
        (NODE_VARIABLE, MODEL_VARIABLE),
        most_points=100,  # a quantile of all nodes' buckets reads 40 series of each
    )


def _requests() -> Json:
    by_model = rate("inferops_requests_total", MODEL, by="model, outcome")
    return timeseries(
        "Requests by model and outcome",
        "Per second. An outcome other than end: the reply broke off, or its client "
        "left.",
        [Query(or_zero(by_model, "outcome"), "{{model}} {{outcome}}")],
        Field("reqps", 2, low=0, empty="no router"),
        stacked=True,
    )


def _tokens() -> Json:
    by_model = or_zero(tokens(BOTH, by="model, kind"), "kind")
    return timeseries(
        "Tokens per second by model",
        "Prompt tokens read and tokens generated: what the fleet is used for.",
        [Query(by_model, "{{model}} {{kind}}", RECORD_STEP)],
        Field("short", 1, low=0, empty="no router"),
    )


def _lengths() -> Json:
    by_model = tokens(BOTH, by="model, kind")
    replies = f'sum by (model, kind) ({LENGTH_BUCKETS}{{{BOTH}, le="+Inf"}})'
    return timeseries(
        "Mean prompt and answer length",
        "Tokens of a reply. Long prompts make the first token late, long answers "
        "keep slots.",
        [Query(f"{by_model}\n/\n({replies} > 0)", "{{model}} {{kind}}", RECORD_STEP)],
        Field("short", 0, low=0, empty="no replies"),
    )


def _where() -> Json:
    present = f"max by (node, model) (node:ollama_model:info{{{BOTH}}})"
    loaded = f"max by (node, model) (inferops_ollama_resident_vram_bytes{{{BOTH}}})"
    return matrix(
        "Where models are",
        "Loaded: the first token comes at once. On disk: a load goes before it. Empty: "
        "the node cannot serve the model.",
        f"2 * ({loaded} >= bool 0) or {present}",
        Field(
            "none",
            words={1: ("on disk", BLUE), 2: ("loaded", GREEN)},
            empty="no Ollama answers",
        ),
        by="model",
    )


def _reasons() -> Json:
    replies = rate("inferops_replies_total", BOTH, by="model, reason")
    return timeseries(
        "Replies by done reason",
        "Per second. Length: at the limit of tokens or of the context. Load, unload: "
        "nothing was asked. None: its node gave no reason. Cut: it did not end there.",
        [Query(or_zero(replies, "reason"), "{{model}} {{reason}}")],
        Field("reqps", 2, low=0, empty="no router"),
        stacked=True,
    )


def _first_token() -> Json:
    return timeseries(
        "Time to first token by model",
        "Queue, load and prompt included; of streams. The gap from p50 to p99 is "
        "mostly cold starts and long prompts.",
        [
            _quantile(share, name, FIRST_BUCKETS)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        ],
        SECONDS,
    )


def _starts() -> Json:
    started = rate(f"{FIRST}_count", BOTH, by="model, start")
    return timeseries(
        "Warm and cold starts",
        "Streams per second that found their model loaded, and those that waited for "
        "a load. Many cold ones: too many models for the memory there is.",
        [Query(started, "{{model}} {{start}}")],
        Field("reqps", 2, low=0, empty="no streams"),
        stacked=True,
    )


def _quantile(share: float, name: str, buckets: str) -> Query:
    expr = recorded_quantile(share, buckets, BOTH, "model")
    return Query(expr, f"{{{{model}}}} {name}", RECORD_STEP)


def _spread(
    title: str, about: str, buckets: str, matchers: str, unit: str = "s"
) -> Json:
    rates = f"sum by (le) ({buckets}{{{matchers}}})"
    field = Field(unit, empty="no replies")
    return heatmap(title, about, rates, field, min_step=RECORD_STEP)


def _first_spread(start: str) -> Json:
    return _spread(
        f"Time to first token, {start}",
        f"Streams per second by how long they took, of those that began {start}.",
        FIRST_BUCKETS,
        f'{BOTH}, start="{start}"',
    )


def _length_spread(kind: str, title: str) -> Json:
    return _spread(
        title,
        "Replies per second by their tokens. Two bands: two uses of the model.",
        LENGTH_BUCKETS,
        f'{BOTH}, kind="{kind}"',
        "short",
    )


def _per_token() -> Json:
    return timeseries(
        "Time per token by model",
        "After the first one. 0.1 s are ten tokens a second, twice as fast as people "
        "read.",
        [
            _quantile(share, name, PACE_BUCKETS)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        ],
        Field("s", 3, low=0, empty="no replies"),
    )


def _token_spread() -> Json:
    return _spread(
        "Time per token, spread",
        "Replies per second by their pace. Two bands: quick nodes and slow ones.",
        PACE_BUCKETS,
        BOTH,
    )


def _speed() -> Json:
    return timeseries(
        "Speed of one stream by node",
        "Tokens per second, learned for each node and model.",
        [
            Query(
                f"max by (node, model) ({SPEED}{{{BOTH}}})",
                "{{node}} {{model}}",
            )
        ],
        Field("short", 1, low=0, empty="nothing learned yet"),
    )


def _gain() -> Json:
    series = f"inferops_concurrent_tokens_per_second{{{BOTH}}}"
    total = f"max by (node, model, streams) ({series})"
    return timeseries(
        "What more streams at once bring",
        "Learned total tokens per second of so many streams. Where it no longer "
        "grows, another slot only makes all slower.",
        [Query(total, "{{node}} {{model}} {{streams}} streams")],
        Field("short", 1, low=0, empty="nothing learned yet"),
    )


def _loads() -> Json:
    return timeseries(
        "Load time by model",
        "Of loads that a reply waited for, as its node reported it.",
        [
            _quantile(0.5, "p50", LOAD_BUCKETS),
            _quantile(0.95, "p95", LOAD_BUCKETS),
        ],
        Field("s", 1, low=0, empty="nothing was loaded"),
    )


def _load_spread() -> Json:
    return _spread(
        "Load time, spread",
        "Loads per second by how long they took. Long ones: a slow disk, or a big "
        "model.",
        LOAD_BUCKETS,
        BOTH,
    )


def _resident() -> Json:
    series = f"max by (node, model) (inferops_ollama_resident_vram_bytes{{{BOTH}}})"
    return timeseries(
        "GPU memory of loaded models",
        "What each takes on all nodes together. A line that comes and goes is a model "
        "that is loaded again and again.",
        [Query(f"sum by (model) ({series})", "{{model}}")],
        Field("bytes", 1, low=0, empty="nothing is loaded"),
        stacked=True,
    )
