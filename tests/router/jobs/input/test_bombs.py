"""Hostile files and templates: what a look at them and a job over them cost.

Each is looked at and read as the router does it, in a process whose own growth is
measured beside that of its sandboxes. All unfold to more than a sandbox has; with
HOSTILE_FILES=8 to eight times as much.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness.process import ROOT

pytestmark = pytest.mark.long

MIB = 2**20
LARGER = int(os.environ.get("HOSTILE_FILES", "1"))
LIMIT = 256  # MiB of a sandbox here
PROGRAM = 160  # MiB that Python and pyarrow take themselves, at most
_READ = """
import json, resource, sys
from pathlib import Path
from router.jobs.input.readers import ReadLimits
from router.jobs.input.sources import FileError
from router.jobs.input.sources import FileSettings, DatasetFiles, Look, LookError
from router.jobs.model import DATASET_ENDPOINT, Format, Job, JobSpec, JobState
from router.jobs.planning.length_predictor import LengthPredictor

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

path, kind, template, limit = sys.argv[1:]
spec = JobSpec(DATASET_ENDPOINT, "f", Format(kind), model="m", template=template)
job = Job("batch_1", spec, JobState.VALIDATING, 0.0)
settings = FileSettings(ReadLimits(), int(limit) * 2**20)
files = DatasetFiles(LengthPredictor(), lambda: settings)
begun = grown()
seen = ""
try:
    seen = files.look(Look(Path(path), Format(kind), {}, template, show=True)).decode()
except LookError as error:
    seen = str(error)
good = bad = 0
error = first = ""
try:
    for page in files.pages(job, Path(path), lambda notes: None):
        for item in page:
            good += item.fault is None
            bad += item.fault is not None
            first = first or (item.fault.message if item.fault else "")
except FileError as caught:
    error = caught.fault.message
