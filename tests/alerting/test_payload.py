"""Webhook bodies: real ones are read, wrong ones named, none gets through half."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.errors import PayloadError
from alerting.payload import Alert, Notification, Status, parse
from tests.harness.process import ROOT

# Recorded from Alertmanager 0.25 and 0.31: one card cooled, the other did not.
RECORDED = sorted((ROOT / "tests/data/alerting").glob("webhook-*.json"))

LABELS = {"alertname": "GpuTooHot", "node": "rig"}


def body(**changes: Any) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "alerts": [alert()], **changes}


def alert(**changes: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": LABELS,
        "annotations": {"summary": "hot"},
        "startsAt": "2026-11-22T09:30:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "cbe245d48b162388",
        **changes,
    }


def fault(given: object) -> str:
    text = given if isinstance(given, bytes | str) else json.dumps(given)
    with pytest.raises(PayloadError) as raised:
        parse(text)
    return str(raised.value)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_body_is_read(path: Path):
    """Each release's body becomes the same values, each alert with its own status."""
    notification = parse(path.read_bytes())
    assert notification.status is Status.FIRING
    cooled, hot = notification.alerts
    assert (cooled.status, hot.status) == (Status.RESOLVED, Status.FIRING)
    assert (cooled.labels["uuid"], hot.labels["uuid"]) == ("GPU-1", "GPU-2")
    assert hot.labels["node"] == "rig"
    assert hot.annotations["summary"] == "GpuTooHot says so"
    assert hot.starts_at == "2026-11-22T09:30:00Z"
    assert cooled.ends_at == "2026-11-22T09:31:00Z"
    assert cooled.fingerprint != hot.fingerprint


def test_recorded_bodies_are_all_there():
    """Both releases that we support are among the recordings."""
    assert ["webhook-0.25", "webhook-0.31"] == [path.stem for path in RECORDED]


def test_fields_of_later_releases_are_let_through():
    """Unknown fields change nothing, in the group or in an alert."""
    later = body(alerts=[alert(routeLabels={"a": 1})], notification_reason="repeat")
    assert parse(json.dumps(later)) == parse(json.dumps(body()))


def test_optional_fields_may_be_absent():
    """Without annotations and end, an alert is still one."""
    short = {
        "status": "resolved",
        "alerts": [
            {
                "status": "resolved",
                "labels": LABELS,
                "startsAt": "x",
                "fingerprint": "f",
            }
        ],
    }
    (read,) = parse(json.dumps(short)).alerts
    assert (dict(read.annotations), read.ends_at) == ({}, "")


def test_values_are_frozen():
    """Neither an alert nor its labels can be changed after it was read."""
    (read,) = parse(json.dumps(body())).alerts
    with pytest.raises(ValueError, match="frozen"):
        read.status = Status.RESOLVED
    with pytest.raises(TypeError):
        read.labels["node"] = "other"  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "webhook: invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"\xff", "webhook: invalid JSON: expected value at line 1 column 1"),
        (
            b"[" * 100_000,
            "webhook: invalid JSON: recursion limit exceeded at line 1 column 202",
        ),
        ([], "webhook: input should be an object, got []"),
        ({"status": "firing"}, "webhook: alerts: field required"),
        (
            body(status="FIRING"),
            "webhook: status: input should be 'firing' or 'resolved', got 'FIRING'",
        ),
        (body(version="5"), "webhook: version: input should be '4', got '5'"),
        (body(alerts={}), "webhook: alerts: input should be a valid array, got {}"),
        (
            body(alerts=[alert(), alert(labels={"node": 1})]),
            "webhook: alerts[1].labels.node: input should be a valid string, got 1",
        ),
        (
            body(alerts=[alert(startsAt=2026)]),
            "webhook: alerts[0].startsAt: input should be a valid string, got 2026",
        ),
        (
            body(alerts=[alert(fingerprint=None)]),
            "webhook: alerts[0].fingerprint: input should be a valid string, got None",
        ),
    ],
    ids=[
        "nothing",
        "no text",
        "too deep",
        "a list",
        "no alerts",
        "a status in capitals",
        "another version",
        "alerts that are no list",
        "a label that is no text",
        "a start that is no text",
        "no fingerprint",
    ],
)
def test_a_wrong_body_is_named(given, message):
    """The message names the path and the value."""
    assert fault(given) == message


def test_long_values_and_many_faults_are_cut():
    """A forged body cannot make a long answer or log line."""
    said = fault(body(alerts=["x" * 10_000] * 1_000)).splitlines()
    assert len(said) == 5
    assert max(map(len, said)) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from([*alert()])


@given(st.binary() | JSON.map(json.dumps))
def test_anything_else_is_an_error_of_ours(given):
    """Whatever comes in, it is a notification or a PayloadError."""
    with suppress(PayloadError):
        assert isinstance(parse(given), Notification)


@given(FIELDS, JSON)
def test_one_wrong_field_never_gets_through(field, value):
    """A body with one field replaced is read as it stands, or refused whole."""
    changed = body(alerts=[alert(**{field: value})])
    try:
        read = parse(json.dumps(changed))
    except PayloadError:
        return
    assert all(isinstance(each, Alert) for each in read.alerts)
    assert {type(v) for each in read.alerts for v in each.labels.values()} <= {str}


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(Status))
def test_labels_come_through_unchanged(labels, status):
    """Any labels, in any script, are those that were sent."""
    (read,) = parse(
        json.dumps(body(alerts=[alert(labels=labels, status=status)]))
    ).alerts
    assert (read.labels, read.status) == (labels, status)
