"""A JSON document: lists of objects as a stream, lists for each column at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import ReadLimits, Row
from router.jobs.model import Format
from tests.harness.examples import examples
from tests.router.jobs.input.readers.stage import SMALL, fields, rows


def document(tmp_path, content, limits=SMALL):
    return rows(tmp_path / "f.json", content, Format.JSON, limits)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}, {"a": [2]}]', [{"a": 1}, {"a": [2]}]),
        ('\ufeff\n[\n{"a": 1}\n]\n', [{"a": 1}]),
        ('{"data": [{"a": 1}], "meta": {"n": 1}, "k": 3}', [{"a": 1}]),
        ('{"tags": ["x"], "data": [{"a": 1}]}', [{"a": 1}]),
        ('{"a": [1, 2], "b": ["x", null]}', [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ('{"a": [1, 2], "name": "n"}', [{"a": 1}, {"a": 2}]),
        (
            '{"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}',
            [{"a": 1, "b": 3}, {"a": 2, "b": 4}],
        ),
        ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('{"a": {"b": 1}, "c": {"d": 1}}', [{"a": {"b": 1}, "c": {"d": 1}}]),
        ('{"a": 1, "b": "x", "c": [1, 2]}', [{"a": 1, "b": "x", "c": [1, 2]}]),
    ],
    ids=[
        *("list", "with a mark", "list in an object", "list behind another"),
        *("lists for columns", "columns beside a text", "pandas' default"),
        *("lines in truth", "one object", "an object with a list in it"),
    ],
)
def test_shapes_of_datasets(tmp_path, content, expected):
    """What people call a JSON dataset, as far as it is clear."""
    assert expected == fields(document(tmp_path, content))


@pytest.mark.parametrize(
    ("element", "complaint"),
    [
        ("7", "line 2, column 2: a row must be an object, got a number"),
        ('{"a": "' + "x" * 200 + '"}', "line 2, column 2: a row is longer than 200"),
    ],
    ids=["number", "long"],
)
def test_a_bad_element_fails_alone(tmp_path, element, complaint):
    """Elements that are JSON, but no rows, take nothing along."""
    first, wrong, last = document(tmp_path, '[{"a": 0},\n ' + element + ',\n{"a": 2}]')
    assert (Row(0, {"a": 0}, 1), Row(2, {"a": 2}, 3)) == (first, last)
    assert wrong.text.startswith(complaint), wrong.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file holds no rows"),
        ("[]", "the file holds no rows"),
        ("7", "line 1, column 1: a dataset must be"),
        ('[{"a": 1},\n {"a" 2}]', "line 2, column 7: not JSON: "),
        ('[{"a": 1}', "line 1, column 10: not JSON: expected ',' or ']' between two"),
        ('[{"a": 1} {"a": 2}]', "line 1, column 11: not JSON: expected ',' or ']'"),
        ('[{"a": 1},]', "line 1, column 11: not JSON: a value is missing"),
        ('[{"a": 1}] x', "line 1, column 12: there is more after the document"),
        ('{"a": [{"x": 1}], "b": [{"x": 2}]}', "line 1, column 25: there are rows in"),
        ('{"a": [1, 2], "b": [1]}', "column 'a' has 2 values and 'b' has 1"),
        ('{"a": [1], "a": [2]}', "line 1, column 18: the name 'a' stands twice"),
        ('{"a": [1,]}', "line 1, column 10: not JSON: a value must follow the comma"),
        ('{"a" [1]}', "line 1, column 6: not JSON: expected ':' behind a name"),
        ('{"a": [1],}', "line 1, column 11: not JSON: expected '\"' where a name"),
        ("{a: [1]}", "line 1, column 2: not JSON: expected '\"' where a name begins"),
        ("[" * 5000, "line 1, column 2: lists and objects are nested too deep"),
        ('[{"a": "' + "x" * 70_000, "line 1, column 2: a row is longer than 200"),
        ("[" + "1" * 700_000, "line 1, column 2: a row is longer than 200 characters"),
        (b'[{"a": "\xc3', "line 1, column 8: not JSON: a text in quotes does not end"),
        ("{}", "the object holds no list: a dataset must be"),
        ('[{"a": tru}]', "line 1, column 8: not JSON: a value is missing"),
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path, content, message):
    """A document is one value: where it breaks, what follows means nothing."""
    with pytest.raises(DatasetError) as error:
        document(tmp_path, content)
    assert str(error.value).startswith(message), str(error.value)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(100),
)
@given(
    data=st.lists(st.dictionaries(st.text("xyz"), values), min_size=1),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_any_document_is_read_as_json_reads_it(
    tmp_path, data, indent, ascii_only, chunk
):
    """Wherever the pieces that are read from the file end."""
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    assert data == fields(document(tmp_path, text, ReadLimits(chunk_bytes=chunk)))


def test_positions_hold_over_many_pieces(tmp_path):
    """Line and column count from the beginning of the file, not of a piece."""
    content = "[\n" + '{"ü": "' + "ü" * 50_000 + '"},\n' * 1 + '  {"a": ]}]'
    with pytest.raises(DatasetError, match=r"^line 3, column 9: not JSON"):
        document(tmp_path, content, replace(SMALL, row_bytes=60_000))
