"""The board "Usage": who uses the fleet, and what it costs.

Principals are those that the router names; all others are `other`.
"""

from __future__ import annotations

from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    GREEN,
    RED,
    Field,
    Json,
    Query,
    figure,
    in_blue,
    stat,
    timeseries,
)
from grafana.promql import NODE, rate
from grafana.variables import NODE as NODE_VARIABLE
from grafana.variables import PRICE

TOKENS = "inferops_usage_tokens_total"
JOULES = "inferops_usage_energy_joules_total"
NODE_JOULES = "inferops_node_energy_joules_total"
NODE_SECONDS = "inferops_usage_node_seconds_total"
IDLE = f'{NODE}, part="idle"'
WATTS = rate(JOULES, by="principal")
BY_PART = rate(NODE_JOULES, NODE, by="part")
NOTHING, NO_METER = "no request yet", "no card's energy is metered"


def usage() -> Board:
    return Board(
        "usage",
        "Usage",
        "Requests, tokens, energy and money by principal. Set the price above.",
        (
            Section("In the time range", Band(4, *_range())),
            Section(
                "By principal",
                Band(8, _requests(), _tokens()),
                Band(8, _power(), _node_time()),
                Band(8, _cost(), _parts()),
            ),
            Section("Ledger", Band(6, _rows(), _waiting())),
        ),
        (NODE_VARIABLE, PRICE),
        since="now-6h",
    )


def _over(counter: str, matchers: str = "") -> str:
    selector = f"{{{matchers}}}" if matchers else ""
    return f"sum(increase({counter}{selector}[$__range]))"


def _range() -> tuple[Json, ...]:
    return (
        figure(
            "Requests",
            "That ended in the time range, of all principals.",
            _over("inferops_usage_requests_total"),
            in_blue("short", 0, NOTHING),
        ),
        figure(
            "Generated tokens",
            "As the nodes count them, of all principals.",
            _over(TOKENS, 'kind="generated"'),
            in_blue("short", 0, NOTHING),
        ),
        figure(
            "Energy of requests",
            "Kilowatt-hours of cards beyond their idle power.",
            f"{_over(JOULES)} / 3.6e6",
            in_blue("kwatth", 2, NO_METER),
        ),
        figure(
            "Idle share",
            "Idle power's part of what the chosen nodes' meters counted.",
            f"{_over(NODE_JOULES, IDLE)}\n/\n({_over(NODE_JOULES, NODE)} > 0)",
            in_blue("percentunit", 0, NO_METER),
        ),
    )


def _lines(
    title: str, about: str, expr: str, field: Field, *, stacked: bool = False
) -> Json:
    query = Query(expr, "{{principal}}")
    return timeseries(title, about, [query], field, stacked=stacked)


def _requests() -> Json:
    return _lines(
        "Requests by principal",
        "A second, counted at their end.",
        rate("inferops_usage_requests_total", by="principal"),
        Field("reqps", 2, low=0, empty=NOTHING),
    )


def _tokens() -> Json:
    return _lines(
        "Tokens by principal",
        "Generated tokens a second, as the nodes count them.",
        rate(TOKENS, 'kind="generated"', by="principal"),
        Field("none", 1, low=0, empty=NOTHING),
    )


def _power() -> Json:
    return _lines(
        "Power by principal",
        "Of the cards, beyond idle power: shared at each moment by the streams that "
        "run on their node.",
        WATTS,
        Field("watt", 0, low=0, empty=NO_METER),
        stacked=True,
    )


def _node_time() -> Json:
    return _lines(
        "Nodes by principal",
        "How many nodes work for whom: time that streams share counts in part.",
        rate(NODE_SECONDS, by="principal"),
        Field("none", 2, low=0, empty=NOTHING),
        stacked=True,
    )


def _cost() -> Json:
    return _lines(
        "Money an hour by principal",
        "Energy beyond idle power at the price above, in its currency.",
        f"{WATTS} * 3600 / 3.6e6 * $price",
        Field("none", 4, low=0, empty=NO_METER),
        stacked=True,
    )


def _parts() -> Json:
    return timeseries(
        "Power: requests and idle",
        "Both together are what the chosen nodes' meters count.",
        [Query(BY_PART, "{{part}}")],
        Field("watt", 0, low=0, empty=NO_METER),
        stacked=True,
    )


def _rows() -> Json:
    return timeseries(
        "Rows of the ledger",
        "Written or dropped, a second: dropped ones had no room while the disk stood.",
        [Query(rate("inferops_usage_rows_total", by="outcome"), "{{outcome}}")],
        Field("none", 1, low=0),
    )


def _waiting() -> Json:
    return stat(
        "Rows waiting",
        "To be written; 20,000 at most.",
        [Query("sum(inferops_usage_rows_waiting)")],
        Field("none", 0, steps=[(0, GREEN), (10_000, RED)]),
    )
