"""What each source reports of a node around the moment at which something vanishes.

One promtool run holds many scenarios side by side: each is a node of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.cases import LONG
from tests.prometheus.metric_names import read_by
from tests.rules.catalogue import ROOT, RULE_FILES, programs, rules
from tests.rules.exposition import DATA, Sample, samples
from tests.rules.test_promtool import ran

STEP = 15  # seconds
GONE = 6 * 60 // STEP
END = GONE + 13 * 60 // STEP  # longer than what is said of a source that fails
FIRST, SECOND = "GPU-00000000-0000-0000-0000-000000000000", "GPU-second"

Series = dict[str, str]  # promtool's values by series


@dataclass(frozen=True, slots=True)
class Source:
    """A source of GPU telemetry: its job, and what it exports while all is well."""

    name: str
    job: str
    samples: Sequence[Sample]


def stays(value: object) -> str:
    return f"{value}x{END}"


def goes(value: object) -> str:
    return f"{value}x{GONE - 1} stale"


def turns(before: object, after: object) -> str:
    return f"{before}x{GONE - 1} {after}x{END - GONE}"


def pauses(before: object, steps: int, after: object, meanwhile: str = "_") -> str:
    """Vanish for so many steps, and come back."""
    gap = "stale" if meanwhile == "_" else meanwhile
    rest = f"{meanwhile}x{steps - 2} " if steps > 1 else ""
    return f"{before}x{GONE - 1} {gap} {rest}{after}x{END - GONE - steps}"


def at(seconds_after: float) -> str:
    """Give promtool's time so long after the moment."""
    return f"{GONE * STEP + seconds_after:.0f}s"


def sources() -> dict[str, Source]:
    """Each telemetry of cards that is known, with one card, in each of its versions."""
    golden = ROOT / "tests/data/exporters/golden/nvml.prom"
    older = ROOT / "docs/evidence/2026-11-22-h200-exporter.prom"
    files = {
        "ours": ("exporter", golden),
        "ours-of-old": ("exporter", older),
        "dcgm-4.9": ("dcgm", DATA / "dcgm-exporter-4.9.prom"),
        "dcgm-4.8": ("dcgm", DATA / "dcgm-exporter-4.8.prom"),
        "smi": ("nvidia_smi", DATA / "nvidia-gpu-exporter.prom"),
        "smi-nvml": ("nvidia_smi", DATA / "nvidia-gpu-exporter-nvml.prom"),
    }
    return {
        name: Source(name, job, list(_of_one_card(job, path)))
        for name, (job, path) in files.items()
    }


def _of_one_card(job: str, path: Path) -> Iterator[Sample]:
    """What the rules read of it, of the first of its cards."""
    read = set().union(*(read_by(rule.expr) for rule in rules()))
    first = ""
    for each in samples(path.read_text()):
        if each.name not in read:
            continue
        key = _key(each)
        if key is None:
            yield replace(each, value="1") if each.name == "inferops_gpus" else each
            continue
        first = first or each.labels[key]
        if each.labels[key] == first:
            yield replace(each, labels={**each.labels, key: FIRST})
    if path.name == "nvml.prom":
        yield Sample("inferops_exporter_collector_up", {"collector": "nvml"}, "1")


def _key(sample: Sample) -> str | None:
    """The label that names the card; None for what is not of a card."""
    return next((key for key in ("uuid", "UUID") if key in sample.labels), None)


def of_card(sample: Sample) -> bool:
    return _key(sample) is not None


def cards(source: Source, count: int) -> list[Sample]:
    """What it exports of one card or of two."""
    found = list(source.samples)
    if count == 2:
        for each in source.samples:
            if key := _key(each):
                found.append(replace(each, labels={**each.labels, key: SECOND}))
            elif each.name == "inferops_gpus":
                found[found.index(each)] = replace(each, value="2")
    return found


def is_first(sample: Sample) -> bool:
    return sample.labels.get(_key(sample) or "") == FIRST


def named(sample: Sample, job: str, node: str) -> str:
    """Write a series as Prometheus has it after a scrape."""
    labels = {**sample.labels, "job": job, "node": node, "instance": f"{node}:{job}"}
    return str(Sample(sample.name, labels, ""))


def up(job: str, node: str) -> str:
    return named(Sample("up", {}, ""), job, node)


def lost(source: Source, node: str, count: int = 1, but: str = "") -> Series:
    """The first card vanishes, the source works on; `but` is a name it never has."""
    found = {up(source.job, node): stays(1)}
    for each in cards(source, count):
        if each.name == but:
            continue
        values = stays(each.value)
        if is_first(each):
            values = turns(1, 0) if each.name == "inferops_gpu_up" else goes(each.value)
        elif each.name == "inferops_gpus":
            values = turns(each.value, float(each.value) - 1)
        elif each.name == "inferops_exporter_collector_up" and source.name == "ours":
            values = turns(1, 0)
        found[named(each, source.job, node)] = values
    return found


@dataclass(frozen=True, slots=True)
class Expected:
    """Who has an alert at a time; all other scenarios have not."""

    alerts: str  # a regular expression
    when: str
    nodes: Iterable[str]
    state: str = "firing"


def passes(
    path: Path, scenarios: Iterable[Series], expected: Iterable[Expected]
) -> None:
    """Have promtool find what is expected and nothing else; `make test-long`: each."""
    document = {
        "rule_files": list(map(str, RULE_FILES)),
        "evaluation_interval": f"{STEP}s",
        "tests": [
            {
                "interval": f"{STEP}s",
                "input_series": _inputs(scenarios),
                "promql_expr_test": [_question(each) for each in expected],
            }
        ],
    }
    file = path / "scenarios.test.yml"
    file.write_text(yaml.safe_dump(document))
    promtools = programs("promtool")[: None if LONG else 1]
    if not promtools:
        pytest.skip("promtool is not on PATH")
    for promtool in promtools:
        output = ran(promtool, "test", "rules", file)
        assert output.endswith("ended 0"), output


def _inputs(scenarios: Iterable[Series]) -> list[dict[str, str]]:
    return [
        {"series": series, "values": values}
        for each in scenarios
        for series, values in each.items()
    ]


def _question(expected: Expected) -> dict[str, Any]:
    state, names = expected.state, expected.alerts
    alerts = f'ALERTS{{alertstate=~"{state}", alertname=~"{names}"}}'
    return {
        "expr": f"group by (node) ({alerts})",
        "eval_time": expected.when,
        "exp_samples": [
            {"labels": f'{{node="{node}"}}' if node else "{}", "value": 1}
            for node in sorted(expected.nodes)
        ],
    }
