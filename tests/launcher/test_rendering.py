"""What the launcher writes for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from launcher.rendering import Intervals, inventory, prometheus, render
from launcher.services import Paths, Ports, Programs, services
from launcher.substitutions import table
from tests.harness.process import ROOT

SERVICES = "router|prometheus|alertmanager|grafana|exporter|node-exporter|simulator"
PORTS = Ports(1, 2, 3, 4, 5, 6, 7)
PROGRAMS = Programs(prometheus=Path("/none"), alertmanager=Path("/none"))


@pytest.fixture
def shipped():
    return yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())


@pytest.fixture
def rendered(paths):
    """The run directory after rendering; needs the alerting package's renderer."""
    pytest.importorskip("alerting.render")
    render(PORTS, paths)
    return paths.run


def test_no_name_of_a_service_is_left(rendered) -> None:
    """Nothing rendered points at a host that only Compose knows."""
    left = {
        path.name: found
        for path in rendered.rglob("*.yml")
        if (found := re.findall(rf"\b(?:{SERVICES}):\d+", path.read_text()))
    }

    assert {} == left


def test_secrets_are_private(rendered) -> None:
    """Every secret is made, long, and readable by its owner only."""
    found = sorted(p for p in (rendered / "secrets").iterdir() if p.is_file())

    assert [
        "admin-token",
        "alertmanager-password",
        "grafana-admin-password",
        "metrics-token",
        "webhook-token",
    ] == [path.name for path in found]
    assert {0o600} == {path.stat().st_mode & 0o777 for path in found}
    assert all(len(path.read_text()) > 40 for path in found)


def test_own_files_count_without_docker(tmp_path) -> None:
    """Settings, rules and receivers of site/ reach the parts as with Docker."""
    root, site = tmp_path / "root", tmp_path / "root" / "site"
    for name in ("alerting", "grafana", "prometheus", "router"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    (site / "rules").mkdir(parents=True)
    (site / "secrets").mkdir()
    (site / "rules" / "own.yml").write_text("groups: []\n")
    (site / "secrets" / "webhook-url").write_text("https://hooks.example/x")
    (site / "router.yml").write_text("dispatch: {attempts: 7}\n")
    own = Paths(root, tmp_path / "run", root / "prometheus" / "targets" / "nodes.yml")

    render(PORTS, own, external_host="ai.lan")

    router = yaml.safe_load((own.run / "router.yml").read_text())
    assert 7 == router["dispatch"]["attempts"]
    rules = yaml.safe_load(own.prometheus_yml.read_text())["rule_files"]
    assert f"{site}/rules/*.yml" in rules
    assert "https://hooks.example/x" in own.alertmanager_yml.read_text()
    made = services(PORTS, own, PROGRAMS, external_host="ai.lan")
    by_name = {each.name: each for each in made}
    assert str(own.run / "router.yml") == by_name["router"].env["INFEROPS_CONFIG"]
    assert "--web.external-url=http://ai.lan:2" in by_name["prometheus"].argv


def test_a_second_rendering_keeps_the_secrets(rendered, paths) -> None:
    """Tokens handed out stay good over a restart."""
    before = paths.webhook_token.read_text()

    render(PORTS, paths)

    assert before == paths.webhook_token.read_text()


def test_the_webhook_reads_the_routers_token(rendered, paths) -> None:
    """The token that Alertmanager sends is the one the router compares with."""
    text = (rendered / "alertmanager.yml").read_text()

    copy = paths.secrets / "alertmanager" / "webhook-token"
    assert str(copy) in text
    assert paths.webhook_token.read_text() == copy.read_text()


def test_rules_and_inventory_are_found_from_anywhere(shipped, paths) -> None:
    """Each rule file's pattern is absolute and matches; jobs read our inventory."""
    found = prometheus(shipped, paths, table(PORTS, paths))

    folders = [Path(each).parent for each in found["rule_files"]]
    assert [ROOT / "prometheus" / "records", ROOT / "alerting" / "rules"] == folders
    files = {
        file
        for job in found["scrape_configs"]
        for sd in job.get("file_sd_configs", ())
        for file in sd["files"]
    }
    assert {str(paths.inventory)} == files


def test_other_intervals_reach_every_job(shipped, paths) -> None:
    """No job keeps an interval of its own when a test is in a hurry."""
    found = prometheus(shipped, paths, table(PORTS, paths), Intervals(1, 2))

    assert ("1s", "2s") == (
        found["global"]["scrape_interval"],
        found["global"]["evaluation_interval"],
    )
    assert [] == [job for job in found["scrape_configs"] if "scrape_interval" in job]


def test_shipped_intervals_stay_otherwise(shipped, paths) -> None:
    """Without other intervals the jobs keep their own."""
    found = prometheus(shipped, paths, table(PORTS, paths))

    assert shipped["global"] == found["global"]


def test_the_demonstrations_inventory_is_on_loopback(paths, tmp_path) -> None:
    """The fallback inventory names the ports that the simulator listens on."""
    fallback = replace(paths, inventory=tmp_path / "run" / "nodes.yml")

    inventory(PORTS, fallback)

    entries = yaml.safe_load(fallback.inventory.read_text())
    assert [f"http://127.0.0.1:{n}" for n in (8, 9, 10, 11)] == [
        entry["labels"]["__ollama"] for entry in entries
    ]
