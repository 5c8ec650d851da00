"""The board "SLO": what is left of the budgets of 30 days, and how fast it goes."""

from __future__ import annotations

from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    Field,
    Json,
    Query,
    stat,
    timeline,
    timeseries,
)
from grafana.tables import Column, joined

# What the ratio is times too large for the budget to last its 30 days.
_BURN = "max by (slo) ({ratio}) / on (slo) (1 - max by (slo) (slo:objective:ratio))"
LEFT = ((0.0, RED), (0.25, ORANGE), (0.5, GREEN))
SHARE = Field("percentunit", 2, low=0, high=1, empty="no requests")
WINDOWS = ("5m", "1h", "6h", "1d", "3d", "30d")


def burn(window: str) -> str:
    return _BURN.format(ratio=f"slo:sli_error:ratio_rate{window}")


def objectives() -> Board:
    return Board(
        "slo",
        "SLO",
        "Five objectives over 30 days. What counts stands in alerting/objectives.yml.",
        (
            Section("Budgets", Band(4, budget_left(), _used()), Band(7, _kept())),
            Section(
                "How fast they go",
                Band(7, _burning("1h", 14.4), _burning("6h", 6)),
                Band(7, _burning("3d", 1), _over_time()),
            ),
            Section(
                "What they are judged by",
                Band(7, _bad(), _events(), _bad_count()),
                Band(6, _alerts()),
            ),
        ),
        since="now-3h",
        refresh="30s",
    )


def budget_left() -> Json:
    return stat(
        "Error budget left of 30 days",
        "100 %: nothing bad in 30 days. 0: all that the objective allows is used, "
        "below it is broken. Needs samples of 30 days to be exact.",
        [Query(f"1 - {burn('30d')}", "{{slo}}")],
        Field("percentunit", 0, steps=LEFT, empty="no requests in 30 days yet"),
    )


def _used() -> Json:
    return stat(
        "Share of the 30 days' budget used within 3 days",
        "A tenth is the pace at which the budget just lasts. Three tenths: it is gone "
        "in ten days.",
        [Query(f"0.1 * {burn('3d')}", "{{slo}}")],
        Field(
            "percentunit",
            1,
            steps=((0.0, GREEN), (0.1, ORANGE), (0.3, RED)),
            empty="no requests",
        ),
    )


def _kept() -> Json:
    return joined(
        "Objectives and what was reached",
        "The share of good events that is asked for, and what it was in each window.",
        "slo",
        [
            Column("objective", "max by (slo) (slo:objective:ratio)", SHARE),
            *(
                Column(
                    window,
                    f"1 - max by (slo) (slo:sli_error:ratio_rate{window})",
                    SHARE,
                )
                for window in WINDOWS
            ),
        ],
    )


def _burning(window: str, limit: float) -> Json:
    told = "page" if limit > 1 else "ticket"
    return timeseries(
        f"Burn rate, {window}",
        f"How many times too fast the budget goes. 1: it lasts 30 days. Above "
        f"{limit:g}, and in a shorter window too: people get a {told}.",
        [Query(burn(window), "{{slo}}"), Query(f"vector({limit:g})", told)],
        Field("none", 1, low=0, empty="no requests"),
        dashed=told,
    )


def _over_time() -> Json:
    return timeseries(
        "Error budget left over time",
        "Of the 30 days before each moment. It rises when bad days leave the window.",
        [Query(f"1 - {burn('30d')}", "{{slo}}")],
        Field("percentunit", 0, empty="no requests in 30 days yet"),
    )


def _bad() -> Json:
    return timeseries(
        "Bad events, 5 min",
        "The share of the events that broke the objective: failed, or too slow.",
        [Query("max by (slo) (slo:sli_error:ratio_rate5m)", "{{slo}}")],
        Field("percentunit", 1, low=0, empty="no requests"),
    )


def _events() -> Json:
    return timeseries(
        "Events",
        "What the objectives are judged by. With few events a share says little: "
        "fewer than 5 bad ones alert nobody.",
        [Query("max by (slo) (slo:sli_events:rate5m)", "{{slo}}")],
        Field("cps", 2, low=0, empty="no requests"),
    )


def _bad_count() -> Json:
    return stat(
        "Bad events within a day",
        "How many requests broke each objective.",
        [Query("max by (slo) (slo:sli_errors:count1d)", "{{slo}}")],
        Field("short", 0, steps=[(0, GREEN), (5, ORANGE)], empty="no requests"),
    )


def _alerts() -> Json:
    burns = 'alertname=~".+BudgetBurns", alertstate="firing", severity'
    return timeline(
        "Alerts of the budgets",
        "When a budget burned too fast, and for whom it was: a page or a ticket.",
        [
            Query(
                f'2 * max by (alertname, severity) (ALERTS{{{burns}="critical"}})\n'
                f'or\nmax by (alertname, severity) (ALERTS{{{burns}!="critical"}})',
                "{{alertname}} {{severity}}",
            )
        ],
        Field(
            "none",
            words={1: ("a ticket", ORANGE), 2: ("a page", RED)},
            empty="no budget burned",
        ),
    )
