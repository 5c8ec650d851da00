"""Grafana finds Prometheus and the dashboards as the other parts expect."""

from __future__ import annotations

import pytest
import yaml

from tests.harness import grafana
from tests.harness.process import ROOT

PROVISIONING = ROOT / "grafana" / "provisioning"


@pytest.fixture(scope="module")
def datasource():
    path = PROVISIONING / "datasources" / "prometheus.yml"
    (only,) = yaml.safe_load(path.read_text())["datasources"]
    return only


@pytest.fixture(scope="module")
def provider():
    path = PROVISIONING / "dashboards" / "inferops.yml"
    (only,) = yaml.safe_load(path.read_text())["providers"]
    return only


def test_dashboards_choose_the_provisioned_datasource(datasource):
    """On first sight, the variable stands at the source that is provisioned."""
    for dashboard in grafana.dashboards().values():
        variable, *_ = dashboard["templating"]["list"]
        assert variable["query"] == datasource["type"]
        assert variable["current"] == {
            "text": datasource["name"],
            "value": datasource["uid"],
        }


def test_rates_span_the_scrape_interval(datasource):
    """Grafana derives $__rate_interval from it: shorter, and rates are empty."""
    prometheus = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    expected = prometheus["global"]["scrape_interval"]
    assert datasource["jsonData"]["timeInterval"] == expected


def test_datasource_is_read_only(datasource):
    """Rules belong to Prometheus; long queries need POST."""
    assert (datasource["editable"], datasource["jsonData"]["manageAlerts"]) == (
        False,
        False,
    )
    assert datasource["jsonData"]["httpMethod"] == "POST"
    assert datasource["url"] == "http://prometheus:9090"


def test_dashboards_come_from_the_given_directory(provider):
    """Compose and native mode name the directory; nobody edits in Grafana."""
    assert provider["options"]["path"] == "$INFEROPS_DASHBOARDS"
    assert (provider["allowUiUpdates"], provider["type"]) == (False, "file")
