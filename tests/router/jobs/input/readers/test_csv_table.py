"""CSV: delimiters are found, and a wrong row takes no other row along."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import Limits, Row
from router.jobs.model import Format
from tests.router.jobs.input.readers.stage import SMALL, fields, rows


def table(tmp_path, content, limits=SMALL):
    return rows(tmp_path / "f.csv", content, Format.CSV, limits)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n", [{"a": "1", "b": "2"}]),
        ("\ufeffa;b\r\n1,5;2\r\n", [{"a": "1,5", "b": "2"}]),
        ("a\tb\n1,x;y\t2", [{"a": "1,x;y", "b": "2"}]),
        ("a|b\n1|2\n3|4\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        ("text\nHello; world\n", [{"text": "Hello; world"}]),
        (
            'a,b\n"x,\n""y""",2\n\n3,4\n',
            [{"a": 'x,\n"y"', "b": "2"}, {"a": "3", "b": "4"}],
        ),
        ('a,b\n5" disk,2\n', [{"a": '5" disk', "b": "2"}]),
        (",name\n0,x\n", [{"column_1": "0", "name": "x"}]),
        (" a , b\n1,\n", [{"a": "1", "b": ""}]),
        ("a,b\nNaN,ü\n", [{"a": "NaN", "b": "ü"}]),
    ],
    ids=[
        *("comma", "semicolon and mark", "tabulator", "bar", "one column"),
        *("quotes and lines", "inches", "no name", "spaces in names", "NaN is text"),
    ],
)
def test_tables_as_people_save_them(tmp_path, content, expected):
    """Spreadsheets of several countries, pandas, and what people write."""
    assert expected == fields(table(tmp_path, content))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1", "column 2: the row has 1 fields, the first line names 2"),
        ("1,2,3", "column 5: the row has 3 fields, the first line names 2"),
        ('"1"x,2', "column 3: a quote ends before its field does"),
        ('1,"2', "column 3: a quote that begins here does not end"),
        (b"1,\xc3\xbc\xe9", "column 4: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("1," + "x" * 300, "column 1: the line is longer than 200 bytes"),
        ("1,x\ry", "column 1: not CSV: new-line character seen"),
    ],
    ids=[
        *("too few", "too many", "quote ends early", "quote stays open"),
        *("Latin-1", "long", "carriage return"),
    ],
)
def test_a_bad_row_fails_alone(tmp_path, line, complaint):
    """Also where a quote was left open: the lines behind it are read again."""
    raw = line.encode() if isinstance(line, str) else line
    first, wrong, *rest = table(tmp_path, b"a,b\n0,0\n" + raw + b"\n2,2\n3,3\n")
    assert [Row(0, {"a": "0", "b": "0"}, 2), *rest] == [
        first,
        Row(2, {"a": "2", "b": "2"}, 4),
        Row(3, {"a": "3", "b": "3"}, 5),
    ]
    assert (1, 3) == (wrong.index, wrong.line)
    assert wrong.text.startswith(f"line 3, {complaint}"), wrong.text


def test_a_row_of_several_lines_is_told_of_where_it_is_wrong(tmp_path):
    """Line and column are those of the field too many."""
    _, wrong = table(tmp_path, 'a,b\n1,2\n"x\ny",2,"z"\n')
    assert (1, 4, 6) == (wrong.index, wrong.line, wrong.column)


def test_a_row_may_not_grow_beyond_its_limit(tmp_path):
    """Many short lines in one pair of quotes are one long row."""
    content = 'a,b\n1,"' + "x\n" * 150 + '"\n2,2\n'
    read_rows = table(tmp_path, content, replace(SMALL, rows=500))
    assert "line 2, column 3: a quote that begins here" in read_rows[0].text
    assert {"a": "2", "b": "2"} == read_rows[-1].fields


def test_a_file_full_of_open_quotes_ends(tmp_path):
    """Reading lines a second time has a budget: no file takes for ever."""
    content = "a,b\n" + ('1,"' + "x" * 50 + '\n2,"",""\n') * 99
    limits = replace(SMALL, rows=10_000, again_bytes=2_000)
    with pytest.raises(DatasetError, match=r"line .*: too many quotes are left open"):
        table(tmp_path, content, limits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "the file holds no rows"),
        ("a,b,a\n1,2,3\n", "line 1, column 5: columns 1 and 3 are both named 'a'"),
        (",column_1\n1,2\n", "line 1, column 2: columns 1 and 2 are both named"),
        ("a,b,c,d,e,f\n", "line 1: there are 6 columns, at most 5 can be used"),
        ("n" * 30 + ",b\n", "line 1, column 1: the column name 'nnn"),
        (b"a,\xe9\n1,2\n", "line 1, column 3: byte 0xe9 is not UTF-8"),
        ('a,"b\n1,2\n', "line 1, column 3: a quote that begins here does not end"),
        ("a,b\r1,2\r", "lines end with a carriage return only"),
        ("a,b\n1,2\n".encode("utf-16"), "the file is in UTF-16; save it as UTF-8"),
        (b"PK\x03\x04", "the file is a ZIP archive or an Excel workbook, not text"),
        ("a\n" + "1\n" * 51, "the file has more than 50 rows; split it"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    """Names must be clear, and the file text in UTF-8."""
    with pytest.raises(DatasetError) as error:
        table(tmp_path, content)
    assert str(error.value).startswith(message), str(error.value)


cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(0, 99).map(str), cells, cells), min_size=1, max_size=20
    ),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_csv_writes_is_read_back(tmp_path, records, delimiter, ending):
    """Any text in any cell, with quotes around every field."""
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL
    )
    writer.writerows([("n", "x", "y"), *records])
    expected = [dict(zip("nxy", record, strict=True)) for record in records]
    assert expected == fields(table(tmp_path, out.getvalue(), Limits()))
