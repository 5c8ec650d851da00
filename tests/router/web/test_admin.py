"""Operators see what the router sees, and hold nodes by hand."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from flask import Flask

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.ledger import Ledger
from router.dispatch.pickers import soonest
from router.dispatch.pipeline import Wish
from router.dispatch.queue import Queue
from router.dispatch.trail import Step, Trail, Trails
from router.errors import RequestError
from router.holds import HoldStore
from router.model import Clear, Hold, HoldKind, Node, Outcome, Part, Score
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from router.web.admin import AdminParts, admin_blueprint


class Forgetful:
    def load(self):
        return ()

    def save(self, changes):
        return changes()


@pytest.fixture
def rig():
    """Admin routes over a fleet of two, with a client that calls from loopback."""
    parts = (Part("heat", 40.0, 0.8, 1.0),)
    views = {}
    for name in ("a", "b"):
        present = {"m:latest": PresentModel("m:latest", "d", 1)}
        node = Node(name, f"http://{name}:1", slots=2)
        views[name] = NodeView(node, Score(0.8, parts), "0.17.4", present, {})
    published = Published(Snapshot(views, 0.0))
    holds = HoldStore(Forgetful())
    holds.fleet(views)
    ledger = Ledger(1, time.monotonic)
    ledger.configure(v.node for v in views.values())
    dispatcher = Dispatcher(
        published, holds, ledger, Queue(5), soonest, clock=time.monotonic
    )
    rig = SimpleNamespace(holds=holds, ledger=ledger, token=None, reloaded=[])
    rig.trails, rig.dispatcher = Trails(), dispatcher

    def reload(confirmed: bool):
        rig.reloaded.append(confirmed)
        return [{"file": "nodes.yml"}]

    app = Flask("test")
    app.register_blueprint(
        admin_blueprint(
            AdminParts(
                published=published,
                holds=holds,
                ledger=ledger,
                dispatcher=dispatcher,
                trails=rig.trails,
                token=lambda: rig.token,
                reload=reload,
            )
        )
    )
    app.register_error_handler(RequestError, lambda e: ({"error": e.message}, e.status))
    rig.client = app.test_client()
    return rig


def test_nodes(rig):
    """Each node with its score, parts, holds and load."""
    rig.ledger.take("a", "m:latest")
    first, second = rig.client.get("/admin/nodes").json
    assert ("a", True, 0.8, [], 1, 2) == tuple(
        first[k]
        for k in ("name", "schedulable", "score", "holds", "in_flight", "slots")
    )
    assert [
        {"signal": "heat", "reading": 40.0, "normalised": 0.8, "weight": 1.0}
    ] == first["parts"]
    assert ["m:latest"] == second["models"]


def test_cordon_and_uncordon(rig):
    """An operator's hold carries who and why, and only theirs is lifted."""
    body = {"by": "eve", "reason": "new fan"}
    node = rig.client.post("/admin/nodes/a/cordon", json=body).json
    assert (False, "drained") == (node["schedulable"], node["state"])
    (hold,) = node["holds"]
    assert ("cordon", "operator:eve", "new fan", None) == tuple(
        hold[k] for k in ("kind", "source", "reason", "until")
    )
    alert = Hold("a", HoldKind.DRAIN, "alert:GpuTooHot:f", "hot", time.time())
    rig.holds.place(alert)
    node = rig.client.post("/admin/nodes/a/uncordon", json={}).json
    assert ["drain"] == [h["kind"] for h in node["holds"]]


def test_cordon_for_some_minutes(rig):
    """A cordon with a time ends by itself."""
    before = time.time()
    rig.client.post("/admin/nodes/a/cordon", json={"minutes": 2})
    (hold,) = rig.holds.of("a")
    assert 119 <= hold.until - before <= 121


def test_drain_waits_for_what_is_in_flight(rig):
    """The answer comes when the last request has ended, or the time is over."""
    lease = rig.ledger.take("a", "m:latest")
    late = rig.client.post("/admin/nodes/a/drain", json={"wait_seconds": 0}).json
    assert ("draining", 1) == (late["state"], late["in_flight"])
    lease.done(Outcome.END)
    done = rig.client.post("/admin/nodes/a/drain", json={"wait_seconds": 5}).json
    assert ("drained", 0) == (done["state"], done["in_flight"])


