"""CSV: delimiters are found, guesses are told, a wrong row takes no other along."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import ReadLimits, Row
from router.jobs.model import Format
from tests.router.jobs.input.readers.stage import SMALL, fields, reasons, rows, sample


def table(tmp_path, content, limits=SMALL, **said):
    return rows(tmp_path / "f.csv", content, Format.CSV, limits, **said)


AB = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


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
        ("sep=;\r\na;b\r\n1;x\r\n2;y\r\n", AB),
        ('"sep=|"\na|b\n1|x\n2|y\n', AB),
        ("sep=\t\na\tb\n1\tx\n2\ty\n", AB),
        ("\ufeffSEP=;\na;b\n1;x\n2;y\n", AB),
        ("a,b\n1,x,\n2,y,,\n", AB),
        ("a,b,\n1,x,\n2,y,\n", [{**row, "column_3": ""} for row in AB]),
        ('a, "b"\n1, "x"\n2, "y"\n', AB),
        ("\ufeff\ufeffa,b\n1,x\n2,y\n", AB),
        ('"a\n",b\n1,x\n2,y\n', AB),
        ("a,b\n1,x\n,\na,b\n2,y\n\x1a", AB),
        ("a,b\n1,x\n   \n2,y\n", AB),
        ("a,b\r1,x\r2,y\r", AB),
        ("Report of 2026\n\na,b\n1,x\n2,y\n", AB),
        ("Report,,\n,,\na,b,c\n1,x,y\n", [{"a": "1", "b": "x", "c": "y"}]),
        (
            ",text\n0,x\n1,y\n",
            [{"column_1": "0", "text": "x"}, {"column_1": "1", "text": "y"}],
        ),
        ("text,\nhello,x\n", [{"text": "hello", "column_2": "x"}]),
    ],
    ids=[
        *("comma", "semicolon and mark", "tabulator", "bar", "one column"),
        *("quotes and lines", "inches", "no name", "spaces in names", "NaN is text"),
        *("sep", "sep in quotes", "sep tab", "sep behind a mark"),
        *("delimiter at the end of rows", "at the end of all lines"),
        *("blanks before quotes", "two marks", "line end in a name"),
        *("empty row and names again", "line of blanks", "old Mac"),
        *("title", "title in a table", "index", "second without a name"),
    ],
)
def test_tables_as_people_save_them(tmp_path, content, expected):
    """Spreadsheets of several countries, databases, pandas, and what people write."""
    assert expected == fields(table(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings_that_are_found_out(tmp_path, encoding):
    """By a mark, by their zero bytes, or because they cannot be UTF-8."""
    content = "a\tb\r\n1\tMüller: 5 €\r\n".encode(encoding)
    assert [{"a": "1", "b": "Müller: 5 €"}] == fields(table(tmp_path, content))


@pytest.mark.parametrize("encoding", ["shift_jis", "cp1251", "mac-roman", "gb18030"])
def test_encodings_that_are_given(tmp_path, encoding):
    """Nobody can find them out for sure."""
    content = "a,b\n1,日本\n" if encoding in {"shift_jis", "gb18030"} else "a,b\n1,x\n"
    read = table(tmp_path, content.encode(encoding), encoding=encoding)
    assert content.split("\n")[1].split(",") == list(read[0].fields.values())


def test_what_is_said_of_a_file_counts(tmp_path):
    """Delimiter and names, against what a look would have found."""
    read = table(tmp_path, "1,x;y\n2,z;w\n", delimiter=";", header=False)
    assert [
        {"column_1": "1,x", "column_2": "y"},
        {"column_1": "2,z", "column_2": "w"},
    ] == fields(read)
    read = table(tmp_path, "1,2\n3,4\n", header=True)
    assert [{"1": "3", "2": "4"}] == fields(read)
    read = table(tmp_path, "a\tb\n1\t2\n", delimiter="tab")
    assert [{"a": "1", "b": "2"}] == fields(read)


@pytest.mark.parametrize(
    ("content", "reading", "note"),
    [
        ("a;b\n1;2\n", {"delimiter": "semicolon"}, "the delimiter is a guess: semico"),
        ("a,b\n1,Caf\xe9\n".encode("cp1252"), {"encoding": "cp1252"},
         "the file is not UTF-8; the encoding is a guess: Windows-1252, as in"),
        ("1,x\n2,y\n", {"header": False}, "the first line looks like data: columns"),
        ("a,b,a\n1,2,3\n", {}, "column 3 is named 'a' again and is called 'a_2'"),
        ("a,,c\n1,2,3\n", {}, "column 2 has no name and is called 'column_2'"),
        ("a,b\n1,x,\n2,y\n", {}, "line 2: empty fields behind the last named column"),
        ("a,b\n1\n2,y\n3\n", {}, "2 lines, the first is line 2: the row has fewer f"),
        ("a,b\n1,x\na,b\n", {}, "line 3: the names stand here again; the line is lef"),
        ("a,b\n1,x\n,\n", {}, "line 3: rows without any value are left out"),
        ('a,b\n1, "x"\n', {}, "blanks between a delimiter and a quote are left out"),
        ("Title\na,b\n1,x\n", {}, "the lines above the names are left out"),
        ("a,b\r1,x\r", {}, "lines end with a carriage return alone"),
        ("a,b\n1,x\n".encode("utf-16-le"), {"encoding": "utf-16-le"},
         "the encoding is a guess: UTF-16-LE, without a mark"),
    ],
    ids=["delimiter", "encoding", "no names", "names twice", "no name", "end", "short",
         "names again", "empty", "blanks", "title", "old Mac", "no mark"],
)  # fmt: skip
def test_a_guess_is_told(tmp_path, content, reading, note):
    """The preview says what was guessed, or left out, and how the file was read."""
    shown = sample(tmp_path / "f.csv", content, Format.CSV)
    assert reading.items() <= shown.reading.items()
    assert note in [each[: len(note)] for each in shown.notes], shown.notes


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("id,text\n1,x\n2,y\n", True),
        ("name,city\nAda,London\n", True),
        ("country,2019,2020\nDE,5,6\nFR,7,8\n", True),
        (",text\n0,x\n1,y\n", True),
        ("1,x\n2,y\n3,z\n", False),
        ("7\n8\n9\n", False),
        ("1,2\n", True),
        ("id\n", True),
    ],
    ids=["names", "texts", "years", "index", "no names", "numbers", "one", "empty"],
)
def test_whether_the_first_line_holds_names(tmp_path, content, header):
    """Numbers above numbers are data; where nothing tells, it holds names."""
    path = tmp_path / "f.csv"
    path.write_text(content)
    from router.jobs.input.readers import open_dataset

    with open_dataset(path, Format.CSV, ReadLimits()) as dataset:
        assert header is dataset.opening.reading["header"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1,2,3", "column 5: the row has 3 fields, there are 2 names; a ',' inside"),
        ('"1"x,2', "column 3: a quote ends before its field does"),
        ('1,"2', "column 3: a quote that begins here does not end"),
        ("1," + "x" * 300, "column 1: the line is longer than 200 bytes"),
        ("1,x\ry", "column 1: not CSV: a carriage return stands inside a field"),
    ],
    ids=["too many", "quote ends early", "quote stays open", "long", "return"],
)
def test_a_bad_row_fails_alone(tmp_path, line, complaint):
    """Also where a quote was left open: the lines behind it are read again."""
    first, wrong, *rest = table(tmp_path, "a,b\n0,0\n" + line + "\n2,2\n3,3\n")
    assert [Row(0, {"a": "0", "b": "0"}, 2), *rest] == [
        first,
        Row(2, {"a": "2", "b": "2"}, 4),
        Row(3, {"a": "3", "b": "3"}, 5),
    ]
    assert (1, 3) == (wrong.index, wrong.line)
    assert wrong.text.startswith(f"line 3, {complaint}"), wrong.text


def test_a_bad_byte_spoils_its_own_column_only(tmp_path):
    """In a file that is UTF-8 else."""
    first, second = table(tmp_path, b"a,b\n\xc3\xbc,\xe9\n\xc3\xb6,x\n")
    assert "ü" == first.fields["a"]
    assert reasons([first])["b"].startswith("byte 0xe9 is not UTF-8; save the file as")
    assert {"a": "ö", "b": "x"} == second.fields


def test_a_short_row_has_the_columns_that_it_has(tmp_path):
    """Spreadsheets leave out empty fields at the end: those are missing, not ''."""
    assert [{"a": "1"}, {"a": "2", "b": "y"}] == fields(
        table(tmp_path, "a,b\n1\n2,y\n")
    )


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
        ("a,b,c,d,e,f\n", "line 1: the file has 6 columns, at most 5 can be used"),
        ("n" * 30 + ",b\n", "line 1: the column name 'nnn"),
        (b"\xc3\xbc,\xe9\n1,2\n", "line 1: a column's name: byte 0xe9 is not UTF-8"),
        ('a,"b\n1,2\n', "line 1, column 3: a quote that begins here does not end"),
        (b"PK\x03\x04", "the file is a ZIP archive or an Excel workbook; save it as"),
        (b"PAR1", "the file is a Parquet file; name it .parquet, or give the format"),
        ("a\n" + "1\n" * 51, "the file has more than 50 rows (jobs.max_items); spli"),
        (
            b"a,b\n1,\x81\xfe\n",
            "the file is neither UTF-8 nor Windows-1252 (byte 0x81)",
        ),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    """Each message says what is wrong, where, and the way out where there is one."""
    with pytest.raises(DatasetError) as error:
        table(tmp_path, content)
    assert str(error.value).startswith(message), str(error.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"encoding": "klingon"}, "encoding: must be one such as 'utf-8'"),
        ({"encoding": "base64"}, "encoding: must be one such as 'utf-8'"),
        ({"delimiter": "xx"}, "delimiter: must be one ASCII character, or 'tab'"),
        ({"delimiter": '"'}, "delimiter: must be one ASCII character, or 'tab'"),
    ],
)
def test_what_is_said_must_mean_something(tmp_path, said, message):
    """And the message names the field."""
    with pytest.raises(DatasetError) as error:
        table(tmp_path, "a,b\n1,2\n", **said)
    assert str(error.value).startswith(message)


def test_where_no_row_can_be_read_the_first_fault_is_told(tmp_path):
    """Instead of that there are no columns."""
    content = "id\n1,hello\n2,you\n"
    with pytest.raises(
        DatasetError, match=r"no row can be read: line 2, column 3: the"
    ):
        sample(tmp_path / "f.csv", content, Format.CSV)


cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    said = {"delimiter": delimiter, "header": True, "encoding": "utf-8"}
    assert expected == fields(table(tmp_path, out.getvalue(), ReadLimits(), **said))
