"""signals.yml: what is accepted, and each rejection's exact text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.config.signals import parse_signals
from router.errors import ConfigError
from router.model import Missing, Signal

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests/data/config"
SHIPPED = ROOT / "router/signals.yml"

REJECTED = {
    "anchors-equal": ["signals[0].best: must differ from worst, got 1.0"],
    "bad-name": ["signals[0].name: must match ^[a-z][a-z0-9_]*$, got 'GPU heat'"],
    "empty": ["must be a mapping, got nothing"],
    "fields-missing": [
        "signals[0].query: is required",
        "signals[0].weight: must be a number, got 'heavy'",
        "signals[0].worst: is required",
        "signals[0].best: is required",
        "signals[0].missing: must be 'neutral' or 'worst', got 'zero'",
        "signals[0].expr: is unknown, got 'node:gpu_temperature:max_celsius'",
    ],
    "name-twice": ["signals[1].name: must be unique, is also signals[0]'s, got 'vram'"],
    "no-list": ["signals: is required", "vram: is unknown, got 1"],
    "none": ["signals: must have at least 1 entry, got a list of 0"],
    "query-blank": ["signals[0].query: must not be empty, got '  '"],
    "weight-zero": ["signals[1].weight: must be > 0, got 0"],
}

# Words of PromQL that the shipped queries use; all others are names of series.
PROMQL = {"by", "max", "min", "node", "on", "uuid"}


@pytest.mark.parametrize("what", REJECTED)
def test_rejects_with_exact_text(what):
    """Each rejected file names every fault with file, path and value."""
    text = (DATA / f"invalid-signals-{what}.yml").read_text()

    with pytest.raises(ConfigError) as caught:
        parse_signals(text)

    expected = [f"signals.yml: {line}" for line in REJECTED[what]]
    assert str(caught.value).splitlines() == expected


def test_each_rejected_file_is_in_the_table():
    """No rejected file lies about untested."""
    files = {path.stem for path in DATA.glob("invalid-signals-*.yml")}

    assert {f"invalid-signals-{what}" for what in REJECTED} == files


def test_reads_an_entry_whole():
    """Every field arrives, numbers as floats."""
    text = """
    signals:
      - name: heat
        query: |
          node:gpu_temperature:max_celsius
        weight: 2
        worst: 9e1
        best: 30
        missing: worst
    """

    query = "node:gpu_temperature:max_celsius"
    expected = Signal("heat", query, 2.0, 90.0, 30.0, Missing.WORST)
    assert parse_signals(text) == (expected,)


def test_shipped_signals_are_static_and_dynamic():
    """The shipped file has both kinds, and none makes silence count against a node."""
    signals = {signal.name: signal for signal in parse_signals(SHIPPED.read_text())}

    assert list(signals) == [
        "vram",
        "tflops",
        "gpu_utilization",
        "gpu_memory_free",
        "temperature_headroom",
    ]
    assert {signal.missing for signal in signals.values()} == {Missing.NEUTRAL}


def test_shipped_queries_read_only_the_vocabulary_and_our_gauges():
    """Signals name no exporter's series: those change with its version."""
    rules = (ROOT / "alerting/rules/health.yml").read_text()
    known = set(re.findall(r"record: (\S+)", rules))
    known |= {"inferops_node_vram_bytes", "inferops_node_tflops"}

    for signal in parse_signals(SHIPPED.read_text()):
        names = set(re.findall(r"[a-zA-Z_][\w:]*", signal.query)) - PROMQL
        assert names, signal.name
        assert names <= known, signal.name
