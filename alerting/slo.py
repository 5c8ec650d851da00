"""`python -m alerting.slo`: writes alerting/rules/slo.yml from the objectives.

`--check` only looks whether the file is current. Burn rates over two windows each, as
the SRE workbook and sloth have them: a page when a budget of 30 days goes within about
two or five days, a ticket when within ten or thirty.

Each event is read from its counters over 5 min only, every 30 s. Longer windows sum
these records up: the counters are scraped each second, and 3 days of them would be
a quarter of a million samples of each series. Numerator and denominator are summed
apart; no ratio is averaged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from alerting import objectives
from alerting.errors import ObjectivesError
from alerting.objectives import Objective, Objectives

__all__ = ["RULES", "main", "text"]

RULES = Path(__file__).resolve().parents[1] / "alerting/rules/slo.yml"
COMMAND = "python -m alerting.slo"
INTERVAL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows that must both burn the budget `factor` times too fast.

    The long one says that it matters, the short one that it still goes on.
    """

    long: str
    short: str
    factor: float


@dataclass(frozen=True, slots=True)
class Urgency:
    """What people are told, and by which pairs of windows."""

    severity: str
    pairs: tuple[Pair, Pair]


URGENCIES = (
    # 2 % of the budget within 1 h, 5 % within 6 h
    Urgency("critical", (Pair("1h", "5m", 14.4), Pair("6h", "30m", 6))),
    # 10 % of the budget within 1 day, 10 % within 3 days
    Urgency("warning", (Pair("1d", "2h", 3), Pair("3d", "6h", 1))),
)
_PAIRS = tuple(pair for urgency in URGENCIES for pair in urgency.pairs)
_WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d")  # beside 5m, ascending

_HEAD = f"""\
# Burn rates of the objectives in alerting/objectives.yml.
# Written by `{COMMAND}`; edits are lost.
groups:
  - name: inferops-slo
    interval: {INTERVAL_SECONDS}s
    rules:
"""


def text(given: Objectives) -> str:
    """Give the whole file."""
    rules = [
        *(rule for each in given.objectives for rule in _records(each)),
        *_windows(),
        *(
            _alert(each, urgency, given.least_failures)
            for each in given.objectives
            for urgency in URGENCIES
        ),
    ]
    return _HEAD + "\n".join(indent(rule, " " * 6) for rule in rules)


def _records(objective: Objective) -> Iterator[str]:
    slo = f'{{slo="{objective.name}"}}'
    # A difference of two rates may fall below 0 by rounding.
    bad = (
        "clamp_min(\n"
        f"{_deeper(_deeper(objective.bad.rstrip()))}\n"
        "  or on () # nothing was bad\n"
        f"    0 * sum(slo:sli_events:rate5m{slo}),\n"
        "  0\n)"
    )
    for name, expr in (
        ("slo:objective:ratio", f"vector({objective.objective:g})"),
        ("slo:sli_events:rate5m", objective.total.rstrip()),
        ("slo:sli_errors:rate5m", bad),
    ):
        yield f'- record: {name}\n{_expr(expr)}  labels:\n    slo: "{objective.name}"\n'


def _windows() -> Iterator[str]:
    yield (
        "- record: slo:sli_error:ratio_rate5m\n"
        + _expr("  slo:sli_errors:rate5m\n/ on (slo)\n  (slo:sli_events:rate5m > 0)")
    )
    for window in _WINDOWS:
        yield (
            f"- record: slo:sli_error:ratio_rate{window}\n"
            + _expr(
                f"  sum_over_time(slo:sli_errors:rate5m[{window}])\n"
                "/ on (slo)\n"
                f"  (sum_over_time(slo:sli_events:rate5m[{window}]) > 0)"
            )
        )
    # Summed every 5 min by prometheus/records/history.yml: a tenth of the samples.
    yield (
        "- record: slo:sli_error:ratio_rate30d\n"
        + _expr(
            "  sum_over_time(slo:sli_errors:count5m[30d])\n"
            "/ on (slo)\n"
            "  (sum_over_time(slo:sli_events:count5m[30d]) > 0)"
        )
    )
    for pair in _PAIRS:
        yield (
            f"- record: slo:sli_errors:count{pair.long}\n"
            + _expr(
                f"{INTERVAL_SECONDS}"
                f" * sum_over_time(slo:sli_errors:rate5m[{pair.long}])"
            )
        )


def _alert(objective: Objective, urgency: Urgency, least: int) -> str:
    pairs = [f"(\n{_burns(objective, each, least)}\n)" for each in urgency.pairs]
    lines = (
        f"- alert: {objective.alert}",
        _expr("\nor # slower, for longer\n".join(pairs)).rstrip(),
        "  labels:",
        f"    severity: {urgency.severity}",
        "    component: slo",
        "  annotations:",
        "    summary: >-",
        f"      Too many {objective.failing}",
        "    description: >-",
        indent(_meaning(objective, urgency), " " * 6),
        "    dashboard: /d/inferops-slo",
        f'    runbook_url: "{{{{ $externalURL }}}}/user/{objective.alert}.md"',
    )
    return "\n".join(lines) + "\n"


def _meaning(objective: Objective, urgency: Urgency) -> str:
    first, second = urgency.pairs
    return (
        "{{ $value | humanizePercentage }} of the events of the last\n"
        f"{_spoken(first.long)} or {_spoken(second.long)} were bad "
        f"({objective.failing}).\nAt this pace the budget of 30 days, "
        f"{objective.budget * 100:g} %,\n"
        f"is gone within {_days(first)} or {_days(second)}."
    )


def _burns(objective: Objective, pair: Pair, least: int) -> str:
    slo = f'{{slo="{objective.name}"}}'
    limit = f"{pair.factor:g} * {objective.budget:g}"
    return (
        f"    slo:sli_error:ratio_rate{pair.long}{slo} > {limit}\n"
        "  and on (slo) # it still goes on\n"
        f"    slo:sli_error:ratio_rate{pair.short}{slo} > {limit}\n"
        "  and on (slo) # enough bad events to speak of\n"
        f"    slo:sli_errors:count{pair.long}{slo} >= {least}"
    )


def _days(pair: Pair) -> str:
    return f"{round(30 / pair.factor):d} days"


def _spoken(window: str) -> str:
    words = {"h": ("hour", "hours"), "d": ("day", "days")}
    count, unit = int(window[:-1]), window[-1]
    one, many = words[unit]
    return one if count == 1 else f"{count} {many}"


def _expr(expr: str) -> str:
    if "\n" not in expr:
        return f"  expr: {expr}\n"
    mark = "|2" if expr.startswith(" ") else "|"
    return f"  expr: {mark}\n{indent(expr, ' ' * 4)}\n"


def _deeper(expr: str) -> str:
    return indent(expr, "  ")


def main(arguments: Sequence[str] | None = None, rules: Path = RULES) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    try:
        wanted = text(objectives.read())
    except ObjectivesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not check:
        rules.write_text(wanted, encoding="utf-8")
        return 0
    if rules.is_file() and rules.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"{rules}: not current, run `{COMMAND}`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
