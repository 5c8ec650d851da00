"""prometheus.yml: valid everywhere; an inventory entry becomes the right targets."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
import yaml

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.prometheus.metric_names import ROOT
from tests.rules.catalogue import programs

CONFIG = ROOT / "prometheus/prometheus.yml"
EVERYTHING = "exporter,node,dcgm,nvidia_smi,probe"
EXPORTER = "exporter:21434"

# What an entry of the inventory comes to: job -> address that is scraped.
ENTRIES = {
    "plain": (
        "10.0.0.1",
        {},
        {"exporter": "10.0.0.1:21434", "node": "10.0.0.1:9100"},
    ),
    "a port in the entry is not the telemetry's": (
        "rig.lan:11434",
        {"__scrape": EVERYTHING},
        {
            "exporter": "rig.lan:21434",
            "node": "rig.lan:9100",
            "dcgm": "rig.lan:9400",
            "nvidia_smi": "rig.lan:9835",
            "probe": EXPORTER,
        },
    ),
    "an address of version 6": (
        "[fd7a::1]:80",
        {"__scrape": "exporter, dcgm"},
        {"exporter": "[fd7a::1]:21434", "dcgm": "[fd7a::1]:9400"},
    ),
    "version 6 without a port": (
        "[fd7a::1]",
        {"__scrape": "node"},
        {"node": "[fd7a::1]:9100"},
    ),
    "addresses of their own": (
        "10.0.0.1",
        {
            "__scrape": EVERYTHING,
            "__exporter_address": "a:1",
            "__node_address": "b:2",
            "__dcgm_address": "c:3",
            "__nvidia_smi_address": "d:4",
        },
        {
            "exporter": "a:1",
            "node": "b:2",
            "dcgm": "c:3",
            "nvidia_smi": "d:4",
            "probe": EXPORTER,
        },
    ),
    "probed by its address": (
        "10.0.0.7",
        {"__scrape": "probe"},
        {"probe": EXPORTER},
    ),
    "probed by its Ollama's URL": (
        "10.0.0.8:9",
        {"__scrape": "probe", "__ollama": "https://o.test/x"},
        {"probe": EXPORTER},
    ),
}
PROBED = {
    "probed by its address": "http://10.0.0.7:11434",
    "probed by its Ollama's URL": "https://o.test/x",
}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load(CONFIG.read_text())


@pytest.mark.parametrize("promtool", programs("promtool") or [None], ids=str)
def test_config_is_valid(promtool, tmp_path):
    """Each promtool accepts the file, and finds the rules and the inventory."""
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    # promtool looks for the token's file, which only a running product has.
    (tmp_path / "metrics-token").write_text("x")
    text = CONFIG.read_text().replace("/run/inferops/prometheus", str(tmp_path))
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / CONFIG.name).write_text(text)
    for name in ("alerting", "prometheus/records", "prometheus/targets"):
        (tmp_path / name).symlink_to(ROOT / name)
    argv = [promtool, "check", "config", tmp_path / "prometheus" / CONFIG.name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "health.yml" in done.stdout
    assert "gpu_telemetry.yml" in done.stdout
    assert "meta.yml" in done.stdout


def test_no_external_labels(config):
    """Labels that only notifications have would part them from the ALERTS series."""
    assert "external_labels" not in config["global"]


def test_hot_cards_are_read_every_second(config):
    """The shipped intervals let a drain begin within seconds."""
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["dcgm"]["scrape_interval"] == "1s"
    assert jobs["exporter"]["scrape_interval"] == "2s"


PROGRAMS = list[object](programs("prometheus")) or [None]


@pytest.fixture(scope="module", params=PROGRAMS, ids=str)
def targets(request, tmp_path_factory) -> list[dict[str, Any]]:
    """Every entry above, as a real Prometheus reads it by the shipped file."""
    if request.param is None:
        pytest.skip("prometheus is not on PATH")
    entries = [
        {"targets": [target], "labels": {"node": name, **labels}}
        for name, (target, labels, _) in ENTRIES.items()
    ]
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "targets").mkdir()
    (folder / "prometheus.yml").write_text(CONFIG.read_text())
    (folder / "targets/nodes.yml").write_text(yaml.safe_dump(entries))
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [
        request.param,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]

    wanted = {
        (node, job) for node, (*_, expected) in ENTRIES.items() for job in expected
    }
    found: list[dict[str, Any]] = []

    def read() -> bool:
        """One job's targets may be there before another's."""
        reply = requests.get(f"{url}/api/v1/targets", timeout=5).json()
        found[:] = reply["data"]["activeTargets"]
        labels = [each["labels"] for each in found]
        return wanted <= {(each.get("node"), each["job"]) for each in labels}

    with (
        Process(argv, log=folder / "prometheus.log"),
        contextlib.suppress(AssertionError),  # the tests tell what is not there
    ):
        until(read, "Prometheus has read the inventory")
    return found


def address(target: dict[str, Any]) -> str:
    return urlsplit(target["scrapeUrl"]).netloc


@pytest.mark.e2e
@pytest.mark.parametrize("node", ENTRIES)
def test_entry_becomes_targets(targets, node):
    """An entry is scraped where its `__scrape` and addresses say, under its name."""
    *_, expected = ENTRIES[node]
    of_node = [each for each in targets if each["labels"].get("node") == node]
    assert expected == {each["labels"]["job"]: address(each) for each in of_node}


@pytest.mark.e2e
@pytest.mark.parametrize("node", PROBED)
def test_probe_asks_for_the_nodes_ollama(targets, node):
    """The central exporter is told which Ollama to ask, and the instance says so."""
    (probe,) = (each for each in targets if each["labels"].get("node") == node)
    expected = f"http://{EXPORTER}/probe?target={PROBED[node]}"
    assert expected == unquote(probe["scrapeUrl"])
    assert {"job": "probe", "node": node, "instance": PROBED[node]} == probe["labels"]


@pytest.mark.e2e
def test_control_plane_is_one_target(targets):
    """The machine of the control plane has the reserved name, and node_exporter."""
    found = [each for each in targets if each["labels"].get("node") == "control-plane"]
    assert [("node", "node-exporter:9100")] == [
        (each["labels"]["job"], address(each)) for each in found
    ]
