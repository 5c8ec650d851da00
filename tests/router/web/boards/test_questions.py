"""What is asked of Prometheus: committed PromQL, with nothing pasted as it came."""

from __future__ import annotations

import pytest

from router.errors import BadRequestError
from router.web.boards.catalogue import BoardQuery, BoardVariable
from router.web.boards.questions import (
    MOST_POINTS,
    TimeRange,
    filled,
    substitutes,
    time_range,
)

NODE = BoardVariable("node", ".+", "inferops_node_score", "node")
PRICE = BoardVariable("price", "0.30")
VARIABLES = {"node": NODE, "price": PRICE}
HOUR = TimeRange(0, 3600, 100)


def everything_known(_variable, _value):
    return True


def chosen(**values):
    return substitutes(VARIABLES, values, everything_known)


def test_nothing_chosen_is_everything():
    """The regular expression behind "All", and the number of the box."""
    assert chosen() == {"node": ".+", "price": "0.30"}
    assert chosen(node=["$__all"]) == {"node": ".+", "price": "0.30"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["rig"], "rig"),
        (["llama3.2:3b"], r"llama3\\.2:3b"),
        (["a", "b"], "(a|b)"),
        (["a|b"], r"a\\|b"),
        ([".*"], r"\\.\\*"),
        (['a"} or vector(1) #'], r"a\"\\} or vector\\(1\\) #"),
        (["a\\"], r"a\\\\"),
        (["a\nb"], r"a\nb"),
    ],
)
def test_values_are_themselves_inside_a_string(values, expected):
    """A name that looks like PromQL or a regular expression is neither."""
    assert chosen(node=values)["node"] == expected


def test_a_value_must_exist():
    """Whatever Prometheus does not have is refused, not asked for."""
    with pytest.raises(BadRequestError, match="var-node: no 'x' there"):
        substitutes(VARIABLES, {"node": ["x"]}, lambda _v, value: value != "x")


@pytest.mark.parametrize("text", ["", "-1", "1e9", "0.3 or vector(1)", "1234567"])
def test_a_number_must_be_one(text):
    """The boxes of price and CO2 stand in PromQL without quotes."""
    with pytest.raises(BadRequestError, match="var-price: must be one number"):
        chosen(price=[text])


def test_a_board_has_its_own_variables_only():
    """A typo is told."""
    with pytest.raises(BadRequestError, match="var-nodes: not a variable"):
        chosen(nodes=["a"])


def test_too_many_values_are_refused():
    """A regular expression of a megabyte is nobody's choice."""
    with pytest.raises(BadRequestError, match="more than 200"):
        chosen(node=[str(each) for each in range(201)])


@pytest.mark.parametrize(
    ("since", "until", "points"),
    [
        ("", "1", "10"),
        ("1", "1", "10"),
        ("2", "1", "10"),
        ("nan", "1", "10"),
        ("-inf", "1", "10"),
        ("0", "40000000", "10"),
        ("0", "1", "1"),
        ("0", "1", str(MOST_POINTS + 1)),
        ("0", "1", "1e3"),
    ],
)
def test_a_range_has_bounds(since, until, points):
    """No question can ask for more than a drawing needs."""
    with pytest.raises(BadRequestError):
        time_range(since, until, points)


def test_points_lie_on_multiples_of_the_step():
    """A refresh a moment later shows the same figures, not a dance of them."""
    query = BoardQuery("up", instant=False)
    assert TimeRange(100.4, 3700.4, 100).params(query) == {
        "start": "72",
        "end": "3672",
        "step": "36",
    }


def test_a_panel_may_take_fewer_points():
    """Never more than were asked for."""
    hour = TimeRange(0, 3600, 100)
    for most, seconds in ((0, 36), (50, 72), (1000, 36)):
        query = BoardQuery("up", instant=False, most_points=most)
        assert hour.step(query) == seconds


def test_an_instant_query_is_of_the_end():
    """So that a stat shows what was there at the end of a past range."""
    assert HOUR.params(BoardQuery("up", instant=True)) == {"time": "3600.000"}


@pytest.mark.parametrize(
    ("min_step", "expected"),
    [(0, "rate(x[41s]) 36s 3600s"), (60, "rate(x[240s]) 60s 3600s")],
)
def test_grafanas_own_variables(min_step, expected):
    """As its data source reckons them: a rate spans four scrapes at least."""
    query = BoardQuery(
        "rate(x[$__rate_interval]) ${__interval} $__range", False, min_step
    )
    assert filled(query, HOUR, {}) == expected


def test_what_is_no_variable_stays():
    """The end of a regular expression is a dollar, too."""
    query = BoardQuery('x{a=~"$node|b$"} $1 $other', instant=True)
    assert filled(query, HOUR, chosen()) == 'x{a=~".+|b$"} $1 $other'
