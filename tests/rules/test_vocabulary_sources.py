"""The vocabulary from each recorded exposition alone, and from several at once.

tests/data/exported/*.prom: who says what, and where from; vocabulary/: what the rules
must make of it, record by record. A record that is not named there must be absent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.rules.catalogue import ROOT, programs
from tests.rules.exposition import (
    DATA,
    NODE,
    SECONDS,
    VOCABULARY,
    Sample,
    case,
    samples,
    write,
)
from tests.rules.test_promtool import ran

# In the declared order of preference: for what two of them tell of a card, the first.
SOURCES = {
    "inferops-exporter": ROOT / "docs/evidence/2026-11-22-h200-exporter.prom",
    "dcgm-exporter-4.9": DATA / "dcgm-exporter-4.9.prom",
    "dcgm-exporter-4.8": DATA / "dcgm-exporter-4.8.prom",
    "nvidia-gpu-exporter": DATA / "nvidia-gpu-exporter.prom",
    "nvidia-gpu-exporter-nvml": DATA / "nvidia-gpu-exporter-nvml.prom",
}
JOBS = {
    "inferops-exporter": "exporter",
    "dcgm-exporter-4.9": "dcgm",
    "dcgm-exporter-4.8": "dcgm",
    "nvidia-gpu-exporter": "nvidia_smi",
    "nvidia-gpu-exporter-nvml": "nvidia_smi",
}
# The H200 of docs/evidence: the first card of the other files is taken to be it.
RECORDED = "GPU-18b30f05-62a5-6335-987c-32cce5a92ca6"
CARD = "GPU-00000000-0000-0000-0000-000000000000"
MIXES = [
    ("inferops-exporter", "dcgm-exporter-4.9"),
    ("inferops-exporter", "dcgm-exporter-4.8"),
    ("inferops-exporter", "nvidia-gpu-exporter"),
    ("dcgm-exporter-4.9", "nvidia-gpu-exporter"),
    ("dcgm-exporter-4.8", "nvidia-gpu-exporter"),
    ("inferops-exporter", "dcgm-exporter-4.8", "nvidia-gpu-exporter"),
]


def exposition(source: str) -> list[Sample]:
    """What a source was seen to export, as if it were seen now."""
    text = SOURCES[source].read_text().replace(RECORDED, CARD)
    return [*map(_now, samples(text)), Sample("up", {}, "1")]


def _now(sample: Sample) -> Sample:
    if sample.name.endswith("_last_success_timestamp_seconds"):
        return replace(sample, value=str(SECONDS))
    return sample


def expected(source: str) -> list[Sample]:
    return list(samples((DATA / f"vocabulary/{source}.prom").read_text()))


def verdict(path, tests) -> None:
    """Every promtool that is here passes the tests."""
    promtools = programs("promtool")
    if not promtools:
        pytest.skip("promtool is not on PATH")
    written = write(path / "sources.test.yml", tests)
    for promtool in promtools:
        output = ran(promtool, "test", "rules", written)
        assert output.endswith("ended 0"), output


@pytest.mark.parametrize("source", SOURCES)
def test_source_alone(source, tmp_path):
    """Each record is filled as declared, or absent: no unit and no name is missed."""
    sources = {JOBS[source]: exposition(source)}
    verdict(tmp_path, [case(source, sources, expected(source))])


@pytest.mark.parametrize("mix", MIXES, ids=" and ".join)
def test_card_of_several_sources_counts_once(mix, tmp_path):
    """What two sources tell of one card comes from the preferred one alone."""
    sources = {JOBS[source]: exposition(source) for source in mix}
    verdict(tmp_path, [case("mixed", sources, merged(mix))])


def merged(mix: Sequence[str]) -> list[Sample]:
    """Each quantity of a card by the first source that has it; the node's anew."""
    taken: dict[tuple[str, str, str], list[Sample]] = {}
    for source in mix:
        ordered = sorted(expected(source), key=lambda sample: sample.card)
        for card, group in itertools.groupby(ordered, key=lambda sample: sample.card):
            taken.setdefault(card, list(group))
    found = [sample for each in taken.values() for sample in each]
    kept = [sample for sample in found if sample.name not in ADDED_UP]
    return [*kept, *added_up(kept)]


def added_up(cards: Sequence[Sample]) -> list[Sample]:
    """What a node's cards come to: each of them once."""

    def values(name: str) -> list[float]:
        return [float(each.value) for each in cards if each.name == name]

    used = sum(values("node_gpu:memory_used:bytes"))
    total = sum(values("node_gpu:memory_total:bytes"))
    busy = values("node_gpu:utilization:ratio")
    temperatures = values("node_gpu:temperature:celsius")
    sums = {
        "node:gpu_memory_used:ratio": used / total,
        "node:gpu_memory_free:bytes": total - used,
        "node:gpu_utilization:ratio": sum(busy) / len(busy),
        "node:gpus:count": len(temperatures),
        "node:gpus:max_count1m": len(temperatures),
        "node:gpus:max_count6h": len(temperatures),
        "node:gpu_temperature:max_celsius": max(temperatures),
    }
    assert sums.keys() == ADDED_UP
    return [
        Sample(name, {"node": NODE}, repr(float(value))) for name, value in sums.items()
    ]


ADDED_UP = {
    *("node:gpu_memory_used:ratio", "node:gpu_memory_free:bytes"),
    *("node:gpu_utilization:ratio", "node:gpus:count", "node:gpus:max_count6h"),
    *("node:gpus:max_count1m", "node:gpu_temperature:max_celsius"),
}


def test_every_record_of_cards_has_a_source_here():
    """A record that no recorded exposition fills is one that our exporter alone has."""
    filled = {sample.name for source in SOURCES for sample in expected(source)}
    cards = {r.name for r in VOCABULARY if r.name.startswith("node_gpu:")}
    assert cards - filled == {
        *("node_gpu:up:flag", "node_gpu:busy:ratio_rate1m"),
        *("node_gpu:power:window_max_watts", "node_gpu:power:window_min_watts"),
        *("node_gpu:utilization:window_max_ratio", "node_gpu:retired_pages:count"),
        "node_gpu:retired_pages_pending:flag",
    }
