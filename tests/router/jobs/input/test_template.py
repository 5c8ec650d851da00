"""Prompt templates: columns into text, and nothing that could do more."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import TemplateError
from router.jobs.input.filters import MOST_CHARACTERS
from router.jobs.input.readers import Unusable
from router.jobs.input.template import Template

ODD = {
    "picture": Unusable("binary data"),
    "nested": {"path": "a.png", "picture": Unusable("binary data")},
    "half": "\ud800x",
    "byte": "caf\udce9",
    "a.b": 1,
}
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
        ("{{ text", "line 1, column 1: '{{' is not closed by '}}'"),
        ("a\n{# text", "line 2, column 1: '{#' is not closed by '#}'"),
        ("a\n{{ text| }}", "line 2, column 1: '{{ text| }}' cannot be read: a prompt"),
        ("{{ first name }}", ('line 1, column 1: \'{{ first name }}\' is not clear; for'
         ' this column write {{ row["first name"] }}')),
        ("{{ first-name|upper }}", "line 1, column 1: '{{ first-name}}' is not clear"),
        ("{% for x in list %}{% endfor %}", "line 1: a statement cannot be used"),
        ("{% if n %}{% endif %}", "line 1: a statement cannot be used"),
        ("{% set x = 1 %}", "line 1: a statement cannot be used"),
        ("{% include 'x' %}", "line 1: a statement cannot be used"),
        ("{% import 'x' as y %}", "line 1: a statement cannot be used"),
        ("{% nonsense %}", "line 1: a statement cannot be used"),
        ("\n{{ text.upper() }}", "line 2: a call cannot be used: a prompt may hold"),
        ("{{ range(9) }}", "line 1: a call cannot be used"),
        ("{{ 'x' * 9 }}", "line 1: an operator cannot be used"),
        ("{{ -text }}", "line 1: an operator cannot be used"),
        ("{{ -n }}", "line 1: an operator cannot be used"),
        ("{{ -'x' }}", "line 1: an operator cannot be used"),
        ("{{ row[-'x'] }}", "line 1: an operator cannot be used"),
        ("{{ --1 }}", "line 1: an operator cannot be used"),
        ("{{ n if yes else n }}", "line 1: a condition cannot be used"),
        ("{{ text is string }}", "line 1: a test cannot be used"),
        ("{{ [1] }}", "line 1: a list or an object cannot be used"),
        ("{{ text[1:2] }}", "line 1: an index that is not a number or text"),
        ("{{ list[n] }}", "line 1: an index that is not a number or text"),
        ("{{ text|attr('x') }}", "line 1, column 9: unknown filter 'attr' (available"),
        ("\n {{ upper|uper }}", "line 2, column 11: unknown filter 'uper'"),
        ("{{ text|truncate(length=3) }}", "line 1, column 9: filter 'truncate' takes"),
        ("{{ text|truncate(1, 2) }}", "line 1, column 9: filter 'truncate' takes 0 to"),
        ("{{ text|replace('a') }}", "line 1, column 9: filter 'replace' takes 2 argum"),
        ("{{ " + "(" * 9000 + "n" + ")" * 9000 + " }}", "the template is nested too"),
        ("{{ n" + ".a" * 100 + " }}", "line 1: the template is too large"),
        ("{{ n }}" * 3000, "line 1: the template is too large"),
        ("{{ " + "9" * 5000 + " }}", "a number in the template is too long"),
        ("x" * 262_145, "the template is longer than 262,144 characters"),
    ],
)  # fmt: skip
def test_a_template_that_could_do_more_is_refused(source, message):
    """No statement, call, test or operator; the message says where, and what may be."""
    with pytest.raises(TemplateError) as error:
        Template.parse(source)
    assert str(error.value).startswith(message), str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ txt }}", "the row has no column 'txt' (it has 'text', "),
        ("{{ text }}\nä {{ nope.x|upper }}", "the row has no column 'nope'"),
        ("{{ row['nope'] }}", "the row has no column 'nope'"),
        ("{{ text.nope }}", "a text has nothing named 'nope'"),
        ("{{ text.__class__ }}", "a text has nothing named '__class__'"),
        ("{{ text.upper }}", "a text has nothing named 'upper'"),
        ("{{ row.__class__ }}", "the row has no column '__class__'"),
        ("{{ list[9] }}", "a list has no element 9"),
        ("{{ object.x.z|upper }}", "an object has nothing named 'z'"),
        ("{{ text|round }}", "filter 'round' wants a number, got 'Hello'"),
        ("{{ 'NaN'|round }}", "filter 'round' wants a number, got 'NaN'"),
        ("{{ text|truncate('x') }}", "filter 'truncate' wants a number, got 'x'"),
        ("{{ text|join }}", "filter 'join' wants a list, got 'Hello'"),
        ("{{ text|replace('', 'x') }}", "filter 'replace': the text to replace is"),
        ("{{ self }}", "the row has no column 'self'"),
        ("{{ a.b }}", "the row has no column 'a'"),
        ("{{ picture }}", "column 'picture': binary data"),
        ("{{ half }}", "column 'half': half of a \\u surrogate pair is missing"),
        ("{{ byte|upper }}", "column 'byte': byte 0xe9 is not UTF-8; save the file as"),
        (
            "{{ byte|tojson }}",
            "column 'byte': byte 0xe9 is not UTF-8; save the file as",
        ),
        ("{{ nested }}", "column 'nested': binary data"),
        ("{{ row }}", "column 'picture': binary data"),
    ],
)
def test_a_row_that_does_not_fit_is_told_of(source, message):
    """A missing column is named with its place, and with the columns there are."""
    template = Template.parse(source)
    with pytest.raises(TemplateError) as error:
        template.render({**ROW, **ODD})
    assert str(error.value).startswith(message), str(error.value)


def test_a_name_that_looks_like_a_part_is_explained():
    """`a.b` may be one column's name; the message shows how it is written."""
    with pytest.raises(TemplateError, match=r"""; for 'a.b' write \{\{ row\["a.b"\]"""):
        Template.parse("{{ a.b }}").check(["a.b"])


