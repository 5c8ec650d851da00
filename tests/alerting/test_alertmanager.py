"""The rendered file in a real Alertmanager: who hears what, and in which words."""

from __future__ import annotations

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
from tests.harness.poll import until

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
        "endsAt": (datetime.now(UTC) + timedelta(minutes=4)).isoformat(),
        "generatorURL": "http://prometheus.test/graph",
    }


HOT = ("GpuTooHot", "critical")
DRAIN = {"node": "rig", "uuid": "GPU-1", "action": "drain", "clear": "auto"}


def over(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, **OVER}


@pytest.fixture(params=ALERTMANAGERS or [None], ids=str)
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


def test_cards_of_a_node_are_one_message(stage):
    """People get one message for a node and a cause, and one for each node."""
    url, recorder = stage
    post(
        url,
        alert(*HOT, **DRAIN),
        alert(*HOT, **{**DRAIN, "uuid": "GPU-2"}),
        alert(*HOT, **{**DRAIN, "node": "other"}),
    )
    until(lambda: len(recorder.at("/people")) == 2, "two messages")
    sizes = sorted(len(each.json["alerts"]) for each in recorder.at("/people"))
    assert sizes == [1, 2]


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


def test_slack_and_mail_say_what_to_do(stage):
    """Both name the node, what happened to it, and the page to read."""
    url, recorder = stage
    post(url, alert(*HOT, **DRAIN))
    until(lambda: recorder.mails and recorder.at("/slack"), "people are told")
    (said,) = recorder.at("/slack")[0].json["attachments"]
    assert said["title"] == "[FIRING: 1] GpuTooHot on rig (critical)"
    assert said["color"] == "danger"
    assert said["text"] == (
        "*GpuTooHot says so*\n"
        "In more words, with <angle> brackets.\n"
        "<http://prometheus.test/user/GpuTooHot.md|What to do>\n"
    )
    mail = recorder.mails[0]
    assert "Subject: [FIRING: 1] GpuTooHot on rig (critical)" in mail
    assert "To: people@fleet.test" in mail
    assert "Since 2026-11-22 09:30:00 UTC." in mail
    assert "What to do: http://prometheus.test/user/GpuTooHot.md" in mail
    assert "<p>In more words, with &lt;angle&gt; brackets.</p>" in mail
