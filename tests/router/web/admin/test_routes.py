"""Operators see what the router sees, and hold nodes by hand."""

from __future__ import annotations

import time
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from flask import Flask

from router.access.service import KeyService
from router.access.store import KeyStore
from router.audit.store import AuditStore
from router.audit.trail import AuditTrail
from router.capacity.ledger import Ledger
from router.errors import ConfigError, RequestError
from router.holds.history import AuditQuery
from router.holds.record import AuditEvent, Change
from router.holds.store import HoldStore
from router.model import Clear, Hold, HoldKind, Node, Outcome, Part, Score
from router.pickers import Policies
from router.scheduling.matching import HeldBack
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace, DecisionTraces, TraceStep
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from router.web.admin.context import AdminContext
from router.web.admin.routes import admin_blueprint
from tests.router.control.fakes import MemoryJournal


@pytest.fixture
def rig(tmp_path):
    """Admin routes over a fleet of two, with a client that calls from loopback."""
    parts = (Part("heat", 40.0, 0.8, 1.0),)
    views = {}
    for name in ("a", "b"):
        present = {"m:latest": PresentModel("m:latest", "d", 1)}
        node = Node(name, f"http://{name}:1", slots=2)
        views[name] = NodeView(node, Score(0.8, parts), "0.17.4", present, {})
    published = Published(Snapshot(views, 0.0))
    holds = HoldStore(MemoryJournal())
    holds.fleet(views)
    ledger = Ledger(1, time.monotonic)
    ledger.configure(v.node for v in views.values())
    dispatcher = Scheduler(
        published,
        holds,
        ledger,
        Queue(5),
        Policies(),
        clock=time.monotonic,
    )
    rig = SimpleNamespace(holds=holds, ledger=ledger, token=None, reloaded=[])
    rig.traces, rig.dispatcher = DecisionTraces(), dispatcher

    rig.asked, rig.found, rig.waits = [], [], {}

    def find(query):
        rig.asked.append(query)
        return rig.found

    def reload(confirmed: bool):
        rig.reloaded.append(confirmed)
        return [{"file": "nodes.yml"}]

    rig.added, rig.refusal = [], None

    def add_entry(entry):
        if rig.refusal:
            raise rig.refusal
        rig.added.append(entry)
        return True

    app = Flask("test")
    app.register_blueprint(
        admin_blueprint(
            AdminContext(
                published=published,
                holds=holds,
                ledger=ledger,
                dispatcher=dispatcher,
                traces=rig.traces,
                token=lambda: rig.token,
                reload=reload,
                add_entry=add_entry,
                keys=KeyService(
                    KeyStore(tmp_path), lambda: None, lambda: "auto", time.time
                ),
                find=find,
                usage=lambda _: {},
                audit=AuditTrail(lambda: AuditStore(tmp_path), time.time),
                waits=lambda: rig.waits,
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
            "why: unknown field, known: reason, by, minutes, silence",
        ),
        (
            "nodes/a/cordon",
            {"minutes": "5"},
            400,
            "minutes: must be of type int, got '5'",
        ),
        ("nodes/a/cordon", {"minutes": 0}, 400, "minutes: must be 1 to 527040, got 0"),
        (
            "nodes/a/cordon",
            {"minutes": 10**11},
            400,
            "minutes: must be 1 to 527040, got 100000000000",
        ),
        (
            "nodes/a/cordon",
            {"minutes": 10**18},
            400,
            "minutes: must be 1 to 527040, got 1000000000000000000",
        ),
        (
            "nodes/a/cordon",
            {"minutes": True},
            400,
            "minutes: must be of type int, got True",
        ),
        (
            "nodes/a/cordon",
            {"reason": "x" * 501},
            400,
            "reason: must have at most 500 characters, got 501",
        ),
        (
            "nodes/a/drain",
            {"wait_seconds": -1},
            400,
            "wait_seconds: must be 0 to 300, got -1",
        ),
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


@pytest.mark.parametrize("body", ["{", "[" * 5000, '{"by": "\xff'])
def test_change_that_is_no_json(rig, body):
    """However it is broken or nested, it is refused."""
    sent = {"data": body.encode("latin-1"), "content_type": "application/json"}
    answer = rig.client.post("/admin/nodes/a/cordon", **sent)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("invalid JSON: ")
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
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "192.168.1.5:8000"},
        {"Host": "gpu-box.lan"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_change_through_a_proxy_is_not_from_here(rig, headers):
    """A proxy on this machine makes all the LAN come from loopback."""
    refused = rig.client.post("/admin/nodes/a/cordon", json={}, headers=headers)
    assert (403, ()) == (refused.status_code, rig.holds.list())
    assert "admin.token_file" in refused.json["error"]


@pytest.mark.parametrize(
    "spelling",
    [
        "//admin/nodes/a/cordon",
        "/admin//nodes/a/cordon",
        "/admin/nodes//a/cordon",
        "/admin/nodes/a/cordon/",
        "/admin/./nodes/a/cordon",
        "/x/../admin/nodes/a/cordon",
        "/%61dmin/nodes/a/cordon",
        "/admin%2Fnodes/a/cordon",
        "/admin/nodes/%61/cordon",
        "/%2Fadmin/nodes/a/cordon",
        "/admin;x/nodes/a/cordon",
        "/admin/nodes/a/cordon;x",
        "/ADMIN/nodes/a/cordon",
        "/admin\\nodes/a/cordon",
        "/admin/nodes/a/cordon%00",
        "/admin/nodes/a/cordon%20",
        "http://localhost/admin/nodes/a/cordon",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_admin_has_one_spelling(rig, spelling, method):
    """What passes a proxy's rule for `/admin` reaches nothing, by no redirect."""
    path = unquote(spelling.removeprefix("http://localhost"))
    for raw in (spelling, f"{spelling}?a=/admin/nodes"):
        answer = rig.client.open(
            "/",
            method=method,
            json={} if method == "POST" else None,
            environ_overrides={"PATH_INFO": path, "RAW_URI": raw},
        )
        assert answer.status_code == 404
    assert rig.holds.list() == ()


@pytest.mark.parametrize(
    ("sent", "status"),
    [("", 401), ("Bearer wrong", 401), ("s3cret", 401), ("Bearer s3cret", 200)],
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


def test_explain_says_what_is_expected(rig):
    """What a candidate's time consists of adds up to the whole."""
    told = rig.client.get("/admin/explain?model=m").json
    assert {"prompt": 0, "answer": 256} == told["expected_tokens"]
    for each in told["candidates"]:
        whole = pytest.approx(each["expected_seconds"], abs=0.01)
        assert whole == sum(each["expected"].values())
        assert {"behind", "load", "prefill", "decode"} == set(each["expected"])
    assert told["held_back"] is None


def test_explain_shows_the_prediction_beside_what_happened(rig):
    """From the slot to the first token and to the end; nothing of a failure."""
    decided = rig.dispatcher.explain(RoutingRequest("m:latest"))
    lease = rig.ledger.take("b", "m:latest")
    lease.streams, lease.decoding_since = True, lease.taken_at + 0.5
    trace = DecisionTrace(
        "r1", "/api/chat", "m:latest", 0.0, over_at=lease.taken_at + 2
    )
    trace.steps = [
        TraceStep(decided, "a: broke", lease=lease),
        TraceStep(decided, lease=lease),
    ]
    rig.traces.add(trace)
    failed, came = rig.client.get("/admin/explain/r1").json["attempts"]
    assert failed["actual"] is None
    assert {"first_token_seconds": 0.5, "seconds": 2.0} == came["actual"]


def test_explain_says_why_a_request_waited(rig):
    """Who was free, which nodes it was kept for, and what both would have cost."""
    decided = rig.dispatcher.explain(RoutingRequest("m:latest"))
    held = HeldBack("a", 90.0, 40.0, ("b",), 1.25)
    step = TraceStep(decided._replace(held_back=held, waited=1.5))
    rig.traces.add(DecisionTrace("r1", "/api/chat", "m:latest", 0.0, [step]))
    told = rig.client.get("/admin/explain/r1").json["attempts"][0]
    assert 1.5 == told["waited_seconds"]
    shown = told["held_back"]
    assert ("a", ["b"], 1.25) == (
        shown["from"],
        shown["for"],
        shown["expected_seconds"],
    )
    assert shown["cost_of_waiting"] < shown["cost_there"]


def test_explain_a_request(rig):
    """Every attempt of a request, with what came of it."""
    trace = DecisionTrace("r1", "/api/chat", "m:latest", at=0.0, ended="end")
    trace.steps.append(
        TraceStep(
            rig.dispatcher.explain(RoutingRequest("m:latest")), "a: cannot connect"
        )
    )
    rig.traces.add(trace)
    told = rig.client.get("/admin/explain/r1").json
    assert ("end", "a: cannot connect") == (
        told["ended"],
        told["attempts"][0]["failure"],
    )
    assert rig.client.get("/admin/explain").json["requests"][0]["request_id"] == "r1"
    assert rig.client.get("/admin/explain/none").status_code == 404


def test_trails_are_bounded():
    """Only the newest requests are kept."""
    traces = DecisionTraces(limit=2)
    for name in ("1", "2", "3"):
        traces.add(DecisionTrace(name, "/", "m", 0.0))
    assert traces.get("1") is None
    assert ["3", "2"] == [t.request_id for t in traces.newest(5)]


def test_holds_and_queue(rig):
    """All holds of the fleet, and who waits."""
    rig.client.post("/admin/nodes/b/cordon", json={})
    assert ["b"] == [h["node"] for h in rig.client.get("/admin/holds").json]
    waiting = rig.client.get("/admin/queue").json["waiting"]
    assert {"continued": 0, "interactive": 0, "batch": 0} == waiting


def test_reload(rig):
    """A shrunk inventory passes only when a person says so."""
    rig.client.post("/admin/reload", json={})
    rig.client.post("/admin/reload", json={"confirmed": True})
    assert [False, True] == rig.reloaded


# Node health by hand.


def drained(node, alert="GpuTooHot"):
    labels = {"alertname": alert, "node": node, "action": "drain"}
    source = f"alert:{alert}:f"
    return Hold(node, HoldKind.DRAIN, source, "hot", time.time(), labels=labels)


def test_override_and_its_end(rig):
    """One alert on one node is overruled, for so long, by whom."""
    rig.holds.fleet(["a", "b", "c", "d"])
    rig.holds.place(drained("a"))
    body = {"alert": "GpuTooHot", "minutes": 5, "by": "eve", "reason": "sensor"}
    node = rig.client.post("/admin/nodes/a/override", json=body).json
    assert node["schedulable"]
    (shown,) = node["overrides"]
    assert ("GpuTooHot", "operator:eve", "sensor") == tuple(
        shown[k] for k in ("alert", "by", "reason")
    )
    assert rig.client.get("/admin/overrides").json == [shown]
    ended = rig.client.delete("/admin/nodes/a/override", json={"alert": "GpuTooHot"})
    assert (False, []) == (ended.json["schedulable"], ended.json["overrides"])
    again = rig.client.delete("/admin/nodes/a/override", json={"alert": "GpuTooHot"})
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "alert: the alert's name is required"),
        ({"alert": "X"}, "minutes: must be 1 to 10080, got 0"),
        ({"alert": "X", "minutes": 99999}, "minutes: must be 1 to 10080, got 99999"),
    ],
)
def test_bad_overrides(rig, body, message):
    """An override without an end would be forgotten."""
    answer = rig.client.post("/admin/nodes/a/override", json=body)
    assert (400, message) == (answer.status_code, answer.json["error"])


def test_history_filters_reach_the_archive(rig):
    """Names, times in ISO 8601 and unix seconds, and the limit."""
    rig.found = [AuditEvent(9.0, Change.LIFTED, drained("a"), "level", "proven")]
    url = "/admin/holds/history?node=a&kind=drain&alert=GpuTooHot&change=lifted"
    url += "&since=1970-01-01T00:00:05Z&before=10.5&limit=7"
    (line,) = rig.client.get(url).json
    assert rig.asked == [AuditQuery("a", "drain", "lifted", "GpuTooHot", 5.0, 10.5, 7)]
    assert ("lifted", "level", "proven", "1970-01-01T00:00:09.000+00:00") == tuple(
        line[k] for k in ("change", "by", "why", "until")
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("kind=odd", "kind: must be one of cordon, drain, evict, derate, down, got"),
        ("change=odd", "change: must be one of placed,"),
        ("limit=0", "limit: must be 1 to 1000, got '0'"),
        ("limit=x", "limit: must be 1 to 1000, got 'x'"),
        ("limit=" + "9" * 5000, "limit: must be 1 to 1000, got '999"),
        ("since=nan", "since: must be a time in ISO 8601 or unix seconds, got"),
        ("since=inf", "since: must be a time in ISO 8601 or unix seconds, got"),
        ("before=1e300", "before: must be a time in ISO 8601 or unix seconds, got"),
        ("since=yesterday", "since: must be a time in ISO 8601 or unix seconds, got"),
        ("who=ann", "who: unknown filter, known: node, kind, change, alert, since,"),
    ],
)
def test_bad_history_filters(rig, query, message):
    """A filter that is not understood must not look like an empty history."""
    answer = rig.client.get(f"/admin/holds/history?{query}")
    assert answer.status_code == 400
    assert answer.json["error"].startswith(message)


def test_what_if(rig):
    """Who leaves, what stays, what has no consequence; and nothing is done."""
    rig.holds.fleet(["a", "b"], panic_ratio=0.5)
    alerts = [
        {"alertname": "GpuTooHot", "node": "a"},
        {"alertname": "GpuWarm", "node": "b", "action": "derate", "factor": "0.25"},
        {"alertname": "GpuTooHot", "node": "gone"},
        {"alertname": "Odd", "node": "a", "action": "reboot"},
    ]
    told = rig.client.post("/admin/what-if", json={"alerts": alerts}).json
    assert ["a"] == list(told["leave"])
    assert {"b": 0.25} == told["derated"]
    assert ["unknown_node", "unknown_action"] == [
        each["reason"] for each in told["without_consequence"]
    ]
    assert {"now": {"nodes": 2, "slots": 4, "models": 1}} == {
        "now": told["capacity"]["now"]
    }
    assert {"nodes": 1, "slots": 2, "models": 1} == told["capacity"]["then"]
    assert [] == told["models_without_node"]
    assert not told["panic"]
    assert rig.holds.list() == ()


def test_what_if_says_panic_and_lost_models(rig):
    """One alert too many brings all back; the last node of a model is named."""
    rig.holds.fleet(["a", "b"], panic_ratio=1.0)
    both = [{"node": name} for name in ("a", "b")]
    told = rig.client.post("/admin/what-if", json={"alerts": both}).json
    assert (["m:latest"], False) == (told["models_without_node"], told["panic"])
    rig.holds.fleet(["a", "b"], panic_ratio=0.5)
    told = rig.client.post("/admin/what-if", json={"alerts": both}).json
    assert (True, {}) == (told["panic"], told["leave"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"alerts": ["x"]}, "alerts[0]: must be a map of labels, got 'x'"),
        ({"alerts": [{"node": 1}]}, "alerts[0].node: must be text, got 1"),
        ({"alerts": [{}] * 1001}, "alerts: at most 1000, got 1001"),
    ],
)
def test_bad_what_if(rig, body, message):
    """What cannot be an alert is told by its place."""
    answer = rig.client.post("/admin/what-if", json=body)
    assert (400, message) == (answer.status_code, answer.json["error"])


