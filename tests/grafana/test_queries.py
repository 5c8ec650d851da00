"""What the boards ask: valid PromQL over series that something exports."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.harness import grafana
from tests.prometheus.metric_names import exported, read_by
from tests.rules.catalogue import RECORDS, programs

QUERIES = [
    (name, *query)
    for name, dashboard in grafana.dashboards().items()
    for query in grafana.queries(dashboard)
]


def test_variables_are_filled_in():
    """What is left of dollar signs refers to groups of a regular expression."""
    left = {found for *_, expr in QUERIES for found in re.findall(r"\$\w+", expr)}
    assert left <= {"$1"}


def test_queries_cover_the_whole_dashboard():
    """Variables and annotations ask, too; the node is the one that was given."""
    board = grafana.dashboards()["node.json"]
    asked = grafana.queries(board, rate_interval="7s", node="a|b")
    assert ("variable node", "inferops_node_score") in asked
    assert (
        "annotation Holds",
        'max by (node, kind, source) (inferops_node_hold{node=~"a|b"})',
    ) in asked
    assert {title for title, _ in asked} >= {p["title"] for p in grafana.panels(board)}
    panels = [expr for title, expr in asked if not title.startswith("annotation")]
    assert {r for expr in panels for r in re.findall(r"\[(.+?)\]", expr)} == {"7s"}


def test_queries_read_what_exists():
    """A renamed series must not leave a panel empty in silence."""
    known = exported() | {record.name for record in RECORDS}
    unknown = [
        (board, title, name)
        for board, title, expr in QUERIES
        for name in sorted(read_by(expr) - known)
    ]
    assert unknown == []


def test_typed_values_are_filled_in():
    """Price and factor come from their boxes."""
    values = grafana.chosen(grafana.dashboards()["energy.json"])
    assert (values["price"], values["co2"]) == ("0.30", "380")
    assert grafana.fill("$price * ${co2} $1 $nobody", values) == "0.30 * 380 $1 $nobody"


@pytest.mark.parametrize("promtool", programs("promtool") or [None], ids=str)
def test_prometheus_can_parse_every_query(promtool, tmp_path):
    """Each query, as the expression of a recording rule, passes every promtool."""
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    rules = [
        {"record": f"query:{number}", "expr": expr}
        for number, (*_, expr) in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(QUERIES)} rules found" in done.stdout
