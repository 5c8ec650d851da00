"""What a build refuses is remembered, by kind of request, for a while."""

from __future__ import annotations

import pytest

from router.failover.refusals import Refusals

MODEL, OLD, NEW = "m:latest", ("d1", "0.17.4"), ("d2", "0.17.4")
TOOLS = b'{"model":"m","tools":[{}],"messages":[]}'
PLAIN = b'{"model":"m","messages":[{"role":"user","content":"tools"}]}'


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def refusals(now):
    made = Refusals(lambda: now[0])
    made.learn(MODEL, TOOLS, [OLD])
    return made


@pytest.mark.parametrize(
    ("model", "body", "builds"),
    [
        (MODEL, TOOLS, {OLD}),
        (MODEL, b'{"tools" : [{}], "model":"m", "prompt":"other"}', {OLD}),
        (MODEL, PLAIN, set()),
        (MODEL, TOOLS[:-1] + b',"format":"json"}', set()),
        ("other:latest", TOOLS, set()),
    ],
    ids=["the same", "alike", "another kind", "more wanted", "another model"],
)
def test_only_what_is_alike(refusals, model, body, builds):
    """A template without tools takes plain requests as well as any."""
    assert builds == refusals.of(model, body)


def test_it_is_asked_again_later(refusals, now):
    """An upgrade changes the build, an operator may change the rest."""
    now[0] = 601.0
    assert not refusals.of(MODEL, TOOLS)


def test_it_is_bounded(refusals):
    """Whatever models clients name."""
    for number in range(2000):
        refusals.learn(f"m{number}", TOOLS, [NEW])
    assert 1024 == len(refusals._until)
    assert not refusals.of(MODEL, TOOLS)
