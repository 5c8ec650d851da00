"""Parquet: what tables hold becomes JSON, and no file may unfold without bound."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import struct
import uuid
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DatasetError
from router.jobs.input.readers import BadRow, ReadLimits, Row, Unusable, open_dataset
from router.jobs.model import Format
from tests.harness.examples import examples
from tests.router.jobs.input.readers.stage import fields, reasons, rows

LIMITS = ReadLimits(rows=10_000, row_bytes=100_000, columns=20)


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def parquet(tmp_path, content, limits=LIMITS):
    """Read it here; `test_sandbox` reads as the router does."""
    return rows(tmp_path / "f.parquet", content, Format.PARQUET, limits)


def wanted(tmp_path, table, *names):
    """Read some columns only."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(table))
    with open_dataset(path, Format.PARQUET, LIMITS) as dataset:
        return list(dataset.rows(names))


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


def times(unit, zone, *values):
    return pa.array(values, pa.int64()).cast(pa.timestamp(unit, zone))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (times("ns", None, 1_767_225_723_123_456_789), "2026-01-01T00:02:03.123456789"),
        (times("ns", None, 1_767_225_723_000_000_000), "2026-01-01T00:02:03"),
        (times("us", "Z", 0), "1970-01-01T00:00:00+00:00"),
        (times("us", "Nowhere/Land", 0), "1970-01-01T00:00:00+00:00"),
        (times("us", "Europe/Berlin", 0), "1970-01-01T01:00:00+01:00"),
        (times("ms", "+05:30", 1500), "1970-01-01T05:30:01.500+05:30"),
        (times("us", None, -1), "1969-12-31T23:59:59.999999"),
        (pa.array([1], pa.time64("ns")), "00:00:00.000000001"),
        (pa.array([3_600_000_000], pa.time64("us")), "01:00:00"),
        (pa.array([1_500_000_000], pa.duration("ns")), 1.5),
        (pa.array([float("inf")]), "Infinity"),
        (pa.array([float("-inf")], pa.float32()), "-Infinity"),
        (pa.array([1.5], pa.float32()).cast(pa.float16()), 1.5),
        (pa.array([decimal.Decimal("1E+3")], pa.decimal128(10, 0)), "1000"),
        (pa.array([decimal.Decimal("0.0000001")], pa.decimal128(10, 9)), "0.000000100"),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array(["a", "b"]).dictionary_encode().take(pa.array([0])), "a"),
        (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())),
         [["k", 1], ["k", 2]]),
        (pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.string())), {"1": "x"}),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [1, 2]),
        (pa.array([["x"]], pa.large_list(pa.large_string())), ["x"]),
        (pa.array([None], pa.null()), None),
        (pa.array([{"a": {"b": [{"c": 1}]}}]), {"a": {"b": [{"c": 1}]}}),
    ],
    ids=[
        *("ns", "ns without", "zone Z", "unknown zone", "zone", "offset", "before"),
        *("time ns", "time", "duration", "infinity", "float32", "float16", "decimal"),
        *("small decimal", "uint64", "categorical", "key twice", "number as key"),
        *("fixed list", "large list", "null", "nested"),
    ],
)  # fmt: skip
def test_odd_values_as_people_would_write_them(tmp_path, values, expected):
    """What pyarrow would raise for, or write in its own way."""
    (row,) = parquet(tmp_path, written(pa.table({"x": values})))
    assert {"x": expected} == row.fields


def test_what_a_uuid_and_an_interval_are(tmp_path):
    """Parquet marks them; their bytes would be binary data."""
    value = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pa.table({"x": pa.array([value.bytes], pa.uuid())})
    (row,) = parquet(tmp_path, written(table))
    assert {"x": str(value)} == row.fields


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pa.array([b"\xff\xfe"]), "binary data, 2 bytes, not text"),
        (pa.array([b"\x89PNG\x00"]), "binary data, a PNG image, 5 bytes, not text"),
        (times("s", None, 10**12), "a time outside of the years 1 to 9999"),
        (pa.array([10**7], pa.int32()).cast(pa.date32()), "a date outside of the yea"),
    ],
    ids=["binary", "picture", "time", "date"],
)
def test_what_cannot_be_written_says_so(tmp_path, values, reason):
    """In its own column: the row is a row."""
    table = pa.table({"text": ["x"], "x": values})
    (row,) = parquet(tmp_path, written(table))
    assert "x" == row.fields["text"]
    assert reasons([row])["x"].startswith(reason)


def test_binary_inside_an_object_spoils_only_itself(tmp_path):
    """As datasets of pictures hold them: bytes and a path."""
    table = pa.table({"image": [{"bytes": b"\xff", "path": "a.png"}]})
    (row,) = parquet(tmp_path, written(table))
    assert "a.png" == row.fields["image"]["path"]
    assert isinstance(row.fields["image"]["bytes"], Unusable)


