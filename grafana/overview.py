"""The board "Overview": is inference fine, who is out and why, and for how long yet.

Its uid is that of the former single board, so that old links still lead somewhere.
"""

from __future__ import annotations

from dataclasses import replace

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.node import holds_now, states_over_time
from grafana.panels import BLUE, GREEN, ORANGE, RED, Field, Json, Query, stat
from grafana.promql import per_node
from grafana.slo import budget_left
from grafana.states import DEGRADE_WORDS, NODE_STATE, SCORE, SCORE_STEPS, YES_NO
from grafana.tables import Column, joined
from grafana.telemetry import firing_now
from grafana.variables import NODE as NODE_VARIABLE


def overview() -> Board:
    serving = (_nodes(), _errors(), _first_token(), _waiting(), _requests())
    trust = (_alerts(), _watchdog(), _panic(), _degrade(), _snapshot_age())
    return Board(
        "fleet",
        "Overview",
        "Is inference fine? If not, a node, a model or an alert here leads on.",
        (
            Section(
                "Is inference fine",
                Band(4, *serving, widths=(6, 4, 5, 5, 4)),
                Band(4, _headroom(), budget_left(), widths=(6, 18)),
            ),
            Section(
                "Who is out, and why",
                Band(9, _table()),
                Band(7, states_over_time(), holds_now()),
                Band(7, firing_now()),
            ),
            Section(
                "Can this page be trusted", Band(4, *trust, widths=(6, 4, 4, 5, 5))
            ),
        ),
        (NODE_VARIABLE,),
    )


def _nodes() -> Json:
    schedulable = "inferops_node_schedulable"
    return stat(
        "Nodes",
        "Nodes that take new work, nodes that a hold keeps out of it, and all of the "
        "inventory. Held nodes and the reasons are in the table below.",
        [
            Query(f"sum({schedulable})", "schedulable"),
            Query(promql.or_zero(f"count({schedulable} == 0)"), "held"),
            Query(f"count({schedulable})", "total"),
        ],
        Field("none", steps=[(0, BLUE)], empty="no router"),
        colours={
            "schedulable": [(0, RED), (1, GREEN)],
            "held": [(0, GREEN), (1, ORANGE)],
        },
    )


def _errors() -> Json:
    return stat(
        "Error ratio",
        "Share of requests of the last minute that failed for their client: a 5xx, or "
        "a stream that broke off. What clients did wrong (4xx) does not count.",
        [Query(promql.ERROR_RATIO, min_step="1m")],
        # 1 % spends an availability target of 99 %; 5 % is felt by everyone.
        Field(
            "percentunit",
            2,
            steps=[(0, GREEN), (0.01, ORANGE), (0.05, RED)],
            empty="no router",
        ),
    )


def _first_token() -> Json:
    series = "inferops_time_to_first_token_seconds"
    return stat(
        "Time to first token",
        "From the request's arrival to the first token sent, over the last minute; "
        "waiting in the queue and loading the model are in it.",
        [
            Query(promql.quantile(0.5, series), "p50", "1m"),
            Query(promql.quantile(0.95, series), "p95", "1m"),
        ],
        # People wait 1 s without noticing much; 5 s is mostly a model being loaded.
        Field("s", 2, steps=[(0, GREEN), (1, ORANGE), (5, RED)], empty="idle"),
    )


def _waiting() -> Json:
    return stat(
        "Waiting",
        "Requests that wait in the router for a free slot. The queue is bounded: "
        "when it is full, clients get 429.",
        [Query("sum by (priority) (inferops_queue_length)", "{{priority}}")],
        Field("none", steps=[(0, GREEN), (1, ORANGE)], empty="no router"),
    )


def _requests() -> Json:
    return stat(
        "Requests",
        "Requests that ended, per second over the last minute, whatever the outcome.",
        [Query(promql.or_zero(promql.rate("inferops_requests_total")), min_step="1m")],
        Field("reqps", 2, steps=[(0, BLUE)], empty="no router"),
    )


def _headroom() -> Json:
    used, slots = promql.serving("inferops_in_flight"), promql.serving("inferops_slots")
    return stat(
        "Slots in use",
        "Of the nodes that take work. Above 90 % waits grow steeply: FleetHeadroomLow "
        "fires after 10 min of it.",
        [Query(f"{used} / ({slots} > 0)", "in use"), Query(slots, "slots")],
        Field(
            "percentunit",
            0,
            steps=[(0, GREEN), (0.7, ORANGE), (0.9, RED)],
            empty="no slots",
        ),
        colours={"slots": [(0, BLUE)]},
        units={"slots": "none"},
    )


