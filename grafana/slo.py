"""The objectives: how fast their budgets are used up, and by how many bad events."""

from __future__ import annotations

from grafana.grid import Band, Section
from grafana.panels import GREEN, ORANGE, RED, Field, Json, Query, stat, timeseries

# What the ratio is times too large for the budget to last its 30 days.
_BURN = "max by (slo) ({ratio}) / on (slo) (1 - max by (slo) (slo:objective:ratio))"


def burn(ratio: str) -> str:
    return _BURN.format(ratio=ratio)


def objectives() -> Section:
    return Section(
        "Service level objectives",
        (Band(4, (_used(),)), Band(7, (_burning(), _bad(), _events()))),
    )


def _used() -> Json:
    return stat(
        "Share of the 30 days' budget used within 3 days",
        "A tenth is the pace at which the budget just lasts. Objectives and what "
        "counts as bad stand in alerting/objectives.yml.",
        [Query(f"0.1 * {burn('slo:sli_error:ratio_rate3d')}", "{{slo}}")],
        Field(
            "percentunit",
            1,
            steps=((0.0, GREEN), (0.1, ORANGE), (0.3, RED)),
            empty="no requests",
        ),
    )


def _burning() -> Json:
    return timeseries(
        "Burn rate, 1 h",
        "How many times too fast the budget is used up. 1: it lasts its 30 days. "
        "14.4: it is gone in two, and people are paged.",
        [
            Query(burn("slo:sli_error:ratio_rate1h"), "{{slo}}"),
            Query("vector(14.4)", "page"),
        ],
        Field("none", 1, low=0),
        dashed="page",
    )


def _bad() -> Json:
    return timeseries(
        "Bad events, 5 min",
        "The share of the events that broke the objective: failed, or too slow.",
        [Query("max by (slo) (slo:sli_error:ratio_rate5m)", "{{slo}}")],
        Field("percentunit", 1, low=0),
    )


def _events() -> Json:
    return timeseries(
        "Events",
        "What the objectives are judged by. With few events a share says little: "
        "fewer than 5 bad ones alert nobody.",
        [Query("max by (slo) (slo:sli_events:rate5m)", "{{slo}}")],
        Field("cps", 2, low=0),
    )
