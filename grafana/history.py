"""The board "History": weeks, hours, incidents, and how long capacity lasts.

It reads what prometheus/records/history.yml records each 5 min: a month of raw
samples would take minutes.
"""

from __future__ import annotations

from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Field,
    Json,
    Query,
    stat,
    timeseries,
)
from grafana.promql import MODEL, NODE
from grafana.tables import Column, heat, joined, labels
from grafana.variables import MODEL as MODEL_VARIABLE
from grafana.variables import NODE as NODE_VARIABLE

STEP = "5m"
YOUNG = "nothing recorded yet: 5 min"
SLOTS = "max by (node) (inferops_slots)"
PEAK = "max_over_time(fleet:in_flight:max5m[$__range])"
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
WEEK_SECONDS = 7 * 86_400


def history() -> Board:
    return Board(
        "history",
        "History",
        "A month by default: growth, habits, incidents, availability, capacity.",
        (
            Section("Weeks and hours", Band(8, _requests(), _tokens()), _hours()),
            Section(
                "Nodes and incidents",
                Band(8, _availability(), _table()),
                Band(8, _incidents(), _failures()),
            ),
            Section(
                "Capacity", Band(8, _slots(), _without()), Band(4, _peak(), _forecast())
            ),
            Section(
                "Models and power", Band(8, _model_tokens(), _first_token(), _power())
            ),
        ),
        (NODE_VARIABLE, MODEL_VARIABLE),
        since="now-30d",
        refresh="5m",
        most_points=None,  # weeks, of few series
    )


def over(series: str, *, ago: str = "", call: str = "avg_over_time") -> str:
    """A record of each 5 min, over each step of the panel."""
    return f"{call}({series}[$__interval]{f' offset {ago}' if ago else ''})"


def _weeks(expr: str) -> list[Query]:
    return [
        Query(expr.format(""), "now", STEP),
        Query(expr.format(" offset 1w"), "a week before", STEP),
    ]


def _requests() -> Json:
    return timeseries(
        "Requests, week over week",
        "Per second, and dashed the same hour a week before.",
        _weeks("avg_over_time(fleet:requests:rate5m[$__interval]{})"),
        Field("reqps", 2, low=0, empty=YOUNG),
        dashed="a week before",
    )


def _tokens() -> Json:
    generated = f'node:tokens:rate5m{{{{{NODE}, kind="generated"}}}}'
    return timeseries(
        "Generated tokens, week over week",
        "Per second, and dashed the same hour a week before.",
        _weeks(f"sum(avg_over_time({generated}[$__interval]{{}}))"),
        Field("short", 1, low=0, empty=YOUNG),
        dashed="a week before",
    )


def _hours() -> Band:
    expr = (
        "avg by (weekday, hour)"
        " (avg_over_time(fleet:requests_by_hour:rate5m[$__range]))"
    )
    made = heat(
        "Requests by hour and weekday",
        "Mean requests a second in the time range; hours are UTC. Plan work on nodes "
        "where it is pale.",
        expr,
        Field("none", 1, empty=YOUNG),
        row=("weekday", dict(enumerate(DAYS))),
        column=("hour", [str(hour) for hour in range(24)]),
    )
    return Band(9, made)


def _availability() -> Json:
    return timeseries(
        "Availability of nodes",
        "Share of the time in which no hold kept work from a node.",
        [Query(over(f"node:available:ratio_avg5m{{{NODE}}}"), "{{node}}", "1h")],
        Field("percentunit", 1, low=0, high=1, empty=YOUNG),
    )


def _table() -> Json:
    available = f"avg_over_time(node:available:ratio_avg5m{{{NODE}}}[$__range])"
    count = f"count_over_time(node:available:ratio_avg5m{{{NODE}}}[$__range])"
    tokens = f'node:tokens:rate5m{{{NODE}, kind="generated"}}'
    return joined(
        "Nodes in the time range",
        "Availability, time out, and what each did in that time.",
        "node",
        [
            Column(
                "available",
                available,
                Field(
                    "percentunit", 2, steps=[(0, RED), (0.95, ORANGE), (0.99, GREEN)]
                ),
                "color-text",
            ),
            Column("time out", f"(1 - {available}) * {count} * 300", Field("s", 0)),
            Column(
                "attempts",
                f"sum_over_time(node:attempts:rate5m{{{NODE}}}[$__range]) * 300",
                Field("short", 0),
            ),
            Column(
                "tokens",
                f"sum by (node) (sum_over_time({tokens}[$__range])) * 300",
                Field("short", 0),
            ),
        ],
    )


