"""Beside a real node_exporter: the same names, types and values, and never both."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from exporters.collectors.system import SystemCollector
from exporters.node_exporter import NodeExporter
from tests.exporters.backends import answering, silent
from tests.exporters.exposition import collected, text, values
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

# What counts on while two programs read it one after the other.
_SHARE = 0.05


def _binary() -> str | None:
    unpacked = ROOT / ".tools/usr/bin/prometheus-node-exporter"
    names = ("node_exporter", "prometheus-node-exporter")
    found = [path for name in names if (path := shutil.which(name))]
    return next(iter(found), str(unpacked) if unpacked.exists() else None)


@contextlib.contextmanager
def node_exporter(tmp_path: Path) -> Iterator[tuple[str, Process]]:
    """Run a real one; yield its base URL."""
    binary = _binary()
    if binary is None:
        pytest.skip("node_exporter is not on PATH")
    where = f"127.0.0.1:{free_port()}"
    argv = [binary, f"--web.listen-address={where}", "--no-collector.systemd"]
    with Process(argv, log=tmp_path / "node_exporter.log") as process:
        url = f"http://{where}"
        until(lambda: NodeExporter(url).answers(_soon()), "node_exporter answers")
        yield url, process


def _soon() -> float:
    return time.monotonic() + 5


class Alone:
    def answers(self, deadline: float) -> bool:
        return False


Shapes = Mapping[str, tuple[str, frozenset[str]]]


def shapes(exposition: str) -> Shapes:
    """Return type and label names by sample name."""
    return {
        sample.name: (family.type, frozenset(sample.labels))
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name.startswith("node_")
    }


@pytest.mark.e2e
def test_names_types_labels_and_values_are_node_exporters(tmp_path) -> None:
    """So that one set of rules serves both; read from one machine by both."""
    with node_exporter(tmp_path) as (url, _):
        theirs = requests.get(f"{url}/metrics", timeout=10).text
        metrics, error = collected(SystemCollector(Alone()))
    assert error is None
    ours = text(metrics)
    known = shapes(theirs)
    assert {name: known.get(name) for name in shapes(ours)} == shapes(ours)
    compared = 0
    their_values = values(theirs)
    for series, value in values(ours).items():
        if series in their_values and not series.startswith("node_load"):
            expected = pytest.approx(their_values[series], rel=_SHARE, abs=2e6)
            assert value == expected, series
            compared += 1
    assert compared >= 20


@pytest.mark.e2e
def test_never_both(tmp_path) -> None:
    """While it answers it speaks for the machine; once it is gone, we do."""
    with node_exporter(tmp_path) as (url, process):
        collector = SystemCollector(NodeExporter(url))
        metrics, _ = collected(collector)
        assert values(text(metrics)) == {"inferops_system_yields": 1}
        process.signal(9)
        process.wait(10)
        metrics, _ = collected(collector)
    found = values(text(metrics))
    assert found["inferops_system_yields"] == 0
    assert "node_load1" in found


@pytest.mark.parametrize(
    ("status", "body", "there"),
    [
        pytest.param(200, b"<title>Node Exporter</title>", True, id="landing page"),
        pytest.param(401, b"Unauthorized", True, id="behind a password"),
        pytest.param(
            400,
            b"Client sent an HTTP request to an HTTPS server.",
            True,
            id="behind TLS",
        ),
        pytest.param(200, b"<title>Printer</title>", False, id="something else"),
        pytest.param(400, b"no", False, id="something else that refuses"),
    ],
)
def test_what_counts_as_node_exporter(status, body, there) -> None:
    """9100 is the raw port of printers, too."""
    with answering({"/": body}, status) as url:
        assert NodeExporter(url).answers(_soon()) == there


def test_nobody_and_somebody_silent_are_not_it() -> None:
    """Neither a closed port nor one that never answers is taken for it."""
    assert not NodeExporter(f"http://127.0.0.1:{free_port()}").answers(_soon())
    with silent() as url:
        assert not NodeExporter(url).answers(_soon())
