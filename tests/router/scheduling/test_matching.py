"""Who goes to which free node, and who waits for a better one."""

from __future__ import annotations

import pytest

from router.scheduling import matching
from router.scheduling.board import Group, Nodes
from router.scheduling.completion import Others
from router.scheduling.matching import WINDOW, Moment, held_back, longer_on_free
from router.scheduling.request import PendingRequest, RoutingRequest, Work
from tests.router.scheduling.offering import offer

SHORT, LONG = Work(100.0, 100.0, 20_000.0), Work(4000.0, 400.0, 200_000.0)
SLOW = {"per_token": 0.05, "per_prompt_token": 0.001}


def asking(work=SHORT, *, tried=(), since=0.0, **given):
    return PendingRequest(RoutingRequest("m:1", frozenset(tried)), work, since, **given)


def nodes(*free, full=(), ends=1.0, lost=0.0):
    groups = []
    for each in full:
        made = each._replace(ends=ends)
        groups.append(Group(made.measured, ends, {made.view.node.name: made}))
    names = [each.view.node.name for each in full]
    return Nodes(list(free), groups, Others(200.0, lost), {}, names)


def match(asked, seen, waiting, now, lines=None):
    lines = lines or [waiting] * len(asked)
    return matching.match(asked, Moment(seen, waiting, now), lines)


def test_the_cheapest_free_node_is_taken():
    """Nobody waits where the best node is free."""
    found = match([asking()], nodes(offer("quick"), offer("slow", **SLOW)), 1, 0.0)
    assert "quick" == found.offer.view.node.name


def test_held_back_from_a_slow_node():
    """A quick node that frees up soon is worth waiting for."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=5.0)
    assert match([asking()], seen, 1, 0.0) is None

    back = held_back(asking(), offer("slow", **SLOW), 99.0, Moment(seen, 1, 0.0))
    assert back is not None
    assert ("slow", ("quick",)) == (back.free, back.better)
    assert back.seconds == pytest.approx(1 / 5.0)


@pytest.mark.parametrize(
    ("ends", "waiting"),
    [(0.05, 1), (5.0, 200)],
    ids=["nothing frees up there", "too many wait"],
)
def test_not_held_back(ends, waiting):
    """A slow node is better than a long wait."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=ends)
    assert "slow" == match([asking()], seen, waiting, 0.0).offer.view.node.name


def test_a_guessed_node_is_tried():
    """A node that never answered is not avoided for what its score says."""
    slow = offer("slow", **SLOW, measured=False)
    assert match([asking()], nodes(slow, full=[offer("quick")], ends=5.0), 1, 0.0)


def test_a_stream_that_broke_waits_for_nothing():
    """Its client is in mid-sentence."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=5.0)
    assert match([asking(held=False)], seen, 1, 0.0)


def test_equal_nodes_hold_nobody_back():
    """A full node like the free one is no reason to wait."""
    assert match([asking()], nodes(offer("a"), full=[offer("b")], ends=50.0), 1, 0.0)


def test_the_slow_node_gets_what_loses_least():
    """Of those that wait a short prompt goes there, and the long one stays first."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=1.0)
    found = match([asking(LONG), asking(SHORT), asking(LONG)], seen, 3, 0.0)
    assert 1 == found.place


def test_a_long_queue_sends_the_shortest_answer_to_the_slow_node():
    """However long those behind will have waited, the long answer loses most there."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=1.0)
    waited = {"since": -30.0}
    found = match([asking(LONG, **waited), asking(SHORT, **waited)], seen, 150, 0.0)
    assert 1 == found.place


def test_who_waited_much_longer_goes_first():
    """A little less is lost by a younger one; nobody is passed over without end."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=1.0)
    longer = SHORT._replace(tokens=SHORT.tokens * 1.2, squares=SHORT.squares * 1.44)
    old, young = asking(longer, since=-30.0), asking(SHORT, since=-1.0)
    assert 0 == match([old, young], seen, 150, 0.0).place


def test_a_flood_makes_nobody_else_take_the_slow_node():
    """Who waits beside a flood waits for its own line only, and the flood goes."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=5.0)
    assert 0 == match([asking(), asking()], seen, 200, 0.0, [200, 200]).place
    assert 1 == match([asking(), asking()], seen, 200, 0.0, [2, 200]).place
    assert match([asking()], seen, 200, 0.0, [2]) is None


def test_a_flood_passes_nobody_over():
    """However much less it would lose, it has the longer line."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=1.0)
    asked = [asking(LONG, since=-30.0), asking(SHORT, since=-30.0)]
    assert 1 == match(asked, seen, 150, 0.0, [150, 150]).place
    assert 0 == match(asked, seen, 150, 0.0, [100, 150]).place


def test_nobody_is_held_back_past_the_first_token():
    """Where a free node would keep to the time, a wait that would not is not begun."""
    seen = nodes(offer("slow", **SLOW), full=[offer("quick")], ends=5.0)
    late = {"since": -1.5, "in_time": 1.7}
    assert match([asking(**late)], seen, 1, 0.0) is None
    assert match([asking(**late)], seen, 2, 0.0)


def test_what_was_tried_is_not_taken_nor_waited_for():
    """A node that failed the request is no better one."""
    quick, slow = offer("quick"), offer("slow", **SLOW)
    assert match([asking(tried={"slow"})], nodes(slow), 1, 0.0) is None
    seen = nodes(slow, full=[quick], ends=5.0)
    assert match([asking(tried={"quick"})], seen, 1, 0.0)


def test_nothing_free_matches_nobody():
    """There is no offer to give."""
    assert match([asking()] * WINDOW, nodes(full=[offer("a")]), WINDOW, 0.0) is None


@pytest.mark.parametrize(
    ("free", "full", "longer"),
    [
        ([offer("slow", **SLOW)], [offer("quick")], 4.07),
        ([offer("slow", **SLOW), offer("a")], [offer("quick")], 4.07),
        ([offer("slow", **SLOW)], [], 0.0),
        ([offer("slow", **SLOW, measured=False)], [offer("quick")], 0.0),
        ([offer("slow", **SLOW, load=5.0)], [offer("quick")], 0.0),
        ([offer("slow", **SLOW)], [offer("quick", measured=False)], 0.0),
        ([offer("quick")], [offer("slow", **SLOW)], 0.0),
    ],
    ids=["slow", "of several", "no other", "guessed", "a load", "beside", "quick"],
)
def test_how_much_longer_a_free_node_takes(free, full, longer):
    """Than the best that is full; guesses and loads count for nothing."""
    assert longer == pytest.approx(longer_on_free(nodes(*free, full=full), SHORT))