def test_a_cordon_without_alertmanager_stands(rig):
    """The silence is an extra; its failure is told."""
    node = rig.client.post("/admin/nodes/a/cordon", json={"silence": True}).json
    assert not node["schedulable"]
    assert {"error": "no alertmanager is configured"} == node["silence"]


def test_what_a_hold_waits_for_is_shown(rig):
    """Doubts, hold-downs and checks, beside the hold."""
    rig.holds.fleet(["a", "b", "c", "d"])
    hold = drained("a")
    rig.holds.place(hold)
    rig.waits[hold.key] = "it flaps"
    (shown,) = rig.client.get("/admin/nodes/a").json["holds"]
    assert shown["waits_for"] == "it flaps"
    assert [shown] == rig.client.get("/admin/holds").json


def test_times_beyond_the_calendar_are_shown(rig):
    """What an earlier release let in must not end each look at holds and history."""
    forever = Hold("a", HoldKind.CORDON, "operator:x", "y", 0.0, until=6e12)
    rig.holds.place(forever)
    rig.found = [AuditEvent(9.0, Change.PLACED, forever, "operator:x", "y")]
    (shown,) = rig.client.get("/admin/holds").json
    (line,) = rig.client.get("/admin/holds/history").json
    assert ["9999-12-31T23:59:59.999+00:00"] * 2 == [shown["until"], line["until"]]
    assert rig.client.get("/admin/nodes").status_code == 200


