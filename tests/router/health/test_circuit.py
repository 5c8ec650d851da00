"""When a circuit opens, and that only what was proven closes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.health.circuit import Circuit, CircuitRule, Failure, State
from router.model import Cause

RULE = CircuitRule()


def failure(at: float, request: str = "") -> Failure:
    return Failure(at, Cause.ERROR, "boom", request)


def of(request: str):
    return lambda failure: failure.request == request


def after(results: str, *, at: float = 0.0, rule: CircuitRule = RULE) -> Circuit:
    """A circuit after failures (F) and answers (.), a second apart."""
    circuit = Circuit()
    for n, result in enumerate(results):
        now = at + n
        if result == "F":
            circuit = circuit.failed(failure(now, f"r{n}"), rule)
        else:
            circuit = circuit.succeeded(now, now, rule)
    return circuit


@pytest.mark.parametrize(
    ("results", "opens"),
    [
        ("FF", False),
        ("FFF", True),
        ("FF.FF.", False),
        ("FF.FFF", True),
        ("F.F.F.F.", False),
        ("F.F.F.F.F", True),
        ("F..F..F..F..F..F", False),
        ("", False),
    ],
    ids=[
        "two",
        "in a row",
        "answers between",
        "at last",
        "four",
        "half",
        "few",
        "none",
    ],
)
def test_when_it_opens(results, opens):
    """Three failures in a row open it, and five of the last ten."""
    assert opens is after(results).is_open


def test_failures_of_long_ago_do_not_open_it():
    """Five failures over an hour are none too many."""
    rule = replace(RULE, window_seconds=60)
    circuit = Circuit()
    for n in range(8):
        circuit = circuit.failed(failure(n * 500.0), rule)
        circuit = circuit.succeeded(n * 500.0, n * 500.0, rule)
    assert not circuit.is_open


def test_it_closes_by_a_trial_and_an_answer():
    """A trial lets one request through at a time, its answer lets all through."""
    circuit = after("FFF")
    assert 4.0 == circuit.try_at
    circuit = circuit.trial_passed(4.0, RULE)
    assert State.HALF_OPEN is circuit.state
    circuit = circuit.succeeded(5.0, 6.0, RULE)
    assert State.CLOSED is circuit.state
    assert not circuit.failing


def test_waits_grow_with_each_failed_trial():
    """2, 6, 18, 54 and then 60 s: two trials in the first twenty seconds."""
    circuit, now, waits = after("FFF"), 2.0, []
    for _ in range(5):
        waits.append(circuit.try_at - now)
        now = circuit.try_at
        circuit = circuit.trial_failed(now, RULE)
    assert [2.0, 6.0, 18.0, 54.0, 60.0] == waits


def test_one_failure_opens_it_again():
    """Half open, it needs no three: and it takes more trials each time."""
    circuit = after("FFF").trial_passed(4.0, RULE).failed(failure(5.0), RULE)
    assert (State.OPEN, 2) == (circuit.state, circuit.openings)
    circuit = circuit.trial_passed(11.0, RULE)
    assert circuit.is_open
    assert State.HALF_OPEN is circuit.trial_passed(11.1, RULE).state


def test_an_answer_from_before_proves_nothing():
    """What began before the circuit opened says nothing of now."""
    circuit = after("FFF")
    assert circuit == circuit.succeeded(1.0, 9.0, RULE)
    assert State.HALF_OPEN is circuit.succeeded(3.0, 9.0, RULE).state


def test_what_a_request_was_charged_with_is_taken_back():
    """Where it turns out to be the request's own fault, the circuit was never open."""
    circuit = Circuit()
    for n in range(3):
        circuit = circuit.failed(failure(float(n), "mine"), RULE)
    assert circuit.is_open
    assert circuit.without(of("mine"), RULE).clean
    assert circuit == circuit.without(of("another"), RULE)


def test_failures_that_stay_keep_it_open():
    """Only what was charged is taken back: three others are enough."""
    circuit = after("FFFF").without(of("r0"), RULE)
    assert circuit.is_open
    circuit = after("FFF").trial_failed(4.0, RULE).without(of("r0"), RULE)
    assert circuit.is_open, "a trial has failed as well"


def test_openings_are_forgotten_when_it_was_calm():
    """A node that failed long ago is trusted as any other."""
    circuit = after("FFF").trial_passed(4.0, RULE).succeeded(5.0, 5.0, RULE)
    assert not circuit.calm(100.0, RULE)
    assert circuit.calm(605.1, RULE)
    for n in range(3):
        circuit = circuit.failed(failure(1000.0 + n), RULE)
    assert 1 == circuit.openings


STEPS = st.lists(
    st.tuples(st.sampled_from("F.tT"), st.floats(0, 100, allow_nan=False)), max_size=60
)


@given(STEPS)
def test_never_closed_by_time(steps):
    """Whatever happens, and however long it takes, an open one closes by proof only."""
    circuit, now, proven = Circuit(), 0.0, 0
    for step, seconds in steps:
        now += seconds
        before = circuit
        if step == "F":
            circuit = circuit.failed(failure(now), RULE)
        elif step == ".":
            circuit = circuit.succeeded(now, now, RULE)
        elif step == "t":
            circuit = circuit.trial_failed(now, RULE)
        else:
            circuit = circuit.trial_passed(now, RULE)
        if before.is_open and not circuit.is_open:
            assert step in ".T"
        proven = proven + 1 if circuit.is_open and step in ".T" else 0
        assert proven <= RULE.most_passes
        assert len(circuit.results) <= RULE.window
        if circuit.is_open:
            assert circuit.try_at - now <= RULE.longest_wait_seconds


@given(st.text("F.", max_size=40))
def test_a_node_that_works_again_is_back(results):
    """From any past, trials and an answer close it."""
    circuit = after(results)
    for n in range(RULE.most_passes):
        circuit = circuit.trial_passed(100.0 + n, RULE)
    circuit = circuit.succeeded(200.0, 200.0, RULE)
    assert State.CLOSED is circuit.state
