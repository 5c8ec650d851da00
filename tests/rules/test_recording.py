"""The rules tell of a real card what nvidia-smi and Ollama told in the same seconds.

Fed with what `gpu_story.py` beside it recorded on an H100 with a real Ollama: one
scrape of our exporter a second, while 0, 1, 4 and 16 streams ran.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Any

import pytest
import yaml

from tests.rules.catalogue import ROOT, programs
from tests.rules.exposition import GROUPS, NODE, VOCABULARY_FILES, Sample, samples
from tests.rules.test_promtool import ran

RECORDING = ROOT / "docs/evidence/2026-11-25-h100/recording.json.gz"
PHASES = ("idle", "1_streams", "4_streams", "16_streams")
MIB = 1024 * 1024
READ = (
    *("inferops_gpu_busy_seconds_total", "inferops_gpu_observed_seconds_total"),
    *("inferops_gpu_power_watts", "inferops_gpu_info"),
    *("inferops_gpu_memory_used_bytes", "inferops_gpu_memory_total_bytes"),
    *("inferops_ollama_resident_vram_bytes", "inferops_ollama_resident_size_bytes"),
)


@cache
def moments() -> Sequence[Mapping[str, Any]]:
    with gzip.open(RECORDING) as recorded:
        return json.load(recorded)


def of(phase: str) -> list[Mapping[str, Any]]:
    return [moment for moment in moments() if moment["phase"] == phase]


def inputs(phase: str) -> list[dict[str, str]]:
    """What a scrape a second saw; `_` where a series was not there."""
    columns: dict[str, list[str]] = {}
    recorded = of(phase)
    for at, moment in enumerate(recorded):
        for each in samples(moment["metrics"]):
            if each.name in READ:
                labels = {**each.labels, "job": "exporter", "node": NODE}
                name = str(Sample(each.name, labels, ""))
                columns.setdefault(name, ["_"] * len(recorded))[at] = each.value
    return [
        {"series": name, "values": " ".join(values)} for name, values in columns.items()
    ]


def agreed(phase: str) -> dict[str, float]:
    """Questions to the rules, each with the one right answer."""
    recorded = of(phase)
    smi = [moment["nvidia_smi"] for moment in recorded]
    busy = fmean(float(each["utilization.gpu"]) for each in smi) / 100
    watts = fmean(float(each["power.draw"]) for each in smi)
    used = float(smi[-1]["memory.used"]) * MIB
    resident = sum(recorded[-1]["api_ps"].values())
    return {
        f"abs(node_gpu:busy:ratio_rate1m - {busy}) <= bool 0.05": 1,
        f"abs(avg_over_time(node_gpu:power:watts[1m]) / {watts} - 1) <= bool 0.03": 1,
        f"abs(node_gpu:memory_used:bytes - {used}) <= bool {2 * MIB}": 1,
        "sum(inferops_ollama_resident_vram_bytes) or vector(0)": resident,
        "sum(node:ollama_resident_vram:ratio) or vector(0)": 1 if resident else 0,
    }


@pytest.mark.parametrize("phase", PHASES)
def test_one_story(phase, tmp_path):
    """Load, power, memory and residency are the same, whoever is asked."""
    last = f"{len(of(phase)) - 1}s"
    questions = [
        {
            "expr": f"sum({expr})",
            "eval_time": last,
            "exp_samples": [{"labels": "{}", "value": float(answer)}],
        }
        for expr, answer in agreed(phase).items()
    ]
    test = {
        "interval": "1s",
        "input_series": inputs(phase),
        "promql_expr_test": questions,
    }
    path = tmp_path / "recording.test.yml"
    document = {
        "rule_files": list(map(str, VOCABULARY_FILES)),
        "evaluation_interval": "1s",
        "group_eval_order": GROUPS,
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(document))
    promtools = programs("promtool")
    if not promtools:
        pytest.skip("promtool is not on PATH")
    for promtool in promtools:
        output = ran(promtool, "test", "rules", path)
        assert output.endswith("ended 0"), output
