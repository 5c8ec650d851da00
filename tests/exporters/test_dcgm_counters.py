"""The file that tells dcgm-exporter what to collect, read as dcgm-exporter does."""

from __future__ import annotations

import csv
import re

import pytest

from tests.harness.process import ROOT

LINES = [
    line
    for line in (ROOT / "exporters" / "dcgm-counters.csv").read_text().splitlines()
    if line and not line.startswith("#")
]
ROWS = [[cell.strip(" ") for cell in row] for row in csv.reader(LINES)]


def test_each_row_is_field_type_and_help() -> None:
    """Anything else keeps dcgm-exporter from starting."""
    for row in ROWS:
        assert len(row) == 3, row
        assert re.fullmatch(r"DCGM_(FI_DEV|FI_DRIVER|EXP)_[A-Z0-9_]+", row[0]), row
        assert row[1] in {"gauge", "counter", "label"}, row
        assert row[2], row
        assert '"' not in row[2], row


def test_no_field_is_asked_for_twice() -> None:
    """A second row of a field would be a second series of the same name."""
    fields = [row[0] for row in ROWS]
    assert sorted(set(fields)) == sorted(fields)


@pytest.mark.parametrize(
    "field",
    [
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "DCGM_EXP_XID_ERRORS_COUNT",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "DCGM_FI_DEV_FB_RESERVED",
    ],
)
def test_health_is_asked_for(field) -> None:
    """Rows that dcgm-exporter's own file leaves out, or of late only has."""
    assert field in {row[0] for row in ROWS}


def test_profiling_is_not_asked_for() -> None:
    """It would need SYS_ADMIN, and nothing of ours reads it."""
    assert not [row[0] for row in ROWS if "_PROF_" in row[0]]
