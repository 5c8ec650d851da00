"""Write the files of this folder, each by the program that people use.

    python -m venv /tmp/writers && /tmp/writers/bin/pip install -r requirements.txt
    /tmp/writers/bin/python make.py

They are made once and kept: the tests need none of these programs.
"""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
from pathlib import Path

import duckdb
import fastparquet
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa

HERE = Path(__file__).parent
TEXTS = ["Bright, but the cable is short", "Es quietscht: Müller", None]


def pandas() -> None:
    when = pd.to_datetime(["2026-01-02 03:04:05.123456789"] * 3)
    table = pd.DataFrame(
        {
            "text": TEXTS,
            "when": when,
            "local": when.tz_localize("Europe/Berlin"),
            "stars": [5, None, 3],
            "sure": pd.array([True, None, False], dtype="boolean"),
            "product": pd.Categorical(["lamp", "chair", "lamp"]),
            "took": pd.to_timedelta(["90s", "1 days", None]),
            "tags": [["a", "b"], [], None],
            "buyer": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": None}, None],
            "picture": [b"\x89PNG\r\n\x00", b"\xff\xd8\xff\x00", None],
        },
        index=[10, 11, 12],
    )
    table.to_parquet(HERE / "pandas.parquet")
    plain = table[["text", "stars", "product"]]
    plain.to_csv(HERE / "pandas.csv")
    plain.to_csv(HERE / "pandas.csv.gz", index=False)
    plain.to_csv(
        HERE / "pandas_european.csv",
        index=False,
        sep=";",
        decimal=",",
        encoding="utf-8-sig",
    )
    plain.to_csv(HERE / "pandas_latin.csv", index=False, encoding="cp1252")
    plain.to_json(HERE / "pandas.json")
    plain.to_json(HERE / "pandas_records.json", orient="records")
    plain.to_json(HERE / "pandas.jsonl", orient="records", lines=True)
    fastparquet.write(
        HERE / "fastparquet.parquet", table.drop(columns=["buyer", "tags"])
    )


def polars() -> None:
    table = pl.DataFrame(
        {
            "text": TEXTS,
            "price": [decimal.Decimal("1.10"), decimal.Decimal(2000), None],
            "at": [dt.time(3, 4, 5, 6), None, None],
            "took": [dt.timedelta(seconds=90), None, None],
            "share": [float("nan"), float("inf"), 0.5],
            "row id": [1, 2, 3],
            "a.b": [{"c": [1]}, {"c": []}, {"c": None}],
        }
    ).with_columns(
        pl.Series("kind", ["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
        pl.Series("nothing", [None, None, None]),
    )
    table.write_parquet(HERE / "polars.parquet")
    table.select("text", "price", "row id").write_csv(HERE / "polars.csv")
    table.select("text", "price", "a.b").write_ndjson(HERE / "polars.ndjson")


def duck() -> None:
    duckdb.sql(
        """
        CREATE TABLE t AS SELECT
            'It squeaks' AS text,
            uuid '12345678-1234-5678-1234-567812345678' AS id,
            INTERVAL 1 YEAR + INTERVAL 3 DAY AS warranty,
            TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS "when",
            TIMESTAMPTZ '2026-01-02 03:04:05+00' AS "local",
            TIME '03:04:05' AS "at",
            1.10::DECIMAL(10, 2) AS price,
            170141183460469231731687303715884105727::HUGEINT AS huge,
            {'name': 'Ada', 'age': 36} AS buyer,
            MAP {'a': 1, 'b': 2} AS counts,
            [['x'], ['y', 'z']] AS nested,
            'a'::ENUM('a', 'b') AS grade,
            '\\xAA'::BLOB AS raw,
            '{"k": 1}'::JSON AS doc,
            1 AS "a[0]", 2 AS "first name"
        """
    )
    for name in ("duckdb.parquet", "duckdb.csv", "duckdb.json"):
        duckdb.sql(f"COPY t TO '{HERE / name}'")
    duckdb.sql(
        f"""COPY (SELECT i AS id, repeat('lorem ipsum ', 35) || i AS text
        FROM range(60000) r(i)) TO '{HERE / "duckdb_one_page.parquet"}'
        (FORMAT parquet, COMPRESSION zstd)"""
    )
    duckdb.sql(f"COPY t TO '{HERE / 'duckdb.csv.zst'}' (COMPRESSION zstd)")


def spreadsheets() -> None:
    """As Excel, LibreOffice and Google Sheets save a table."""
    rows = 'id;text;price\r\n1;Müller, Köln;1,50\r\n2;"zwei\nZeilen";2\r\n'
    (HERE / "excel_german.csv").write_bytes(rows.encode("cp1252"))
    (HERE / "excel_sep.csv").write_bytes(b"sep=;\r\n" + rows.encode("cp1252"))
    (HERE / "excel_utf8.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    tabs = rows.replace(";", "\t").encode("utf-16")
    (HERE / "excel_unicode.txt").write_bytes(tabs)
    mac = "id,text\r1,one\r2,two\r"
    (HERE / "excel_mac.csv").write_bytes(mac.encode("mac-roman"))
    short = "id,text,note\r\n1,one,x\r\n2,two\r\n,,\r\n3,three,\r\n"
    (HERE / "excel_short_rows.csv").write_bytes(short.encode())
    book = openpyxl.Workbook()
    for row in (("id", "text"), (1, "one")):
        book.active.append(row)
    book.save(HERE / "openpyxl.xlsx")
    title = "Reviews of 2026,,\n,,\nid,text,stars\n1,one,5\n2,two,4\n"
    (HERE / "title_lines.csv").write_text(title)


def databases() -> None:
    """As MySQL, PostgreSQL, R and Jira export a table."""
    (HERE / "mysql.tsv").write_text("id\ttext\n1\tone\n2\t\\N\n")
    (HERE / "postgresql.csv").write_text('id,text\n1,"one, ""two"""\n2,\n')
    (HERE / "r_write_csv.csv").write_text('"","id","text"\n"1",1,"one"\n"2",2,NA\n')
    (HERE / "jira.csv").write_text(
        'Summary,Labels,Labels,Comment,Comment\nFix login,web,urgent,"a;b",\n'
    )
    (HERE / "no_names.csv").write_text("1,one\n2,two\n3,three\n")
    (HERE / "names_again.csv").write_text("id,text\n1,one\nid,text\n2,two\n")
    (HERE / "trailing.csv").write_text("id,text\n1,one,\n2,two,\n")
    (HERE / "list.jsonl").write_text('[{"id": 1, "text": "one"}]')
    (HERE / "lines.json").write_text(
        '{"id": 1, "text": "one"}\n{"id": 2, "text": "x"}\n'
    )
    python = '{"id": 1, "text": "one", "score": NaN}\n'
    (HERE / "python.jsonl").write_text(python)
    with gzip.open(HERE / "python.jsonl.gz", "wb") as out:
        out.write(python.encode())
    stream = pa.Codec("zstd").compress(python.encode(), asbytes=True)
    (HERE / "python.jsonl.zst").write_bytes(stream)


if __name__ == "__main__":
    for write in (pandas, polars, duck, spreadsheets, databases):
        write()
