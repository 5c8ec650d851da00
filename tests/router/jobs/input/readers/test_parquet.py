"""Parquet: what tables hold becomes JSON, and no file may unfold without bound."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import io
import struct
from dataclasses import replace

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import BadRow, Limits, Row, columns, read
from router.jobs.input.readers import parquet as here
from router.jobs.input.readers.pages import pages
from router.jobs.model import Format
from tests.router.jobs.input.readers.stage import fields, rows

LIMITS = Limits(rows=10_000, row_bytes=100_000, columns=10)


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def parquet(tmp_path, content, limits=LIMITS):
    """Read it here; `test_any_damage_is_a_dataset_error` reads as the router does."""
    path = tmp_path / "f.parquet"
    path.write_bytes(content)
    return list(here.read(path, limits))


def test_values_become_json(tmp_path):
    """Dates, decimals, nested values and missing ones, as a prompt can show them."""
    table = pa.table(
        {
            "text": ["ü", None],
            "float": [float("nan"), 1.5],
            "when": [dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), None],
            "day": [dt.date(2026, 1, 2), None],
            "price": [decimal.Decimal("1.10"), None],
            "raw": [b"bytes", None],
            "list": [["a", None], []],
            "object": [{"x": 1, "y": ["z"]}, None],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "took": [dt.timedelta(seconds=90), None],
        }
    )
    first, second = parquet(tmp_path, written(table))
    assert (
        Row(
            0,
            {
                "text": "ü",
                "float": None,
                "when": "2026-01-02T03:04:00+00:00",
                "day": "2026-01-02",
                "price": "1.10",
                "raw": "bytes",
                "list": ["a", None],
                "object": {"x": 1, "y": ["z"]},
                "map": {"k": 1},
                "took": 90.0,
            },
            1,
        )
        == first
    )
    assert 1.5 == second.fields["float"]
    assert [] == second.fields["list"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (float("inf"), "line 2: column 'x': infinity is no JSON number"),
        (b"\xff\xfe", "line 2: column 'x': binary data, not text in UTF-8"),
    ],
    ids=["infinity", "binary"],
)
def test_a_bad_row_fails_alone(tmp_path, value, complaint):
    """A value that JSON cannot say fails its row; line is the row's number."""
    good = 0.5 if isinstance(value, float) else b"ok"
    table = pa.table({"x": [good, value, good]})
    first, wrong, last = parquet(tmp_path, written(table))
    assert (0, 1, 2) == (first.index, wrong.index, last.index)
    assert complaint == wrong.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {
                "n": st.none() | st.integers(-(2**63), 2**63 - 1),
                "t": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
                "l": st.none() | st.lists(st.sampled_from(["a", "", None]), max_size=3),
            }
        ),
        min_size=1,
        max_size=30,
    ),
    options=st.fixed_dictionaries(
        {
            "use_dictionary": st.booleans(),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "compression": st.sampled_from(["none", "snappy", "zstd"]),
            "row_group_size": st.integers(1, 30),
        }
    ),
)
def test_what_pyarrow_writes_is_read_back(tmp_path, records, options):
    """With dictionaries or without, in small row groups, of both page versions."""
    schema = pa.schema(
        [("n", pa.int64()), ("t", pa.string()), ("l", pa.list_(pa.string()))]
    )
    raw = written(pa.Table.from_pylist(records, schema), **options)
    assert records == fields(parquet(tmp_path, raw))


def test_a_dictionary_bomb_fails_row_by_row(tmp_path):
    """Every row points at one value of 1 MiB: 10 GB from a file of some kilobytes."""
    values = pa.array(["x" * 2**20])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 9_999, pa.int32()), values)
    raw = written(pa.table({"a": shared}))
    assert len(raw) < 100_000
    found = parquet(tmp_path, raw)
    assert 9_999 == len(found)
    assert {"the row unfolds to 1,048,577 bytes, at most 100,000 can be used"} == {
        row.message for row in found
    }


