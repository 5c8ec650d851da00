"""What is remembered of releases that lack a route."""

from __future__ import annotations

import pytest

from router.failover.releases import Releases
from router.model import Node, Score
from router.snapshot import NodeView, PresentModel, Published, Snapshot
from tests.router.control.fakes import Clock

PATH = "/v1/systemone"
MODEL = "m:latest"


def view(name, version, *, has=True):
    present = {MODEL: PresentModel(MODEL, "d", 1)} if has else {}
    return NodeView(Node(name, f"http://{name}"), Score(0.5), version, present)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def published():
    views = (
        view("old", "0.17.4"),
        view("as old", "0.17.4"),
        view("new", "0.35.0"),
        view("odd", None),
        view("as odd", None),
    )
    return Published(Snapshot({v.node.name: v for v in views}, 0.0))


@pytest.fixture
def releases(published, clock):
    return Releases(published, clock)


def test_a_node_speaks_for_its_release(releases):
    """What one node lacks all of its release lack, on that path only."""
    assert not releases.lacking(PATH)
    releases.note(PATH, "old")
    assert {"old", "as old"} == releases.lacking(PATH)
    assert not releases.lacking("/v1/rerank")


def test_an_unknown_release_speaks_for_itself(releases):
    """A node whose version nobody knows is like no other."""
    releases.note(PATH, "odd")
    assert {"odd"} == releases.lacking(PATH)


def test_all_lack(releases, published):
    """Of the nodes that have the model; one without it decides nothing."""
    for node in ("old", "odd", "as odd"):
        releases.note(PATH, node)
    assert not releases.all_lack(PATH, MODEL)
    assert not releases.all_lack(PATH, "other:latest")
    nodes = {**published.current.nodes, "new": view("new", "0.35.0", has=False)}
    published.publish(Snapshot(nodes, 0.0))
    assert releases.all_lack(PATH, MODEL)


def test_an_upgrade_ends_it(releases, published):
    """A node that runs another release now is asked again."""
    releases.note(PATH, "old")
    nodes = {**published.current.nodes, "old": view("old", "0.35.0")}
    published.publish(Snapshot(nodes, 0.0))
    assert {"as old"} == releases.lacking(PATH)


def test_it_is_forgotten(releases, clock):
    """After a while it is asked again, and never is much remembered."""
    releases.note(PATH, "old")
    clock.now += 601
    assert not releases.lacking(PATH)
    for number in range(2000):
        releases.note(f"/v1/{number}", "old")
    assert releases.lacking("/v1/1999")
    assert not releases.lacking("/v1/0")
