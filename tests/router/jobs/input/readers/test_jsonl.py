"""JSONL: a bad line is told of with line and column, and its neighbours are rows."""

from __future__ import annotations

import pytest

from router.errors import DatasetError
from router.jobs.input.readers import BadRow, Row
from router.jobs.model import Format
from tests.router.jobs.input.readers.stage import fields, rows


def jsonl(tmp_path, content):
    return rows(tmp_path / "f.jsonl", content, Format.JSONL)


def test_rows_come_in_order_with_their_lines(tmp_path):
    """Blank lines are no rows; the last line needs no end, ends may be Windows'."""
    read = jsonl(tmp_path, '\ufeff{"a": 1}\r\n\n  \n{"a": {"b": [null, "ü"]}}')
    assert [
        Row(0, {"a": 1}, 1),
        Row(1, {"a": {"b": [None, "ü"]}}, 4),
    ] == read


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"ü": 1, b}', "column 10: not JSON: "),
        ("[1, 2]", "column 1: a row must be an object, got a list"),
        ("  7", "column 3: a row must be an object, got a number"),
        ("null", "column 1: a row must be an object, got null"),
        ('{"a": NaN}', "column 7: NaN is not JSON; write null"),
        ('{"x": "NaN", "a": -Infinity}', "column 19: -Infinity is not JSON"),
        ('{"a": 1e999}', "column 7: the number 1e999 is too large"),
        ('{"a": ' + "1" * 401 + "}", "column 7: a number has 401 digits"),
        ('{"a": 1, "a": 2}', "column 1: the name 'a' stands twice in one object"),
        ('{"a": "\\ud800"}', "column 1: half of a \\u surrogate pair is missing"),
        ('{"a": 1} {"a": 2}', "column 10: there is more behind the object"),
        ('{"a": "' + "x" * 700 + '"}', "column 1: the line is longer than 600 bytes"),
        ("[" * 500, "column 1: lists and objects are nested too deep"),
        ('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}', "column 1: the object has 6 names"),
        ('{"a": "tab\there"}', "column 11: not JSON: invalid control character"),
        (b'{"\xc3\xbc": "\xe9"}', "column 8: byte 0xe9 is not UTF-8"),
    ],
    ids=[
        *("syntax", "list", "number", "null", "NaN", "infinity", "float", "digits"),
        *("name twice", "surrogate", "two objects", "long line", "deep", "wide"),
        *("control character", "Latin-1"),
    ],
)
def test_a_bad_line_fails_alone(tmp_path, line, complaint):
    """The lines around it are rows; the complaint says where, and what."""
    from dataclasses import replace

    from tests.router.jobs.input.readers.stage import SMALL

    raw = line.encode() if isinstance(line, str) else line
    content = b'{"a": 0}\n' + raw + b'\n{"a": 2}\n'
    if raw.startswith(b"[[["):
        content = content.replace(raw, raw * 10)
    limits = replace(SMALL, row_bytes=6000 if raw.startswith(b"[[[") else 600)
    first, wrong, last = rows(tmp_path / "f.jsonl", content, Format.JSONL, limits)
    assert (Row(0, {"a": 0}, 1), Row(2, {"a": 2}, 3)) == (first, last)
    assert isinstance(wrong, BadRow)
    assert (1, 2) == (wrong.index, wrong.line)
    assert wrong.text.startswith(f"line 2, {complaint}"), wrong.text


def test_a_whole_surrogate_pair_is_one_character(tmp_path):
    """Escapes that JavaScript writes for an emoji are fine."""
    assert [{"a": "😀"}] == fields(jsonl(tmp_path, '{"a": "\\ud83d\\ude00"}'))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file holds no rows"),
        (b"\n \n", "the file holds no rows"),
        ('{"a": 1}'.encode("utf-16"), "the file is in UTF-16; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-32"), "the file is in UTF-32; save it as UTF-8"),
        (b"PK\x03\x04rest", "the file is a ZIP archive or an Excel workbook, not text"),
        (b"\x1f\x8brest", "the file is compressed with gzip, not text"),
        (
            b"{}\nab\0",
            "line 2, column 3: there is a NUL byte: this is no text in UTF-8",
        ),
        (b"{}\n" * 51, "the file has more than 50 rows; split it"),
    ],
    ids=[
        *("empty", "blank", "UTF-16", "UTF-32", "zip", "gzip", "binary"),
        "too many rows",
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, content, message):
    """The file as a whole cannot be used, and the reason is in words."""
    with pytest.raises(DatasetError) as error:
        jsonl(tmp_path, content)
    assert message == str(error.value)
