"""The board "Node": why a node has its score, its state and its speed."""

from __future__ import annotations

from dataclasses import replace

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import BLUE, Field, Json, Query, stat, timeline, timeseries
from grafana.promql import NODE, per_node
from grafana.routing import attempts_by_node, in_flight
from grafana.states import (
    HOLD_STATE,
    NODE_STATE,
    RATIO,
    SCORE,
    SCORE_STEPS,
    YES_NO,
)
from grafana.tables import labels, matrix
from grafana.variables import NODE as NODE_VARIABLE

# Parts are shown twice: over time, and as they stand now.
PARTS = f"max by (node, signal) (inferops_node_signal_score{{{NODE}}})"
READINGS = f"max by (node, signal) (inferops_node_signal_value{{{NODE}}})"


def nodes() -> Board:
    return Board(
        "node",
        "Node",
        "One node, or all side by side: state, score, work, Ollama, machine.",
        (_state(), _score(), _work(), _ollama(), _machine_section()),
        (NODE_VARIABLE,),
    )


def _state() -> Section:
    return Section(
        "State",
        Band(7, states_over_time(), holds_now()),
        Band(6, _hold_moves(), _share()),
    )


def _score() -> Section:
    return Section(
        "Score", Band(8, _scores(), _parts()), Band(7, _parts_now(), _readings_now())
    )


def _work() -> Section:
    return Section(
        "Work",
        Band(8, in_flight(), attempts_by_node()),
        Band(8, _tokens(), _speed(), _silent()),
    )


def _ollama() -> Section:
    return Section(
        "Ollama",
        Band(7, _answers(), _versions(), _loads()),
        Band(7, _resident(), _on_gpu()),
    )


def _machine_section() -> Section:
    return Section("Machine", Band(7, _machine(), _disks(), _answering()))


def states_over_time() -> Json:
    return timeline(
        "State by node",
        "What keeps work away, and when: a cordon by an operator, drain or evict by an "
        "alert, down by a probe or by live traffic. Derate, returning: less work.",
        [Query(promql.STATES, "{{node}}")],
        NODE_STATE,
    )


def holds_now() -> Json:
    """Every hold; `runbook` is the alert that placed it, empty where none did."""
    holds = f"max by (node, kind, source, state) (inferops_node_hold{{{NODE}}})"
    return labels(
        "Holds now",
        "Every hold that stands, by what placed it. Its source leads to what the "
        "router says of the node; an alert's hold leads to its runbook.",
        f'label_replace({holds}, "runbook", "$1", "source", "alert:(.+)")',
        ["node", "kind", "state", "source", "runbook"],
        "no holds",
        fields={"state": HOLD_STATE},
    )


def _share() -> Json:
    factor = per_node("inferops_node_factor", "min")
    return timeseries(
        "Share of its slots that a node may use",
        "Below 100 %: it came back and gets its slots one by one, or an alert derates "
        "it.",
        [
            Query(promql.SLOW_START, "{{node}} slow start"),
            Query(factor, "{{node}} derated to"),
        ],
        RATIO,
        dashed="/ derated to$/",
    )


def _tokens() -> Json:
    by_node = promql.or_node_zero(promql.tokens(NODE, by="node, kind"), "kind")
    return timeseries(
        "Tokens per second by node",
        "Prompt tokens read and tokens generated, as the nodes themselves counted "
        "them at the end of each reply; over a minute.",
        [Query(by_node, "{{node}} {{kind}}", promql.RECORD_STEP)],
        Field("short", 1, low=0),
    )


def _speed() -> Json:
    speed = f"max by (node, model) (inferops_generation_tokens_per_second{{{NODE}}})"
    return timeseries(
        "Generation speed of one stream",
        "Tokens per second that one stream gets, learned for each node and model. "
        "Dispatch trusts this more than it trusts a data sheet.",
        [Query(speed, "{{node}} {{model}}")],
        Field("short", 1, low=0, empty="nothing learned yet"),
    )


def _silent() -> Json:
    oldest = f"max by (node, model) (inferops_silent_oldest_seconds{{{NODE}}})"
    return timeseries(
        "Oldest request without a token",
        "How long a node has had a request of which nothing came yet. It loads a "
        "model, or it is stuck: see the runbook OllamaWedged.",
        [Query(oldest, "{{node}} {{model}}")],
        Field("s", 1, low=0, empty="nothing waits for a first token"),
    )


def _answers() -> Json:
    return timeline(
        "Ollama answers",
        "Whether a node's Ollama answered the last probe, by all that ask it.",
        [Query(per_node("node:ollama:up", "min"), "{{node}}")],
        Field("none", words=YES_NO),
    )


def _versions() -> Json:
    return labels(
        "Ollama versions",
        "Of each node. Versions that differ answer the same request differently.",
        f"max by (node, version) (node:ollama_version:info{{{NODE}}})",
        ["node", "version"],
        "no Ollama answers",
    )


def _loads() -> Json:
    gone = f"sum by (node, reason) (node:ollama_unloads:rate5m{{{NODE}}})"
    return timeseries(
        "Models loaded and unloaded",
        "Per second, over 5 min. Unloads that are early: a model had to go for "
        "another one, and each such swap costs a load.",
        [
            Query(per_node("node:ollama_loads:rate5m"), "{{node}} loads"),
            Query(gone, "{{node}} unloads {{reason}}"),
        ],
        Field("cps", 3, low=0),
    )


def _disks() -> Json:
    free = f"max by (node, mountpoint) (node:disk_available:ratio{{{NODE}}})"
    return timeseries(
        "Disk available",
        "Share that is free, by file system. Ollama cannot pull models where the "
        "disk is full.",
        [Query(free, "{{node}} {{mountpoint}}")],
        Field("percentunit", 0, low=0, high=1, empty="no node_exporter"),
    )


def _answering() -> Json:
    return stat(
        "Telemetry that answers",
        "Share of a node's targets that answer. Losing telemetry alone never takes a "
        "node out.",
        [Query(per_node("node:up:ratio", "min"), "{{node}}")],
        Field("percentunit", 0, steps=[(0, BLUE)], empty="no telemetry"),
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


def _hold_moves() -> Json:
    def moves(what: str) -> Query:
        counter = f"inferops_holds_{what}_total[$__rate_interval]"
        expr = promql.or_zero(f"sum by (kind) (increase({counter}))", "kind")
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
        replace(RATIO, empty="nothing is loaded"),
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
        Field("percentunit", 0, low=0, empty="no node_exporter"),
    )