def _alerts() -> Json:
    firing = 'ALERTS{alertstate="firing", severity'
    return stat(
        "Alerts firing",
        "Firing now, by severity. Silences and inhibition do not hide an alert here: "
        "they only keep it from people's mail.",
        [
            Query(f'count({firing}="critical"}}) or vector(0)', "critical"),
            Query(f'count({firing}=~"warning|info"}}) or vector(0)', "other"),
        ],
        Field("none", steps=[(0, GREEN), (1, RED)]),
        colours={"other": [(0, GREEN), (1, ORANGE)]},
    )


def _watchdog() -> Json:
    return stat(
        "Watchdog",
        "An alert that always fires. Where it does not, Prometheus evaluates no rules "
        "and no alerts says nothing: repair Prometheus before you trust this page.",
        [
            Query(
                'count(ALERTS{alertname="Watchdog", alertstate="firing"}) or vector(0)'
            )
        ],
        Field("none", words={0: ("SILENT", RED), 1: ("firing", GREEN)}),
    )


def _panic() -> Json:
    return stat(
        "Panic",
        "On while more than half of the fleet is held by alerts: those holds are "
        "then ignored. Look for one wrong rule before looking at the nodes.",
        [Query("max(inferops_panic)")],
        Field("none", words={0: ("off", GREEN), 1: ("ON", RED)}, empty="no router"),
    )


def _degrade() -> Json:
    return stat(
        "Scores",
        "What dispatch goes by: fresh readings, the last good ones, its own in-flight "
        "and measured speed, or static weights. Not fresh: look at Prometheus.",
        [Query("max(inferops_degrade_step)")],
        Field("none", words=DEGRADE_WORDS, empty="no router"),
    )


def _snapshot_age() -> Json:
    return stat(
        "Snapshot age",
        "Seconds since the control loop last published. It passes every few seconds.",
        [Query("max(inferops_snapshot_age_seconds)")],
        # A pass takes place every few seconds: 15 s are several missed ones.
        Field("s", 1, steps=[(0, GREEN), (15, ORANGE), (30, RED)], empty="no router"),
    )


def _table() -> Json:
    return joined(
        "Nodes in detail",
        "One row for each node of the inventory: whether it takes work and what keeps "
        "it out, its score, its load, and what its telemetry says.",
        "node",
        [*_dispatch_columns(), *_telemetry_columns()],
    )


def _dispatch_columns() -> list[Column]:
    attempts = promql.rate("inferops_attempts_total", promql.NODE, by="node")
    tokens = promql.rate(
        "inferops_tokens_total", f'{promql.NODE}, kind="generated"', by="node"
    )
    return [
        Column("state", promql.STATES, NODE_STATE, "color-background"),
        Column(
            "score",
            per_node("inferops_node_score"),
            replace(SCORE, steps=SCORE_STEPS),
            "gauge",
        ),
        Column("in flight", per_node("inferops_in_flight"), Field("none", 0)),
        Column("slots", per_node("inferops_slots"), Field("none", 0)),
        Column("attempts/s", promql.or_node_zero(attempts), Field("reqps", 2)),
        Column("tokens/s", promql.or_node_zero(tokens), Field("short", 1)),
    ]


def _telemetry_columns() -> list[Column]:
    # 80 and 90 °C: most cards begin to slow down between the two.
    heat = [(0.0, GREEN), (80.0, ORANGE), (90.0, RED)]
    full = [(0.0, GREEN), (0.9, ORANGE), (0.95, RED)]
    answers = [(0.0, RED), (0.5, ORANGE), (1.0, GREEN)]
    return [
        Column(
            "Ollama",
            per_node("node:ollama:up", "min"),
            Field("none", words=YES_NO),
            "color-text",
        ),
        Column(
            "resident", per_node("inferops_ollama_resident_models"), Field("none", 0)
        ),
        Column(
            "GPU heat",
            per_node("node:gpu_temperature:max_celsius"),
            Field("celsius", 0, steps=heat),
            "color-text",
        ),
        Column(
            "GPU busy", per_node("node:gpu_utilization:ratio"), Field("percentunit", 0)
        ),
        Column(
            "GPU memory",
            per_node("node:gpu_memory_used:ratio"),
            Field("percentunit", 0, steps=full),
            "color-text",
        ),
        Column(
            "telemetry",
            per_node("node:up:ratio", "min"),
            Field("percentunit", 0, steps=answers),
            "color-text",
        ),
    ]
