"""S(k) is learned over the fleet, and slots that bring nothing are left idle."""

from __future__ import annotations

import random

import pytest

from router.capacity.scaling import NO_KIND, Looks, Place, Reply, Shape

STARVED = (1, 1.21, 1.54, 1.24)
H200 = (1, 1.14, 1.54, 1.9)
KERNEL = (1, 1.79, 2.5, 3.0)


class Fleet:
    """Nodes of unequal speed that are kept busy at whatever the shape asks for."""

    def __init__(self, *totals: tuple[float, ...], kinds: bool = False) -> None:
        self.shape = Shape()
        self.totals = {f"n{i}": each for i, each in enumerate(totals)}
        self.kinds = {
            n: (float(i % 2),) if kinds else NO_KIND for i, n in enumerate(self.totals)
        }
        self.rng = random.Random(5)
        self.now = 0.0
        self.done = 0
        self.pressed = True

    def best(self, node: str) -> int:
        """Return what would be used, looks apart."""
        steps = self.shape.steps(node, self.kinds[node])
        return steps.best(len(self.totals[node]))

    def limit(self, node: str) -> int:
        place = Place(node, self.kinds[node], len(self.totals[node]))
        limits = self.shape.limits(place, self.now)
        return limits.pressed if self.pressed else limits.idle

    def reply(self, node: str, streams: int, *, weight: float = 1.0) -> None:
        total = self.totals[node][streams - 1]
        alone = 120.0 / (1 + int(node[1:]))
        speed = alone * total / streams * self.rng.gauss(1, 0.1)
        looks = Looks.DOWN if self.pressed else Looks.BOTH
        place = Place(node, self.kinds[node], len(self.totals[node]), looks)
        self.shape.learn(place, Reply(streams, 400, 400 / speed, self.now, weight))
        self.now += 1.0
        self.done += 1

    def run(self, replies: int) -> None:
        for _ in range(replies):
            node = f"n{self.done % len(self.totals)}"
            self.reply(node, self.limit(node))


@pytest.mark.parametrize(
    ("totals", "best"),
    [
        pytest.param(KERNEL, 4, id="kernel: all of them"),
        pytest.param(STARVED, 3, id="short of CPU: three bring more"),
        pytest.param(H200, 4, id="H200: all of them"),
        pytest.param((1, 1.14, 1.28, 1.42), 4, id="published for Ollama"),
        pytest.param((1, 1, 1, 1), 4, id="flat: more are as good"),
        pytest.param((1, 0.7), 1, id="two are worse than one"),
        pytest.param((1, 1.21, 1.54, 1.24, 1.9), 5, id="a leap beyond a dip"),
    ],
)
@pytest.mark.parametrize("nodes", [1, 8])
def test_best_number_of_streams(totals, best, nodes):
    """After some replies every node is to run the best k."""
    fleet = Fleet(*[totals] * nodes)
    fleet.run(400)
    assert {best} == {fleet.best(node) for node in fleet.totals}


def test_slow_nodes_settle_with_the_fleet():
    """Sixty replies of eight nodes are enough for all; nothing turns afterwards."""
    fleet = Fleet(*[STARVED] * 8)
    fleet.run(60)
    assert {3} == {fleet.best(node) for node in fleet.totals}
    for _ in range(500):
        fleet.run(1)
        assert {3} == {fleet.best(node) for node in fleet.totals}


def test_a_node_that_never_replied_has_what_the_others_showed():
    """And what it is believed to make with fewer follows from them too."""
    fleet = Fleet(*[STARVED] * 4)
    fleet.run(120)
    assert fleet.shape.steps("new", NO_KIND).best(4) == 3
    ratio = fleet.shape.steps("new", NO_KIND).ratio(3, 4)
    assert ratio == pytest.approx(1.54 / 1.24, rel=0.1)


@pytest.mark.parametrize("kinds", [False, True], ids=["one kind", "two kinds"])
def test_nodes_that_differ_find_their_own(kinds):
    """Half of the fleet is short of CPU, whether the inventory tells them apart."""
    fleet = Fleet(*[STARVED, KERNEL] * 4, kinds=kinds)
    fleet.run(1000 if kinds else 3000)
    assert [3, 4] * 4 == [fleet.best(node) for node in fleet.totals]


def test_looks_are_few():
    """Of eight nodes four look at first, then one, and ever more rarely."""
    fleet, limits = Fleet(*[KERNEL] * 8), []
    for _ in range(2000):
        limits.append([fleet.limit(node) for node in fleet.totals])
        fleet.run(1)
    fewer = [sum(limit < 4 for limit in each) for each in limits]
    assert max(fewer) <= 4
    assert max(fewer[200:]) <= 1
    assert sum(fewer[200:]) <= 0.1 * len(fewer)


def test_no_looks_while_the_ceiling_is_being_found():
    """Fewer streams than are known to fit would hide that more do."""
    shape = Shape()
    place = Place("a", NO_KIND, 2, Looks.NONE)
    for now in range(100):
        shape.learn(place, Reply(2, 100, 2.0, now))
        assert not shape.looking


def test_looking_up_is_never_under_load():
    """What a cap dropped is seen again while nobody waits."""
    fleet = Fleet(STARVED)
    fleet.run(200)
    limits = set()
    for _ in range(500):
        limits.add(fleet.limit("n0"))
        fleet.run(1)
    assert max(limits) == 3
    fleet.pressed = False
    for _ in range(500):
        limits.add(fleet.limit("n0"))
        fleet.run(1)
    assert 4 in limits


def test_a_node_that_left_ends_its_look():
    """Another one may look then."""
    fleet = Fleet(KERNEL, KERNEL)
    while not fleet.shape.looking:
        fleet.run(1)
    (node,) = fleet.shape.looking
    fleet.shape.keep({n: NO_KIND for n in fleet.totals if n != node})
    assert not fleet.shape.looking


def test_one_visit_proves_nothing():
    """Replies in a row share the node's state: the k is judged by a second visit."""
    fleet = Fleet(STARVED)
    for streams in (4, 3):
        for _ in range(10):
            fleet.reply("n0", streams)
    assert fleet.best("n0") == 4
    for streams in (4, 3):
        for _ in range(3):
            fleet.reply("n0", streams)
    assert fleet.best("n0") == 3


def test_replies_far_apart_are_not_compared():
    """A node that throttled meanwhile would look as if the k were slow."""
    fleet = Fleet(STARVED)
    for _ in range(6):
        for streams in (4, 3):
            fleet.reply("n0", streams)
            fleet.now += 3600.0
    assert fleet.best("n0") == 4


def test_disturbed_replies_count_for_little():
    """Such as those beside which prompts were read nearly all the time."""
    fleet = Fleet(STARVED)
    for _ in range(6):
        for streams in (4, 3):
            fleet.reply("n0", streams, weight=0.05)
    assert fleet.best("n0") == 4


def test_what_was_learned_outlives_the_process():
    """Of the fleet and of each kind; old knowledge counts for less where none wait."""
    fleet = Fleet(*[STARVED] * 4, kinds=True)
    fleet.run(200)
    for age, idle in ((60.0, 3), (86_400.0, 4)):
        kept = fleet.shape.kept(fleet.now)
        again = Shape.recalled(kept, 1000.0)
        limits = again.limits(Place("n0", (0.0,), 4), 1000.0 + age)
        assert (3, idle) == (limits.pressed, limits.idle)
