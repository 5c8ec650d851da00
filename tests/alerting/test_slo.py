"""Objectives and the rules made of them: current, readable, wrong ones named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.utils import floatToGoString

from alerting import slo
from alerting.errors import ObjectivesError
from alerting.objectives import FILE, read
from router.metrics import Metrics, replies
from router.metrics.plain import PlainHistogram

GIVEN = read()
RULES = yaml.safe_load(slo.text(GIVEN))["groups"][0]["rules"]
ALERTS = [rule for rule in RULES if "alert" in rule]

MINIMAL = """\
least_failures: 5
objectives:
  - name: "availability"
    alert: "AvailabilityBudgetBurns"
    objective: 0.99
    failing: "requests fail"
    total: "sum(rate(a_total[5m]))"
    bad: "sum(rate(b_total[5m]))"
"""


def test_shipped_rules_are_current():
    """What is checked in is what the objectives make."""
    assert slo.RULES.read_text() == slo.text(GIVEN)
    assert slo.main(["--check"]) == 0


def test_check_names_what_is_stale(tmp_path, capsys):
    """An edited or missing file fails the check; writing it makes it current."""
    file = tmp_path / "slo.yml"
    assert slo.main(["--check"], rules=file) == 1
    assert capsys.readouterr().err == (
        f"{file}: not current, run `python -m alerting.slo`\n"
    )
    assert slo.main([], rules=file) == 0
    assert slo.main(["--check"], rules=file) == 0
    file.write_text(file.read_text().replace("14.4", "14"))
    assert slo.main(["--check"], rules=file) == 1


def test_each_objective_has_a_page_and_a_ticket():
    """One name for both, told apart by severity; none has an action."""
    assert [(each["alert"], each["labels"]["severity"]) for each in ALERTS] == [
        (each.alert, severity)
        for each in GIVEN.objectives
        for severity in ("critical", "warning")
    ]
    assert not any("action" in each["labels"] for each in ALERTS)


@pytest.mark.parametrize("objective", GIVEN.objectives, ids=lambda each: each.name)
def test_burn_rates_are_those_of_the_workbook(objective):
    """Factor and windows of each pair: 2 % in 1 h, 5 % in 6 h, 10 % in 1 and 3 days."""
    page, ticket = (each for each in ALERTS if each["alert"] == objective.alert)
    burns = r"ratio_rate(\w+)\{[^}]+\} > ([\d.]+) \* ([\d.]+)"
    budget = f"{1 - objective.objective:.3g}"
    assert re.findall(burns, page["expr"]) == [
        ("1h", "14.4", budget),
        ("5m", "14.4", budget),
        ("6h", "6", budget),
        ("30m", "6", budget),
    ]
    assert re.findall(burns, ticket["expr"]) == [
        ("1d", "3", budget),
        ("2h", "3", budget),
        ("3d", "1", budget),
        ("6h", "1", budget),
    ]
    counts = r"count(\w+)\{[^}]+\} >= (\d+)"
    assert re.findall(counts, page["expr"]) == [("1h", "5"), ("6h", "5")]
    assert re.findall(counts, ticket["expr"]) == [("1d", "5"), ("3d", "5")]


def test_limits_are_edges_of_their_histograms():
    """A limit that is no edge would count nothing as bad, without a word."""
    edges = edges_of_the_router()
    limits = {
        (metric, limit)
        for each in GIVEN.objectives
        for metric, limit in re.findall(r'(\w+)_bucket\{[^}]*le="([^"]+)"', each.bad)
    }
    assert len(limits) == 4
    assert [each for each in limits if each[1] not in edges[each[0]]] == []


def edges_of_the_router() -> dict[str, set[str]]:
    """Give each histogram's limits, as they stand in the label `le`."""
    registry = CollectorRegistry()
    Metrics(registry, "version")
    replied = {
        "inferops_time_to_first_token_seconds": replies.FIRST_TOKEN_EDGES,
        "inferops_time_per_output_token_seconds": replies.PER_TOKEN_EDGES,
    }
    counted = {
        each._name: each._edges
        for each in registry._collector_to_names
        if isinstance(each, PlainHistogram)
    }
    return {
        name: {floatToGoString(edge) for edge in edges}
        for name, edges in {**replied, **counted}.items()
    }


def wrong(tmp_path: Path, text: str) -> str:
    file = tmp_path / "objectives.yml"
    file.write_text(text)
    with pytest.raises(ObjectivesError) as raised:
        read(file)
    return str(raised.value).replace(f"{file}: ", "")


def test_a_minimal_file_is_enough(tmp_path):
    """The fields of the shipped file are all that there are."""
    file = tmp_path / "objectives.yml"
    file.write_text(MINIMAL)
    (objective,) = read(file).objectives
    assert objective.budget == 0.01
    assert "14.4 * 0.01" in slo.text(read(file))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "objective: 0.99",
            "objective: 99.5",
            "objectives[0].objective: input should be less than 1, got 99.5",
            id="per cent instead of a ratio",
        ),
        pytest.param(
            "least_failures: 5",
            "least_failures: 0",
            "least_failures: input should be greater than or equal to 1, got 0",
            id="no guard",
        ),
        pytest.param(
            "[5m]",
            "[1h]",
            "objectives[0].total: string should match pattern '\\[5m\\]', "
            "got 'sum(rate(a_total[1h]))'\n"
            "objectives[0].bad: string should match pattern '\\[5m\\]', "
            "got 'sum(rate(b_total[1h]))'",
            id="another window",
        ),
        pytest.param(
            'failing: "requests fail"',
            'failing: "{{ $labels.node }}"',
            "objectives[0].failing: string should match pattern '^[^{}\\n]+$', "
            "got '{{ $labels.node }}'",
            id="a template for words",
        ),
        pytest.param(
            "    total:",
            "    window: 5\n    total:",
            "objectives[0].window: extra inputs are not permitted, got 5",
            id="a field that there is not",
        ),
        pytest.param(MINIMAL, "[", "must be YAML, got", id="no YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, old, new, message):
    """The message names path and value of each fault."""
    assert message in wrong(tmp_path, MINIMAL.replace(old, new))


def test_names_are_given_once(tmp_path):
    """Two objectives of one name would be summed up in one series."""
    twice = MINIMAL + MINIMAL.partition("objectives:\n")[2]
    assert "each name must be given once, got ['availability']" in wrong(
        tmp_path, twice
    )


def test_a_missing_file_is_named(tmp_path):
    """A path that is not there is said, not raised as it is."""
    with pytest.raises(ObjectivesError, match=r"nowhere\.yml: cannot be read"):
        read(tmp_path / "nowhere.yml")


def test_the_shipped_file_is_the_default():
    """The generator reads the file beside it."""
    assert FILE.name == "objectives.yml"
