"""Hostile files in a process of their own: how much memory reading them takes.

HOSTILE_FILES=8 unfolds eight times as much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness.process import ROOT

GIB = 2**30
LARGER = int(os.environ.get("HOSTILE_FILES", "1"))
_READ = """
import json, resource, sys
from pathlib import Path
from router.jobs.input.readers import BadRow, Limits, read
from router.jobs.model import Format
from router.errors import DatasetError
begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = bad = 0
error = first = ""
try:
    for row in read(Path(sys.argv[1]), Format(sys.argv[2]), Limits()):
        rows += 1
        bad += isinstance(row, BadRow)
        first = first or (row.text if isinstance(row, BadRow) else "")
except DatasetError as caught:
    error = str(caught)
ended = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
apart = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([rows, bad, first, error, max(ended - begun, apart) / 1024]))
"""


def consume(path, kind):
    """Return rows, bad ones, the first complaint, the error, and MiB taken."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path), kind],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


def grown(path, head: bytes, tail: bytes, size: int = 2 * GIB):
    """Write a file with a hole in its middle: 2 GB that take no room on the disk."""
    with path.open("wb") as file:
        file.write(head)
        file.seek(size)
        file.write(tail)
    return path


@pytest.mark.parametrize(
    ("kind", "head", "tail", "expected"),
    [
        (
            "jsonl",
            b'{"a": 1}\n{"a": "' + b"x" * 5000,
            b'"}\n{"a": 3}\n',
            [3, 1, "line 2, column 1: the line is longer than 4,194,304 bytes", ""],
        ),
        (
            "csv",
            b"a,b\n1,2\n1," + b"x" * 5000,
            b"\n3,4\n",
            [3, 1, "line 3, column 1: the line is longer than 4,194,304 bytes", ""],
        ),
        (
            "json",
            b'[{"a": 1},\n {"a": "' + b"x" * 10_000_000,
            b'"}]',
            [1, 0, "", "line 2, column 2: a row is longer than 4,194,304 characters"],
        ),
    ],
    ids=["jsonl", "csv", "json"],
)
def test_a_line_of_two_gigabytes(tmp_path, kind, head, tail, expected):
    """It is told of by its place, and costs little memory."""
    *found, mebibytes = consume(grown(tmp_path / "f", head, tail), kind)
    assert expected == found
    assert mebibytes < 80


def test_a_parquet_file_that_would_unfold_to_a_terabyte(tmp_path):
    """Rows that share one value of 1 MiB are read one by one, in either process."""
    values = pa.array(["x" * 2**20])
    rows_each = 500 * LARGER
    places = pa.array([0] * rows_each, pa.int32())
    shared = pa.DictionaryArray.from_arrays(places, values)
    path = tmp_path / "f.parquet"
    with pq.ParquetWriter(path, pa.schema([("a", shared.type)])) as writer:
        for _ in range(2):
            writer.write_table(pa.table({"a": shared}))
    rows, bad, _, error, mebibytes = consume(path, "parquet")
    assert ([2 * rows_each, 0, ""], True) == ([rows, bad, error], mebibytes < 250)


def test_a_page_that_would_unpack_to_a_gigabyte(tmp_path):
    """Zeros compress a thousandfold: the page's header is read, the page is not."""
    path = tmp_path / "f.parquet"
    table = pa.table({"a": [b"\0" * 2**28]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 2**20
    rows, _, _, error, mebibytes = consume(path, "parquet")
    assert (0, "a page of column 'a' unpacks to 268,435,4") == (rows, error[:41])
    assert mebibytes < 150
