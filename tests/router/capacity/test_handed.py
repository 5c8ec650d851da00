"""Two routers on the same slots: however late they hear of each other, never over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.capacity.handed import GivenUp, OfPredecessor, ceded
from router.capacity.ledger import Lease, Ledger
from router.model import Node, Outcome

MODEL = "m:latest"
SLOTS = {"a": 4, "b": 2}


def ledger():
    made = Ledger(1, lambda: 0.0)
    made.configure(Node(name, f"http://{name}:1", slots=n) for name, n in SLOTS.items())
    return made


def take_if_free(of, node):
    return of.take(node, MODEL) if of.room(node, MODEL) is not None else None


def test_what_the_predecessor_uses_is_taken():
    """Also after a poll that shows an idle node: the other router says it is not."""
    new = ledger()
    new.share(OfPredecessor({"a": 3}))
    assert new.room("a", MODEL) == 3
    assert take_if_free(new, "a")
    assert take_if_free(new, "a") is None
    assert new.room("b", MODEL) == 0


def test_what_was_given_up_is_not_taken_again():
    """A slot that falls free after the report is the successor's at the next one."""
    old = ledger()
    lease = old.take("a", MODEL)
    given = GivenUp(old.slots, {})
    given.keep({"a": 1, "b": 0})
    old.share(given)
    assert take_if_free(old, "a") is None
    assert take_if_free(old, "b") is None
    lease.done(Outcome.END)
    assert take_if_free(old, "a")  # still its own: nothing was said of it


def test_an_answer_that_breaks_keeps_to_it():
    """A rescue may use every slot there is, of its own router's."""
    old = ledger()
    given = GivenUp(old.slots, {"a": 0, "b": 1})
    old.share(given)
    assert old.rescue_room("a", MODEL) is None
    assert old.rescue_room("b", MODEL) is not None


def test_slots_are_ceded_where_there_is_most_room():
    """One on each node, and no more than wait."""
    assert ceded(1, {"a": 1, "b": 3, "c": 0}) == {"b": 1}
    assert ceded(9, {"a": 1, "b": 3, "c": 0}) == {"b": 1, "a": 1}
    assert ceded(0, {"a": 1}) == {}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["old", "new", "end old", "end new", "talk"]), st.booleans()
    ),
    max_size=60,
)


@given(STEPS)
def test_never_above_the_slots(steps):
    """In any order of requests, ends, and exchanges whose answer comes late."""
    old, new = ledger(), ledger()
    running: dict[str, list[Lease]] = {"old": [], "new": []}
    for _ in range(3):
        running["old"].append(old.take("a", MODEL))
    given = GivenUp(old.slots, {})

    def report(more):
        own = {name: old.in_flight(name) + more.get(name, 0) for name in SLOTS}
        given.keep(own)
        old.share(given)
        return own

    told = report({})
    new.share(OfPredecessor(told))
    for what, flag in steps:
        node = "a" if flag else "b"
        if what in running:
            lease = take_if_free(old if what == "old" else new, node)
            running[what] += [lease] if lease else []
        elif what == "talk":
            free = {
                name: SLOTS[name] - used
                for name in SLOTS
                if (used := new.room(name, MODEL)) is not None
            }
            gift = ceded(1 if flag else 0, free)
            new.share(
                OfPredecessor({n: told.get(n, 0) + gift.get(n, 0) for n in SLOTS})
            )
            told = report(gift)
            new.share(OfPredecessor(told))
        elif leases := running[what.removeprefix("end ")]:
            leases.pop().done(Outcome.END)
        for name, slots in SLOTS.items():
            assert old.in_flight(name) + new.in_flight(name) <= slots
