"""A job's file as items: rows by reference, copies where nobody could read it again."""

from __future__ import annotations

import gzip
import json

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.jobs.input.readers import ReadLimits
from router.jobs.input.sources import (
    DatasetFiles,
    FileError,
    FileSettings,
    Look,
    LookError,
)
from router.jobs.model import (
    CHAT,
    DATASET_ENDPOINT,
    STORED_FIELDS,
    STORED_REQUEST,
    Format,
    Job,
    JobSpec,
    JobState,
)
from router.jobs.planning.length_predictor import LengthPredictor

CSV = "id,text\n1,one\n2,two\n3,three\n"


def files(*, copies=False):
    return DatasetFiles(
        LengthPredictor(), lambda: FileSettings(ReadLimits(), 2**28), copies=copies
    )


def a_job(kind=Format.CSV, template="say {{ text }}", rows_read=0, **terms):
    if kind is Format.OPENAI:
        spec = JobSpec(CHAT, "f", kind, **terms)
    else:
        spec = JobSpec(
            DATASET_ENDPOINT, "f", kind, model="m:latest", template=template, **terms
        )
    return Job("batch_1", spec, JobState.VALIDATING, 0.0, rows_read=rows_read)


def read(path, job, *, copies=False):
    """Return its items, and what was noted."""
    notes: list[object] = []
    pages = files(copies=copies).pages(job, path, notes.extend)
    return [item for page in pages for item in page], notes


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text(CSV)
    return path


def test_rows_are_kept_by_reference(csv):
    """Where they begin, and how large their requests are; nothing else."""
    found, _ = read(csv, a_job())
    assert [8, 14, 20] == [item.place for item in found]
    assert {b""} == {item.body for item in found}
    assert all(item.size > 60 for item in found)


@pytest.mark.parametrize(
    ("name", "content", "copies"),
    [
        ("f.csv", CSV.encode(), True),
        ("f.csv.gz", gzip.compress(CSV.encode()), False),
        ("f.csv", CSV.encode("utf-16"), False),
    ],
    ids=["shared database", "compressed", "another encoding"],
)
def test_rows_that_cannot_be_read_again_are_copied(tmp_path, name, content, copies):
    """Only the columns that the prompt is made of."""
    path = tmp_path / name
    path.write_bytes(content)
    found, _ = read(path, a_job(), copies=copies)
    assert {STORED_FIELDS} == {item.place for item in found}
    assert [b'{"text":"one"}', b'{"text":"two"}', b'{"text":"three"}'] == [
        item.body for item in found
    ]


def test_parquet_is_kept_by_reference(tmp_path):
    """By the number of the row; a value that all rows share is stored nowhere."""
    path = tmp_path / "f.parquet"
    shared = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2000, pa.int32()), pa.array(["x" * 100_000])
    )
    pq.write_table(pa.table({"text": shared}), path)
    found, _ = read(path, a_job(Format.PARQUET))
    assert list(range(2000)) == [item.place for item in found]
    assert 0 == sum(len(item.body) for item in found)
    assert 2000 * 100_000 < sum(item.size for item in found)


def test_reading_goes_on_where_it_was(csv):
    """Rows that are items already are read over."""
    found, _ = read(csv, a_job(rows_read=2))
    assert ["2"] == [item.key for item in found]


def test_each_sample_of_a_row_is_an_item(csv):
    """At the same place; a row is never parted by a page."""
    reducer = {"kind": "vote", "samples": 3}
    found, _ = read(csv, a_job(reducer=reducer, rows_read=3))
    assert ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"] == [item.key for item in found]
    assert [14] * 3 + [20] * 3 == [item.place for item in found]


def test_a_row_that_fails_is_told_with_its_line(tmp_path):
    """The others are items; what does not matter to the prompt fails nothing."""
    path = tmp_path / "f.csv"
    path.write_bytes(b"id,text\n\xff,\xc3\xbc\n2,\xff\n3,x,y\n4\n5,x\n")
    found, notes = read(path, a_job())
    faults = [item.fault.message if item.fault else None for item in found]
    assert [
        None,
        (
            "line 3: column 'text': byte 0xff is not UTF-8; save the file as UTF-8, or"
            " give its encoding"
        ),
        (
            "line 4, column 5: the row has 3 fields, there are 2 names; a ',' inside a"
            " value must stand in quotes"
        ),
        "line 5: the row has no column 'text' (it has 'id')",
        None,
    ] == faults
    assert ["line 5: the row has fewer fields"] == [note[:32] for note in notes]


