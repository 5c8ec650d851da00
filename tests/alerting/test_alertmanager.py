"""The rendered file in a real Alertmanager: who hears what, and in which words."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from alerting.payload import Status, parse
from tests.alerting.stage import (
    ALERTMANAGERS,
    TOKEN,
    alertmanager,
    post,
    recording,
    rendered,
    secrets_for,
)
from tests.harness.cases import one_each_time
from tests.harness.poll import until
from tests.rules.catalogue import ACTIONS, promtool_tests

pytestmark = pytest.mark.e2e

BELL = "/webhook/alertmanager"
STARTED = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
# What Prometheus sends of an alert that does not fire any more.
OVER = {"endsAt": datetime(2026, 11, 22, 9, 31, tzinfo=UTC).isoformat()}


def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    return {
        "labels": {"alertname": name, "severity": severity, **labels},
        "annotations": {
            "summary": f"{name} says so",
            "description": "In more words, with <angle> brackets.",
            "runbook_url": f"http://prometheus.test/user/{name}.md",
        },
        "startsAt": STARTED.isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(hours=4)).isoformat(),
        "generatorURL": "http://prometheus.test/graph",
    }


HOT = ("GpuTooHot", "critical")
DRAIN = {"node": "rig", "uuid": "GPU-1", "action": "drain", "clear": "auto"}


def new(given: Mapping[str, Any]) -> dict[str, Any]:
    """Begin it now: what began long ago is told at once, before others are in."""
    return {**given, "startsAt": datetime.now(UTC).isoformat()}


def over(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, **OVER}


@pytest.fixture(params=one_each_time(ALERTMANAGERS), ids=str)
def stage(request, tmp_path):
    """An Alertmanager with every receiver, each of them the recorder."""
    if request.param is None:
        pytest.skip("alertmanager is not on PATH")
    with recording() as recorder:
        text = rendered(secrets_for(recorder, tmp_path / "secrets"), recorder)
        with alertmanager(request.param, tmp_path, text) as url:
            yield url, recorder


def test_action_rings_the_router_and_tells_people(stage):
    """The bell has the token and a body that the router reads; people hear too."""
    url, recorder = stage
    post(url, alert(*HOT, **DRAIN))
    until(lambda: recorder.at(BELL) and recorder.at("/people"), "both are told")
    rung = recorder.at(BELL)[0]
    assert rung.authorization == f"Bearer {TOKEN}"
    (heard,) = parse(rung.body).alerts
    assert heard.status is Status.FIRING
    assert heard.labels == {"alertname": HOT[0], "severity": HOT[1], **DRAIN}
    assert datetime.fromisoformat(heard.starts_at) == STARTED
    assert recorder.alerts("/people") == [("GpuTooHot", "firing")]


def test_resolve_reaches_both(stage):
    """The end of an alert rings again, as the same firing."""
    url, recorder = stage
    hot = alert(*HOT, **DRAIN)
    post(url, hot)
    until(lambda: recorder.at("/people"), "people are told")
    post(url, over(hot))
    last = until(
        lambda: (
            ("GpuTooHot", "resolved") in recorder.alerts(BELL)
            and ("GpuTooHot", "resolved") in recorder.alerts("/people")
        ),
        "both hear of the end",
    )
    assert last
    first, *_, end = (parse(each.body).alerts[0] for each in recorder.at(BELL))
    assert (first.fingerprint, first.starts_at) == (end.fingerprint, end.starts_at)


def test_node_down_mutes_what_follows_from_it(stage):
    """Of a node that is gone people hear once; the bell is never muted."""
    url, recorder = stage
    post(url, alert("NodeDown", "warning", node="rig"))
    until(lambda: recorder.at("/people"), "people hear of the node")
    post(
        url,
        alert("OllamaOnCpu", "warning", node="rig"),
        alert("TargetDown", "warning", node="rig", job="dcgm"),
        alert("OllamaDown", "critical", **{**DRAIN, "uuid": ""}),
        alert("OllamaOnCpu", "warning", node="other"),
        alert("FleetPanic", "critical"),
    )
    expected = {"NodeDown", "OllamaDown", "OllamaOnCpu", "FleetPanic"}
    until(
        lambda: {name for name, _ in recorder.alerts("/people")} >= expected,
        "people hear of the rest",
    )
    until(lambda: recorder.alerts(BELL), "the bell rings")
    states = requests.get(f"{url}/api/v2/alerts", timeout=5).json()
    muted = {
        (each["labels"]["alertname"], each["labels"]["node"])
        for each in states
        if each["status"]["inhibitedBy"]
    }
    assert muted == {("OllamaOnCpu", "rig"), ("TargetDown", "rig")}
    told = [each for r in recorder.at("/people") for each in r.json["alerts"]]
    on_cpu = [
        a["labels"]["node"] for a in told if a["labels"]["alertname"] == "OllamaOnCpu"
    ]
    assert on_cpu == ["other"]
    assert ("TargetDown", "firing") not in recorder.alerts("/people")


def muted(url: str) -> set[tuple[str, str]]:
    """Give (alertname, node or other label) of what is inhibited now."""
    return {
        (each["labels"]["alertname"], each["labels"].get("node", ""))
        for each in requests.get(f"{url}/api/v2/alerts", timeout=5).json()
        if each["status"]["inhibitedBy"]
    }


CAUSES = {
    "a lost card": (
        alert("GpuMissing", "critical", node="rig", component="gpu", action="evict"),
        [
            alert("GpuPowerBraked", "warning", node="rig", component="gpu"),
            alert("OllamaOnCpu", "warning", node="rig", component="ollama"),
        ],
        [alert("GpuPowerBraked", "warning", node="other", component="gpu")],
    ),
    "an Ollama that is gone": (
        alert("OllamaDown", "critical", node="rig", component="ollama", action="drain"),
        [alert("OllamaModelFailing", "warning", node="rig", component="ollama")],
        [
            alert("OllamaModelFailing", "warning", node="other", component="ollama"),
            alert("GpuPowerBraked", "warning", node="rig", component="gpu"),
        ],
    ),
    "a page for the same disk": (
        alert("NodeDiskNearlyFull", "critical", node="rig", mountpoint="/"),
        [alert("NodeDiskNearlyFull", "warning", node="rig", mountpoint="/")],
        [alert("NodeDiskNearlyFull", "warning", node="other", mountpoint="/var")],
    ),
    "a page for the same objective": (
        alert("QueueTimeBudgetBurns", "critical", slo="queue_time", component="slo"),
        [alert("QueueTimeBudgetBurns", "warning", slo="queue_time", component="slo")],
        [alert("TokenTimeBudgetBurns", "warning", slo="token_time", component="slo")],
    ),
    "a job database that is away": (
        alert("JobDatabaseDown", "critical", component="jobs"),
        [alert("JobNoProgress", "warning", component="jobs", state="in_progress")],
        [alert("JobExpired", "warning", component="jobs")],
    ),
    "the whole fleet": (
        alert("FleetPanic", "critical", component="fleet"),
        [alert("NodeDown", "warning", node="rig", component="node")],
        [alert("RouterDegraded", "warning", component="router")],
    ),
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_cause_mutes_what_follows_from_it(stage, cause):
    """People who have the cause are spared its effects, and nothing else."""
    url, _ = stage
    source, effects, others = cause
    post(url, source)
    post(url, *effects, *others)
    expected = {
        (each["labels"]["alertname"], each["labels"].get("node", ""))
        for each in effects
    }
    until(lambda: muted(url) == expected, "the effects are muted")


def test_no_action_is_ever_muted(stage):
    """The bell rings for every alert with an action, whatever else fires."""
    url, recorder = stage
    sources = [
        alert("NodeDown", "warning", node="rig", component="node"),
        alert("FleetPanic", "critical", component="fleet"),
        alert("FleetHasNoNode", "critical", component="fleet"),
    ]
    acting = [
        alert(rule.name, **rule.labels, node="rig", reason="silent") for rule in ACTIONS
    ]
    post(url, *sources, *acting)
    expected = {(rule.name, "firing") for rule in ACTIONS}
    until(lambda: set(recorder.alerts(BELL)) == expected, "the bell rings for all")
    assert {name for name, _ in muted(url)} == {"NodeDown"}


def test_a_node_and_a_cause_are_one_message(stage):
    """Two cards and two alerts of them are one message; another node has its own."""
    url, recorder = stage
    gpu = {"component": "gpu", "action": "evict"}
    post(
        url,
        new(alert("GpuXidCritical", "critical", node="rig", uuid="GPU-1", **gpu)),
        new(alert("GpuXidCritical", "critical", node="rig", uuid="GPU-2", **gpu)),
        new(alert("GpuMissing", "critical", node="rig", **gpu)),
        new(alert("OllamaDown", "critical", node="rig", component="ollama")),
        new(alert("GpuMissing", "critical", node="other", **gpu)),
    )
    until(lambda: len(recorder.at("/slack")) == 3, "three messages")
    titles = {said["title"] for said in map(attachment, recorder.at("/slack"))}
    one_of = {
        "[FIRING: 3] rig: GpuXidCritical, GpuMissing (critical)",
        "[FIRING: 3] rig: GpuMissing, GpuXidCritical (critical)",
    }
    assert len(titles & one_of) == 1
    assert titles - one_of == {
        "[FIRING: 1] rig: OllamaDown (critical)",
        "[FIRING: 1] other: GpuMissing (critical)",
    }


def attachment(posted) -> Any:
    (said,) = posted.json["attachments"]
    return said


def test_watchdog_and_info_are_for_nobody_but_the_switch(stage):
    """The switch gets the watchdog alone; people get neither it nor info."""
    url, recorder = stage
    post(
        url,
        alert("Watchdog", "none"),
        alert("GpuMemoryNearlyFull", "info", node="rig"),
        alert("FleetPanic", "critical"),
    )
    until(lambda: recorder.at("/watchdog") and recorder.at("/people"), "both are told")
    assert {("Watchdog", "firing")} == set(recorder.alerts("/watchdog"))
    assert {("FleetPanic", "firing")} == set(recorder.alerts("/people"))
    assert recorder.at(BELL) == []


def shown(name: str, router: str) -> dict[str, Any]:
    """Give an alert as promtool has shown that the rule makes it, and as it is sent."""
    cases = (
        each
        for test in promtool_tests()
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
        for each in case.get("exp_alerts", [])
        if each["exp_annotations"]["router"].startswith(router)
    )
    found = next(cases)
    labels = {key: str(value) for key, value in found["exp_labels"].items()}
    made = alert(name, **labels)
    return made | {"annotations": found["exp_annotations"]}


def parts(raw: str) -> dict[str, str]:
    """Give a mail's texts by their type."""
    message = email.message_from_string(raw, policy=email.policy.default)
    return {
        each.get_content_type(): each.get_content()
        for each in message.walk()
        if not each.is_multipart()
    }


