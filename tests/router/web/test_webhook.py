"""The webhook over HTTP: who may post, what is refused, what has no effect."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from router.alerts.notify import NotificationHandler
from router.clients.prometheus import FiringAlert
from router.errors import PrometheusError
from router.holds.journal import SqliteHolds
from router.holds.store import HoldStore
from router.model import Clear, HoldKind, HoldState
from router.web.webhook import webhook_blueprint
from tests.router.control.fakes import LABELS, Clock, MemoryJournal, drain

URL = "/webhook/alertmanager"
RIGHT = {"Authorization": "Bearer s3cret"}
LATER = "2026-11-22T12:00:00Z"


def alert(status="firing", starts_at="2026-11-22T10:00:00Z", **labels):
    return {
        "status": status,
        "labels": {**LABELS, **labels},
        "annotations": {"summary": "A GPU of rig is too hot"},
        "startsAt": starts_at,
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": f"f{labels.get('node', '')}{labels.get('uuid', '')}",
    }


class Door:
    """The route over a real handler and store; `ring` posts a notification."""

    def __init__(self, token="s3cret", journal=None):
        self.clock = Clock()
        self.journal = journal or MemoryJournal()
        self.holds = HoldStore(self.journal, self.clock, 1.0, self.clock)
        self.outcomes: Counter[object] = Counter()
        self.woken = self.asked = 0
        self.shown: list[dict[str, Any]] | Exception = []  # by Prometheus
        self.notifications = notifications = NotificationHandler(
            self.holds,
            lambda: frozenset({"rig", "b"}),
            self._wake,
            lambda: 60.0,
            self._firing,
            clock=self.clock,
            monotonic=self.clock,
            pause=self._pause,
        )
        app = Flask(__name__)
        app.register_blueprint(
            webhook_blueprint(
                notifications, lambda: token, lambda each: self.outcomes.update([each])
            )
        )
        self.client = app.test_client()

    def _wake(self):
        self.woken += 1

    def _firing(self):
        self.asked += 1
        if isinstance(self.shown, Exception):
            raise self.shown
        return [FiringAlert(each["labels"], each["annotations"]) for each in self.shown]

    def _pause(self, seconds):
        self.clock.now += seconds

    def post(self, body, headers=None, **more):
        headers = RIGHT if headers is None else headers
        return self.client.post(URL, data=body, headers=headers, **more)

    def ring(self, *alerts):
        """Notify of what Prometheus shows as well."""
        self.shown = [each for each in alerts if each["status"] == "firing"]
        return self.forge(*alerts)

    def forge(self, *alerts):
        """Notify of it, whatever Prometheus shows."""
        body = {"version": "4", "status": "firing", "alerts": alerts}
        return self.post(json.dumps(body))


@pytest.fixture
def door():
    return Door()


def test_a_firing_alert_holds_its_node_at_once(door):
    """The ring places a hold with a time limit, and wakes the loop."""
    reply = door.ring(alert())
    assert (reply.status_code, reply.json) == (200, {"outcomes": {"placed": 1}})
    (hold,) = door.holds.blocking("rig")
    assert (hold.kind, hold.state) == (HoldKind.DRAIN, HoldState.PROVISIONAL)
    assert (hold.since, hold.until) == (1_000.0, 1_060.0)
    assert hold.reason == "A GPU of rig is too hot"
    assert door.woken == 1


def test_a_thousand_repeats_are_one_ring(door):
    """Delivery is at least once: neither limit nor start moves."""
    first = None
    for _ in range(1000):
        assert door.ring(alert()).status_code == 200
        first = first or door.holds.standings()
        door.clock.now += 0.05
    assert door.holds.standings() == first
    assert door.outcomes == {"placed": 1, "repeated": 999}


def test_what_was_lifted_is_not_held_again_by_a_replay(door):
    """A refuted (fingerprint, startsAt) is spent; a new one is not."""
    door.ring(alert())
    (hold,) = door.holds.list()
    door.holds.lift(*hold.key, by="level", why="the level refutes it")
    door.ring(alert())
    assert door.holds.list() == ()
    door.ring(alert(starts_at=LATER))
    assert len(door.holds.list()) == 1


def test_a_resolution_lifts_nothing(door):
    """Only the level lifts; a resolution makes it look."""
    door.ring(alert())
    assert door.ring(alert("resolved")).json == {"outcomes": {"resolved": 1}}
    assert door.holds.blocking("rig")
    assert door.woken == 2


def test_a_firing_behind_its_own_resolution_holds_nothing(door):
    """Out of order: the later notification is of the past."""
    door.ring(alert("resolved"))
    door.ring(alert())
    assert door.holds.list() == ()


def test_each_alert_of_a_group_is_heard_for_itself(door):
    """A firing group may have members that are resolved."""
    reply = door.ring(
        alert(), alert("resolved", node="b"), alert(node="gone"), alert(action="reboot")
    )
    assert reply.json["outcomes"] == {
        "placed": 1,
        "resolved": 1,
        "unknown_node": 1,
        "unknown_action": 1,
    }
    assert [hold.node for hold in door.holds.list()] == ["rig"]


def test_an_unknown_node_is_not_remembered(door):
    """It may be in the inventory when Alertmanager repeats itself."""
    for _ in range(2):
        door.ring(alert(node="gone"))
    assert door.outcomes == {"unknown_node": 2}


def test_two_cards_of_one_node_are_two_holds(door):
    """One card that cools must not bring back a node with another hot one."""
    door.ring(alert(uuid="GPU-1"), alert(uuid="GPU-2"))
    assert len(door.holds.blocking("rig")) == 2


def test_external_labels_do_not_make_a_second_hold():
    """The level's hold and the notification's are one alert's."""
    door = Door(journal=MemoryJournal(drain()))
    door.ring(alert(cluster="home"))
    assert door.holds.list() == (drain(),)


