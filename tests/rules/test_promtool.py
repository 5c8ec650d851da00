"""promtool's own verdict on the rules, on every version that is here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.rules.catalogue import CASE_FILES, RULE_FILES, programs

PROMTOOLS = programs("promtool")


@pytest.fixture(params=PROMTOOLS or [None], ids=str)
def promtool(request) -> Path:
    if request.param is None:
        pytest.skip("promtool is not on PATH")
    return request.param


def ran(*argv: str | Path) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False
    )
    return f"{done.stdout}{done.stderr}\nended {done.returncode}"


def test_rules_are_valid(promtool):
    """Each promtool accepts every rule file, without a lint."""
    output = ran(promtool, "check", "rules", "--lint-fatal", *RULE_FILES)
    assert output.endswith("ended 0"), output


@pytest.mark.parametrize("cases", CASE_FILES, ids=lambda path: path.name)
def test_cases_pass(promtool, cases):
    """Every case holds: silent just before, firing, clearing."""
    output = ran(promtool, "test", "rules", cases)
    assert output.endswith("ended 0"), output


def test_cases_can_fail(promtool, tmp_path):
    """A case that expects another limit fails: promtool does run the rules."""
    whole = next(path for path in CASE_FILES if "health" in path.name)
    rule_file = str(RULE_FILES[-1].parents[2] / "prometheus/rules/vocabulary.yml")
    text = whole.read_text().replace("../../prometheus/rules/vocabulary.yml", rule_file)
    wrong = tmp_path / "wrong.test.yml"
    wrong.write_text(text.replace("values: 89x4 90 ", "values: 90x4 90 "))
    assert ran(promtool, "test", "rules", wrong).endswith("ended 1")
