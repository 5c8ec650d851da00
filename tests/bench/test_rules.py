"""The fleet whose rules are timed is a well one, scraped as it says."""

from __future__ import annotations

import yaml

from bench.rules import DCGM, OWN, configuration, text
from tests.rules.exposition import samples


def test_each_kind_of_node_has_its_job(tmp_path):
    """A few nodes are scraped as shipped, many of them every 15 s."""
    few = yaml.safe_load(configuration(tmp_path, 4, 1, 2).read_text())
    many = yaml.safe_load(configuration(tmp_path, 1000, 1, 2).read_text())

    found = {job["job_name"]: job for job in few["scrape_configs"]}
    assert found["dcgm"]["scrape_interval"] == "1s"
    assert found["exporter"]["scrape_interval"] == "2s"
    nodes = [each["labels"]["node"] for each in found["dcgm"]["static_configs"]]
    assert nodes == ["n0", "n2"]
    jobs = {job["job_name"]: job for job in many["scrape_configs"]}
    assert jobs["exporter"]["scrape_interval"] == "15s"
    assert len(jobs["exporter"]["static_configs"]) == 500


def test_nodes_are_well():
    """A thousand firing alerts would be timed instead of the rules."""
    own = list(samples(text(*OWN).decode()))
    ecc = [s.value for s in own if s.name == "inferops_gpu_ecc_uncorrected_errors"]
    vram = [s.value for s in own if s.name == "inferops_ollama_resident_vram_bytes"]
    assert ecc
    assert set(ecc) == {"0"}
    assert set(vram) == {"1e12"}
    assert "DCGM_FI_DEV_GPU_TEMP" in text(*DCGM).decode()
