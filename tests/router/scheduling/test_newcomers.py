"""Which slots go to who came last while a line is late."""

from __future__ import annotations

import pytest

from router.scheduling import newcomers
from router.scheduling.newcomers import (
    LateLine,
    Longest,
    Newcomers,
    in_time,
    pays_off,
)
from router.scheduling.request import PendingRequest, RoutingRequest, Work
from tests.router.scheduling.offering import offer


def line(*, waits=(), times=()) -> LateLine:
    made = LateLine()
    for seconds in waits:
        made.waits.count(seconds)
    for seconds in times:
        made.times.count(seconds)
    return made


@pytest.mark.parametrize(
    ("waited", "longer", "found"),
    [(1.9, 50.0, False), (5.0, 10.0, True), (40.0, 10.0, False), (5.0, 0.0, False)],
    ids=["nobody is late", "a slow node", "the line is longer still", "equal nodes"],
)
def test_the_newest_goes_to_a_slow_node(waited, longer, found):
    """While what it takes longer there outweighs the wait in line."""
    assert found is pays_off(waited, longer)


@pytest.mark.parametrize(
    ("given", "waited", "found"),
    [
        ({}, 0.5, True),
        ({}, 1.9, False),
        ({"per_token": 0.2}, 0.5, False),
        ({"load": 5.0}, 0.5, False),
        ({"read_until": 12.0}, 0.5, False),
    ],
    ids=["quick", "late already", "slower than reading", "a load", "other prompts"],
)
def test_a_slot_is_given_where_it_brings_something(given, waited, found):
    """To somebody who will have a first token in time, and then reads along."""
    asking = PendingRequest(RoutingRequest("m:1"), Work(1000.0), since=10.0 - waited)
    assert found is in_time(asking, offer("a", **given), 10.0)


def test_the_longest_of_many():
    """One in a hundred is longer; what is long ago is forgotten."""
    seen = Longest()
    for number in range(1000):
        seen.count(30.0 if number % 50 == 0 else 1.0)
    assert seen.seconds == pytest.approx(30.0, rel=0.1)
    for _ in range(40_000):
        seen.count(1.0)
    assert seen.seconds == pytest.approx(1.0, rel=0.1)
    assert 0.0 == Longest().seconds


def test_counts_stay_numbers():
    """However many requests there were."""
    seen = Longest()
    for _ in range(400_000):
        seen.count(7.0)
    assert seen.seconds == pytest.approx(7.0, rel=0.1)
    assert seen._weight < 2 * newcomers._RESCALE


@pytest.mark.parametrize(
    ("made", "waited", "share"),
    [
        (line(), 5.0, 0.0),
        (line(waits=[20.0] * 100), 20.0, 0.0),
        (line(waits=[20.0] * 100), 8.0, 0.5),
        (line(waits=[200.0] * 100), 2.0, 0.8),
        (line(waits=[3.0] * 100, times=[60.0] * 100), 9.0, 0.5),
    ],
    ids=[
        "nothing is known",
        "longer than ever",
        "half as long",
        "a long line is over",
        "long answers",
    ],
)
def test_share_of_the_newest(made, waited, share):
    """So large that the others are served within the longest waits."""
    assert share == pytest.approx(made.share(waited), rel=0.1)


def test_turns_follow_the_share():
    """None while the line gets longer; at half of the bound each second slot."""
    made = line(waits=[20.0] * 100)
    for number in range(100):
        made.waited(20.0 + number)
    assert not made.due
    made, turns = line(waits=[20.0] * 10_000), 0
    for _ in range(100):
        made.waited(9.0)
        turns += made.due
        if made.due:
            made.took()
    assert 40 <= turns <= 100  # beside a hundred others


def test_nobody_late_has_no_turn():
    """Slots that were given in time bring the newest nothing."""
    made = LateLine()
    for _ in range(1000):
        made.waited(1.0)
    assert not made.due


def test_lines_are_apart():
    """One client's long line gives another's newest nothing."""
    seen = Newcomers()
    for number, waited in enumerate([*[40.0] * 30, *[10.0] * 3]):
        seen.began(number, pending("a", since=0.0), waited)
        seen.ended(number, 50.0, complete=True)
    assert seen.due("m:1", "a")
    assert not seen.due("m:1", "b")
    seen.took("m:1", "a")
    assert not seen.due("m:1", "a")


def test_only_late_lines_are_known(monkeypatch):
    """A quiet fleet keeps nothing; of too many lines the oldest is forgotten."""
    monkeypatch.setattr(newcomers, "_MOST_KNOWN", 2)
    seen = Newcomers()
    seen.began("x", pending("quick", since=0.0), 1.0)
    seen.ended("x", 2.0, complete=True)
    assert {} == seen._lines
    for principal in "abc":
        seen.began(principal, pending(principal, since=0.0), 10.0)
    assert [("m:1", "b"), ("m:1", "c")] == list(seen._lines)
    for principal in "abc":
        seen.ended(principal, 20.0, complete=principal != "b")
    assert {} == seen._running
    took = [each.times.seconds for each in seen._lines.values()]
    assert took == [0.0, pytest.approx(20.0, rel=0.1)]


def pending(principal: str, *, since: float) -> PendingRequest:
    return PendingRequest(RoutingRequest("m:1", principal=principal), since=since)
