"""Files as pandas, polars, DuckDB, fastparquet, Excel and others write them."""

from __future__ import annotations

import pytest

from router.jobs.input.sandbox.confinement import heed_deadlines
from tests.router.jobs.input.shapes import BEGIN, FILES, PAGE, SHAPES, look, page


@pytest.fixture(scope="module", autouse=True)
def deadlines():
    heed_deadlines()


@pytest.mark.parametrize(
    ("name", "template", "prompts"),
    [(name, template, prompts) for name, _, template, prompts in SHAPES],
    ids=[name for name, *_ in SHAPES],
)
def test_a_file_gives_its_prompts(name, template, prompts):
    """The text that people would expect, of each row."""
    assert prompts == look(name, template)["prompts"]


def test_each_file_is_in_the_table():
    """No file lies about untested."""
    skipped = {"make.py", "requirements.txt", "duckdb.csv"}
    found = {path.name for path in FILES.iterdir() if path.is_file()} - skipped
    assert found == {name for name, *_ in SHAPES}


def test_the_page_is_current():
    """docs/datasets.md shows what the files here give today."""
    text = PAGE.read_text()
    assert BEGIN in text
    assert page(text) == text
