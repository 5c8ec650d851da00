"""Every metric name in a rule, signal or runbook is exported by something.

An upgrade that renames a metric empties panels and alerts without a word; here it
fails instead; of panels, in tests/grafana/test_queries.py. And what each source alone
knows is printed: that is lost without it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.prometheus import vocabulary_page
from tests.prometheus.losses import lives
from tests.prometheus.metric_names import DATA, ROOT, exported, read_by, sources
from tests.rules.catalogue import RECORDS, RUNBOOKS, programs, rules

KNOWN = exported()
VOCABULARY = {record.name for record in RECORDS}


def signals() -> list[Any]:
    text = (ROOT / "router/signals.yml").read_text()
    return yaml.safe_load(text)["signals"]


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        pytest.param("up", {"up"}, id="a name"),
        pytest.param('up{job="router"} == 0', {"up"}, id="matchers are none"),
        pytest.param("sum by (node) (a) / on (node) b", {"a", "b"}, id="nor labels"),
        pytest.param("sum(rate(a_total[5m])) > 1e3", {"a_total"}, id="nor numbers"),
        pytest.param("max_over_time(a:b:c[1h])", {"a:b:c"}, id="a record in a call"),
        pytest.param("a or # b's part\n c", {"a", "c"}, id="nor comments"),
        pytest.param('label_replace(a, "x", "$1", "Y", "(.+)")', {"a"}, id="strings"),
        pytest.param("a * on (n) group_left () b", {"a", "b"}, id="nor joins"),
        pytest.param("a unless on () b offset 10m", {"a", "b"}, id="nor words"),
        pytest.param("a < bool 0.5 and vector(1)", {"a"}, id="nor functions"),
        pytest.param("min(rate(a[$__rate_interval]))", {"a"}, id="nor variables"),
    ],
)
def test_names_are_found(expr, names):
    """The names of metrics, and nothing else, are taken out of an expression."""
    assert names == read_by(expr)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_rule_reads_what_exists(rule):
    """A rule reads what is exported, or what another rule records."""
    names = read_by(rule.expr)
    assert names <= KNOWN | VOCABULARY
    assert names or rule.name in {"Watchdog", "slo:objective:ratio"}


@pytest.mark.parametrize("rule", [r for r in rules() if r.alert], ids=lambda r: r.name)
def test_alert_reads_no_exporter_of_nodes(rule):
    """An alert speaks the vocabulary, or of our own parts: never DCGM's dialect."""
    dialect = {
        name
        for name in read_by(rule.expr)
        if name.startswith(("DCGM_", "node_", "inferops_gpu", "inferops_ollama"))
    }
    assert dialect <= VOCABULARY


@pytest.mark.parametrize("signal", signals(), ids=lambda signal: signal["name"])
def test_signal_reads_the_vocabulary(signal):
    """A signal reads the vocabulary or the router's own numbers of a node."""
    names = read_by(signal["query"])
    own = {name for name in names - VOCABULARY if name.startswith("inferops_node_")}
    assert names
    assert names <= VOCABULARY | (own & KNOWN)


@pytest.mark.parametrize(
    "path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem
)
def test_runbook_reads_what_exists(path):
    """Each query that a page tells people to ask reads what exists."""
    blocks = re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL)
    names = set().union(*(read_by(line) for b in blocks for line in b.splitlines()))
    assert names
    assert names <= KNOWN | VOCABULARY


