"""Each reducer by hand: what it gives, when, and which specs are refused."""

from __future__ import annotations

import json

import pytest

from router.errors import ReducerError
from router.jobs.reducers import (
    Merge,
    check,
    reducer_for,
    samples,
    wave,
)
from router.jobs.reducers.concat import SHOWN_CHARACTERS
from tests.router.jobs.reducers.stage import Run, result


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"kind": "sum"},
            (
                "reducer.kind: must be one of map, tree, concat, count, stats, vote,"
                " got 'sum'"
            ),
        ),
        (
            {},
            (
                "reducer.kind: must be one of map, tree, concat, count, stats, vote,"
                " got None"
            ),
        ),
        (
            {"kind": "concat", "threshold": 8},
            "reducer.threshold: reducer 'concat' has no 'threshold'",
        ),
        (
            {"kind": "tree", "threshold": 1},
            "reducer.threshold: must be a whole number from 2 to 1000, got '1'",
        ),
        (
            {"kind": "tree", "threshold": True},
            "reducer.threshold: must be a whole number from 2 to 1000, got 'True'",
        ),
        (
            {"kind": "tree", "prompt": 7},
            "reducer.prompt: must be a text of at most 65536 characters, got '7'",
        ),
        (
            {"kind": "vote", "samples": 65},
            "reducer.samples: must be a whole number from 1 to 64, got '65'",
        ),
        (
            {"kind": "stats", "field": "a..b"},
            "reducer.field: 'a..b' is no path like 'a.b[0]'",
        ),
    ],
    ids=[
        "unknown kind",
        "no kind",
        "a field of another reducer",
        "threshold too small",
        "threshold no number",
        "prompt no text",
        "too many samples",
        "field no path",
    ],
)
def test_a_wrong_spec_is_refused_by_field(spec, message):
    """Who asks for a job hears which field of the reducer is wrong, and why."""
    with pytest.raises(ReducerError) as error:
        check(spec)
    assert message == str(error.value)


def test_an_index_outside_the_job_is_no_result():
    """A store that hands over foreign items must not be believed."""
    with pytest.raises(ValueError, match="item 3 is none of 3"):
        reducer_for({"kind": "map"}, 3).feed(3, result("x"))


def test_concat_shows_the_text_as_far_as_it_is_complete():
    """What waits for a row before it is not shown yet."""
    run = Run(reducer_for({"kind": "concat"}, 4))
    run.feed(2, "c")
    assert ("", 0) == (run.partial().value, run.partial().covers)
    run.feed(0, "a")
    run.feed(1, None)  # failed: leaves nothing, also no empty line
    assert ("a\nc", 3) == (run.partial().value, run.partial().covers)
    assert not run.reducer.finished()
    run.feed(3, "")
    assert "a\nc\n" == run.partial().value
    assert run.reducer.finished()


def test_concat_keeps_the_end_of_a_long_text():
    """The partial stays small; its offset says where it begins."""
    run = Run(reducer_for({"kind": "concat", "separator": ""}, 30))
    for index in range(30):
        run.feed(index, f"{index % 10}" * 10_000)
    partial = run.partial()
    assert (300_000 - SHOWN_CHARACTERS, SHOWN_CHARACTERS) == (
        partial.offset,
        len(partial.value),
    )
    assert partial.value.endswith("9" * 10_000)


def test_stats_find_numbers_where_models_put_them():
    """Fences, friendly words and numbers as text are numbers; other texts are not."""
    run = Run(reducer_for({"kind": "stats", "field": "score.value"}, 6))
    run.feed(0, '{"score": {"value": 1}}')
    run.feed(1, 'Sure!\n```json\n{"score": {"value": 2.5}}\n```')
    run.feed(2, 'Here: {"score": {"value": "4"}} - enjoy')
    run.feed(3, '{"score": {"value": true}}')
    run.feed(4, "seven")
    run.feed(5, None)
    assert {
        "count": 3,
        "unusable": 3,
        "sum": 7.5,
        "mean": 2.5,
        "min": 1.0,
        "max": 4.0,
        "standard_deviation": pytest.approx(1.2247448713915890),
        "median": 2.5,
        "p90": 4.0,
        "p99": 4.0,
    } == run.output()


def test_stats_over_nothing_are_null():
    """No number at all is no division by zero."""
    run = Run(reducer_for({"kind": "stats"}, 1))
    run.feed(0, "none")
    assert {"count": 0, "mean": None, "min": None, "median": None}.items() <= (
        run.output().items()
    )


def test_sums_too_large_for_a_float_are_null():
    """What JSON cannot say is not said; the other figures are."""
    run = Run(reducer_for({"kind": "stats"}, 2))
    run.feed(0, "1e308")
    run.feed(1, "1e308")
    figures = run.output()
    assert (None, 1e308, 0.0) == (
        figures["sum"],
        figures["mean"],
        figures["standard_deviation"],
    )
    json.dumps(figures, allow_nan=False)


