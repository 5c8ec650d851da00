"""Snapshots: the degrade ladder, the inventory's numbers, what polls found."""

from __future__ import annotations

import pytest

from router.control.decide import Ages, DecisionInput, PolledModels, aged, decide
from router.control.observe import Observation
from router.model import Degrade, Inventory, Missing, Node, Signal
from router.snapshot import PresentModel, Snapshot

BIG = Node("big", "http://big:11434", 2, {"tflops": 80.0})
OLD = Node("old", "http://old:11434", None, {})
INVENTORY = Inventory((BIG, OLD))
TFLOPS = Signal("tflops", "max by (node) (inferops_node_tflops)", 1, 0, 100)
HEAT = Signal("heat", "node:gpu_temperature:max_celsius", 1, 90, 40)
AGES = Ages(15, 115)
SEEN = Observation(
    at=5_000.0,
    taken_at=100.0,
    readings={"tflops": {"big": 80.0}, "heat": {"big": 40.0, "old": 90.0}},
)


def made(seen=SEEN, now=100.0, signals=(TFLOPS, HEAT), models=None):
    return decide(DecisionInput(INVENTORY, signals, seen, models or {}), AGES, now)


def scores(snapshot):
    return {name: view.score.value for name, view in snapshot.nodes.items()}


@pytest.mark.parametrize(
    ("age", "degrade", "expected"),
    [
        pytest.param(0, Degrade.FRESH, {"big": 0.9, "old": 0.0}, id="just read"),
        pytest.param(15, Degrade.FRESH, {"big": 0.9, "old": 0.0}, id="not yet old"),
        pytest.param(65, Degrade.LAST_GOOD, {"big": 0.775, "old": 0.25}, id="halfway"),
        pytest.param(115, Degrade.LAST_GOOD, {"big": 0.65, "old": 0.5}, id="last use"),
        pytest.param(116, Degrade.OWN, {"big": 0.8, "old": 0.5}, id="forgotten"),
    ],
)
def test_scores_decay_while_prometheus_is_silent(age, degrade, expected):
    """Readings lose weight with age; the inventory's numbers do not age."""
    snapshot = made(now=100.0 + age)
    assert snapshot.degrade is degrade
    assert scores(snapshot) == pytest.approx(expected)


def test_a_derated_node_scores_less():
    """An alert's factor is taken of the whole score, whatever the readings say."""
    known = DecisionInput(INVENTORY, (TFLOPS, HEAT), SEEN, factors={"big": 0.5})
    derated = decide(known, AGES, 100.0)
    assert scores(derated) == pytest.approx({"big": 0.45, "old": 0.0})
    parts = [part.normalised for part in derated.nodes["big"].score.parts]
    assert parts == [0.8, 1.0]


def test_without_any_reading_the_inventory_decides():
    """A router that starts without Prometheus knows the nodes' numbers."""
    snapshot = made(seen=None)
    assert snapshot.degrade is Degrade.STATIC
    assert scores(snapshot) == {"big": 0.8, "old": 0.5}


def test_a_failed_signal_blames_no_node():
    """Its query failed: even where missing is worst, nobody is to blame."""
    strict = Signal("power", "node:power:watts", 1, 400, 0, Missing.WORST)
    assert scores(made(signals=(TFLOPS, HEAT, strict))) == scores(made())


@pytest.mark.parametrize(
    ("query", "static"),
    [
        ("inferops_node_tflops", True),
        ("max by (node) ( inferops_node_tflops )", True),
        ("inferops_node_slots", True),
        ("inferops_node_tflops / 2", False),
        ("inferops_node_tflops + on (node) node:gpus:count", False),
    ],
)
def test_which_signals_the_inventory_can_answer(query, static):
    """Only a plain reading of one of its gauges; anything else is PromQL's."""
    snapshot = made(seen=None, signals=(Signal("it", query, 1, 0, 100),))
    (part,) = snapshot.nodes["big"].score.parts
    assert (part.reading is not None) is static


def test_the_snapshot_carries_what_polls_found():
    """Models come from the polls, by node; None where none has answered."""
    present = {"m:latest": PresentModel("m:latest", "abc", 1)}
    snapshot = made(models={"big": PolledModels("0.17.4", present, {})})
    big, old = snapshot.nodes["big"], snapshot.nodes["old"]
    assert (big.version, big.present, big.resident) == ("0.17.4", present, {})
    assert (old.version, old.present, old.resident) == (None, None, None)
    assert list(snapshot.nodes) == ["big", "old"]


@pytest.mark.parametrize(
    ("made", "later", "expected"),
    [
        (Degrade.FRESH, 0, Degrade.FRESH),
        (Degrade.FRESH, 16, Degrade.LAST_GOOD),
        (Degrade.FRESH, 121, Degrade.OWN),
        (Degrade.OWN, 0, Degrade.OWN),
        (Degrade.STATIC, 16, Degrade.STATIC),
    ],
)
def test_a_snapshot_ages_where_no_pass_makes_another(made, later, expected):
    """A loop that stands still publishes nothing, and its scores age all the same."""
    ages = Ages(15.0, 120.0)
    snapshot = Snapshot({}, 100.0, degrade=made)
    assert aged(snapshot, ages, 100.0 + later) is expected
