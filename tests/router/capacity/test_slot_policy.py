"""The slots in use converge to what pays, in virtual time on measured profiles."""

from __future__ import annotations

import pytest

from router.capacity.scaling import Limits
from router.capacity.slot_policy import LearnedSlots
from router.capacity.throughput import expected_ratio
from tests.harness.virtual_node import FLAT, KERNEL, MEASURED, MODEL, VirtualNode


class AllSlots:
    """A policy that uses every slot and learns nothing: the baseline."""

    def configure(self, nodes):
        pass

    def limits(self, _key, ceiling, _now):
        return Limits(ceiling, ceiling)

    def replied(self, *_):
        return False

    def ratio(self, _key):
        return expected_ratio

    def forget(self, _key):
        pass

    def kept(self, _now):
        return []

    def recall(self, kept, now):
        pass


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("profile", "pays"),
    [(MEASURED, 3), (KERNEL, 4), (FLAT, 4)],
    ids=["measured on Ollama", "llama.cpp's kernels", "flat"],
)
def test_cap_converges_under_load(profile, pays, seed):
    """Within 80 replies, noisy by 10 %, a full node uses what pays, but for looks."""
    limits = VirtualNode(profile, slots=4, seed=seed).run(800)
    later = limits[80:]
    assert max(later) == pays
    assert later.count(pays) >= 0.97 * len(later)


@pytest.mark.parametrize(
    ("noise", "gain"),
    [(0.0, 1.15), (0.1, 1.15), (0.3, 0.98)],
    ids=["no noise", "10 %", "30 %: too unsure, but no loss"],
)
def test_learning_pays(noise, gain):
    """On the measured profile a full node makes more tokens than with every slot."""
    made = []
    for policy in (None, AllSlots()):
        node = VirtualNode(MEASURED, slots=4, noise=noise)
        node.learn_by(policy)
        node.run(800)
        made.append(node.tokens / node.now)
    assert made[0] > gain * made[1]


def test_few_replies_cap_nothing():
    """However bad the last k looks, five replies are a reason to look, no more."""
    node = VirtualNode({1: 1.0, 2: 1.5, 3: 2.0, 4: 0.5}, slots=4)
    node.ledger.pressed = False
    assert {3, 4} == set(node.run(5))
    policy = node.ledger.learned.policy
    assert isinstance(policy, LearnedSlots)
    shape = policy.shapes[MODEL]
    assert (4, {"n"}) == (shape.fleet.best(4), set(shape.looking))


def test_a_slower_node_keeps_its_shape():
    """A node that throttles to a half is slower at every k: the cap stays."""
    node = VirtualNode(MEASURED, slots=4)
    node.run(300)
    node.alone /= 2
    assert {3} == set(node.run(300))
    assert node.ledger.speed("n", MODEL, 3) == pytest.approx(50 * 1.54 / 3, rel=0.15)


def test_old_knowledge_is_tried_again_only_without_load():
    """Hours later the dropped slot may be used again, but not while others wait."""
    node = VirtualNode(MEASURED, slots=4)
    node.run(300)
    while node.streams:
        node.finish_next()
    node.now += 6 * 3600
    node.run(30)
    node.ledger.pressed = False
    assert node.ledger.limit("n", MODEL) == 4
    node.ledger.pressed = True
    assert node.ledger.limit("n", MODEL) == 3


def test_looks_are_rare():
    """Where every slot pays, at most a tenth of the replies run beside fewer."""
    node = VirtualNode(KERNEL, slots=8)
    limits = node.run(1500)
    assert sum(limit < 8 for limit in limits) <= 0.1 * len(limits)


def test_looking_up_is_rare_and_never_under_load():
    """What the cap dropped is seen again now and then, while nobody waits."""
    node = VirtualNode(MEASURED, slots=4)
    node.run(300)
    assert 4 not in node.run(1000), "people wait"
    node.ledger.pressed = False
    limits = node.run(3000)
    assert 4 in limits
    assert limits.count(4) <= 0.03 * len(limits)
    assert limits[-500:].count(4) <= limits[:500].count(4)


def test_a_wrong_cap_does_not_last():
    """A cap from a time when the fourth slot cost much is lifted by looking up."""
    node = VirtualNode({1: 1.0, 2: 1.79, 3: 2.5, 4: 1.9}, slots=4)
    node.run(200)
    node.ledger.pressed = False
    assert node.ledger.limit("n", MODEL) == 3
    node.profile = KERNEL
    limits = node.run(1500)
    assert limits[-1] == 4
