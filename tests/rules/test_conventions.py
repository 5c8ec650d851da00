"""What each rule must bring along: labels, annotations, a runbook page, cases."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.prometheus.metric_names import read_by
from tests.rules.catalogue import (
    ACTIONS,
    ALERTS,
    HEALTH_GROUP,
    RECORDS,
    ROOT,
    RUNBOOKS,
    promtool_tests,
    rules,
)

ANNOTATIONS = {"summary", "description", "dashboard", "runbook_url"}
HEADINGS = ["What users notice", "Look", "Fix", "Hold or release"]
COMPONENTS = {"gpu", "node", "ollama", "fleet", "router", "jobs", "monitoring", "slo"}
SILENCE = "A silence in Alertmanager only stops the messages"


def ids(rule):
    return f"{rule.name}-{rule.labels['severity']}" if rule.alert else rule.name


def named(rule):
    return rule.name


every_alert = pytest.mark.parametrize("alert", ALERTS, ids=ids)
every_action = pytest.mark.parametrize("alert", ACTIONS, ids=named)
every_record = pytest.mark.parametrize("record", RECORDS, ids=ids)


def seconds(duration: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+)([smhd])", duration)
    return sum(int(count) * units[unit] for count, unit in parts)


def firing(alert, case):
    """Give what a case expects of just this rule: names may have two severities."""
    severity = alert.labels["severity"]
    return [
        each
        for each in case.get("exp_alerts", [])
        if each["exp_labels"]["severity"] == severity
    ]


def cases_of(alert):
    """Give each test's step and its cases of an alert, in the order of time."""
    for test in promtool_tests():
        cases = [
            case
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == alert.name
        ]
        if cases:
            step = seconds(test["evaluation_interval"])
            yield step, sorted(cases, key=lambda case: seconds(case["eval_time"]))


def at(case) -> int:
    return seconds(case["eval_time"])


def proves(alert, step, cases) -> bool:
    """Say whether these cases show it silent one evaluation before, firing, over."""
    found = [i for i, case in enumerate(cases) if firing(alert, case)]
    if not found:
        return False
    if alert.name == "Watchdog":
        return True
    first, last = found[0], found[-1]
    return (
        0 < first
        and at(cases[first]) - at(cases[first - 1]) <= step
        and last < len(cases) - 1
    )


def said(alert):
    """Give all texts of annotations that the cases expect of an alert."""
    return [
        re.sub(r"\s+", " ", text)
        for _, cases in cases_of(alert)
        for case in cases
        for each in firing(alert, case)
        for text in each["exp_annotations"].values()
    ]


def words_of(template: str) -> list[str]:
    """Give the literal texts between a template's actions: each branch has some."""
    literal = re.split(r"\{\{.*?\}\}", re.sub(r"\s+", " ", template))
    return [each.strip() for each in literal if re.search(r"\w{2}", each)]


def board(alert) -> str:
    """Give the board that shows an alert's subject."""
    return f"/d/inferops-{alert.labels['component']}"


def test_alerts_are_told_apart():
    """A name stands once for each severity; a name with an action stands once."""
    twice = [
        key
        for key, count in Counter(
            (rule.name, rule.labels["severity"]) for rule in ALERTS
        ).items()
        if count > 1
    ]
    assert twice == []
    names = Counter(rule.name for rule in ALERTS)
    assert [rule.name for rule in ACTIONS if names[rule.name] > 1] == []


def test_alert_rules_stand_in_one_folder():
    """Alerts are in alerting/rules; what Prometheus' own folder holds, only records."""
    assert {rule.file.parent for rule in ALERTS} == {ROOT / "alerting/rules"}
    assert {rule.file.parent for rule in RECORDS} == {
        ROOT / "alerting/rules",
        ROOT / "prometheus/records",
    }


