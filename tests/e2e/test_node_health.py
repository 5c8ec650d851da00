"""What alerts may do to a node, and what an operator may do about it.

Real Prometheus, Alertmanager and router; simulated nodes whose cards are set to
temperatures at which only this test's alerts fire (tests/data/node-health-rules.yml).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from tests.harness.counting import counted, listen, request_of
from tests.harness.poll import until
from tests.harness.process import ROOT
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import stack

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
NODES = tuple(
    Simulated(name, slots=4, tokens_per_second=speed)
    for name, speed in (("first", 100.0), ("second", 60.0), ("third", 40.0))
)
DERATE, EVICT, VERIFIED = 11.0, 12.0, 13.0
SETTINGS = {
    "INFEROPS_CONTROL__VERIFY_RETRY_SECONDS": "0.5",
    "INFEROPS_CONTROL__VERIFY_TIMEOUT_SECONDS": "3",
    "INFEROPS_CONTROL__SLOW_START_SECONDS": "4",
    "INFEROPS_CONTROL__FLAP_RETURNS": "50",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as made:
        yield made


@pytest.fixture(scope="module")
def product(tmp_path_factory, fleet):
    folder = tmp_path_factory.mktemp("product")
    with stack(folder, fleet.inventory, settings=SETTINGS) as made:
        rules = (ROOT / "tests/data/node-health-rules.yml").read_text()
        (made.rules / "test-health.yml").write_text(rules)
        made.reload_prometheus()
        yield made


@pytest.fixture(autouse=True)
def well(product, fleet):
    """Every node serves before each test, and is mended after it."""

    def served():
        nodes = product.nodes().values()
        return len(nodes) == 3 and all(
            n["schedulable"]
            and n["factor"] == 1
            and n["in_flight"] == 0
            and n["external"] is None
            and scored(n)
            for n in nodes
        )

    telemetry = "count(max by (node) (DCGM_FI_DEV_GPU_TEMP)) == 3"
    until(lambda: product.query(telemetry), "telemetry is in", seconds=30)
    # What another test's end left a node under suspicion of lasts for half a minute.
    until(served, "all nodes serve", seconds=45)
    yield
    for node in NODES:
        fleet.clear(node.name)
        admin(product, "POST", node.name, "uncordon")
    for override in requests.get(f"{product.url}/admin/overrides", timeout=5).json():
        body = {"alert": override["alert"]}
        admin(product, "DELETE", override["node"], "override", body)


def scored(node):
    """The router has read what the score is made of: it does not change by itself."""
    read = {part["signal"] for part in node["parts"] if part["reading"] is not None}
    return read >= {"gpu_utilization", "temperature_headroom"}


def admin(product, method, node, what, body=None):
    return product.admin(method, f"nodes/{node}/{what}", body)


def metric(product, sample):
    text = requests.get(f"{product.url}/metrics", timeout=5).text
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name == sample:
            return float(value)
    return None


def history(product, **filters):
    url = f"{product.url}/admin/holds/history"
    answer = requests.get(url, params=filters, timeout=5)
    assert answer.ok, answer.text
    return answer.json()


def cordon_all_but(product, *kept):
    for node in NODES:
        if node.name not in kept:
            admin(product, "POST", node.name, "cordon")


def in_flight(product, node):
    return product.nodes()[node]["in_flight"]


def test_evict_moves_streams_and_requests(product, fleet):
    """A stream goes on elsewhere, an unanswered request begins anew; nobody fails."""
    cordon_all_but(product, "first")
    path, tokens = "/api/generate", 700
    whole = {"stream": False}
    with ThreadPoolExecutor(3) as pool:
        streams = [
            pool.submit(listen, product.url, path, request_of(path, MODEL, tokens))
            for _ in range(2)
        ]
        silent = pool.submit(
            requests.post,
            f"{product.url}{path}",
            json=request_of(path, MODEL, tokens) | whole,
            timeout=60,
        )
        until(lambda: in_flight(product, "first") == 3, "all three run on first")
        admin(product, "POST", "second", "uncordon")
        admin(product, "POST", "third", "uncordon")
        before = metric(product, 'inferops_evictions_total{node="first"}') or 0
        began = time.monotonic()
        fleet.put("first", "hot", celsius=EVICT)
        until(lambda: in_flight(product, "first") == 0, "first is empty", every=0.01)
        took = time.monotonic() - began
        heard = [each.result() for each in streams]
        answer = silent.result()
    assert ("evict", "confirmed") in product.holds("first")
    assert took < 3.5  # 700 tokens of three at once take 14 s there
    for each in heard:
        assert (each.status, each.error, each.ended) == (200, None, True)
        assert each.numbers == counted(tokens)
    assert answer.status_code == 200
    assert answer.headers["X-InferOps-Node"] != "first"
    assert metric(product, 'inferops_evictions_total{node="first"}') == before + 3
    print(f"\n  evict: fault to an empty node {took:.2f} s")


def busy(product, node):
    return in_flight(product, node) == 1


def unheld(product, node):
    return product.holds(node) == []


def test_a_stream_is_moved_to_and_fro(product, fleet):
    """A node that was emptied and is well again takes the stream back."""
    cordon_all_but(product, "first")
    path, tokens = "/api/generate", 1800
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, product.url, path, request_of(path, MODEL, tokens))
        until(partial(busy, product, "first"), "it runs on first")
        admin(product, "POST", "second", "uncordon")
        for here, there in (("first", "second"), ("second", "first")):
            fleet.put(here, "hot", celsius=EVICT)
            until(partial(busy, product, there), f"it runs on {there}")
            fleet.clear(here)
            until(partial(unheld, product, here), f"{here} is back")
        heard = stream.result()
    assert (heard.status, heard.error, heard.ended) == (200, None, True)
    assert heard.numbers == counted(tokens)


def test_evict_leaves_what_cannot_be_moved(product, fleet):
    """A stream with a format that binds ends by itself, where it is."""
    cordon_all_but(product, "first")
    path = "/api/generate"
    body = request_of(path, MODEL, 200, format="json")
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, product.url, path, body)
        until(lambda: in_flight(product, "first") == 1, "it runs on first")
        admin(product, "POST", "second", "uncordon")
        fleet.put("first", "hot", celsius=EVICT)
        until(
            lambda: ("evict", "confirmed") in product.holds("first"), "first is evicted"
        )
        heard = stream.result()
    assert (heard.node, heard.error, heard.ended) == ("first", None, True)


def test_evict_leaves_streams_that_nobody_else_can_take(product, fleet):
    """The last node of a model keeps its streams: a slow end beats none."""
    cordon_all_but(product, "first")
    path = "/api/generate"
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, product.url, path, request_of(path, MODEL, 200))
        until(lambda: in_flight(product, "first") == 1, "it runs on first")
        fleet.put("first", "hot", celsius=EVICT)
        until(
            lambda: ("evict", "confirmed") in product.holds("first"), "first is evicted"
        )
        heard = stream.result()
    assert (heard.node, heard.error, heard.ended) == ("first", None, True)
    assert heard.numbers == counted(200)


def test_derate_halves_a_node(product, fleet):
    """Score, slots and preference go down; the node stays in service."""
    score = product.nodes()["first"]["score"]
    fleet.put("first", "hot", celsius=DERATE)
    until(lambda: product.nodes()["first"]["factor"] == 0.5, "first is derated")

    def halved():
        node = product.nodes()["first"]
        return node["schedulable"] and node["score"] < 0.6 * score

    until(halved, "its score is halved")
    confirmed = [("derate", "confirmed")]  # the bell may come before the level
    until(lambda: product.holds("first") == confirmed, "the level says so too")
    assert product.nodes()["first"]["slots"] <= 2
    assert metric(product, 'inferops_node_factor{node="first"}') == 0.5
    assert metric(product, "inferops_panic") == 0
    fleet.clear("first")
    until(lambda: product.nodes()["first"]["factor"] == 1, "first is whole again")


def test_verified_waits_for_a_generation(product, fleet):
    """The alert is gone, the node answers, but it cannot generate: it stays out."""
    fleet.put("first", "error", status=500, text="CUDA error: device lost")
    fleet.put("first", "hot", celsius=VERIFIED)
    until(lambda: product.holds("first") == [("drain", "confirmed")], "first is out")
    began = time.time()
    fleet.clear("first", "hot")

    def tried():
        (hold,) = product.nodes()["first"]["holds"]
        return "CUDA error" in (hold["waits_for"] or "")

    until(tried, "a check has failed", seconds=30)
    pending = 'inferops_verification_pending{alertname="TestVerified",node="first"}'
    assert metric(product, pending) == 1
    failed = 'inferops_verifications_total{outcome="failed"}'
    until(lambda: metric(product, failed) >= 2, "it is tried again", seconds=30)
    assert product.holds("first") == [("drain", "confirmed")]
    fleet.clear("first")
    until(lambda: product.holds("first") == [], "first is back", seconds=60)
    told = history(product, node="first", alert="TestVerified", since=began)
    changes = [each["change"] for each in reversed(told)]
    assert changes[0] == "unverified"
    assert changes[-2:] == ["verified", "lifted"]
    assert told[0]["why"] == "the level proves the node well, and it has generated"
    assert told[0]["until"] is not None


@pytest.mark.long
def test_an_override_serves_despite_the_alert(product, fleet):
    """A silence does not bring the node back; an override does, until it ends."""
    fleet.put("first", "hot", celsius=VERIFIED)
    until(lambda: product.holds("first") == [("drain", "confirmed")], "first is out")
    silence(product, "first")
    passes(product, 3)
    assert not product.nodes()["first"]["schedulable"]
    body = {"alert": "TestVerified", "minutes": 30, "by": "ann", "reason": "sensor"}
    node = admin(product, "POST", "first", "override", body).json()
    assert node["schedulable"]
    assert [each["by"] for each in node["overrides"]] == ["operator:ann"]
    name = "inferops_override_until_timestamp_seconds"
    sample = f'{name}{{alertname="TestVerified",node="first"}}'
    assert metric(product, sample) == pytest.approx(time.time() + 1800, abs=30)
    product.kill("router")
    product.restart("router")
    assert product.nodes()["first"]["schedulable"]
    passes(product, 3)
    assert product.nodes()["first"]["schedulable"]
    ended = admin(product, "DELETE", "first", "override", {"alert": "TestVerified"})
    assert not ended.json()["schedulable"]


def silence(product, node):
    now = time.time()
    answer = requests.post(
        f"http://127.0.0.1:{product.ports.alertmanager}/api/v2/silences",
        json={
            "matchers": [
                {"name": "node", "value": node, "isRegex": False, "isEqual": True}
            ],
            "startsAt": stamp(now),
            "endsAt": stamp(now + 600),
            "createdBy": "test",
            "comment": "test",
        },
        auth=product.login,
        timeout=5,
    )
    assert answer.ok, answer.text


def stamp(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def passes(product, count):
    name = "inferops_control_pass_duration_seconds_count"
    before = metric(product, name)
    until(lambda: metric(product, name) >= before + count, "passes go by")


def silences(product, state):
    url = f"http://127.0.0.1:{product.ports.alertmanager}/api/v2/silences"
    found = requests.get(url, auth=product.login, timeout=5).json()
    return {each["id"] for each in found if each["status"]["state"] == state}


def test_planned_work_is_silenced_and_unsilenced(product):
    """A cordon may post a silence; uncordoning lifts that one."""
    before = silences(product, "active")
    body = {"by": "ann", "reason": "new fans", "minutes": 60, "silence": True}
    node = admin(product, "POST", "first", "cordon", body).json()
    assert not node["schedulable"]
    made = node["silence"]["id"]
    assert silences(product, "active") == before | {made}
    node = admin(product, "POST", "first", "uncordon").json()
    assert (node["schedulable"], node["silence"]) == (True, {"lifted": [made]})
    assert silences(product, "active") == before
    again = admin(product, "POST", "first", "uncordon").json()
    assert "silence" not in again


def test_a_dead_alertmanager_stops_no_cordon(product):
    """The node is held and released all the same; the operator hears what failed."""
    node = admin(product, "POST", "second", "cordon", {"silence": True}).json()
    assert node["silence"]["id"]
    product.kill("alertmanager")
    try:
        node = admin(product, "POST", "first", "drain", {"silence": True}).json()
        assert not node["schedulable"]
        assert "refused" in node["silence"]["error"]
        node = admin(product, "POST", "second", "uncordon").json()
        assert node["schedulable"]
        assert "refused" in node["silence"]["error"]
        failed = 'inferops_silences_total{operation="lift",outcome="failed"}'
        assert metric(product, failed) == 1
    finally:
        product.restart("alertmanager")


@pytest.mark.long
def test_a_node_that_came_back_starts_slowly(product):
    """Its slots come one by one; others are whole."""
    admin(product, "POST", "first", "cordon")
    passes(product, 8)
    node = admin(product, "POST", "first", "uncordon").json()
    assert node["schedulable"]
    assert node["slow_start"] < 1
    assert node["slots"] <= 2
    ratio = 'inferops_node_slow_start_ratio{node="%s"}'
    assert metric(product, ratio % "second") == 1
    until(lambda: metric(product, ratio % "first") == 1, "first is whole again")


@pytest.mark.long
def test_what_would_happen(product, fleet):
    """The dry run says what really follows, and does nothing."""
    alerts = [{"alertname": "GpuTooHot", "node": name} for name in ("first", "second")]

    def rehearsed(*alerts):
        return product.admin("POST", "what-if", {"alerts": alerts}).json()

    told = rehearsed(*alerts)
    assert (told["panic"], told["panic_now"]) == (True, False)
    assert told["capacity"]["then"]["nodes"] == 3
    told = rehearsed(alerts[0])
    assert (told["panic"], list(told["leave"])) == (False, ["first"])
    assert told["capacity"]["then"] == {"nodes": 2, "slots": 8, "models": 3}
    assert all(node["schedulable"] for node in product.nodes().values())
    fleet.put("first", "hot", celsius=VERIFIED)
    until(lambda: not product.nodes()["first"]["schedulable"], "first is out")
    told = rehearsed(alerts[1])
    assert (told["panic"], told["serve_again"]) == (True, ["first"])
