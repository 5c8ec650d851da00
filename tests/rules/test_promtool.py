"""promtool's own verdict on the rules, on every version that is here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.harness.cases import one_each_time
from tests.rules.catalogue import CASE_FILES, ROOT, RULE_FILES, programs

PROMTOOLS = programs("promtool")
# A fifth of promtool's time is Go's collector's: memory is cheaper here.
ENVIRONMENT = {**os.environ, "GOGC": "400"}


@pytest.fixture(params=one_each_time(PROMTOOLS), ids=str)
def promtool(request) -> Path:
    if request.param is None:
        pytest.skip("promtool is not on PATH")
    return request.param


def ran(*argv: str | Path) -> str:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=ENVIRONMENT,
    )
    return f"{done.stdout}{done.stderr}\nended {done.returncode}"


def test_rules_are_valid(promtool):
    """Each promtool accepts every rule file, without a lint."""
    output = ran(promtool, "check", "rules", "--lint-fatal", *RULE_FILES)
    assert output.endswith("ended 0"), output


SLOW = {"slo_records.test.yml"}  # thirty days of steps
CASES = [
    pytest.param(
        path, id=path.name, marks=[pytest.mark.long] if path.name in SLOW else []
    )
    for path in CASE_FILES
]


@pytest.mark.parametrize("cases", CASES)
def test_cases_pass(promtool, cases):
    """Every case holds: silent just before, firing, clearing."""
    output = ran(promtool, "test", "rules", cases)
    assert output.endswith("ended 0"), output


def test_cases_can_fail(promtool, tmp_path):
    """A case that expects another limit fails: promtool does run the rules."""
    whole = next(path for path in CASE_FILES if "health" in path.name)
    content = yaml.safe_load(whole.read_text())
    (case,) = (each for each in content["tests"] if "89x4 90 " in str(each))
    content["rule_files"] = [str(ROOT / "alerting/rules/health.yml")]
    content["tests"] = [case]
    text = yaml.safe_dump(content, width=1000)
    for values, end in (("89x4 90 ", "ended 0"), ("90x4 90 ", "ended 1")):
        (file := tmp_path / "one.test.yml").write_text(text.replace("89x4 90 ", values))
        assert ran(promtool, "test", "rules", file).endswith(end)