@pytest.mark.parametrize(
    ("expr", "exported", "expected"),
    [
        pytest.param("a", {"a"}, True, id="a name that is there"),
        pytest.param("a + on (n) b", {"a"}, False, id="both sides of a sum"),
        pytest.param("a or b", {"b"}, True, id="one side of or"),
        pytest.param("a or b", {"c"}, False, id="no side of or"),
        pytest.param("(a or b) / c", {"a"}, False, id="or in brackets, and no more"),
        pytest.param("(a or b) / c", {"b", "c"}, True, id="or in brackets, and more"),
        pytest.param("a unless b", {"a"}, True, id="nothing is taken away"),
        pytest.param("a unless b or c", {"c"}, True, id="or after unless"),
        pytest.param("a and b", {"a"}, False, id="and needs both"),
        pytest.param("clamp_max(a or b, 1)", {"b"}, True, id="or in an argument"),
        pytest.param("f(a, b)", {"a"}, False, id="all arguments"),
        pytest.param('label_replace(a, "x", "b", "y", "")', {"a"}, True, id="strings"),
        pytest.param("a or vector(0)", set(), True, id="a constant"),
        pytest.param("sum by (n) (rate(a[1m]))", {"a"}, True, id="calls"),
    ],
)
def test_what_lives_of_an_expression(expr, exported, expected):
    """One side of an `or` is enough; of anything else, everything is needed."""
    assert expected == lives(expr, exported)


@pytest.mark.parametrize("source", sources())
def test_losses_are_printed(source):
    """What is silent without a source is shown, and is all there with it."""
    lost = vocabulary_page.lost(source)
    for kind, names in lost.items():
        print(f"without {source}: {kind}: {', '.join(names) or 'nothing'} lost")
    assert set(lost["series"]) <= VOCABULARY


def test_every_rule_lives():
    """With every source there, each rule can give something."""
    known = KNOWN | VOCABULARY
    assert [rule.name for rule in rules() if not lives(rule.expr, known)] == []


# Who may be missing, and what then is silent nevertheless: the kernel's own estimate of
# its clock is node_exporter's on Linux alone.
SECOND_SOURCES = {
    "dcgm-exporter": set[str](),
    "nvidia_gpu_exporter": set[str](),
    "node_exporter": {"NodeClockSkewed"},
}


@pytest.mark.parametrize("source", SECOND_SOURCES)
def test_second_source_is_no_single_point(source):
    """Without it, every alert, every signal and every panel can still speak."""
    lost = vocabulary_page.lost(source)
    silent = {*lost["alerts"], *lost["signals"], *lost["panels"]}
    assert silent <= SECOND_SOURCES[source]


def test_page_is_current():
    """The tables of docs/vocabulary.md are what the rules say."""
    page = vocabulary_page.PAGE.read_text()
    current = vocabulary_page.within(page, vocabulary_page.tables())
    assert page == current, "python -m tests.prometheus.vocabulary_page"


@pytest.fixture(params=["promtool"])
def promtool(request) -> Path:
    found = programs(request.param)
    if not found:
        pytest.skip("promtool is not on PATH")
    return found[0]


def test_runbook_queries_parse(promtool, tmp_path):
    """Each query of a page is valid PromQL: promtool takes it as a rule."""
    queries = [
        line
        for path in sorted(RUNBOOKS.glob("*.md"))
        for block in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]
    recorded = [{"record": f"q{i}", "expr": q} for i, q in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": recorded}]}))
    argv = [promtool, "check", "rules", "--lint=none", file]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.e2e
def test_recorded_names_of_node_exporter_are_real(tmp_path):
    """The node_exporter that is here still exports what the rules read of it."""
    found = programs("node_exporter") + programs("prometheus-node-exporter")
    if not found:
        pytest.skip("node_exporter is not on PATH")
    recorded = set((DATA / "exported/node_exporter.txt").read_text().split())
    used = {name for rule in rules() for name in read_by(rule.expr)} & recorded
    url = f"http://127.0.0.1:{(port := free_port())}/metrics"
    argv = [str(found[0]), f"--web.listen-address=127.0.0.1:{port}"]
    with Process(argv, log=tmp_path / "node_exporter.log"):
        text = until(lambda: requests.get(url, timeout=5).text, "node_exporter answers")
    assert used
    assert used <= {re.split("[{ ]", line)[0] for line in text.splitlines()}
