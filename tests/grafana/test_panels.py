"""Builders of panels, tables and the grid."""

from __future__ import annotations

import re

import pytest

from grafana.board import Board
from grafana.gpu import UUID
from grafana.grid import Band, Section, layout
from grafana.panels import Field, Query, renamed, stat, timeseries
from grafana.tables import Column, joined, matrix


def panel(title="one"):
    return {"type": "stat", "title": title}


def test_a_field_says_only_what_was_asked():
    """Grafana's own defaults stand for everything else."""
    assert Field("s").properties() == {"unit": "s"}


def test_a_field_in_full():
    """The first threshold begins at nothing; words keep their order and colour."""
    field = Field(
        "none",
        0,
        low=0,
        high=1,
        steps=[(0, "green"), (0.5, "red")],
        words={0: ("off", "green"), 1: ("on", "red")},
        empty="no router",
    )
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]
    options = {
        "0": {"color": "green", "index": 0, "text": "off"},
        "1": {"color": "red", "index": 1, "text": "on"},
    }
    assert field.properties() == {
        "unit": "none",
        "decimals": 0,
        "min": 0,
        "max": 1,
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": options}],
        "noValue": "no router",
    }


def test_figures_are_asked_for_now():
    """A stat over a range would go on showing what a dead source said last."""
    target, *_ = stat("t", "d", [Query("up", min_step="1m")], Field("none"))["targets"]
    assert (target["instant"], target["range"], target["interval"]) == (
        True,
        False,
        "1m",
    )


def test_limits_are_dashed():
    """The pattern goes to an override, the panel itself keeps solid lines."""
    made = timeseries("t", "d", [Query("up", "limit")], Field("none"), dashed="/limit/")
    (override,) = made["fieldConfig"]["overrides"]
    assert override["matcher"] == {"id": "byRegexp", "options": "/limit/"}
    assert override["properties"][0] == {
        "id": "custom.lineStyle",
        "value": {"dash": [8, 8], "fill": "dash"},
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one GPU-5fd4f4ba-1111-2222-3333-444455556666 max", "one 5fd4f4ba-111 max"),
        ("GPU-rig GPU-5fd4f4ba-1111-2222-3333-444455556666", "GPU-rig 5fd4f4ba-111"),
        ("one 3", "one 3"),
    ],
)
def test_a_card_has_a_short_name(name, expected):
    """Its first characters; a node that is called like a card keeps its name."""
    made = renamed(timeseries("t", "d", [Query("up", "x")], Field("none")), UUID, "$1")
    (transformation,) = made["transformations"]
    assert transformation["id"] == "renameByRegex"
    pattern = transformation["options"]["regex"].strip("/")
    assert re.sub(pattern, r"\1", name, count=1) == expected


@pytest.mark.parametrize(("most", "expected"), [(200, [None, 200]), (None, [None] * 2)])
def test_points_of_a_board_are_bounded(most, expected):
    """Over time; a figure of now has one."""
    queries, field = [Query("up", "x")], Field("none")
    shown = stat("a", "d", queries, field), timeseries("b", "d", queries, field)
    section = Section("First", Band(4, *shown))
    board = Board("x", "X", "About.", (section,), most_points=most)
    _, *panels = board.render()["panels"]
    assert [each.get("maxDataPoints") for each in panels] == expected


def test_a_joined_table_names_its_columns():
    """One query a column; the times that the join leaves are hidden."""
    columns = [
        Column("score", "s", Field("none", 2), "gauge"),
        Column("slots", "n", Field("none")),
    ]
    made = joined("t", "d", "node", columns)
    join, organize = made["transformations"]
    assert join["options"] == {"byField": "node", "mode": "outer"}
    assert organize["options"] == {
        "excludeByName": {"Time": True, "Time 1": True, "Time 2": True},
        "indexByName": {"node": 0, "Value #A": 1, "Value #B": 2},
        "renameByName": {"Value #A": "score", "Value #B": "slots"},
    }
    assert [
        (each["matcher"]["options"], each["properties"][-1]["value"])
        for each in made["fieldConfig"]["overrides"]
    ] == [("score", {"type": "gauge", "mode": "basic"}), ("slots", {"type": "auto"})]


def test_a_matrix_turns_a_label_into_columns():
    """The transformation's odd name for its first column is put right."""
    made = matrix("t", "d", "s", Field("none"), by="signal")
    group, organize = made["transformations"]
    assert group["options"]["columnField"] == "signal"
    assert organize["options"]["renameByName"] == {"node\\signal": "node"}


def test_layout_fills_the_grid_and_numbers_panels():
    """Bands lie below their row, panels from left to right."""
    first = Band(4, panel("a"), panel("b"), widths=(18, 6))
    second = Band(8, panel("c"))
    placed = layout([Section("First", first, second), Section("Second", second)])
    assert [
        (each["id"], each["title"], *each["gridPos"].values()) for each in placed
    ] == [
        (1, "First", 1, 24, 0, 0),
        (2, "a", 4, 18, 0, 1),
        (3, "b", 4, 6, 18, 1),
        (4, "c", 8, 24, 0, 5),
        (5, "Second", 1, 24, 0, 13),
        (6, "c", 8, 24, 0, 14),
    ]


@pytest.mark.parametrize(
    ("panels", "widths", "got"),
    [
        ((panel(), panel()), (12, 6), "(12, 6)"),
        ((panel(),) * 5, (), "(4, 4, 4, 4, 4)"),
    ],
    ids=["widths that leave a gap", "a count that does not divide 24"],
)
def test_a_band_must_fill_the_grid(panels, widths, got):
    """A gap is a mistake in the sum, and the message says where."""
    with pytest.raises(ValueError) as caught:
        layout([Section("First", Band(4, *panels, widths=widths))])
    assert str(caught.value) == (
        f"widths must sum to 24, got {got} for the band of 'one'"
    )
