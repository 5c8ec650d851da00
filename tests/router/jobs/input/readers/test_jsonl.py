"""JSONL: a bad line is told of with line and column, and its neighbours are rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.errors import DatasetError
from router.jobs.input.readers import BadRow, Row
from router.jobs.model import Format
from tests.router.jobs.input.readers.stage import SMALL, fields, reasons, rows, sample


def jsonl(tmp_path, content):
    return rows(tmp_path / "f.jsonl", content, Format.JSONL)


def test_rows_come_in_order_with_their_lines(tmp_path):
    """Blank lines are not rows; the last needs no end, ends may be Windows'."""
    read = jsonl(tmp_path, '\ufeff{"a": 1}\r\n\n  \n{"a": {"b": [null, "ü"]}}')
    assert [
        Row(0, {"a": 1}, 1),
        Row(1, {"a": {"b": [None, "ü"]}}, 4),
    ] == read


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"ü": 1, b}', "column 10: not JSON: a name in double quotes is missing"),
        ("{'a': 1}", "column 2: not JSON: a name in double quotes is missing here; n"),
        ("[1, 2]", "column 1: a row must be an object, got a list"),
        ("  7", "column 3: a row must be an object, got a number"),
        ("null", "column 1: a row must be an object, got null"),
        ('{"a": 1} {"a": 2}', "column 10: there is more after the object"),
        ('{"a": "' + "x" * 700 + '"}', "column 1: the line is longer than 600 bytes"),
        ("[" * 500, "column 1: lists and objects are nested too deep"),
        ('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}', "column 1: the object has 6 names"),
        ('{"a": "tab\there"}', "column 11: not JSON: a control character stands in"),
        ('{"a": "\\x"}', "column 8: not JSON: a backslash must be written twice"),
    ],
    ids=[
        *("syntax", "single quotes", "list", "number", "null", "two objects"),
        *("long line", "deep", "wide", "control character", "backslash"),
    ],
)
def test_a_bad_line_fails_alone(tmp_path, line, complaint):
    """The lines around it are rows; the complaint says where, and what."""
    raw = line.encode()
    content = b'{"a": 0}\n' + raw + b'\n{"a": 2}\n'
    if raw.startswith(b"[[["):
        content = content.replace(raw, raw * 10)
    limits = replace(SMALL, row_bytes=6000 if raw.startswith(b"[[[") else 600)
    first, wrong, last = rows(tmp_path / "f.jsonl", content, Format.JSONL, limits)
    assert (Row(0, {"a": 0}, 1), Row(2, {"a": 2}, 3)) == (first, last)
    assert isinstance(wrong, BadRow)
    assert (1, 2) == (wrong.index, wrong.line)
    assert wrong.text.startswith(f"line 2, {complaint}"), wrong.text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("NaN", None),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("1" * 401, "1" * 401),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
    ids=["NaN", "infinity", "float", "digits", "large"],
)
def test_numbers_that_json_cannot_say(tmp_path, value, read):
    """A missing number is null, others are the text that they were written as."""
    limits = replace(SMALL, row_bytes=1000)
    path = tmp_path / "f.jsonl"
    (row,) = rows(path, f'{{"a": {value}}}', Format.JSONL, limits)
    assert {"a": read} == row.fields


def test_what_is_not_clear_spoils_its_own_column_only(tmp_path):
    """A name given twice has no value; the others have theirs."""
    (row,) = jsonl(tmp_path, '{"a": 1, "b": 2, "a": 3}')
    assert 2 == row.fields["b"]
    assert {"a": "the name 'a' stands 2 times"} == reasons([row])


def test_bytes_of_another_encoding_stay_in_their_column(tmp_path):
    """In a file that is UTF-8 else; whoever writes the column is told of them."""
    (row,) = jsonl(tmp_path, b'{"\xc3\xbc": "\xe9", "b": "\xc3\xbc"}')
    assert {"ü": "\udce9", "b": "ü"} == row.fields


def test_a_whole_surrogate_pair_is_one_character(tmp_path):
    """Escapes that JavaScript writes for an emoji are fine."""
    assert [{"a": "😀"}] == fields(jsonl(tmp_path, '{"a": "\\ud83d\\ude00"}'))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "utf-16-le"])
def test_other_encodings_of_unicode(tmp_path, encoding):
    """With a mark, and UTF-16 also without, as Windows' tools write it."""
    content = '{"a": "ü"}\r\n{"a": 2}'.encode(encoding)
    assert [{"a": "ü"}, {"a": 2}] == fields(jsonl(tmp_path, content))


def test_a_list_is_read_as_what_it_is(tmp_path):
    """One JSON list in a file whose name says lines; a note tells."""
    content = '[{"a": 1},\n {"a": 2}]'
    assert [{"a": 1}, {"a": 2}] == fields(jsonl(tmp_path, content))
    shown = sample(tmp_path / "g.jsonl", content, Format.JSONL)
    assert ("the file is one JSON list: read as json",) == shown.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file holds no rows"),
        (b"\n \n", "the file holds no rows"),
        (b"PK\x03\x04rest", "the file is a ZIP archive or an Excel workbook; save it"),
        (b"{}\nab\0", "line 2, column 3: there is a NUL byte: this is not a text file"),
        (b"{}\n" * 51, "the file has more than 50 rows (jobs.max_items); split it"),
    ],
    ids=["empty", "blank", "zip", "binary", "too many rows"],
)
def test_a_file_that_is_none_is_refused(tmp_path, content, message):
    """The file as a whole cannot be used, and the reason is in words."""
    with pytest.raises(DatasetError) as error:
        jsonl(tmp_path, content)
    assert str(error.value).startswith(message)