def test_count_counts_whole_answers_and_fields():
    """Without a field the answer is the value; ties are ordered by the value."""
    run = Run(reducer_for({"kind": "count"}, 5))
    for index, text in enumerate(["spam", "ham ", "spam", "egg", None]):
        run.feed(index, text)
    assert {
        "count": 4,
        "unusable": 1,
        "different": 3,
        "values": {"spam": 2, "egg": 1, "ham": 1},
    } == run.output()


def test_a_vote_is_settled_as_soon_as_it_is_decided():
    """Three of five agree: the other two need not run; it is said once."""
    run = Run(reducer_for({"kind": "vote", "samples": 5}, 10))
    run.feed(5, "No")
    run.feed(7, "yes")
    run.feed(9, "no.")
    assert [] == run.settled
    run.feed(8, " NO ")
    assert [1] == run.settled
    run.feed(6, "no")
    assert [1] == run.settled
    assert {
        "rows": [{"index": 1, "answer": "No", "votes": 4, "samples": 5}]
    } == run.output()
    assert {"rows": 2, "decided": 1, "values": {"No": 1}} == (run.partial().value)
    assert not run.reducer.finished()


def test_a_tied_vote_goes_to_the_earliest_sample():
    """Chance of arrival must not decide: sample 0 was asked first."""
    run = Run(reducer_for({"kind": "vote", "samples": 4}, 4))
    for sample, text in [(3, "b"), (1, "b"), (2, "a"), (0, "a")]:
        run.feed(sample, text)
    assert "a" == run.output()["rows"][0]["answer"]


def test_a_vote_in_which_all_samples_fail_has_no_answer():
    """The row is decided all the same, or the job would never end."""
    run = Run(reducer_for({"kind": "vote", "samples": 2}, 2))
    run.feed(0, None)
    run.feed(1, None)
    assert run.reducer.finished()
    assert run.output()["rows"][0]["answer"] is None


def test_a_tree_asks_for_a_merge_as_soon_as_a_group_is_there():
    """Neither the rows behind it nor the other groups are waited for."""
    run = Run(reducer_for({"kind": "tree", "threshold": 2}, 5))
    run.feed(3, "d")
    assert {} == run.merges
    run.feed(2, "c")
    assert {"merge-1-1": Merge("merge-1-1", 1, 1, ("c", "d"))} == run.merges
    run.merge("merge-1-1")
    assert ("(c d)", 2) == (run.partial().value, run.partial().covers)
    for index, text in [(0, "a"), (1, "b"), (4, "e")]:
        run.feed(index, text)
    run.finish()
    assert "(((a b) (c d)) e)" == run.output()
    assert run.reducer.finished()
    assert [1, 1, 2, 3] == sorted(merge.level for merge in run.merges.values())


def test_a_merge_that_fails_leaves_its_texts():
    """A dead letter among the merges loses no row, and the tree goes on."""
    spec = {"kind": "tree", "threshold": 2}
    run = Run(reducer_for(spec, 4), answer=lambda merge: None)
    for index, text in enumerate("abcd"):
        run.feed(index, text)
    run.finish()
    assert "a\n\nb\n\nc\n\nd" == run.output()


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["only"], "only"), ([None, "b", None], "b"), ([None, None], "")],
    ids=["one row", "one that did not fail", "none that did not fail"],
)
def test_a_tree_asks_nobody_where_there_is_nothing_to_merge(given, expected):
    """One text is its own summary."""
    run = Run(reducer_for({"kind": "tree", "threshold": 4}, len(given)))
    for index, text in enumerate(given):
        run.feed(index, text)
    assert ({}, expected, True) == (
        run.merges,
        run.output(),
        run.reducer.finished(),
    )


def test_a_partial_tree_stays_small():
    """Many merged texts are cut where they are shown, not in the end product."""
    run = Run(
        reducer_for({"kind": "tree", "threshold": 2}, 64),
        answer=lambda merge: "x" * 10_000,
    )
    for index in range(62):
        run.feed(index, "t")
    for key in run.open:
        run.merge(key)
    assert 64 * 1024 == len(run.partial().value)


def test_a_job_without_rows_is_reduced_at_once():
    """Every reducer is finished where nothing can come."""
    for kind in ("map", "concat", "stats", "count", "vote", "tree"):
        assert reducer_for({"kind": kind}, 0).finished()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "tree", "threshold": 3}, [0, 0, 0, 1, 1, 1]),
        ({"kind": "vote", "samples": 3}, [0, 0, 1, 0, 0, 1]),
        ({"kind": "map"}, [0] * 6),
        ({"kind": "concat"}, [0] * 6),
    ],
    ids=["tree", "vote", "map", "concat"],
)
def test_waves_order_items_as_the_reducer_needs_them(spec, expected):
    """Groups one after the other; of samples, first those that can decide."""
    assert expected == [wave(spec, index) for index in range(6)]


def test_only_a_vote_takes_samples():
    """Each row is one item, but for a vote."""
    assert (5, 7, 1) == (
        samples({"kind": "vote"}),
        samples({"kind": "vote", "samples": 7}),
        samples({"kind": "tree"}),
    )
