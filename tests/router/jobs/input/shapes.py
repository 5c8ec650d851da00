"""Files as people's programs write them, and what a job makes of each.

`python -m tests.router.jobs.input.shapes` writes the table of docs/datasets.md anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from router.errors import DatasetError
from router.jobs.input.preview import preview
from router.jobs.input.readers import ReadLimits, format_of
from router.jobs.input.sandbox.confinement import heed_deadlines

ROOT = Path(__file__).resolve().parents[4]
FILES = ROOT / "tests/data/datasets"
PAGE = ROOT / "docs/datasets.md"
BEGIN, END = (
    "<!-- shapes: made by tests/router/jobs/input/shapes.py -->",
    "<!-- end -->",
)

# The file, who writes such files, the template, and the prompts that it gives.
SHAPES: tuple[tuple[str, str, str, list[str]], ...] = (
    ("excel_german.csv", "Excel, German: semicolons, decimal commas, Windows-1252",
     "{{ text }}: {{ price }}", ["Müller, Köln: 1,50", "zwei\nZeilen: 2"]),
    ("excel_sep.csv", "Excel with a line `sep=;`",
     "{{ text }}", ["Müller, Köln", "zwei\nZeilen"]),
    ("excel_utf8.csv", "Excel, CSV UTF-8 with a byte order mark",
     "{{ id }}", ["1", "2"]),
    ("excel_unicode.txt", "Excel, Unicode text: UTF-16 with tabs",
     "{{ text }}", ["Müller, Köln", "zwei\nZeilen"]),
    ("excel_mac.csv", "Excel, CSV (Macintosh): carriage returns",
     "{{ text }}", ["one", "two"]),
    ("excel_short_rows.csv", "Excel, empty fields at the end left out; empty rows",
     "{{ text }} {{ note|default('-') }}", ["one x", "two -", "three "]),
    ("title_lines.csv", "a sheet with a title above its names",
     "{{ text }}: {{ stars }}", ["one: 5", "two: 4"]),
    ("trailing.csv", "rows that end with a delimiter", "{{ text }}", ["one", "two"]),
    ("names_again.csv", "several files put together: names again",
     "{{ text }}", ["one", "two"]),
    ("no_names.csv", "no line of names",
     "{{ column_2 }}", ["one", "two", "three"]),
    ("jira.csv", "Jira: one name for several columns",
     "{{ Labels }} {{ Labels_2 }}", ["web urgent"]),
    ("mysql.tsv", "MySQL, tabs", "{{ text }}", ["one", "\\N"]),
    ("postgresql.csv", "PostgreSQL, COPY CSV", "{{ text }}", ['one, "two"', ""]),
    ("r_write_csv.csv", "R, write.csv with row names", "{{ text }}", ["one", "NA"]),
    ("pandas.csv", "pandas, to_csv with its index",
     "{{ stars }}", ["5.0", "", "3.0"]),
    ("pandas.csv.gz", "pandas, compressed with gzip",
     "{{ text }}", ["Bright, but the cable is short", "Es quietscht: Müller", ""]),
    ("pandas_european.csv", "pandas, sep=';' and decimal=','",
     "{{ stars }}", ["5,0", "", "3,0"]),
    ("pandas_latin.csv", "pandas, encoding='cp1252'",
     "{{ text }}", ["Bright, but the cable is short", "Es quietscht: Müller", ""]),
    ("polars.csv", "polars, write_csv",
     '{{ row["row id"] }}: {{ price }}', ["1: 1.10", "2: 2000.00", "3: "]),
    ("duckdb.csv.zst", "DuckDB, CSV compressed with zstd",
     '{{ row["a[0]"] }} {{ row["first name"] }}', ["1 2"]),
    ("pandas.json", "pandas, to_json as it is by default",
     "{{ stars }} {{ product }}", ["5.0 lamp", " chair", "3.0 lamp"]),
    ("pandas_records.json", "pandas, to_json(orient='records')",
     "{{ product }}", ["lamp", "chair", "lamp"]),
    ("pandas.jsonl", "pandas, to_json(lines=True)",
     "{{ product }}", ["lamp", "chair", "lamp"]),
    ("polars.ndjson", "polars, write_ndjson; a name with a dot",
     '{{ row["a.b"].c }}', ["[1]", "[]", ""]),
    ("lines.json", "lines of objects, named .json", "{{ text }}", ["one", "x"]),
    ("list.jsonl", "a list of objects, named .jsonl", "{{ text }}", ["one"]),
    ("duckdb.json", "DuckDB, one object", "{{ doc.k }}", ["1"]),
    ("python.jsonl", "Python's json: NaN", "{{ text }} {{ score }}", ["one "]),
    ("python.jsonl.gz", "the same, compressed with gzip", "{{ id }}", ["1"]),
    ("python.jsonl.zst", "the same, compressed with zstd", "{{ id }}", ["1"]),
    ("pandas.parquet", "pandas, to_parquet: nanoseconds, zones, categories, pictures",
     "{{ when }} {{ local }} {{ product }} {{ took }} {{ buyer.name|default('') }}",
     ["2026-01-02T03:04:05.123456789 2026-01-02T03:04:05.123456789+01:00 lamp 90.0 Ada",
      ("2026-01-02T03:04:05.123456789 2026-01-02T03:04:05.123456789+01:00 chair 86400.0"
      " Bob"),
      "2026-01-02T03:04:05.123456789 2026-01-02T03:04:05.123456789+01:00 lamp  "]),
    ("fastparquet.parquet", "fastparquet: one page a column",
     "{{ when }} {{ product }}",
     ["2026-01-02T03:04:05.123456789 lamp", "2026-01-02T03:04:05.123456789 chair",
      "2026-01-02T03:04:05.123456789 lamp"]),
    ("polars.parquet", "polars: decimals, enumerations, times, NaN, infinity",
     "{{ price }} {{ kind }} {{ at }} {{ share }}",
     ["1.10 x 03:04:05.000006 ", "2000.00 y  Infinity", " x  0.5"]),
    ("duckdb.parquet", "DuckDB: UUID, interval, map, enumeration, nested lists",
     "{{ id }} {{ warranty }} {{ counts.a }} {{ grade }} {{ nested }}",
     [("12345678-1234-5678-1234-567812345678 12 months, 3 days 1 a"
      ' [["x"],["y","z"]]')]),
    ("duckdb_one_page.parquet", "DuckDB: a page of 25 MB",
     "{{ id }}", [str(number) for number in range(20)]),
    ("openpyxl.xlsx", "a workbook", "{{ text }}", []),
)  # fmt: skip


def look(name: str, template: str) -> dict[str, object]:
    """Return what a look at a file shows, or the reason for which there is none."""
    try:
        question = {
            "path": str(FILES / name),
            "format": format_of(name).value,
            "limits": asdict(ReadLimits()),
            "reading": {},
            "template": template,
            "show": True,
        }
        shown: dict[str, object] = json.loads(preview(question))
    except DatasetError as error:
        return {"refused": str(error), "prompts": []}
    return shown


def rows() -> list[str]:
    """Write the lines of the table."""
    made = ["| written by | read as | notes |", "|---|---|---|"]
    for name, program, template, _ in SHAPES:
        shown = look(name, template)
        notes = shown.get("notes", [])
        assert isinstance(notes, list)
        told = shown.get("refused") or "; ".join(notes)
        made.append(f"| {program} | {_read_as(shown)} | {_cell(str(told))} |")
    return made


def _read_as(shown: dict[str, object]) -> str:
    reading = shown.get("reading")
    if not isinstance(reading, dict):
        return "refused"
    parts = [str(shown["format"]), reading.get("encoding"), reading.get("delimiter")]
    return ", ".join(str(part) for part in parts if part)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def page(text: str) -> str:
    """Put the table in its place on the page."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([head + BEGIN, *rows(), END + tail])


if __name__ == "__main__":
    heed_deadlines()
    PAGE.write_text(page(PAGE.read_text()))