def test_a_node_is_added(rig):
    """By name and address; its labels go along."""
    body = {"name": "c", "address": "10.0.0.3", "labels": {"__slots": "4"}}
    answer = rig.client.post("/admin/nodes", json=body)
    entry = {"targets": ["10.0.0.3"], "labels": {"node": "c", "__slots": "4"}}
    assert {"name": "c", "added": True, "entry": entry} == answer.json
    assert [entry] == rig.added


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "c"}, "address: is required"),
        ({"address": "10.0.0.3"}, "name: is required"),
        ({"name": "c", "address": "a", "labels": {"x": 1}}, "labels: x: must be"),
    ],
)
def test_half_a_node_is_refused(rig, body, told):
    """What is missing is named."""
    answer = rig.client.post("/admin/nodes", json=body)
    assert (400, []) == (answer.status_code, rig.added)
    assert told in answer.json["error"]


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (ConfigError("nodes.yml: [1].labels.node: must be unique"), "must be unique"),
        (OSError(30, "Read-only file system"), "add this entry to it yourself"),
    ],
)
def test_an_inventory_that_cannot_take_it(rig, refusal, told):
    """409, with what to do where the file is not the router's to write."""
    rig.refusal = refusal
    body = {"name": "c", "address": "10.0.0.3"}
    answer = rig.client.post("/admin/nodes", json=body)
    assert 409 == answer.status_code
    assert told in answer.json["error"]
