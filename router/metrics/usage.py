"""What principals use, at each scrape: the largest by name, all others as `other`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import Metric

from router.metrics.families import gauge, totals
from router.usage.ledger import NodeEnergy
from router.usage.top import UsageTotals


def usage_families(
    principals: Iterable[tuple[str, UsageTotals]],
    nodes: Mapping[str, NodeEnergy],
    rows: tuple[int, int, int],
) -> Iterator[Metric]:
    """Yield what was used; `rows`: written, dropped, and waiting to be written."""
    used = list(principals)
    yield totals(
        "inferops_usage_requests",
        "Requests that are over, by who sent them.",
        ("principal",),
        [((name,), each.requests) for name, each in used],
    )
    yield totals(
        "inferops_usage_tokens",
        "Tokens reported by nodes, by principal.",
        ("principal", "kind"),
        [
            ((name, kind), count)
            for name, each in used
            for kind, count in (
                ("prompt", each.tokens_in),
                ("generated", each.tokens_out),
            )
        ],
    )
    yield totals(
        "inferops_usage_energy_joules",
        "Energy of cards beyond their idle power, by whose streams ran.",
        ("principal",),
        [((name,), each.joules) for name, each in used],
    )
    yield totals(
        "inferops_usage_node_seconds",
        "Time of nodes with a stream, shared by the streams that ran.",
        ("principal",),
        [((name,), each.node_seconds) for name, each in used],
    )
    yield totals(
        "inferops_node_energy_joules",
        "What the meters of a node's cards counted: idle power, and the rest.",
        ("node", "part"),
        [
            ((node, part), joules)
            for node, each in nodes.items()
            for part, joules in (
                ("idle", each.idle),
                ("requests", each.metered - each.idle),
            )
        ],
    )
    written, dropped, waiting = rows
    yield totals(
        "inferops_usage_rows",
        "Rows of the usage ledger: written, or dropped for want of room.",
        ("outcome",),
        [(("written",), written), (("dropped",), dropped)],
    )
    yield gauge(
        "inferops_usage_rows_waiting",
        "Rows of the usage ledger that are to be written.",
        waiting,
    )
