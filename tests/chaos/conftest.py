"""One product for all cases; the table at the end, into the docs where asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.stage import MODEL, Case, scene
from tests.harness.crowd import Crowd
from tests.harness.process import ROOT

FULL = os.environ.get("INFEROPS_CHAOS") == "full"
_ROWS: list[report.Row] = []
_STEPS: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module")  # else it runs on beside all that follow
def product_scene(tmp_path_factory):
    with scene(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.fixture
def stage(product_scene):
    """Hand out the running product, well before each case and mended after it."""
    product_scene.mend()
    yield product_scene
    product_scene.mend()


@pytest.fixture
def crowd(stage):
    with Crowd(stage.product.url, (MODEL,), tokens=40) as made:
        yield made


@pytest.fixture
def begin(crowd):
    """Make cases; each is written down at the end, and must have failed nobody."""
    cases = []

    def make(name):
        cases.append(Case(name, crowd))
        cases[-1].served(4)
        return cases[-1]

    yield make
    for case in cases:
        row = case.row()
        _ROWS.append(row)
        assert row.failed == 0, f"{row.case}: {row.failures}"


@pytest.fixture
def tell():
    """Write down a step of a fault on its way: fault, step, time."""
    return lambda *step: _STEPS.append(step)


def pytest_terminal_summary(terminalreporter):
    if not _ROWS and not _STEPS:
        return
    text = report.table(_ROWS)
    if _STEPS:
        text += "\n| fault | step | time |\n|---|---|---|\n"
        text += "".join(f"| {' | '.join(each)} |\n" for each in _STEPS)
    terminalreporter.write_line("\n" + text)
    page = os.environ.get("INFEROPS_CHAOS_PAGE")
    if page:
        report.write_into(Path(ROOT / page), text)


def pytest_collection_modifyitems(items):
    """Leave the long cases to `make chaos`."""
    skip = pytest.mark.skip(reason="a long case: `make chaos` runs it")
    for item in items:  # of all folders
        ours = item.path.is_relative_to(Path(__file__).parent)
        if ours and item.get_closest_marker("long") and not FULL:
            item.add_marker(skip)
