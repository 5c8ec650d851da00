"""Everything around inference breaks, one after the other, under streaming load.

Real Prometheus, Alertmanager and router, simulated nodes. Each case counts failed
requests (none may fail), how long it took until the product reacted, and until all
was well again. `make chaos` runs all and writes docs/chaos.md.
"""

from __future__ import annotations

import random
import time

import pytest

from router.alerts.labels import fingerprint
from tests.chaos.stage import (
    FLAP_RETURNS,
    FORGET_SECONDS,
    HOLD_DOWN_SECONDS,
    NAMES,
    STALE_SECONDS,
)
from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.long
def test_prometheus_killed(stage, begin):
    """Scores degrade, a sick node stays out, a dead node is found all the same."""
    stage.drained("delta")
    case = begin("Prometheus killed, and returned")
    killed = case.now()
    stage.product.kill("prometheus")
    case.reacted("the degrade step says so", lambda: stage.degrade() >= 1, 20)
    stage.fleet.put("gamma", "refuse", reset=True)
    dead = time.monotonic()
    until(lambda: stage.out("gamma"), "a dead node is out", every=0.01)
    dead = time.monotonic() - dead
    case.served()
    assert stage.product.holds("delta") == [("drain", "unknown")]
    assert case.went_to("delta", killed) == 0
    stage.fleet.clear("gamma")
    case.now()
    stage.product.restart("prometheus")
    case.recovered(
        "readings are fresh and the alert is confirmed",
        lambda: (
            stage.degrade() == 0
            and stage.product.holds("delta") == [("drain", "confirmed")]
        ),
        60,
    )
    case.note = (
        "the drained node stays out (`unknown`); a node killed meanwhile was out"
        f" after {dead * 1000:.0f} ms"
    )


@pytest.mark.long
def test_degrade_ladder(stage, begin):
    """Each step is a metric: fresh, last good, own, and static after a restart."""
    case = begin("Prometheus away for long: the degrade ladder")
    assert stage.degrade() == 0
    killed = case.now()
    stage.product.kill("prometheus")
    case.reacted(
        "step 1: last good readings", lambda: stage.degrade() == 1, STALE_SECONDS + 3
    )
    scores: list[float] = []
    until(
        lambda: score(stage, scores) and stage.degrade() == 2, "step 2: own", seconds=30
    )
    assert time.monotonic() - killed >= FORGET_SECONDS - 1
    case.served()
    # Each reading lost weight towards neutral on its way from step 1 to 2.
    assert len(set(scores)) > 3
    stage.product.kill("router")
    stage.product.restart("router")
    case.excuse(time.monotonic())
    assert stage.degrade() == 3  # a router without any reading: static weights
    case.served()
    case.now()
    stage.product.restart("prometheus")
    case.recovered("step 0: fresh", lambda: stage.degrade() == 0, 60)
    case.note = "steps 0, 1, 2; after a restart 3; then 0: people are served at each"


def score(stage, scores):
    scores.append(stage.nodes()["alpha"]["score"])
    return True


@pytest.mark.long
def test_prometheus_disk_full(stage, begin):
    """Nothing can be stored: no rule is believed, and nothing is served worse."""
    if stage.disk is None:
        pytest.skip("a tmpfs cannot be mounted here (needs root)")
    stage.drained("delta")
    case = begin("Prometheus' disk full (tmpfs of 96 MB)")
    full = case.now()
    filler = stage.disk / "filler"
    fill(filler)
    case.reacted(
        "the drained node is in doubt",
        lambda: stage.product.holds("delta") == [("drain", "unknown")],
        90,
    )
    stage.recover("delta")  # well by now, but nothing can prove it
    stage.passes(6)
    assert stage.out("delta")
    case.served()
    assert case.went_to("delta", full) == 0
    case.now()
    filler.unlink()
    by_itself = recovers(stage, 20)
    if not by_itself:
        stage.product.kill("prometheus")
        stage.product.restart("prometheus")
    case.recovered("delta is proven well", lambda: stage.serves("delta"), 60)
    how = "by itself" if by_itself else "after a restart of Prometheus, which it needs"
    case.note = f"no alert is believed gone; with space again it recovers {how}"


def fill(path):
    block = b"\0" * 65536
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                if file.write(block) < len(block):
                    return
            except OSError:
                return


def recovers(stage, seconds):
    try:
        until(lambda: stage.serves("delta"), "by itself", seconds=seconds)
    except AssertionError:
        return False
    return True


def test_alertmanager_killed(stage, begin):
    """No bell rings; the level alone drains and brings back."""
    case = begin("Alertmanager killed")
    stage.product.kill("alertmanager")
    case.now()
    stage.fall_sick("delta")
    case.reacted("the level drains", lambda: stage.out("delta"), 30)
    out = time.monotonic()
    case.served()
    assert case.went_to("delta", out) == 0
    case.now()
    stage.recover("delta")
    case.recovered("the level brings back", lambda: stage.serves("delta"), 60)
    stage.product.restart("alertmanager")
    case.note = "drained and brought back by reconcile passes alone"