def test_a_ring_that_latches_says_so(door):
    """Whether the level may lift it is the rule's label."""
    door.ring(alert(clear="manual"))
    assert door.holds.list()[0].clear is Clear.MANUAL


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, "unauthorized", id="no token"),
        pytest.param({"Authorization": "Bearer wrong"}, "unauthorized", id="wrong"),
        pytest.param({"Authorization": "Basic s3cret"}, "unauthorized", id="scheme"),
        pytest.param({"Authorization": "Bearer é"}, "unauthorized", id="not ascii"),
        pytest.param({"Authorization": "Bearer"}, "unauthorized", id="empty"),
    ],
)
def test_without_the_right_token_nobody_rings(door, headers, code):
    """401, and nothing of the body is looked at."""
    reply = door.post(b"{", headers)
    assert (reply.status_code, reply.json["error"]["code"]) == (401, code)
    assert door.outcomes == {code: 1}
    assert door.woken == 0


@pytest.mark.parametrize("token", [None, ""], ids=["none", "empty file"])
def test_without_a_configured_token_the_webhook_is_shut(token):
    """An empty token would let everybody in."""
    reply = Door(token).post(b"{}", {"Authorization": "Bearer "})
    assert reply.status_code == 403
    assert reply.json["error"]["message"] == "webhook is shut: no token is configured"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"alerts": 5}',
        b'{"status":"firing","alerts":[{"labels":[]}]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=["empty", "text", "list", "number", "labels", "not utf-8", "deep"],
)
def test_a_body_that_is_no_notification_is_refused_with_a_reason(door, body):
    """400, never a 500, never a hold."""
    reply = door.post(body)
    assert reply.status_code == 400
    assert reply.json["error"]["message"].startswith("webhook: ")
    assert door.holds.list() == ()


def test_a_body_that_is_too_large_is_not_read(door):
    """413 by its announced length; the connection is not used again."""

    class Unread(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

    reply = door.client.post(
        URL,
        headers=RIGHT,
        input_stream=Unread(),
        environ_overrides={"CONTENT_LENGTH": str(10 * 1024 * 1024)},
    )
    assert (reply.status_code, reply.headers["Connection"]) == (413, "close")
    assert reply.json["error"]["message"] == "at most 1000000 bytes are read"


def test_a_chunked_body_that_is_too_large_is_refused(door):
    """Without an announced length the limit holds while reading."""
    reply = door.post(
        b" " * 1_000_001,
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert reply.status_code == 413


def test_only_what_prometheus_shows_holds(door):
    """A page that posts to Alertmanager, or anybody, holds no node by it."""
    reply = door.forge(alert())
    assert reply.json == {"outcomes": {"not_shown": 1}}
    assert door.holds.list() == ()
    door.shown = [alert(uuid="GPU-2"), alert(node="b")]
    assert door.forge(alert(uuid="GPU-3")).json == {"outcomes": {"not_shown": 1}}
    assert door.holds.list() == ()


def test_the_hold_is_what_prometheus_shows(door):
    """Nothing of a notification but its name gets into the hold."""
    shown = alert(clear="auto")
    del shown["labels"]["clear"]
    door.shown = [shown]
    forged = alert(clear="manual", extra="x", uuid=LABELS["uuid"])
    forged["annotations"] = {"summary": "call this number"}
    door.forge(forged)
    (hold,) = door.holds.list()
    assert hold.labels == shown["labels"]
    assert (hold.clear, hold.reason) == (Clear.AUTO, "A GPU of rig is too hot")


def test_a_silent_prometheus_holds_nothing(door):
    """It is what raises alerts; the level looks as soon as it answers."""
    door.shown = PrometheusError("no answer")
    assert door.forge(alert()).json == {"outcomes": {"not_asked": 1}}
    assert (door.holds.list(), door.woken) == ((), 1)


def test_an_alert_that_shows_a_moment_later_holds(door):
    """Of a pair, the other Prometheus may have sent it first."""
    door.shown = []
    pause = door._pause

    def later(seconds):
        pause(seconds)
        door.shown = [alert()]

    door._pause = later
    door.notifications._pause = later
    assert door.forge(alert()).json == {"outcomes": {"placed": 1}}
    assert door.clock.now - 1_000.0 < 1.0


def test_forged_notifications_are_not_asked_about_each_time(door):
    """A thousand of one alert are a few questions, and its truth is asked again."""
    for _ in range(1000):
        door.forge(alert())
    assert door.asked <= 3
    door.clock.now += 11
    door.ring(alert())
    assert door.outcomes == {"not_shown": 1000, "placed": 1}


def test_a_group_is_asked_about_once(door):
    """However many alerts a notification has."""
    door.ring(*(alert(uuid=f"GPU-{n}") for n in range(50)))
    assert (door.asked, door.outcomes) == (1, {"placed": 50})


def test_a_full_disk_asks_alertmanager_to_try_again():
    """The hold stands; a 5xx is retried, any other refusal would be final."""
    door = Door()
    door.journal.broken = True
    reply = door.ring(alert())
    assert (reply.status_code, reply.json["error"]["code"]) == (503, "unavailable")
    assert door.holds.blocking("rig")
    assert door.woken == 1


def test_a_thousand_alerts_in_one_notification(tmp_path: Path):
    """A body of the largest size is heard in bounded time, on a real disk."""
    journal = SqliteHolds(tmp_path / "holds.db")
    door = Door(journal=journal)
    door.ring(*(alert(uuid=f"GPU-{n}") for n in range(1000)))
    assert door.outcomes == {"placed": 1000}
    assert len(journal.load()) == 1000
    journal.close()