def test_what_is_odd_does_not_matter_where_it_is_not_used():
    """Nor within an object of which another part is used."""
    source = "{{ text }} {{ nested.path }} {{ nested.picture|default('-')|length }}"
    with pytest.raises(TemplateError):
        Template.parse(source).render({**ROW, **ODD})
    assert "Hello a.png" == Template.parse("{{ text }} {{ nested.path }}").render(
        {**ROW, **ODD}
    )


def test_a_number_of_any_size_is_written():
    """Beyond 64 bits as well, alone and in a list."""
    row = {"n": 10**30, "l": [10**30]}
    assert f"{10**30} [{10**30}]" == Template.parse("{{ n }} {{ l }}").render(row)


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("{{ a }} {{ b.c }} {{ row['d e'] }}", {"a", "b", "d e"}),
        ("{{ a|default(b) }} {{ c|default('') }}", {"a", "b", "c"}),
        ("text", set()),
        ("{{ row }}", None),
        ("{{ row|tojson }} {{ a }}", None),
    ],
)
def test_which_columns_are_used(source, used):
    """Only these are read; all where the row is written as a whole."""
    assert used == Template.parse(source).used


def test_columns_are_known_before_any_row():
    """Those with a default may be missing; parts of a column are the column."""
    template = Template.parse(
        "{{ a.b }} {{ c|upper }} {{ d|default('') }} {{ row['e f'] }} {{ row }}"
    )
    assert {"a", "c", "e f"} == template.columns
    with pytest.raises(TemplateError, match=r"unknown column 'c' \(available: 'a'"):
        template.check(["a", "e f"])
    template.check(["a", "c", "e f", "more"])


@pytest.mark.parametrize(
    "source",
    [
        "{{ text|replace('x', '" + "y" * 1000 + "') }}",
        "{{ list|join('" + "y" * 1000 + "') }}",
        "{{ text }}" * 60,
        "{{ text|replace('x', '\"')" + "|tojson" * 9 + " }}",
    ],
    ids=["replace", "join", "output", "tojson"],
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
