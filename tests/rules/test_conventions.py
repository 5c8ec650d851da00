"""What each rule must bring along: labels, annotations, a runbook page, cases."""

from __future__ import annotations

import re

import pytest

from tests.rules.catalogue import (
    ACTIONS,
    ALERTS,
    HEALTH_GROUP,
    RECORDS,
    RUNBOOKS,
    promtool_tests,
    rules,
)

ANNOTATIONS = {"summary", "description", "runbook_url"}
HEADINGS = ["What users notice", "Look", "Fix", "Hold or release"]


def ids(rule):
    return rule.name


every_alert = pytest.mark.parametrize("alert", ALERTS, ids=ids)
every_action = pytest.mark.parametrize("alert", ACTIONS, ids=ids)
every_record = pytest.mark.parametrize("record", RECORDS, ids=ids)


def seconds(duration: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    parts = re.findall(r"(\d+)([smh])", duration)
    return sum(int(count) * units[unit] for count, unit in parts)


def cases_of(alert):
    """Give each test's cases of an alert, in the order of time."""
    for test in promtool_tests():
        cases = [
            case
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == alert.name
        ]
        if cases:
            yield sorted(cases, key=lambda case: seconds(case["eval_time"]))


def test_names_are_unique():
    """No name is given twice, or a hold could not tell its rule."""
    names = [rule.name for rule in rules()]
    assert sorted(set(names)) == sorted(names)


@every_alert
def test_alert_says_what_it_is(alert):
    """Severity, the three annotations, and the generated runbook link are there."""
    assert alert.labels["severity"] in {"critical", "warning", "info", "none"}
    assert alert.annotations.keys() - {"evidence"} == ANNOTATIONS
    link = f"{{{{ $externalURL }}}}/user/{alert.name}.md"
    assert link == alert.annotations["runbook_url"]
    assert re.fullmatch("([A-Z][a-z0-9]+)+", alert.name)


@every_alert
def test_alert_has_a_page(alert):
    """The runbook page has the alert's name as title and the four sections."""
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == HEADINGS


def test_no_page_without_alert():
    """A page whose alert is gone goes too."""
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}
    assert pages == {alert.name for alert in ALERTS}


@every_alert
def test_alert_has_cases(alert):
    """Some case fires with all annotations, is silent before, and clears after."""
    proven = [
        cases
        for cases in cases_of(alert)
        if (firing := [i for i, case in enumerate(cases) if case.get("exp_alerts")])
        and all(
            set(each["exp_annotations"]) == set(alert.annotations)
            for i in firing
            for each in cases[i]["exp_alerts"]
        )
        and (alert.name == "Watchdog" or 0 < firing[0] <= firing[-1] < len(cases) - 1)
    ]
    assert proven, f"{alert.name}: no promtool case that fires, with both silences"


@every_record
def test_record_has_a_case(record):
    """Each series of the vocabulary is compared with an expected value."""
    compared = [
        case
        for test in promtool_tests()
        for case in test.get("promql_expr_test", [])
        if record.name in case["expr"] and case["exp_samples"]
    ]
    assert compared


@every_record
def test_record_is_named_by_the_scheme(record):
    """level:metric:operation, the level being what its labels identify."""
    assert re.fullmatch(r"(node_gpu|node|fleet):[a-z_]+:[a-z_0-9]+", record.name)


@every_action
def test_action_is_complete(alert):
    """A rule that takes a node out says how the hold is cleared."""
    assert alert.group == HEALTH_GROUP
    assert alert.labels["action"] == "drain"
    assert alert.labels["clear"] in {"auto", "manual"}


@every_action
def test_action_keeps_its_node(alert):
    """Each firing case of it has the label `node`: the router holds by it."""
    firing = [
        each["exp_labels"]
        for cases in cases_of(alert)
        for case in cases
        for each in case.get("exp_alerts", [])
    ]
    assert firing
    assert all(labels["node"] for labels in firing)


@every_action
def test_evidence_is_recorded_before(alert):
    """The evidence is a series of the same group, recorded earlier, that it reads."""
    group = [rule for rule in rules() if rule.group == alert.group]
    earlier = group[: group.index(alert)]
    records = {rule.name for rule in earlier if not rule.alert}
    assert alert.annotations["evidence"] in records
    assert alert.annotations["evidence"] in alert.expr


def test_only_the_health_group_acts():
    """The vocabulary comes first, then Watchdog, then the alerts with an action."""
    order = [
        "record" if not rule.alert else "action" if "action" in rule.labels else "alert"
        for rule in rules()
        if rule.group == HEALTH_GROUP
    ]
    assert order == ["record"] * len(RECORDS) + ["alert"] + ["action"] * len(ACTIONS)