@pytest.mark.long
def test_webhook_blocked(stage, begin):
    """The token was rotated on one side only: each notification is refused."""
    token = stage.product.paths.webhook_token
    right = token.read_text()
    case = begin("webhook blocked (a wrong token)")
    token.write_text("another")
    try:
        case.now()
        stage.fall_sick("delta")
        case.reacted("the level drains", lambda: stage.out("delta"), 30)
        refused = 'inferops_webhook_notifications_total{outcome="unauthorized"}'
        until(lambda: stage.metric(refused), "the bell was refused", seconds=30)
        case.served()
        case.now()
        stage.recover("delta")
        case.recovered("the level brings back", lambda: stage.serves("delta"), 60)
    finally:
        token.write_text(right)
    case.note = "drained by a reconcile pass; the refusals are counted"


@pytest.mark.long
def test_prometheus_and_alertmanager_killed(stage, begin):
    """Nobody speaks of alerts at all: what is held stays, own evidence goes on."""
    stage.drained("delta")
    case = begin("Prometheus and Alertmanager killed")
    killed = case.now()
    stage.product.kill("alertmanager")
    stage.product.kill("prometheus")
    case.reacted("the degrade step says so", lambda: stage.degrade() >= 1, 20)
    stage.fleet.put("gamma", "refuse", reset=True)
    until(lambda: stage.out("gamma"), "a dead node is out")
    case.served()
    assert case.went_to("delta", killed) == 0
    stage.fleet.clear("gamma")
    stage.fleet.clear("delta")
    case.now()
    stage.product.restart("prometheus")
    stage.product.restart("alertmanager")
    case.recovered("delta is proven well", stage.serves, 90)
    case.note = "the drained node stays out, a dead one is found, both come back"


def test_router_killed(stage, begin):
    """-9: what was held is held at the first request; what began meanwhile, too."""
    stage.drained("delta")
    case = begin("router killed with -9, and restarted")
    before = time.monotonic()
    stage.product.kill("router")
    stage.fall_sick("gamma")
    until(lambda: stage.firing("TestDrain", "gamma"), "gamma's alert fires", seconds=30)
    started = case.now()
    stage.product.restart("router")
    assert stage.out("gamma")
    case.reacted("both are out", lambda: stage.out("gamma") and stage.out("delta"), 10)
    case.excuse(time.monotonic())
    case.served()
    wrong = case.went_to("delta", before) + case.went_to("gamma", started)
    assert wrong == 0
    case.now()
    stage.recover("gamma")
    stage.recover("delta")
    case.recovered("both are proven well", stage.serves, 60)
    case.note = (
        "no request went to the node drained before, none to the one whose alert began"
        f" while the router was away; not counted: {len(case.lost)} that the killed"
        " process had under way, or that found nobody"
    )


def test_a_bad_expression(stage, begin):
    """Three of four nodes alert falsely: panic, and inference goes on."""
    case = begin("three of four nodes alert falsely (one bad expression)")
    bad = 'DCGM_FI_DEV_GPU_TEMP{node!="alpha"} > 0'
    case.now()
    stage.write_rules(stage.rules.replace("DCGM_FI_DEV_GPU_TEMP == 14", bad))
    panic = lambda: stage.metric("inferops_panic") == 1  # noqa: E731
    case.reacted("panic", panic, 30)
    case.served(16)
    assert stage.serves()
    case.now()
    stage.write_rules(stage.rules)
    case.recovered(
        "the panic is over",
        lambda: stage.metric("inferops_panic") == 0 and stage.serves(),
        60,
    )
    case.note = "panic: alert holds are ignored, all nodes serve"


@pytest.mark.long
def test_half_alert_falsely(stage, begin):
    """Exactly half is no panic: the other half serves."""
    case = begin("two of four nodes alert falsely")
    bad = 'DCGM_FI_DEV_GPU_TEMP{node=~"gamma|delta"} > 0'
    case.now()
    stage.write_rules(stage.rules.replace("DCGM_FI_DEV_GPU_TEMP == 14", bad))
    case.reacted("both are out", lambda: stage.out("gamma") and stage.out("delta"), 30)
    case.served(16)
    assert stage.metric("inferops_panic") == 0
    case.now()
    stage.write_rules(stage.rules)
    case.recovered("both serve again", stage.serves, 60)
    case.note = "no panic yet: the others serve"