def _incidents() -> Json:
    shown = "alertname, severity, component, node"
    firing = 'alertstate="firing", severity=~"critical|warning", node=~"$node|"'
    return labels(
        "Incidents in the time range",
        "Alerts that fired, by node. When: the red marks on each panel. The name leads "
        "to the runbook, the component to the board.",
        f"count by ({shown}) (count_over_time(ALERTS{{{firing}}}[$__range]))",
        shown.split(", "),
        "nothing fired",
    )


def _failures() -> Json:
    failed = over("fleet:failures:rate5m")
    return timeseries(
        "Error ratio over weeks",
        "Share of requests that failed for their client.",
        [Query(f"{failed} / ({over('fleet:requests:rate5m')} > 0)", "failed", STEP)],
        Field("percentunit", 2, low=0, empty=YOUNG),
    )


def _slots() -> Json:
    return timeseries(
        "Peak load and slots",
        "The most requests in flight at once, and dashed the slots there were.",
        [
            Query(over("fleet:in_flight:max5m", call="max_over_time"), "peak", STEP),
            Query(over("fleet:slots:avg5m"), "slots", STEP),
        ],
        Field("none", 0, low=0, empty=YOUNG),
        dashed="slots",
    )


def _without() -> Json:
    rest = f"(scalar(sum({SLOTS})) - {SLOTS})"
    return joined(
        "One node less",
        "The time range's peak on the slots that are left without the node. Above "
        "100 % people would have waited.",
        "node",
        [
            Column("slots", SLOTS, Field("none", 0)),
            Column(
                "peak of the rest",
                f"scalar({PEAK}) / ({rest} > 0)",
                Field("percentunit", 0, steps=[(0, GREEN), (0.7, ORANGE), (1, RED)]),
                "color-text",
            ),
        ],
    )


def _peak() -> Json:
    return stat(
        "Peak of the time range",
        "The most requests in flight at once, on all slots of the inventory.",
        [Query(f"{PEAK} / (sum({SLOTS}) > 0)")],
        Field(
            "percentunit",
            0,
            steps=[(0, GREEN), (0.7, ORANGE), (0.9, RED)],
            empty=YOUNG,
        ),
    )


def _forecast() -> Json:
    load = "fleet:in_flight:max5m[$__range]"
    ahead = f"predict_linear({load}, {WEEK_SECONDS})"
    return stat(
        "Load in a week, at this pace",
        "The straight line through the time range's load, a week on, on all slots. A "
        "range of a month evens out weekdays. A day at least: minutes lead anywhere.",
        [
            Query(
                f"(clamp_min({ahead}, 0) and count_over_time({load}) >= 288)\n"
                f"/ (sum({SLOTS}) > 0)"
            )
        ],
        Field(
            "percentunit",
            0,
            steps=[(0, BLUE), (0.7, ORANGE), (0.9, RED)],
            empty=YOUNG,
        ),
    )


def _model_tokens() -> Json:
    series = over(f'model:tokens:rate5m{{{MODEL}, kind="generated"}}')
    return timeseries(
        "Generated tokens by model",
        "Per second: which models people move to.",
        [Query(series, "{{model}}", STEP)],
        Field("short", 1, low=0, empty=YOUNG),
        stacked=True,
    )


def _first_token() -> Json:
    series = over(f"model:first_token:seconds_p95_5m{{{MODEL}}}", call="max_over_time")
    return timeseries(
        "Time to first token by model, p95",
        "The worst 5 min of each step.",
        [Query(series, "{{model}}", STEP)],
        Field("s", 2, low=0, empty=YOUNG),
    )


def _power() -> Json:
    return timeseries(
        "Power by node over weeks",
        "Of all cards of a node.",
        [Query(over(f"node:power:watts_avg5m{{{NODE}}}"), "{{node}}", STEP)],
        Field("watt", 0, low=0, empty=YOUNG),
        stacked=True,
    )
