"""Recorded expositions as input of promtool's rule tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.rules.catalogue import RECORDS, ROOT

DATA = ROOT / "tests/data/exported"
NODE = "rig"
# Long enough for every rate that the vocabulary takes.
SECONDS = 360
GROUPS = [
    *("inferops-health", "inferops-telemetry", "inferops-faults"),
    *("inferops-nodes", "inferops-hours"),
    *("inferops-health-sources", "inferops-health-hours"),
]

VOCABULARY = tuple(record for record in RECORDS if record.group in GROUPS)
VOCABULARY_FILES = [
    ROOT / "alerting/rules/health.yml",
    *sorted((ROOT / "prometheus/records").glob("*.yml")),
]

_SERIES = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)"
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One series and its value; labels as written, in any order."""

    name: str
    labels: Mapping[str, str]
    value: str

    @property
    def card(self) -> tuple[str, str, str]:
        """What counts once, whoever reports it: a quantity of a card.

        With a job of its own it is what one source says, beside another's.
        """
        return self.name, self.labels.get("uuid", ""), self.labels.get("job", "")

    def __str__(self) -> str:
        labels = ", ".join(f'{key}="{text}"' for key, text in self.labels.items())
        return f"{self.name}{{{labels}}}"


def samples(text: str) -> Iterator[Sample]:
    """Read an exposition; comments are left out."""
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found = _SERIES.fullmatch(line)
            assert found, line
            labels = dict(_LABEL.findall(found["labels"] or ""))
            yield Sample(found["name"], labels, found["value"])


def case(
    name: str, sources: Mapping[str, Sequence[Sample]], expected: Iterable[Sample]
) -> dict[str, Any]:
    """A promtool test: each series of each job stands still, then every record is read.

    sources: what each job scrapes from the one node
    expected: all that the vocabulary may hold then; a record that is not named in it
        must be absent
    """
    wanted: dict[str, list[Sample]] = {record.name: [] for record in VOCABULARY}
    for each in expected:
        wanted[each.name].append(each)
    return {
        "name": name,
        "interval": "1s",
        "input_series": [
            _input(job, each) for job, found in sources.items() for each in found
        ],
        "promql_expr_test": [
            {
                "expr": record,
                "eval_time": f"{SECONDS}s",
                "exp_samples": [
                    {"labels": str(each), "value": float(each.value)} for each in found
                ],
            }
            for record, found in wanted.items()
        ],
    }


def _input(job: str, sample: Sample) -> dict[str, str]:
    labels = {**sample.labels, "job": job, "node": NODE}
    return {
        "series": str(Sample(sample.name, labels, "")),
        "values": f"{sample.value}x{SECONDS}",
    }


def write(path: Path, cases: Sequence[Mapping[str, Any]]) -> Path:
    """Write promtool's file, with the vocabulary's rule files."""
    path.write_text(
        yaml.safe_dump(
            {
                "rule_files": list(map(str, VOCABULARY_FILES)),
                "evaluation_interval": "30s",
                "group_eval_order": GROUPS,
                "tests": list(cases),
            }
        )
    )
    return path