apart = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([seen, good, bad, first, error, grown() - begun, apart]))
"""


@dataclass
class Outcome:
    """seen: by a look; the rest of reading it; MiB of the router and a sandbox."""

    seen: str
    good: int
    bad: int
    first: str
    error: str
    grown: float
    apart: float

    def stays_small(self):
        assert self.grown < 60, f"the router grew by {self.grown:.0f} MiB"
        assert self.apart < LIMIT + PROGRAM, f"a sandbox took {self.apart:.0f} MiB"
        return self


def consume(path, kind, template="{{ a }}"):
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path), kind, template, str(LIMIT)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        cwd=ROOT,
    )
    return Outcome(*json.loads(done.stdout)).stays_small()


def grown(path, head: bytes, tail: bytes, size: int = 2**29 * LARGER):
    """Write a file with a hole in its middle, which takes no room on the disk."""
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
            (2, 1, "line 2, column 1: the line is longer than 4,194,304 bytes", ""),
        ),
        (
            "csv",
            b"a,b\n1,2\n1," + b"x" * 5000,
            b"\n3,4\n",
            (2, 1, "line 3, column 1: the line is longer than 4,194,304 bytes", ""),
        ),
        (
            "json",
            b'[{"a": 1},\n {"a": "' + b"x" * 10_000_000,
            b'"}]',
            (0, 0, "", "line 2, column 2: a row is longer than 4,194,304 characters"),
        ),
    ],
    ids=["jsonl", "csv", "json"],
)
def test_a_line_without_end(tmp_path, kind, head, tail, expected):
    """It is told of by its place."""
    found = consume(grown(tmp_path / "f", head, tail), kind)
    error = found.error[: len(expected[3])]
    assert expected == (found.good, found.bad, found.first, error)


def test_a_value_that_every_row_shares(tmp_path):
    """Rows that share one value of 1 MiB are read one by one, in either row group."""
    values = pa.array(["x" * MIB])
    rows_each = 200 * LARGER
    places = pa.array([0] * rows_each, pa.int32())
    shared = pa.DictionaryArray.from_arrays(places, values)
    path = tmp_path / "f.parquet"
    with pq.ParquetWriter(path, pa.schema([("a", shared.type)])) as writer:
        for _ in range(2):
            writer.write_table(pa.table({"a": shared}))
    found = consume(path, "parquet")
    assert (2 * rows_each, 0, "") == (found.good, found.bad, found.error)


def written(tmp_path, table, **options):
    path = tmp_path / "f.parquet"
    pq.write_table(table, path, **options)
    return path


def page_of_zeros(tmp_path):
    zeros = b"\0" * (300 * MIB * LARGER)
    table = pa.table({"a": pa.array([zeros], pa.large_binary())})
    return written(tmp_path, table, compression="zstd", use_dictionary=False)


def one_long_list(tmp_path):
    return written(tmp_path, pa.table({"a": [[0] * 20_000_000]}))


def a_row_of_a_gigabyte(tmp_path):
    shared = pa.DictionaryArray.from_arrays(
        pa.array([0] * 1000, pa.int32()), pa.array(["x" * 1_000_000])
    )
    return written(
        tmp_path, pa.table({"a": pa.ListArray.from_arrays([0, 1000], shared)})
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (page_of_zeros, "row group 0 does not fit into the memory that reading a file"),
        (one_long_list, "row group 0 does not fit into the memory that reading a file"),
        (a_row_of_a_gigabyte, "not one row can be used; line 1: the row unfolds to 1,"),
    ],
)
def test_a_parquet_file_that_does_not_fit(tmp_path, make, message):
    """It names the setting, and the way out."""
    found = consume(make(tmp_path), "parquet")
    assert 0 == found.good
    assert found.error.startswith(message), found.error


@pytest.mark.parametrize(
    "make",
    [
        lambda: (
            {"a": ["x" * MIB] * 300 * LARGER + [f"{n:0500}" for n in range(3000)]},
            {"dictionary_pagesize_limit": 2 * MIB, "compression": "gzip"},
        ),
        lambda: (
            {"a": [f"{'p' * 2_000_000}{number}" for number in range(150 * LARGER)]},
            {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}},
        ),
        lambda: (
            {"a": [str(i) + "x" * 420 for i in range(60_000)]},
            {"use_dictionary": False, "data_page_size": 10**8, "compression": "zstd"},
        ),
    ],
    ids=["dictionary given up", "shared prefixes", "one page, as DuckDB writes"],
)
def test_a_parquet_file_that_fits_a_few_rows_at_a_time(tmp_path, make):
    """Where 256 rows at a time do not fit, fewer do; all are read."""
    columns, options = make()
    path = written(tmp_path, pa.table(columns), **options)
    found = consume(path, "parquet")
    assert (len(columns["a"]), 0, "") == (found.good, found.bad, found.error)


def test_lines_without_end_when_unpacked(tmp_path):
    """A gzip of zeros unpacks a thousandfold: it is read up to the bound, in pieces."""
    path = tmp_path / "f.csv.gz"
    with gzip.open(path, "wb") as out:
        out.write(b"a\n")
        for _ in range(300 * LARGER):
            out.write(b"\0" * MIB)
    assert path.stat().st_size < 2 * MIB * LARGER
    found = consume(path, "csv")
    assert (0, 0) == (found.good, found.bad)
    assert "NUL byte" in found.seen


def test_a_row_of_many_small_values(tmp_path):
    """Four MiB of empty lists are a hundred in memory; the file fails, nothing else."""
    path = tmp_path / "f.jsonl"
    lists = b"[" + b"{}," * 1_300_000 + b"{}]"
    path.write_bytes(b'{"a": ' + lists + b'}\n{"a": 1}\n')
    found = consume(path, "jsonl")
    assert found.good + found.bad == 2 or "does not fit into 256 MiB" in found.error


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ a" + "|tojson" * 14 + " }}", "a filter would give "),
        ("{{ a|replace('\"', '" + '"' * 5000 + "') }}", "a filter would give "),
        ("{{ a }}" * 40, "the prompt is longer than 4,194,304 characters"),
        ("{{ a|title|lower|length }}" * 380, "the prompt takes too long to write"),
    ],
    ids=["tojson", "replace", "output", "much work"],
)
def test_a_template_that_would_grow(tmp_path, template, message):
    """A filter doubles the text, the prompt would be endless, or take minutes."""
    path = tmp_path / "f.jsonl"
    text = "\u01c6\u0139 " * 300_000 if "title" in template else '"\\' * 500_000
    path.write_text(json.dumps({"a": text}, ensure_ascii=False) + "\n")
    found = consume(path, "jsonl", template)
    assert 0 == found.good
    assert f"(this row fails: {message}" in found.seen
    assert message in found.error


def test_a_template_that_is_large(tmp_path):
    """It is read in the sandbox, too, and refused."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"a": 1}\n')
    found = consume(path, "jsonl", "{{ a }}" * 18_000)
    assert "the template is too large" in found.error
