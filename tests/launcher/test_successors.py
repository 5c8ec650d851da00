"""When a router gets a successor, and what happens where that does not start."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from launcher.successors import Successors


@dataclass
class Router:
    """A process as its parent sees it."""

    code: str
    status: int | None = None
    asked: bool = False

    def poll(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.asked = True

    def wait(self) -> int:
        return self.status or 0


@dataclass
class World:
    code: str = "one"
    began: list[Router] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self, code: str) -> Router:
        self.began.append(Router(code))
        return self.began[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def routers(world) -> Successors:
    return Successors(lambda: world.code, world.start, world.said.append)


def codes(world: World) -> list[str]:
    return [each.code for each in world.began]


def test_one_router_where_nothing_changes(world, routers) -> None:
    """It is started once, however often one looks."""
    for now in range(100):
        assert routers.turn(now) is None

    assert ["one"] == codes(world)


def test_new_code_runs_beside_the_old(world, routers) -> None:
    """The old one is not asked to end: it does so when its streams have."""
    routers.turn(0)
    world.code = "two"
    routers.turn(100)
    old, new = world.began
    assert ["one", "two"] == codes(world)
    assert (False, [old, new]) == (old.asked, routers.running)

    old.status = 0
    assert routers.turn(101) is None
    assert ([new], ["one", "two"]) == (routers.running, codes(world))


def test_a_router_settles_before_the_next(world, routers) -> None:
    """Two hand-overs at once would not know from whom to take over."""
    routers.turn(0)
    world.code = "two"
    routers.turn(1)
    assert ["one"] == codes(world)
    routers.turn(10)
    assert ["one", "two"] == codes(world)


def test_a_successor_that_does_not_start(world, routers) -> None:
    """The old router serves on; it is tried again, more and more rarely."""
    routers.turn(0)
    world.code = "broken"
    starts = []
    for now in range(100, 400):
        before = len(world.began)
        assert routers.turn(now) is None
        if len(world.began) > before:
            starts.append(now)
            world.began[-1].status = 1

    assert world.began[0] in routers.running
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert [6, 11, 21, 41, 61, 61, 61] == gaps
    assert "the new router ended 1, the one before it serves on" in world.said


def test_mended_code_need_not_wait(world, routers) -> None:
    """After a failure other code is tried at once."""
    routers.turn(0)
    world.code = "broken"
    routers.turn(100)
    world.began[-1].status = 1
    routers.turn(101)
    world.code = "mended"
    routers.turn(102)

    assert ["one", "broken", "mended"] == codes(world)


def test_the_status_of_the_last(world, routers) -> None:
    """A router that ends alone ends the container, which is started again."""
    routers.turn(0)
    world.began[0].status = 3

    assert 3 == routers.turn(1)
    assert ["one"] == codes(world)


def test_stopping_asks_all(world, routers) -> None:
    """The one that finishes streams ends within its grace too."""
    routers.turn(0)
    world.code = "two"
    routers.turn(100)

    routers.stop()

    assert all(each.asked for each in world.began)