def test_clear_a_latch(rig):
    """What an alert left for a person to judge is lifted by name."""
    rig.holds.place(
        Hold(
            "a",
            HoldKind.DRAIN,
            "alert:GpuXidCritical:f",
            "XID 79",
            0.0,
            clear=Clear.MANUAL,
        )
    )
    body = {"alert": "GpuXidCritical"}
    node = rig.client.post("/admin/nodes/a/clear", json=body).json
    assert node["schedulable"]
    again = rig.client.post("/admin/nodes/a/clear", json=body)
    assert (404, "alert 'GpuXidCritical' holds node 'a' by nothing") == (
        again.status_code,
        again.json["error"],
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("nodes/x/cordon", {}, 404, "no node 'x' in the inventory"),
        (
            "nodes/a/cordon",
            {"why": "x"},
            400,
            "why: unknown field, known: reason, by, minutes",
        ),
        (
            "nodes/a/cordon",
            {"minutes": "5"},
            400,
            "minutes: must be of type int, got '5'",
        ),
        ("nodes/a/cordon", {"minutes": 0}, 400, "minutes: must be >= 1, got 0"),
        ("nodes/a/cordon", [1], 400, "the body must be a JSON object"),
        (
            "nodes/a/drain",
            {"wait_seconds": 301},
            400,
            "wait_seconds: must be 0 to 300, got 301",
        ),
        ("nodes/a/clear", {}, 400, "alert: the alert's name is required"),
    ],
)
def test_bad_changes(rig, path, body, status, message):
    """Each bad change names the field and the value, and changes nothing."""
    answer = rig.client.post(f"/admin/{path}", json=body)
    assert (status, message) == (answer.status_code, answer.json["error"])
    assert rig.holds.list() == ()


def test_change_must_be_json(rig):
    """A form that a foreign page could post is refused."""
    answer = rig.client.post("/admin/nodes/a/cordon", data={"by": "x"})
    assert answer.status_code == 400


def test_change_without_token_only_from_here(rig):
    """Where no token is configured, other machines may only look."""
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    refused = rig.client.post("/admin/nodes/a/cordon", json={}, **elsewhere)
    assert refused.status_code == 403
    assert rig.client.get("/admin/nodes", **elsewhere).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [("", 401), ("Bearer wrong", 401), ("Bearer s3cret", 200)],
)
def test_token(rig, sent, status):
    """With a token configured it is needed, from this machine too."""
    rig.token = "s3cret"
    headers = {"Authorization": sent}
    answer = rig.client.post("/admin/nodes/a/cordon", json={}, headers=headers)
    assert status == answer.status_code


def test_explain_dry_run(rig):
    """Who would be taken, and why not the others; nothing is taken."""
    rig.client.post("/admin/nodes/a/cordon", json={"reason": "fan"})
    told = rig.client.get("/admin/explain?model=m").json
    assert ("m:latest", "b", {"a": "cordon: fan"}) == (
        told["model"],
        told["picked"],
        told["rejected"],
    )
    assert rig.ledger.in_flight("b") == 0


def test_explain_a_request(rig):
    """Every attempt of a request, with what came of it."""
    trail = Trail("r1", "/api/chat", "m:latest", at=0.0, ended="end")
    trail.steps.append(
        Step(rig.dispatcher.explain(Wish("m:latest")), "a: cannot connect")
    )
    rig.trails.add(trail)
    told = rig.client.get("/admin/explain/r1").json
    assert ("end", "a: cannot connect") == (
        told["ended"],
        told["attempts"][0]["failure"],
    )
    assert rig.client.get("/admin/explain").json["requests"][0]["request_id"] == "r1"
    assert rig.client.get("/admin/explain/none").status_code == 404


def test_trails_are_bounded():
    """Only the newest requests are kept."""
    trails = Trails(limit=2)
    for name in ("1", "2", "3"):
        trails.add(Trail(name, "/", "m", 0.0))
    assert trails.get("1") is None
    assert ["3", "2"] == [t.request_id for t in trails.newest(5)]


def test_holds_and_queue(rig):
    """All holds of the fleet, and who waits."""
    rig.client.post("/admin/nodes/b/cordon", json={})
    assert ["b"] == [h["node"] for h in rig.client.get("/admin/holds").json]
    waiting = rig.client.get("/admin/queue").json["waiting"]
    assert {"interactive": 0, "batch": 0} == waiting


def test_reload(rig):
    """A shrunk inventory passes only when a person says so."""
    rig.client.post("/admin/reload", json={})
    rig.client.post("/admin/reload", json={"confirmed": True})
    assert [False, True] == rig.reloaded