def test_a_file_without_one_good_row_is_no_job(tmp_path):
    """It fails as a whole, and says why by its first row."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"text": 1}\n{"text": [}\n')
    with pytest.raises(FileError, match="not one row can be used; line 1: filter 'jo"):
        read(path, a_job(Format.JSONL, "{{ text|join }}"))


def lines(*requests):
    return b"".join(orjson.dumps(each) + b"\n" for each in requests)


def request(custom_id="a", **body):
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "m", "messages": [], **body},
    }


@pytest.mark.parametrize("copies", [False, True])
def test_requests_of_openai(tmp_path, copies):
    """By reference as well; a line that cannot be run keeps its id."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(lines(request("a"), request("b", stream=True), request("a")))
    found, _ = read(path, a_job(Format.OPENAI), copies=copies)
    assert ["a", "b", "a"] == [item.custom_id for item in found]
    assert [None, "body.stream", "custom_id"] == [
        item.fault and item.fault.param for item in found
    ]
    assert ("m:latest", STORED_REQUEST if copies else 0) == (
        found[0].model,
        found[0].place,
    )
    assert bool(found[0].body) is copies


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(request()).decode().encode("utf-16"), "the file is in UTF-16; save it"),
        (json.dumps([request()], indent=1).encode(), "line 1: the file is a JSON lis"),
        (json.dumps(request(), indent=1).encode(), "not one row can be used; line 1:"),
        (b"id,text\n1,hello\n", "not one row can be used; line 1: not JSON"),
        (b"PK\x03\x04", "the file is a ZIP archive or an Excel workbook"),
        (b"{}\n", "not one row can be used; line 1: custom_id: must be a text"),
    ],
    ids=["UTF-16", "list", "many lines", "CSV", "zip", "no requests"],
)
def test_a_file_that_is_not_of_openai(tmp_path, content, message):
    """It is wrong as a whole: no batch of errors ends as completed."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileError) as error:
        read(path, a_job(Format.OPENAI))
    assert error.value.fault.message.startswith(message)


class TestLook:
    """A look at a file before a job is made."""

    def test_it_shows_rows_and_prompts(self, csv):
        """And how the file was read."""
        shown = files().look(Look(csv, Format.CSV, {}, "{{ id }}!", show=True))
        assert {
            "format": "csv",
            "reading": {"encoding": "utf-8", "delimiter": "comma", "header": True},
            "notes": [],
            "columns": ["id", "text"],
            "rows": [
                {"id": "1", "text": "one"},
                {"id": "2", "text": "two"},
                {"id": "3", "text": "three"},
            ],
            "faults": [],
            "prompts": ["1!", "2!", "3!"],
        } == orjson.loads(shown)

    def test_a_column_that_is_missing(self, csv):
        """Is a fault of the template."""
        with pytest.raises(LookError, match=r"line 1, column 4: unknown c") as error:
            files().look(Look(csv, Format.CSV, {}, "{{ no }}"))
        assert "template" == error.value.param

    def test_a_prompt_that_fails_says_so(self, tmp_path):
        """In its place; the others are shown."""
        path = tmp_path / "f.jsonl"
        path.write_text('{"a": 1}\n{"a": "x"}\n')
        shown = files().look(Look(path, Format.JSONL, {}, "{{ a|round }}", show=True))
        failed = "(this row fails: filter 'round' wants a number, got 'x')"
        assert ["1.0", failed] == orjson.loads(shown)["prompts"]

    def test_it_is_small_whatever_the_file_holds(self, tmp_path):
        """Long texts are cut, and say how long they are."""
        path = tmp_path / "f.jsonl"
        row = {f"c{n}": "x" * 4000 for n in range(900)}
        path.write_text((json.dumps(row) + "\n") * 20)
        shown = files().look(Look(path, Format.JSONL, {}, "{{ row }}", show=True))
        assert len(shown) < 4_000_000
        first = orjson.loads(shown)["rows"][0]
        assert "x" * 1000 + "… (4,000 characters)" == first["c0"]

    def test_odd_values_are_shown_in_words(self, tmp_path):
        """Where JSON has none for them."""
        path = tmp_path / "f.jsonl"
        path.write_text('{"a": 1, "a": 2, "b": "\\ud800", "c": 1' + "0" * 30 + "}\n")
        shown = orjson.loads(files().look(Look(path, Format.JSONL, {}, show=True)))
        assert [
            {"a": "(the name 'a' stands 2 times)", "b": "?", "c": "1" + "0" * 30}
        ] == shown["rows"]
