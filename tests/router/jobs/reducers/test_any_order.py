"""Whatever the order, the repeats and the crashes: every reducer ends the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.jobs.reducers import REDUCERS, reducer_for
from tests.router.jobs.reducers.stage import Run

SPECS: list[dict[str, Any]] = [
    {"kind": "map"},
    {"kind": "concat", "separator": "|"},
    {"kind": "stats", "field": "n"},
    {"kind": "count", "field": "w"},
    {"kind": "vote", "samples": 3, "field": "w"},
    {"kind": "tree", "threshold": 2},
    {"kind": "tree", "threshold": 5},
]
IDS = [f"{spec['kind']} {spec.get('threshold', '')}".strip() for spec in SPECS]

answers = st.one_of(
    st.none(),
    st.just(""),
    st.just("no JSON at all"),
    st.builds(
        lambda n, w: json.dumps({"n": n, "w": w}),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["yes", "no", "perhaps", None, True]),
    ),
)
texts = st.lists(answers, min_size=1, max_size=10).map(lambda many: many * 3)


def plain_run(spec, given_texts):
    """Every result once, in input order, merges at once."""
    run = Run(reducer_for(spec, len(given_texts)))
    for index, text in enumerate(given_texts):
        run.feed(index, text)
        run.finish()
    return run


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
@given(data=st.data(), many=texts)
def test_any_order_with_repeats_ends_the_same(spec, data, many):
    """Results in any order, some twice, merges answered late: the same state."""
    indices = list(range(len(many)))
    order = data.draw(st.permutations(indices))
    repeats = data.draw(st.lists(st.sampled_from(indices), max_size=10))
    run = Run(reducer_for(spec, len(many)))
    for index in [*order, *repeats]:
        run.feed(index, many[index])
        if run.open and data.draw(st.booleans()):
            run.merge(data.draw(st.sampled_from(run.open)))
    run.finish()
    assert plain_run(spec, many).state() == run.state()


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
@given(data=st.data(), many=texts)
def test_a_crash_and_a_replay_end_the_same(spec, data, many):
    """A new reducer is fed what was stored, merges before rows or behind them."""
    indices = list(range(len(many)))
    order = data.draw(st.permutations(indices))
    before = Run(reducer_for(spec, len(many)))
    for index in order[: data.draw(st.integers(0, len(many)))]:
        before.feed(index, many[index])
        if before.open and data.draw(st.booleans()):
            before.merge(before.open[0])
    after = Run(reducer_for(spec, len(many)))
    stored = [*before.answered, *data.draw(st.permutations(indices))]
    for each in data.draw(st.permutations(stored)):
        if isinstance(each, int):
            after.feed(each, many[each])
        else:
            after.merges.setdefault(each, before.merges[each])
            after.merge(each)
    after.finish()
    assert plain_run(spec, many).state() == after.state()
    assert before.merges.items() <= after.merges.items()


@given(
    total=st.integers(1, 200),
    threshold=st.integers(2, 12),
    failed=st.sets(st.integers(0, 199)),
    seed=st.randoms(use_true_random=False),
)
def test_a_tree_covers_each_row_once(total, threshold, failed, seed):
    """The end product holds each row that did not fail, once, in input order."""
    run = Run(reducer_for({"kind": "tree", "threshold": threshold}, total))
    order = list(range(total))
    seed.shuffle(order)
    for index in order:
        run.feed(index, None if index in failed else f"r{index}")
        if run.open and seed.random() < 0.5:
            run.merge(seed.choice(run.open))
    run.finish()
    output = run.output()
    kept = [index for index in range(total) if index not in failed]
    assert kept == [int(number) for number in re.findall(r"r(\d+)", output)]
    assert run.reducer.finished()
    assert total == run.partial().covers
    assert all(2 <= len(merge.texts) <= threshold for merge in run.merges.values())


@given(
    votes=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=5, max_size=5),
    order=st.permutations(range(5)),
)
def test_an_early_stop_gives_what_all_samples_would_give(votes, order):
    """Samples that are spared could not have changed the row's answer."""
    spec = {"kind": "vote", "samples": 5}
    early, whole = Run(reducer_for(spec, 5)), Run(reducer_for(spec, 5))
    for sample in order:
        if not early.reducer.finished():
            early.feed(sample, votes[sample])
        whole.feed(sample, votes[sample])
    [stopped], [full] = (run.output()["rows"] for run in (early, whole))
    assert full["answer"] == stopped["answer"]


def test_each_reducer_is_in_these_properties():
    """A reducer that is added must be shown to be fit for any order, too."""
    assert set(REDUCERS) == {spec["kind"] for spec in SPECS}
