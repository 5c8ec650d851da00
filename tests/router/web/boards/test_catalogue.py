"""The committed boards, as the router reads them."""

from __future__ import annotations

import pytest

from router.errors import NotFoundError
from router.web.boards.catalogue import BoardVariable, board, read
from tests.harness import grafana


@pytest.fixture(scope="module")
def catalogue():
    return read(grafana.DASHBOARDS)


def test_every_query_is_there(catalogue):
    """Each target of each panel, and each mark, once."""
    for committed in grafana.dashboards().values():
        found = catalogue.board(committed["uid"])
        asked = {
            (panel["id"], target["refId"]): target["expr"]
            for panel in grafana.panels(committed)
            for target in panel["targets"]
        }
        assert {key: each.expr for key, each in found.panels.items()} == asked
        marks = [each["target"]["expr"] for each in committed["annotations"]["list"]]
        assert [each.expr for each in found.marks] == marks


def test_bounds_of_points_are_read(catalogue):
    """Of the panel, for each of its queries; a stat and a month have none."""
    for uid, expected in (("fleet", {0, 200}), ("gpu", {120}), ("history", {0})):
        found = catalogue.board(f"inferops-{uid}").panels.values()
        assert {each.most_points for each in found} == expected


def test_variables_are_labels_and_numbers(catalogue):
    """Addresses, which only links use, can never get into a query."""
    assert catalogue.board("inferops-energy").variables == {
        "node": BoardVariable("node", ".+", "inferops_node_score", "node"),
        "model": BoardVariable(
            "model", ".*", 'node:ollama_model:info{node=~"$node"}', "model"
        ),
        "price": BoardVariable("price", "0.30"),
        "co2": BoardVariable("co2", "380"),
    }


def test_an_unknown_board_is_told(catalogue):
    """By its name, as it was asked."""
    with pytest.raises(NotFoundError, match="no board 'x'"):
        catalogue.board("x")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"uid": "x", "panels": 3}'])
def test_what_is_no_board_is_refused(text):
    """As a ValueError, which the start of the router survives."""
    with pytest.raises(ValueError):
        board(text)