RUNBOOK = "http://prometheus.test/user/GpuTooHot.md"
BOARD = "http://grafana.test/d/inferops-gpu?var-node=rig"
HAPPENED = (
    "GPU GPU-1 of rig is at 91 °C, which is at or above its limit. The node gets no "
    "new work until the card has been cooler for 30 s."
)
DONE = (
    "The router holds rig: drain. Without it, 2 of 4 nodes take work, with 6 slots, of "
    "which 3 are in use."
)


def test_messages_say_what_happened_what_was_done_and_what_to_do(stage):
    """Slack, mail, webhook: the fault, the router's deed, what is left, the links."""
    url, recorder = stage
    post(url, shown("GpuTooHot", router="The router holds rig: drain."))
    until(
        lambda: recorder.mails and recorder.at("/slack") and recorder.at("/people"),
        "people are told",
    )
    said = attachment(recorder.at("/slack")[0])
    assert said["title"] == "[FIRING: 1] rig: GpuTooHot (critical)"
    assert said["color"] == "danger"
    assert said["text"] == (
        f"*A GPU of rig is too hot*\n{HAPPENED}\n{DONE}\n"
        f"<{RUNBOOK}|What to do> <{BOARD}|Dashboard>\n"
    )
    mail = email.message_from_string(recorder.mails[0], policy=email.policy.default)
    assert mail["Subject"] == "[FIRING: 1] rig: GpuTooHot (critical)"
    assert mail["To"] == "people@fleet.test"
    texts = parts(recorder.mails[0])
    assert (
        texts["text/plain"]
        .replace("\r\n", "\n")
        .startswith(
            f"FIRING A GPU of rig is too hot\n{HAPPENED}\n{DONE}\n"
            "Since 2026-11-22 09:30:00 UTC.\n"
            f"What to do: {RUNBOOK}\nDashboard: {BOARD}\n"
        )
    )
    assert f"<p><b>{DONE}</b></p>" in texts["text/html"]
    assert f'<a href="{BOARD}">Dashboard</a>' in texts["text/html"]
    assert f'<a href="{RUNBOOK}">What to do</a>' in texts["text/html"]
    (told,) = recorder.at("/people")[0].json["alerts"]
    assert told["annotations"]["router"] == DONE
    assert told["annotations"]["dashboard"] == "/d/inferops-gpu?var-node=rig"
    assert told["annotations"]["runbook_url"] == RUNBOOK


