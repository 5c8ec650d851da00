"""The shipped rules and their promtool cases, as the tests look at them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULE_FILES = sorted(
    [*ROOT.glob("prometheus/records/*.yml"), *ROOT.glob("alerting/rules/*.yml")]
)
CASE_FILES = sorted((ROOT / "tests/rules").glob("*.test.yml"))
RUNBOOKS = ROOT / "alerting/runbooks"
HEALTH_GROUP = "inferops-health"


@dataclass(frozen=True, slots=True)
class Rule:
    """One recording or alerting rule, and the group that it stands in."""

    name: str
    group: str
    expr: str
    alert: bool
    file: Path
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[Rule]:
    """All rules in the order of evaluation within each group."""
    return [
        Rule(
            name=rule.get("alert") or rule["record"],
            group=group["name"],
            expr=rule["expr"],
            alert="alert" in rule,
            file=file,
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for file in RULE_FILES
        for group in _load(file)["groups"]
        for rule in group["rules"]
    ]


ALERTS = [rule for rule in rules() if rule.alert]
RECORDS = [rule for rule in rules() if not rule.alert]
ACTIONS = [rule for rule in ALERTS if "action" in rule.labels]


@cache
def promtool_tests() -> tuple[dict[str, Any], ...]:
    """Each entry of `tests:` in the promtool files, with its evaluation interval."""
    return tuple(
        {"evaluation_interval": content["evaluation_interval"], **test}
        for content in map(_load, CASE_FILES)
        for test in content["tests"]
    )


def programs(name: str) -> list[Path]:
    """Every different program of this name on PATH: tests run on each version."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = (Path(folder) / name for folder in folders if folder)
    return list({each.resolve(): each for each in found if each.is_file()}.values())