def test_a_nested_dictionary_bomb_fails_its_row(tmp_path):
    """One row that is a list of one long value, a thousand times; the next is fine."""
    shared = pa.DictionaryArray.from_arrays(
        pa.array([0] * 1000 + [1], pa.int32()), pa.array(["x" * 1000, "y"])
    )
    table = pa.table({"a": pa.ListArray.from_arrays([0, 1000, 1001], shared)})
    wrong, fine = parquet(tmp_path, written(table))
    assert isinstance(wrong, BadRow)
    assert {"a": ["y"]} == fine.fields


def test_texts_that_outgrow_their_dictionary_are_read(tmp_path):
    """Writers give a dictionary up when it grows; flat texts and lists of them."""
    texts = [f"text {number} " + "x" * 200 for number in range(2000)]
    table = pa.table({"a": texts, "b": [[text, "y"] for text in texts]})
    raw = written(table, dictionary_pagesize_limit=10_000, data_page_size=5_000)
    found = fields(parquet(tmp_path, raw))
    assert [{"a": text, "b": [text, "y"]} for text in texts] == found


def test_a_flat_dictionary_bomb_with_a_plain_page_behind_it(tmp_path):
    """The dictionary is given up at last: its long value is still unfolded by rows."""
    long = "x" * 2**20
    texts = [long] * 500 + [f"{number:0500}" for number in range(3000)]
    table = pa.table({"a": texts})
    raw = written(table, dictionary_pagesize_limit=2**21, compression="gzip")
    chunk = pq.read_metadata(io.BytesIO(raw)).row_group(0).column(0)
    assert {"PLAIN", "RLE_DICTIONARY"} <= set(chunk.encodings)
    assert len(raw) < 200_000
    found = parquet(tmp_path, raw)
    assert (500, 3000) == (
        sum(isinstance(row, BadRow) for row in found),
        sum(isinstance(row, Row) for row in found),
    )


def test_shared_prefixes_unfold_a_few_rows_at_a_time(tmp_path):
    """DELTA_BYTE_ARRAY repeats a prefix for nothing: rows of it are counted, too."""
    table = pa.table({"a": [f"{'p' * 200_000}{number}" for number in range(50)]})
    raw = written(
        table, use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}
    )
    assert len(raw) < 300_000
    found = parquet(tmp_path, raw)
    assert (50, True) == (len(found), all(isinstance(row, BadRow) for row in found))


@pytest.mark.parametrize(
    ("table", "options", "limits", "message"),
    [
        (
            {"a": ["x" * 2**20]},
            {"use_dictionary": False, "compression": "gzip"},
            replace(LIMITS, page_bytes=2**19),
            "a page of column 'a' unpacks to 1,048,",
        ),
        (
            {"a": [1] * 100},
            {},
            replace(LIMITS, rows=99),
            "the file has 100 rows, at most 99 can be used; split it",
        ),
        (
            {"a": [[0] * 2000]},
            {},
            replace(LIMITS, batch_bytes=20_000),
            "column 'a.list.element' has 2,000 values in one row group, at most 1,250",
        ),
        (
            {f"c{n}": ["x" * 300] for n in range(10)},
            {"use_dictionary": False},
            replace(LIMITS, batch_bytes=2_000),
            "row group 0 needs 3,",
        ),
        (
            {f"c{n}": [1] for n in range(11)},
            {},
            LIMITS,
            "there are 11 columns, at most 10 can be used",
        ),
        (
            {"a": pa.array([b"x" * 2000], pa.binary(2000))},
            {},
            LIMITS,
            "column 'a' has values of 2,000 bytes each, at most 1,024 can be used",
        ),
        ({"a": pa.array([], pa.string())}, {}, LIMITS, "the file holds no rows"),
    ],
    ids=["page", "rows", "list", "row group", "columns", "fixed length", "empty"],
)
def test_what_would_not_fit_is_refused_unread(
    tmp_path, table, options, limits, message
):
    """The headers tell before anything is unpacked."""
    with pytest.raises(DatasetError) as error:
        rows(
            tmp_path / "f.parquet",
            written(pa.table(table), **options),
            Format.PARQUET,
            limits,
        )
    assert str(error.value).startswith(message), str(error.value)