def test_only_what_is_used_is_read(tmp_path):
    """A column that could not be unfolded does not matter to those beside it."""
    shared = pa.DictionaryArray.from_arrays(
        pa.array([0] * 9, pa.int32()), pa.array(["x" * 2**20])
    )
    table = pa.table({"text": list("abcdefghi"), "large": shared})
    assert list("abcdefghi") == [
        row.fields["text"] for row in wanted(tmp_path, table, "text")
    ]
    assert all(isinstance(row, BadRow) for row in wanted(tmp_path, table, "large"))


def test_nothing_is_read_where_nothing_is_used(tmp_path):
    """The rows are counted all the same."""
    found = wanted(tmp_path, pa.table({"a": [1, 2, 3]}))
    assert [Row(n, {}, n + 1, n) for n in range(3)] == found


@pytest.mark.parametrize(
    "names",
    [["a", "a"], ["", "x"], ["a.b", "a"], ["a[0]", "b c"], ["\ufeffid", "x"]],
    ids=["twice", "empty", "dot", "brackets and blanks", "mark"],
)
def test_names_of_all_kinds(tmp_path, names):
    """Each column has a name of its own, and is found by it."""
    arrays = [pa.array([{"x": 1}]), pa.array(["y"])]
    table = pa.Table.from_arrays(arrays, names=names)
    (row,) = parquet(tmp_path, written(table))
    assert [{"x": 1}, "y"] == list(row.fields.values())
    for name, value in row.fields.items():
        (alone,) = wanted(tmp_path, table, name)
        assert {name: value} == alone.fields


def test_columns_of_objects_are_told_apart(tmp_path):
    """Each takes several columns of the file; lists and maps as well."""
    table = pa.table(
        {
            "o": [{"a": 1, "b": [{"c": 2}]}],
            "m": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
            "l": [["x"]],
            "t": ["y"],
        }
    )
    for name, value in table.to_pylist(maps_as_pydicts="strict")[0].items():
        (row,) = wanted(tmp_path, table, name)
        assert {name: value} == row.fields


def test_rows_are_found_again_in_any_order(tmp_path):
    """Over several row groups, forwards and backwards."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(pa.table({"n": list(range(100))}), row_group_size=30))
    with open_dataset(path, Format.PARQUET, LIMITS) as dataset:
        for place in (0, 1, 50, 49, 99, 10, 11, 70):
            row = dataset.at(place, ["n"])
            assert isinstance(row, Row)
            assert {"n": place} == row.fields
        with pytest.raises(DatasetError, match="the file has no row 101"):
            dataset.at(100)


def test_a_look_reads_each_column_alone(tmp_path):
    """One that cannot be read says why in place of its values."""
    path = tmp_path / "f.parquet"
    table = pa.table({"a": [1] * 50, "b": ["x" * 200_000] * 50})
    path.write_bytes(written(table))
    with open_dataset(path, Format.PARQUET, LIMITS) as dataset:
        sample = dataset.sample(3)
    assert (("a", "b"), 3) == (sample.columns, len(sample.rows))
    assert 1 == sample.rows[0].fields["a"]
    assert "unfolds to 200,001 bytes" in reasons(sample.rows)["b"]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(100),
)
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
    message = "the row unfolds to 1,048,577 bytes, at most 100,000 can be used (jobs."
    assert {message} == {row.message[: len(message)] for row in found}


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
    ("table", "limits", "message"),
    [
        (
            {"a": [1] * 100},
            replace(LIMITS, rows=99),
            "the file has 100 rows, at most 99 can be used (jobs.max_items); split it",
        ),
        (
            {f"c{n}": [1] for n in range(21)},
            LIMITS,
            "the file has 21 columns, at most 20 can be used; leave out those that",
        ),
        ({"a": pa.array([], pa.string())}, LIMITS, "the file holds no rows"),
    ],
    ids=["rows", "columns", "empty"],
)
def test_what_is_too_much_is_refused(tmp_path, table, limits, message):
    """Before anything is unpacked."""
    with pytest.raises(DatasetError) as error:
        parquet(tmp_path, written(pa.table(table)), limits)
    assert str(error.value).startswith(message), str(error.value)


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


def test_no_row_is_read_before_it_is_asked_for(tmp_path):
    """Reading is lazy: a file of many rows costs a sample nothing."""
    path = tmp_path / "f.parquet"
    path.write_bytes(written(pa.table({"a": list(range(9_000))})))
    with open_dataset(path, Format.PARQUET, LIMITS) as dataset:
        assert 0 == next(dataset.rows()).index
