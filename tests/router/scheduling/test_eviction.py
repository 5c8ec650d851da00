"""What it costs to push a model out, and how often that may be done."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from router.scheduling.demand import Demand
from router.scheduling.eviction import Evictions, Permit, Victim, price
from router.scheduling.residency import Residency, Standing, _Node

USED = Victim(per_second=1.0, left=0, load=5.0, lost=0.0)


def test_the_last_copy_of_what_is_used_is_dear():
    """All who come while it is loaded again wait for that."""
    assert price(USED) > 2000


@pytest.mark.parametrize(
    "less",
    [{"per_second": 0.001}, {"load": 0.5}, {"left": 3}],
    ids=["hardly used", "loaded in a moment", "others carry it"],
)
def test_cheaper_victims(less):
    """A model that nobody misses may go."""
    assert price(USED._replace(**less)) < price(USED) / 10


def test_what_its_users_lose_already_counts():
    """A model that is short of copies is no better a victim than who wants one."""
    assert price(USED._replace(left=2, lost=500.0)) == 500.0


def test_demand_of_a_new_model_is_not_underestimated():
    """Ten requests in ten seconds are one a second, though nobody came before."""
    demand = Demand()
    for second in range(10):
        demand.came("m", 1000.0 + second)
    assert demand.per_second("m", 1010.0) == pytest.approx(1.0, rel=0.15)
    assert demand.per_second("m", 2000.0) < 0.001
    assert demand.per_second("other", 1010.0) == 0.0


def test_losses_fade_and_are_paid():
    """A copy that would have helped long ago may not be needed now."""
    demand = Demand()
    demand.lost("m", 100.0, 0.0)
    demand.lost("m", 100.0, 10.0)
    assert 150 < demand.losses("m", 10.0) < 200
    assert demand.losses("m", 1000.0) < 1
    demand.paid("m")
    assert demand.losses("m", 10.0) == 0.0


def test_demand_is_bounded():
    """Whatever names clients think of."""
    demand = Demand()
    for number in range(5000):
        demand.came(f"m{number}", 0.0)
    assert len(demand._models) == 4096


class Rig:
    """Two models, `a` in use everywhere; `wanted`: who waits."""

    def __init__(self, copies: int, wanted=frozenset()):
        self.residency, self.demand = Residency(), Demand()
        self.residency.copies.update({"a": copies, "b": 1})
        for second in range(30):
            self.demand.came("a", second)
        self.evictions = Evictions(self.residency, self.demand)
        self.evictions.waiting = SimpleNamespace(version=0, wanted=wanted.__contains__)

    def loaded(self, at: float) -> None:
        self.residency._nodes["n"] = _Node(loaded_at=at)

    def permit(self, model="b", *, nodes=8, now=30.0):
        standing = Standing(cold=True, victims=("a",))
        return self.evictions.permit("n", model, standing, nodes, now)

    def allowed(self, model="b", *, nodes=8, now=30.0):
        return self.permit(model, nodes=nodes, now=now) is Permit.YES


def test_one_a_minute_for_eight_nodes():
    """A further copy waits for its turn; a minute later it has it."""
    rig = Rig(3)
    assert rig.allowed()
    rig.evictions.begun(30.0)
    assert not rig.allowed()
    assert rig.allowed(nodes=16)
    assert rig.allowed(now=91.0)


def test_who_can_use_no_copy_need_not_wait_for_the_minute():
    """Beyond the bound a model may go for them, but not before its turn is over."""
    rig = Rig(1, wanted=frozenset({"a"}))
    rig.evictions.begun(30.0)
    assert Permit.STRANDED is rig.permit()
    rig.loaded(25.0)
    assert Permit.NO is rig.permit()


def test_what_nobody_uses_may_go_at_any_time():
    """It costs nobody anything."""
    rig = Rig(3)
    rig.evictions.begun(1000.0)
    assert rig.allowed(now=1001.0)


def test_a_model_without_any_copy_is_loaded():
    """Its users have no other way, whatever was loaded in this minute."""
    rig = Rig(3)
    rig.evictions.begun(30.0)
    assert rig.allowed("c")


def test_those_who_wait_have_their_turn():
    """The only copy of what others wait for stays a while after it was loaded."""
    rig = Rig(1, wanted=frozenset({"a"}))
    rig.loaded(25.0)
    assert not rig.allowed("c")
    assert rig.allowed("c", now=46.0)


def test_nobody_has_a_turn_who_does_not_wait():
    """An idle model makes room at once."""
    rig = Rig(1)
    rig.loaded(25.0)
    assert rig.allowed("c")
