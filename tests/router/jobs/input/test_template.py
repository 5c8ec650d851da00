"""Prompt templates: columns into text, and nothing that could do more."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import TemplateError
from router.jobs.input.filters import MOST_CHARACTERS
from router.jobs.input.template import Template

ROW = {
    "text": "Hello",
    "n": 3,
    "price": 1.5,
    "none": None,
    "yes": True,
    "first name": "Ada",
    "list": ["a", "b", {"c": "d"}],
    "object": {"x": {"y": 7}, "items": "mine"},
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Summarise: {{ text }}\n", "Summarise: Hello\n"),
        ("{{text}}{{ n }} {{ price }} {{ yes }}|{{ none }}|", "Hello3 1.5 true||"),
        ("{{ list }}", '["a","b",{"c":"d"}]'),
        ("{{ list[0] }} {{ list[-1].c }} {{ list[2]['c'] }}", "a d d"),
        ("{{ object.x.y }} {{ object['x'] }}", '7 {"y":7}'),
        ("{{ object.items }}", "mine"),
        ('{{ row["first name"] }} {{ row.text }}', "Ada Hello"),
        ("{{ text|upper }} {{ text | lower }} {{ text|length }}", "HELLO hello 5"),
        ("{{ nope|default('-') }} {{ none|default(n) }}", "- 3"),
        ("{{ text|truncate(3) }} {{ text|replace('l', 'L') }}", "He… HeLLo"),
        ("{{ list|join('+') }}", 'a+b+{"c":"d"}'),
        ("{{ list|first }} {{ list|last|tojson }}", 'a {"c":"d"}'),
        ("{{ price|round }} {{ '  x '|trim }} {{ text|tojson }}", '2.0 x "Hello"'),
        ("{{ 'a b'|title }} {{ 'ab'|capitalize }}", "A B Ab"),
        ("a {# not shown #}b", "a b"),
        ("no columns at all", "no columns at all"),
        ("<b>{{ '<&>' }}</b>", "<b><&></b>"),
    ],
)
def test_what_a_template_writes(source, expected):
    """Text as it is, nothing for null, JSON for the rest."""
    assert expected == Template.parse(source).render(ROW)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ text", "line 1: unexpected end of template"),
        ("a\n{{ text| }}", "line 2: expected token 'name'"),
        ("{% for x in list %}{% endfor %}", "line 1: a statement cannot be used"),
        ("{% if n %}{% endif %}", "line 1: a statement cannot be used"),
        ("{% set x = 1 %}", "line 1: a statement cannot be used"),
        ("{% include 'x' %}", "line 1: 'include' cannot be used"),
        ("{% import 'x' as y %}", "line 1: 'import' cannot be used"),
        ("\n{{ text.upper() }}", "line 2: a call cannot be used: a prompt may hold"),
        ("{{ range(9) }}", "line 1: a call cannot be used"),
        ("{{ 'x' * 9 }}", "line 1: 'mul' cannot be used"),
        ("{{ n if yes else n }}", "line 1: a condition cannot be used"),
        ("{{ text is string }}", "line 1: 'test' cannot be used"),
        ("{{ [1] }}", "line 1: 'list' cannot be used"),
        ("{{ text[1:2] }}", "line 1: an index that is no number or text"),
        ("{{ list[n] }}", "line 1: an index that is no number or text"),
        ("{{ text|attr('x') }}", "line 1, column 9: there is no filter 'attr'; there"),
        ("\n {{ upper|uper }}", "line 2, column 11: there is no filter 'uper'"),
        ("{{ text|truncate(length=3) }}", "line 1, column 9: filter 'truncate' takes"),
        ("{{ " + "(" * 9000 + "n" + ")" * 9000 + " }}", "the template is nested too"),
        ("{{ n" + ".a" * 100 + " }}", "line 1: the template is too large"),
        ("{{ n }}" * 3000, "line 1: the template is too large"),
        ("x" * 262_145, "the template is longer than 262,144 characters"),
    ],
)
def test_a_template_that_could_do_more_is_refused(source, message):
    """No statement, call, test or operator; the message says where, and what may be."""
    with pytest.raises(TemplateError) as error:
        Template.parse(source)
    assert str(error.value).startswith(message), str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ txt }}", "line 1, column 4: there is no column 'txt'; there are 'text', "),
        ("{{ text }}\nä {{ nope.x|upper }}", "line 2, column 6: there is no column"),
        ("{{ row['nope'] }}", "line 1, column 8: there is no column 'nope'"),
        ("{{ text.nope }}", "'str object' has no attribute 'nope'"),
        ("{{ text.__class__ }}", "'str object' has no attribute '__class__'"),
        ("{{ text.upper }}", "'str object' has no attribute 'upper'"),
        ("{{ row.__class__ }}", "line 1, column 8: there is no column '__class__'"),
        ("{{ list[9] }}", "list object has no element 9"),
        ("{{ object.x.z|upper }}", "'dict object' has no attribute 'z'"),
        ("{{ text|round }}", "a filter cannot take this row: could not convert"),
        ("{{ text|join }}", "a filter cannot take this row: 'join' wants a list"),
        ("{{ text|replace('', 'x') }}", "filter 'replace': the text to replace is"),
        ("{{ self }}", "line 1, column 4: there is no column 'self'"),
    ],
)
def test_a_row_that_does_not_fit_is_told_of(source, message):
    """A missing column is named with its place, and with the columns there are."""
    template = Template.parse(source)
    with pytest.raises(TemplateError) as error:
        template.render(ROW)
    assert str(error.value).startswith(message), str(error.value)


def test_columns_are_known_before_any_row():
    """Those with a default may be missing; parts of a column are the column."""
    template = Template.parse(
        "{{ a.b }} {{ c|upper }} {{ d|default('') }} {{ row['e f'] }} {{ row }}"
    )
    assert {"a", "c", "e f"} == template.columns
    with pytest.raises(TemplateError, match="there is no column 'c'; there are 'a'"):
        template.check(["a", "e f"])
    template.check(["a", "c", "e f", "more"])


@pytest.mark.parametrize(
    "source",
    [
        "{{ text|replace('x', '" + "y" * 1000 + "') }}",
        "{{ list|join('" + "y" * 1000 + "') }}",
        "{{ text }}" * 60,
    ],
    ids=["replace", "join", "output"],
)
def test_what_a_template_writes_is_bounded(source):
    """Neither a filter nor much output may fill the memory."""
    row = {"text": "x" * 100_000, "list": ["x"] * 100_000}
    with pytest.raises(TemplateError, match=r"characters"):
        Template.parse(source).render(row)
    assert MOST_CHARACTERS < 100_000 * 1000


@given(st.text(max_size=60))
def test_any_text_is_a_template_or_an_error_of_ours(source):
    """What people type never raises anything else."""
    with contextlib.suppress(TemplateError):
        Template.parse(source).render(ROW)


pieces = st.sampled_from(
    [
        *("text", "row", "list", "n", ".", "|", "[0]", "['x']", "upper", "join"),
        *("default(1)", "truncate(2)", "-", "(", ")", "~", "__class__", "mro()", " "),
    ]
)


@given(st.lists(pieces, max_size=8))
def test_any_expression_gives_plain_text(parts):
    """No combination of what the language has shows one of Python's objects."""
    try:
        written = Template.parse("{{ " + "".join(parts) + " }}").render(ROW)
    except TemplateError:
        return
    assert "<" not in written