def test_columns_of_one_name_are_refused(tmp_path):
    """A template could not tell them apart."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DatasetError, match="columns 1 and 2 are both named 'a'"):
        parquet(tmp_path, written(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: b"a,b\n1,2\n" * 9, "the file does not begin as a Parquet file"),
        (lambda raw: b"PAR1", "the file does not begin as a Parquet file does"),
        (lambda raw: raw[:-20], "the Parquet file is cut off: its end is missing"),
        (lambda raw: raw[:-4] + b"PARE", "the Parquet file is encrypted"),
        (
            lambda raw: raw[:-8] + struct.pack("<I", 2**31) + b"PAR1",
            "the Parquet file's footer claims 2,147,483,648 bytes",
        ),
        (lambda raw: raw[:4] + b"\xff" * 30 + raw[34:], "the Parquet file is damaged"),
        (
            lambda raw: raw[:-8] + struct.pack("<I", 9) + b"PAR1",
            "the Parquet file is damaged",
        ),
    ],
    ids=["CSV", "four bytes", "cut off", "encrypted", "footer", "page", "thrift"],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    """What is no Parquet file, or none any more, says so."""
    raw = written(pa.table({"a": ["x" * 50, "y"]}))
    with pytest.raises(DatasetError) as error:
        parquet(tmp_path, change(raw))
    assert str(error.value).startswith(message), str(error.value)


def test_a_file_that_kills_its_reader(tmp_path):
    """A level histogram of a wrong size aborts pyarrow 26; the router lives on."""
    table = pa.table({"a": ["x" * 50, "y"], "b": [[1], [2, 3]]})
    raw = bytearray(written(table, compression="none"))
    assert 964 == len(raw)
    raw[586] = 18
    with pytest.raises(DatasetError, match=r"its reader died of it \(-6\)"):
        rows(tmp_path / "f.parquet", bytes(raw), Format.PARQUET, LIMITS)


def test_a_reader_is_ended_where_nobody_asks_for_more(tmp_path):
    """The first rows are there at once, and nothing is left behind."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(pa.table({"a": list(range(9_000))})))
    before = set(psutil.Process().children())
    asked = read(path, Format.PARQUET, LIMITS)
    assert Row(0, {"a": 0}, 1) == next(asked)
    (child,) = set(psutil.Process().children()) - before
    asked.close()
    assert not child.is_running()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=20,  # each is a process
)
@given(data=st.data())
def test_any_damage_is_a_dataset_error(tmp_path, data):
    """Bytes changed anywhere: rows, or our error; nothing else comes out."""
    raw = bytearray(
        written(
            pa.table({"a": ["x" * 50, "y"], "b": [[1], [2, 3]]}), compression="none"
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DatasetError):
        rows(tmp_path / "f.parquet", bytes(raw), Format.PARQUET, LIMITS)


def test_page_headers_are_those_that_pyarrow_wrote(tmp_path):
    """Sizes and numbers of values, for a dictionary and pages behind it."""
    raw = written(pa.table({"a": [f"{n}" for n in range(5000)]}), data_page_size=1000)
    column = pq.read_metadata(io.BytesIO(raw)).row_group(0).column(0)
    found = list(
        pages(
            io.BytesIO(raw), column.dictionary_page_offset, column.total_compressed_size
        )
    )
    assert [True] + [False] * (len(found) - 1) == [page.dictionary for page in found]
    assert 5000 == sum(page.values for page in found[1:]) == found[0].values
    assert sum(page.uncompressed for page in found) < column.total_uncompressed_size


def test_a_sample_names_columns_and_first_rows(tmp_path):
    """What the page and the command line show before a job is started."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(pa.table({"b": [1] * 100, "a": ["x"] * 100})))
    sample = columns(path, Format.PARQUET, LIMITS, sample=3)
    assert (("b", "a"), 3, ()) == (sample.columns, len(sample.rows), sample.faults)


def test_no_row_is_read_before_it_is_asked_for(tmp_path):
    """Reading is lazy: a file of many rows costs a sample nothing."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(pa.table({"a": list(range(9_000))})))
    assert 0 == next(read(path, Format.PARQUET, LIMITS)).index
