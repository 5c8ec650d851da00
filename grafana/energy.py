"""The board "Energy and cost": what tokens cost, by the power of the cards.

Cards only: what the machine around them draws is in no figure here.
"""

from __future__ import annotations

from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import Field, Json, Query, figure, in_blue, timeseries
from grafana.promql import BOTH, NODE, RECORD_STEP, tokens
from grafana.variables import CO2, MODEL, PRICE
from grafana.variables import NODE as NODE_VARIABLE

POWER = f"sum by (node) (node:power:watts{{{NODE}}})"
TOKENS = tokens(f'{NODE}, kind="generated"', by="node")
_STEADY = tokens(f'{NODE}, kind="generated"', by="node", steady=True)
FLEET_TOKENS = f"(sum({_STEADY}) > 0)"
JOULES = f"(sum({POWER}) / {FLEET_TOKENS})"
_BY_MODEL = tokens(f'{BOTH}, kind="generated"', by="model")
BY_MODEL = f"""\
sum by (model) (node:model_power:watts{{{BOTH}}})
/ on (model)
({_BY_MODEL} > 0)"""
IDLE = f"{POWER} and on (node) max by (node) (inferops_in_flight{{{NODE}}}) == 0"
KWH = "sum_over_time(node:power:watts_avg5m{" + NODE + "}[$__range]) * 300 / 3.6e6"
NO_TOKENS, NO_POWER = "no tokens", "no power figures"


def energy() -> Board:
    return Board(
        "energy",
        "Energy and cost",
        "Joules, money and CO2 by node and model. Set price and factor above.",
        (
            Section("Now", Band(4, *_now()), Band(4, *_range())),
            Section(
                "By node and model",
                Band(8, _power(), _idle()),
                Band(8, _by_node(), _by_model()),
                Band(8, _cost(), _yield()),
            ),
        ),
        (NODE_VARIABLE, MODEL, PRICE, CO2),
        since="now-6h",
    )


def _now() -> tuple[Json, ...]:
    return (
        figure(
            "Power of all cards",
            "What the chosen nodes' cards draw now, idle ones included.",
            f"sum({POWER})",
            in_blue("watt", 0, NO_POWER),
        ),
        figure(
            "Joules per token",
            "Power of all chosen cards over what they generate; idle cards count.",
            JOULES,
            in_blue("joule", 2, NO_TOKENS),
        ),
        figure(
            "Cost of a million tokens",
            "Power of the cards at the price above, in its currency.",
            f"{JOULES} * 1e6 / 3.6e6 * $price",
            in_blue("none", 3, NO_TOKENS),
        ),
        figure(
            "CO2 of a million tokens",
            "In grams, by the factor above.",
            f"{JOULES} * 1e6 / 3.6e6 * $co2",
            in_blue("massg", 1, NO_TOKENS),
        ),
    )


def _range() -> tuple[Json, ...]:
    return (
        figure(
            "Energy in the time range",
            "Kilowatt-hours of the chosen nodes' cards, in steps of 5 min.",
            f"sum({KWH})",
            in_blue("kwatth", 2, "nothing recorded yet: 5 min"),
        ),
        figure(
            "Cost in the time range",
            "The same at the price above, in its currency.",
            f"sum({KWH}) * $price",
            in_blue("none", 2, "nothing recorded yet: 5 min"),
        ),
        figure(
            "CO2 in the time range",
            "The same by the factor above, in grams.",
            f"sum({KWH}) * $co2",
            in_blue("massg", 0, "nothing recorded yet: 5 min"),
        ),
        figure(
            "Power of idle nodes",
            "Cards of nodes without any request: what could be switched off.",
            f"sum({IDLE})",
            in_blue("watt", 0, "no node is idle"),
        ),
    )


def _power() -> Json:
    return timeseries(
        "Power by node",
        "Of all cards of a node.",
        [Query(POWER, "{{node}}", RECORD_STEP)],
        Field("watt", 0, low=0, empty=NO_POWER),
        stacked=True,
    )


def _idle() -> Json:
    return timeseries(
        "Power while idle",
        "Of nodes that have no request just then. Loaded models keep cards from their "
        "lowest state.",
        [Query(IDLE, "{{node}}", RECORD_STEP)],
        Field("watt", 0, low=0, empty="no node is idle"),
    )


def _by_node() -> Json:
    return timeseries(
        "Joules per token by node",
        "Power over generated tokens. Fuller nodes need less for a token: a batch "
        "shares each reading of the weights.",
        [Query(f"{POWER} / on (node) ({TOKENS} > 0)", "{{node}}", RECORD_STEP)],
        Field("joule", 2, low=0, empty=NO_TOKENS),
    )


def _by_model() -> Json:
    return timeseries(
        "Joules per token by model",
        "A node's power is shared out to its models by their tokens, since no source "
        "tells them apart.",
        [Query(BY_MODEL, "{{model}}", RECORD_STEP)],
        Field("joule", 2, low=0, empty=NO_TOKENS),
    )


def _cost() -> Json:
    return timeseries(
        "Cost of a million tokens by model",
        "At the price above, in its currency; power of the cards only.",
        [Query(f"(\n{BY_MODEL}\n) * 1e6 / 3.6e6 * $price", "{{model}}", RECORD_STEP)],
        Field("none", 3, low=0, empty=NO_TOKENS),
    )


def _yield() -> Json:
    return timeseries(
        "Tokens per watt by node",
        "Generated tokens a second for each watt: which card to buy again.",
        [Query(f"{TOKENS} / on (node) ({POWER} > 0)", "{{node}}", RECORD_STEP)],
        Field("none", 3, low=0, empty=NO_TOKENS),
    )