@pytest.mark.long
def test_a_flapping_alert(stage, begin):
    """It fires and clears every few seconds: after a few returns the node stays out."""
    case = begin("an alert that flaps")
    began, toggles = time.time(), 8
    first = case.now()
    sample = 'inferops_hold_down_seconds{alertname="TestDrain",node="beta"}'

    def held_down():
        return (stage.metric(sample) or 0) >= HOLD_DOWN_SECONDS

    for _ in range(toggles):
        stage.fall_sick("beta")
        until(lambda: stage.firing("TestDrain", "beta"), "it fires", seconds=20)
        until(lambda: stage.out("beta"), "beta is out", seconds=20)
        case.now()
        stage.recover("beta")
        until(lambda: not stage.firing("TestDrain", "beta"), "it clears", seconds=20)
        back = lambda: stage.serves("beta") or held_down()  # noqa: E731
        until(back, "it is back, or held down", seconds=20)
        case.react = case.react or (time.monotonic() - first if held_down() else None)
    placed = stage.history(node="beta", alert="TestDrain", change="placed", since=began)
    assert 1 <= len(placed) <= FLAP_RETURNS + 2 < toggles
    case.recovered("the hold-down is over", lambda: stage.serves("beta"), 60)
    case.served()
    rate = 60 * toggles / (time.monotonic() - first)
    case.note = (
        f"{toggles} firings ({rate:.0f} a minute), {len(placed)} drains: after"
        f" {FLAP_RETURNS} returns it must be proven well for longer"
    )


@pytest.mark.long
def test_clock_jumps(stage, begin):
    """The router's clock goes ten minutes ahead, then back: no hold notices."""
    stage.drained("delta")
    body = {"minutes": 5, "by": "test"}
    assert stage.product.admin("POST", "nodes/gamma/cordon", body).ok
    case = begin("the router's clock jumps 10 min ahead, and back")
    began = time.monotonic()
    for shift in ("600", "-600", "0"):
        stage.clock_file.write_text(shift)
        stage.passes(4)
        assert stage.out("gamma")
        assert stage.out("delta")
        case.served(4)
    assert case.went_to("delta", began) + case.went_to("gamma", began) == 0
    stage.clock_file.write_text("600")
    case.now()
    stage.recover("delta")
    case.recovered("delta comes back", lambda: stage.serves("delta"), 60)
    case.now()
    stage.fall_sick("beta")
    case.reacted("beta leaves", lambda: stage.out("beta"), 30)
    stage.recover("beta")
    case.note = "a 5 min cordon and a drain outlive it; drains and returns go on"


def test_notifications_replayed_and_forged(stage, begin):
    """1,000 times, in any order, by anybody: a node that is well serves on."""
    stage.drained("delta")
    case = begin("a notification 1,000 times, reordered, forged")
    labels = next(
        h["labels"] for h in stage.nodes()["delta"]["holds"] if h["kind"] == "drain"
    )
    stage.recover("delta")
    until(lambda: stage.serves("delta"), "delta is back", seconds=60)
    fresh = notification(labels, "firing", "2026-01-01T00:00:00Z")
    old = [fresh, notification(labels, "resolved", "2026-01-01T00:00:00Z")]
    case.now()
    rung = time.time()
    assert stage.ring(fresh) == 200
    assert stage.serves("delta")
    replay(stage, old, random.Random(7))
    assert stage.history(node="delta", kind="drain", change="placed", since=rung) == []
    forged = notification(labels, "firing", "2026-01-02T00:00:00Z")
    assert stage.ring(forged, token="guessed") == 401
    assert stage.ring(forged, token="") == 401
    assert stage.serves("delta")
    case.note = (
        "1,000 replays in random order place no hold; without the token: 401;"
        " with it, Prometheus is asked and shows no such alert"
    )


def notification(labels, status, starts_at):
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "replayed"},
        "startsAt": starts_at,
        "endsAt": starts_at,
        "fingerprint": fingerprint(labels),
    }


def replay(stage, alerts, rng):
    """Send both a thousand times in a random order; the node must serve all along."""
    for count in range(100):
        batch = [rng.choice(alerts) for _ in range(10)]
        assert stage.ring(*batch) == 200
        if count % 10 == 0:
            assert stage.serves("delta")


@pytest.mark.long
def test_nodes_file_emptied(stage, begin):
    """Prometheus takes the empty file, the router does not."""
    stage.drained("delta")
    case = begin("nodes.yml emptied by mistake")
    began = case.now()
    stage.fleet.write([])
    rejected = 'inferops_config_last_reload_successful{file="simulated-nodes.yml"}'
    case.reacted("it is refused", lambda: stage.metric(rejected) == 0, 20)
    until(
        lambda: stage.product.holds("delta") == [("drain", "unknown")],
        "the drained node is in doubt",
        seconds=60,
    )
    assert set(stage.nodes()) == set(NAMES)
    case.served()
    assert case.went_to("delta", began) == 0
    case.now()
    stage.fleet.write(stage.fleet.entries)
    stage.recover("delta")
    case.recovered(
        "the file is in force and delta proven well",
        lambda: stage.metric(rejected) == 1 and stage.serves(),
        90,
    )
    case.note = "refused; all nodes serve but the one that was drained"