def test_no_two_files_share_a_name():
    """Of alerting and prometheus, a file's name alone says which one is meant."""
    names = Counter(
        path.name
        for folder in ("alerting", "prometheus")
        for path in (ROOT / folder).rglob("*.yml")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_records_are_told_apart():
    """No series is recorded twice, in whichever group."""
    keys = [(rule.name, *sorted(rule.labels.items())) for rule in RECORDS]
    assert sorted(set(keys)) == sorted(keys)


@every_alert
def test_alert_says_what_it_is(alert):
    """Severity, component, annotations, and the generated runbook link are there."""
    assert alert.labels["severity"] in {"critical", "warning", "info", "none"}
    assert alert.labels["component"] in COMPONENTS
    assert alert.annotations.keys() - {"evidence", "router"} == ANNOTATIONS
    link = f"{{{{ $externalURL }}}}/user/{alert.name}.md"
    assert link == alert.annotations["runbook_url"]
    of_node = board(alert) + "?var-node={{ $labels.node | urlquery }}"
    assert alert.annotations["dashboard"] in {board(alert), of_node}
    assert re.fullmatch("([A-Z][a-z0-9]+)+", alert.name)


def test_router_text_is_the_same_everywhere():
    """One text says what the router did; rules cannot share it, so a test holds it."""
    texts = {rule.annotations.get("router") for rule in ALERTS} - {None}
    assert len(texts) == 1
    assert all("router" in rule.annotations for rule in ACTIONS)


@every_alert
def test_alert_has_its_reason(alert):
    """A comment above the rule says where its threshold comes from."""
    if alert.labels["component"] == "slo":
        pytest.skip("generated; the reasons stand in alerting/objectives.yml")
    lines = alert.file.read_text().splitlines()
    heads = [
        i for i, line in enumerate(lines) if f"- alert: {alert.name}" == line.strip()
    ]
    assert heads
    assert all(lines[i - 1].strip().startswith("#") for i in heads)


@every_alert
def test_alert_has_a_page(alert):
    """The page has the name as title, the four sections, a query and a dashboard."""
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == HEADINGS
    look = text.partition("## Look")[2].partition("## Fix")[0]
    assert "```promql\n" in look
    assert board(alert) in look


@every_alert
def test_page_asks_what_the_rule_asks(alert):
    """The very PromQL of the rule stands in its page, on one line."""
    if alert.labels["component"] == "slo":
        pytest.skip("a page for two rules of many windows asks for the windows")
    bare = re.sub(r"\s+", " ", re.sub(r"#[^\n]*", "", alert.expr)).strip()
    query = bare.replace("( ", "(").replace(" )", ")")
    assert query in (RUNBOOKS / f"{alert.name}.md").read_text().splitlines()


@every_alert
def test_page_says_how_to_silence(alert):
    """Each page tells what a silence does; where nodes are held, what it does not."""
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    hold = re.sub(r"\s+", " ", text.partition("## Hold or release")[2])
    assert SILENCE in hold
    if "action" in alert.labels:
        assert f"{SILENCE}; it does not bring the node back." in hold
        assert "/override" in hold


def test_no_page_without_alert():
    """A page whose alert is gone goes too."""
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}
    assert pages == {alert.name for alert in ALERTS}


@every_alert
def test_alert_has_cases(alert):
    """Some case fires with all annotations, is silent one evaluation before, clears."""
    for _, cases in cases_of(alert):
        for case in cases:
            for each in firing(alert, case):
                assert set(each["exp_annotations"]) == set(alert.annotations)
    assert any(proves(alert, step, cases) for step, cases in cases_of(alert))


@every_alert
def test_every_branch_of_its_texts_is_shown(alert):
    """Whatever a text may say, by a label or a value, some case expects it."""
    texts = said(alert)
    own = {k: v for k, v in alert.annotations.items() if k != "router"}
    for template in own.values():
        missing = [w for w in words_of(template) if not any(w in t for t in texts)]
        assert missing == []


def test_every_branch_of_the_router_text_is_shown():
    """What the router may have done is expected by some case of some alert."""
    texts = [text for alert in ALERTS for text in said(alert)]
    template = ACTIONS[0].annotations["router"]
    assert [w for w in words_of(template) if not any(w in t for t in texts)] == []


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
    assert re.fullmatch(
        r"(node_gpu|node|model|fleet|slo):[a-z_]+:[a-z_0-9]+", record.name
    )


@every_action
def test_action_is_complete(alert):
    """A rule that takes work from a node says how much, and how that is cleared."""
    assert alert.group == HEALTH_GROUP
    assert alert.labels["action"] in {"drain", "evict", "derate"}
    assert alert.labels["clear"] in {"auto", "manual", "verified"}
    assert alert.labels["component"] in {"gpu", "node", "ollama"}


@every_action
def test_only_a_derate_has_a_factor(alert):
    """A derate says what is left, between nothing and all; nobody is woken for it."""
    factor = alert.labels.get("factor")
    if alert.labels["action"] != "derate":
        assert factor is None
        return
    assert factor is not None
    assert 0 < float(factor) < 1
    assert alert.labels["severity"] == "info"


@every_action
def test_action_keeps_its_node(alert):
    """Each firing case of it has the label `node`: the router holds by it."""
    found = [
        each["exp_labels"]
        for _, cases in cases_of(alert)
        for case in cases
        for each in firing(alert, case)
    ]
    assert found
    assert all(labels["node"] for labels in found)


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
    vocabulary = order.count("record")
    assert order == ["record"] * vocabulary + ["alert"] + ["action"] * len(ACTIONS)


@every_action
def test_latency_and_lost_telemetry_take_no_node_out(alert):
    """What acts reads the vocabulary of cards and Ollama: no latency, no `up`."""
    names = read_by(alert.expr)
    assert names - {"node:ollama:up"}.union(_of_cards(names)) <= {"node:ollama:wedged"}


def _of_cards(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(("node_gpu:", "node:gpu"))}
