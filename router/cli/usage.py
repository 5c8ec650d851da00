"""`inferops usage`: who used what, and what it cost."""

from __future__ import annotations

from typing import IO, Any

import click

from router.cli.app import Session, command

_JOULES_PER_KWH = 3.6e6


@click.command()
@click.option("--month", help="Such as 2026-11; without: this month, in UTC.")
@click.option(
    "--by",
    default="principal",
    show_default=True,
    help="Groups, comma between: principal, model, node, day.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV, for spreadsheets.")
@click.option(
    "--parquet",
    type=click.File("wb", lazy=True),
    help="Write a Parquet file of that name.",
)
@command
def usage(
    session: Session,
    month: str | None,
    by: str,
    *,
    as_csv: bool,
    parquet: IO[bytes] | None,
) -> None:
    """Report requests, tokens, energy and money: the month's end, say."""
    query = {"by": by, **({"month": month} if month else {})}
    if as_csv:
        session.console.raw(
            session.client.stream("/admin/usage", **query, format="csv")
        )
        return
    report = session.client.get("/admin/usage", **query)
    if parquet:
        _write_parquet(report["usage"], parquet)
        return
    names = ["name" if each == "principal" else each for each in report["by"]]
    head = (*names, "requests", "tokens in", "tokens out", "node hours", "kWh", "cost")
    rows = [[*_named(names, group), *_figures(group)] for group in report["usage"]]
    session.console.table(report, head, [*rows, _idle(report, len(names))])


def _write_parquet(groups: list[dict[str, Any]], file: IO[bytes]) -> None:
    """Write a row for each group."""
    import pyarrow as pa  # noqa: PLC0415 - 60 MB, for this option only
    import pyarrow.parquet as pq  # noqa: PLC0415

    pq.write_table(pa.Table.from_pylist(groups), file)


def _named(names: list[str], group: dict[str, Any]) -> list[str]:
    shown = dict(group)
    if shown.get("name") == "anonymous":
        shown["name"] = shown["principal"]
    return [shown[name] for name in names]


def _figures(group: dict[str, Any]) -> list[str]:
    return [
        f"{group['requests']:,}",
        f"{group['tokens_in']:,}",
        f"{group['tokens_out']:,}",
        f"{group['node_seconds'] / 3600:.2f}",
        f"{group['kwh']:.3f}",
        f"{group['cost']:.2f}",
    ]


def _idle(report: dict[str, Any], names: int) -> list[str]:
    """Return the last line: what cards drew beside all requests."""
    kwh = report["total"]["idle_joules"] / _JOULES_PER_KWH
    cost = sum(node["idle_cost"] for node in report["nodes"])
    return ["(idle)", *[""] * (names + 3), f"{kwh:.3f}", f"{cost:.2f}"]


COMMANDS = (usage,)