def test_the_end_is_told_in_one_line(stage):
    """Slack and mail say that it is over, and when it was."""
    url, recorder = stage
    hot = alert(*HOT, **DRAIN)
    post(url, hot)
    until(lambda: recorder.at("/slack") and recorder.mails, "people are told")
    post(url, over(hot))
    until(
        lambda: len(recorder.at("/slack")) > 1 and len(recorder.mails) > 1,
        "people hear of the end",
    )
    said = attachment(recorder.at("/slack")[-1])
    assert said["title"] == "[RESOLVED] rig: GpuTooHot"
    assert said["color"] == "good"
    assert said["text"] == "*Resolved:* GpuTooHot says so\n"
    text = parts(recorder.mails[-1])["text/plain"]
    assert "From 2026-11-22 09:30:00 to 2026-11-22 09:31:00 UTC." in text


def test_texts_are_plain_to_slack_and_html(stage):
    """What an annotation holds is never markup."""
    url, recorder = stage
    post(url, alert("FleetPanic", "critical", component="fleet"))
    until(lambda: recorder.mails and recorder.at("/slack"), "people are told")
    text = attachment(recorder.at("/slack")[0])["text"]
    assert "In more words, with &lt;angle&gt; brackets.\n" in text
    html = parts(recorder.mails[0])["text/html"]
    assert "<p>In more words, with &lt;angle&gt; brackets.</p>" in html


def test_a_long_list_is_cut_and_counted(stage):
    """Ten alerts are told in full; of the others, how many there are."""
    url, recorder = stage
    cards = [{**DRAIN, "uuid": f"GPU-{number}"} for number in range(12)]
    post(url, *(new(alert(*HOT, **card)) for card in cards))
    until(lambda: recorder.mails and recorder.at("/slack"), "people are told")
    said = attachment(recorder.at("/slack")[0])
    assert said["title"] == "[FIRING: 12] rig: GpuTooHot (critical)"
    assert said["text"].count("*GpuTooHot says so*") == 10
    assert said["text"].endswith("And more: 12 in all.\n")
    text = parts(recorder.mails[0])["text/plain"]
    assert text.count("FIRING GpuTooHot says so") == 10
    assert "And more: 12 in all." in text
