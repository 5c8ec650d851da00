"""What is known of each node: scores and their parts, holds, models, GPUs."""

from __future__ import annotations

from dataclasses import replace

from grafana import promql
from grafana.grid import Band, Section
from grafana.overview import HOLD_WORDS, SCORE, SCORE_STEPS
from grafana.panels import (
    Field,
    Json,
    Query,
    timeline,
    timeseries,
)
from grafana.promql import NODE, per_node
from grafana.tables import labels, matrix

# Parts and holds are shown twice: over time, and as they stand now.
PARTS = f"max by (node, signal) (inferops_node_signal_score{{{NODE}}})"
READINGS = f"max by (node, signal) (inferops_node_signal_value{{{NODE}}})"
RATIO = Field("percentunit", 0, low=0, high=1)


def scores() -> Section:
    return Section(
        "Scores",
        (
            Band(8, (_scores(), _parts())),
            Band(7, (_parts_now(), _readings_now())),
        ),
    )


def holds() -> Section:
    return Section(
        "Holds",
        (
            Band(8, (_hold_states(),)),
            Band(7, (_holds_now(), _hold_moves())),
        ),
    )


def models() -> Section:
    return Section("Models", (Band(7, (_resident(), _on_gpu())),))


def gpus() -> Section:
    return Section(
        "GPUs and machines",
        (
            Band(8, (_temperature(), _power())),
            Band(8, (_utilisation(), _memory())),
            Band(7, (_throttling(), _faults(), _machine())),
        ),
    )


def _scores() -> Json:
    return timeseries(
        "Score by node",
        "Base capability from 0 to 1, the weighted parts beside it. Live load and "
        "what a model costs on the node come on top.",
        [Query(per_node("inferops_node_score"), "{{node}}")],
        SCORE,
    )


def _parts() -> Json:
    return timeseries(
        "Score parts by signal",
        "Each signal's reading between its declared worst, 0, and best, 1. The line "
        "that fell says why the score did.",
        [Query(PARTS, "{{node}} {{signal}}")],
        SCORE,
    )


def _parts_now() -> Json:
    return matrix(
        "Score parts now",
        "As above, now. An empty cell is a signal without a reading.",
        PARTS,
        replace(SCORE, steps=SCORE_STEPS),
        by="signal",
    )


def _readings_now() -> Json:
    return matrix(
        "Readings now",
        "The raw readings behind the parts, each in its signal's own unit.",
        READINGS,
        Field("short", 2),
        by="signal",
    )


def _hold_states() -> Json:
    return timeline(
        "Holds by node",
        "What kept work away, and when: a cordon by an operator, drain or evict by an "
        "alert, down by a probe or by live traffic. Derate by an alert: less work.",
        [Query(promql.HOLDS, "{{node}}")],
        Field("none", words=HOLD_WORDS),
    )


def _holds_now() -> Json:
    return labels(
        "Holds now",
        "Every hold that stands. State unknown: the alert is gone, but nothing proves "
        "the node well yet; see its telemetry.",
        f"max by (node, kind, source, state) (inferops_node_hold{{{NODE}}})",
        ["node", "kind", "state", "source"],
        "no holds",
    )


def _hold_moves() -> Json:
    def moves(what: str) -> Query:
        counter = f"inferops_holds_{what}_total[$__rate_interval]"
        expr = promql.or_zero(f"sum by (kind) (increase({counter}))")
        return Query(expr, f"{what} {{{{kind}}}}")

    return timeseries(
        "Holds placed and lifted",
        "How often, by kind. Many of both: something flaps.",
        [moves("placed"), moves("lifted")],
        Field("short", 1, low=0),
    )


def _resident() -> Json:
    return timeseries(
        "Models resident by node",
        "Models loaded now. A node that swaps them spends its time on loading: see "
        "time to first token.",
        [Query(per_node("inferops_ollama_resident_models"), "{{node}}")],
        Field("none", 0, low=0),
    )


def _on_gpu() -> Json:
    return timeseries(
        "Resident models in GPU memory",
        "Share of the loaded models' bytes in GPU memory. Below 100 % a part runs on "
        "the CPU, many times slower.",
        [Query(per_node("node:ollama_resident_vram:ratio"), "{{node}}")],
        RATIO,
    )


def _temperature() -> Json:
    limit = per_node("node_gpu:temperature_limit:celsius", "min")
    return timeseries(
        "GPU temperature",
        "Each GPU, and dashed its node's lowest limit: an override of the inventory, "
        "else the driver's threshold for slowing down.",
        [
            Query(promql.gpu("node_gpu:temperature:celsius"), "{{node}} {{gpu}}"),
            Query(limit, "{{node}} limit"),
        ],
        Field("celsius", 0),
        dashed="/ limit$/",
    )


def _power() -> Json:
    return timeseries(
        "GPU power",
        "Power drawn by each GPU.",
        [Query(promql.gpu("node_gpu:power:watts"), "{{node}} {{gpu}}")],
        Field("watt", 0, low=0),
    )


def _utilisation() -> Json:
    return timeseries(
        "GPU utilisation",
        "Share of time in which a GPU ran any kernel at all. It hardly differs "
        "between 1 and 16 streams of Ollama: it says busy, not how busy.",
        [Query(promql.gpu("node_gpu:utilization:ratio"), "{{node}} {{gpu}}")],
        RATIO,
    )


def _memory() -> Json:
    used = f"max by (node, uuid) (node_gpu:memory_used:bytes{{{NODE}}})"
    total = f"max by (node, uuid) (node_gpu:memory_total:bytes{{{NODE}}})"
    return timeseries(
        "GPU memory used",
        "Bytes in use on each GPU, and dashed what the node's GPUs have in all. Near "
        "the line a model no longer fits and Ollama moves layers to the CPU.",
        [
            Query(f"sum by (node) ({used})", "{{node}}"),
            Query(f"sum by (node) ({total})", "{{node}} total"),
        ],
        Field("bytes", 1, low=0),
        dashed="/ total$/",
    )


def _throttling() -> Json:
    throttle = "node_gpu:thermal_throttle:ratio_rate1m"
    return timeseries(
        "Thermal throttling",
        "Share of the last minute in which heat slowed a GPU down. Above 0: check "
        "fans, dust and air before the alert drains the node.",
        [Query(promql.gpu(throttle), "{{node}} {{gpu}}")],
        RATIO,
    )


def _faults() -> Json:
    ecc = per_node("node_gpu:ecc_uncorrected:count", "sum")
    xid = per_node("node_gpu:xid_critical:count", "sum")
    return timeseries(
        "GPU faults",
        "Uncorrectable memory errors since the driver started, and critical XIDs of "
        "the last ten minutes. Anything above 0 is hardware: follow the runbook.",
        [Query(ecc, "{{node}} ECC"), Query(xid, "{{node}} XID")],
        Field("none", 0, low=0),
    )


def _machine() -> Json:
    return timeseries(
        "Machine load and memory",
        "Load per core, and the share of memory that is available, where "
        "node_exporter runs.",
        [
            Query(per_node("node:load_per_core:ratio"), "{{node}} load"),
            Query(per_node("node:memory_available:ratio"), "{{node}} memory free"),
        ],
        Field("percentunit", 0, low=0),
    )
