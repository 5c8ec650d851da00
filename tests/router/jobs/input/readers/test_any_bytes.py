"""Whatever a file holds: rows, complaints about rows, or one error of ours."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import BadRow, ReadLimits, Row
from router.jobs.model import Format
from tests.harness.examples import examples
from tests.router.jobs.input.readers.stage import rows

LIMITS = ReadLimits(row_bytes=60, rows=40, columns=4, chunk_bytes=7, again_bytes=500)
pieces = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\r\n", b"\r", b";", b"\t"),
        *(b'{"a": 1}', b'"a"', b"a,b\n", b"1", b"-", b"1e999", b"NaN", b"null", b" "),
        *(b"\\", b"\\ud800", "ü".encode(), b"\xff", b"\xc3", b"\0", b"\xef\xbb\xbf"),
        *(b"x" * 70, b"[" * 80, b"\xff\xfe", b"PK\x03\x04"),
    ]
)
files = st.one_of(st.lists(pieces, max_size=25).map(b"".join), st.binary(max_size=60))


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON, Format.JSONL])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(300),
)
@given(content=files)
def test_any_bytes_are_rows_or_an_error(tmp_path, kind, content):
    """Numbers of rows are without gaps, and each complaint says where it is."""
    found = []
    with contextlib.suppress(DatasetError):
        found = rows(tmp_path / "f", content, kind, LIMITS)
    assert list(range(len(found))) == [row.index for row in found]
    for row in found:
        assert isinstance(row, Row) or (row.line >= 1 and row.column >= 1)
        assert row.message if isinstance(row, BadRow) else row.fields is not None
