"""The shipped rules in a real Prometheus that scrapes a simulated fleet."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
import yaml

from tests.harness.cases import one_each_time
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.prometheus.losses import living
from tests.prometheus.metric_names import OWN, ROOT
from tests.rules.catalogue import (
    ACTIONS,
    RECORDS,
    RULE_FILES,
    RUNBOOKS,
    programs,
)
from tests.rules.exposition import samples

pytestmark = pytest.mark.e2e

FAULTS = {"hot": "GpuTooHot", "ecc": "GpuEccUncorrectable", "xid": "GpuXidCritical"}
NODES = [Simulated("calm", gpus=2), *map(Simulated, FAULTS)]
# Not to be waited for: these are recorded too seldom, no card here is in MIG mode.
SELDOM = {"inferops-hours", "inferops-health-hours", "inferops-slo", "inferops-history"}
ABSENT = {record.name for record in RECORDS if record.group in SELDOM} | {
    "node_gpu:mig_instances:count"
}


class Prometheus:
    """One that is asked; `url` is where."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        reply = requests.get(
            f"{self.url}/api/v1/query", params={"query": expr}, timeout=5
        )
        return reply.json()["data"]["result"]

    def rules(self) -> list[dict[str, Any]]:
        reply = requests.get(f"{self.url}/api/v1/rules", timeout=5).json()
        return [rule for group in reply["data"]["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module", params=one_each_time(programs("prometheus")), ids=str)
def stage(request, tmp_path_factory):
    """A fleet with a node for each fault, and Prometheus with the shipped rules."""
    if request.param is None:
        pytest.skip("prometheus is not on PATH")
    tmp_path = tmp_path_factory.mktemp("live")
    with SimulatedFleet(tmp_path, NODES) as fleet:
        config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
        config["rule_files"] = list(map(str, RULE_FILES))
        (job,) = (j for j in config["scrape_configs"] if j["job_name"] == "dcgm")
        job["file_sd_configs"][0]["files"] = [str(fleet.inventory)]
        config["scrape_configs"] = [job]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        url = f"http://127.0.0.1:{(port := free_port())}"
        argv = [
            request.param,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.external-url={url}",
            f"--web.user-assets={RUNBOOKS}",
        ]
        with Process(argv, log=tmp_path / "prometheus.log"):
            prometheus = Prometheus(url)
            until(
                lambda: len(prometheus.query("node_gpu:temperature:celsius")) == 5,
                "every card is in the vocabulary",
            )
            yield fleet, prometheus


def test_fleet_fills_the_vocabulary(stage):
    """Every rule is healthy, and each series of DCGM's share is there for each card."""
    fleet, prometheus = stage
    played = requests.get(f"{fleet.url('calm')}/metrics", timeout=5).text
    exported = OWN | {sample.name for sample in samples(played)}
    records = {record.name: record.expr for record in RECORDS}
    wanted = living(records, exported) - ABSENT
    assert "node_gpu:xid_critical:count" in wanted
    everything = '{__name__=~"(node|node_gpu|fleet):.+"}'

    def complete() -> bool:
        found = prometheus.query(everything)
        return {each["metric"]["__name__"] for each in found} >= wanted

    until(complete, "the vocabulary is complete")
    unhealthy = [rule for rule in prometheus.rules() if rule["health"] == "err"]
    assert unhealthy == []
    calm = prometheus.query('node_gpu:xid_critical:count{node="calm"}')
    assert [each["value"][1] for each in calm] == ["0", "0"]
    assert prometheus.query('ALERTS{node="calm"}') == []


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=FAULTS)
def test_fault_fires_its_alert(stage, fault, name):
    """A card's fault fires its alert for that node, with a page behind its link."""
    fleet, prometheus = stage
    fleet.put(fault, fault)
    began = time.monotonic()
    # A hot card is close to its limit as well: by name.
    firing = f'ALERTS{{alertstate="firing", node="{fault}", alertname="{name}"}}'
    (fired,) = until(lambda: prometheus.query(firing), f"{name} fires")
    print(f"{fault} -> {name} fires: {time.monotonic() - began:.2f} s")
    (rule,) = (rule for rule in ACTIONS if rule.name == name)
    assert fired["metric"].items() >= {"alertname": name, **rule.labels}.items()
    (told,) = (rule for rule in prometheus.rules() if rule["name"] == name)
    (alert,) = told["alerts"]
    page = requests.get(alert["annotations"]["runbook_url"], timeout=5)
    assert page.text.startswith(f"# {name}\n")
    evidence = prometheus.query(rule.annotations["evidence"])
    assert fired["metric"]["uuid"] in {each["metric"]["uuid"] for each in evidence}
