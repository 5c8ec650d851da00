"""Links lead to boards and runbooks that exist, and take node, model and time along."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.harness import grafana
from tests.rules.catalogue import ALERTS, RUNBOOKS

BOARDS = {board["uid"]: board for board in grafana.dashboards().values()}
COMPONENTS = {alert.labels["component"] for alert in ALERTS}
OUTSIDE = ("${router_url}/", "${prometheus_url}/user/")


def links(value: Any) -> Iterator[dict[str, str]]:
    """Find every data link of a panel, those of columns included."""
    if isinstance(value, dict):
        if {"url", "title", "targetBlank"} <= value.keys():
            yield value
        for each in value.values():
            yield from links(each)
    elif isinstance(value, list):
        for each in value:
            yield from links(each)


def found() -> list[tuple[str, dict[str, Any], str]]:
    """(uid of the board, panel, address) of each link."""
    return [
        (uid, panel, link["url"])
        for uid, board in BOARDS.items()
        for panel in grafana.panels(board)
        for link in links(panel)
    ]


INSIDE = [each for each in found() if each[2].startswith("/d/")]


def variables(uid: str) -> set[str]:
    return {each["name"] for each in BOARDS[uid]["templating"]["list"]}


def test_there_is_a_way_between_all_boards():
    """Each board lists the others; choices and time go along."""
    for board in BOARDS.values():
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert link["tags"] == board["tags"]
        assert (link["includeVars"], link["keepTime"]) == (True, True)


def test_uids_of_before_still_lead_to_a_board():
    """Bookmarks and sent messages name them."""
    assert {"inferops-fleet", "inferops-jobs"} <= BOARDS.keys()


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_each_alert_has_its_board(component):
    """The component of an alert is the end of its board's uid."""
    assert f"inferops-{component}" in BOARDS


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_brings_only_what_its_board_takes(alert):
    """A message about a node opens a board on which a node can be chosen."""
    address = urlsplit(alert.annotations["dashboard"])
    uid = address.path.removeprefix("/d/")
    brought = {name.removeprefix("var-") for name, _ in parse_qsl(address.query)}
    assert brought <= variables(uid)


def test_links_lead_to_boards_and_bring_what_they_take():
    """Time and datasource always; variables that the board there has."""
    assert INSIDE
    for uid, panel, url in INSIDE:
        address = urlsplit(url)
        there = address.path.removeprefix("/d/")
        if there == "inferops-${__data.fields.component}":
            continue  # each component is checked above
        assert there in BOARDS, panel["title"]
        assert there != uid, f"{panel['title']} leads to itself"
        assert url.partition("?")[2].startswith(
            "${__url_time_range}&${datasource:queryparam}"
        )
        brought = set(re.findall(r"var-(\w+)=", url))
        kept = set(re.findall(r"\$\{(\w+):queryparam\}", url)) - {"datasource"}
        assert brought | kept <= variables(there), url
        assert kept <= variables(uid), url


def test_links_read_labels_that_the_panel_has():
    """A label that no query keeps would open the board on nothing."""
    for _, panel, url in found():
        text = json.dumps([target["expr"] for target in panel["targets"]])
        for label in re.findall(r"\$\{__(?:field\.labels|data\.fields)\.(\w+)\}", url):
            assert re.search(rf"\b{label}\b", text), (panel["title"], label)


def test_alerts_lead_to_card_node_board_and_runbook():
    """Each of its labels that has a board is a link; a card brings its node."""
    (panel,) = (
        panel
        for panel in grafana.panels(BOARDS["inferops-fleet"])
        if panel["title"] == "Alerts firing now"
    )
    urls = {link["url"].partition("?")[0]: link["url"] for link in links(panel)}
    assert urls.keys() == {
        "/d/inferops-node",
        "/d/inferops-gpu",
        "/d/inferops-${__data.fields.component}",
        "${prometheus_url}/user/${__data.fields.alertname}.md",
    }
    card = urls["/d/inferops-gpu"]
    assert "var-gpu=${__data.fields.uuid}" in card
    assert "var-node=${__data.fields.node}" in card


def test_every_node_on_a_panel_leads_to_its_board():
    """From any line of a node to the board of this node."""
    for uid, board in BOARDS.items():
        if uid == "inferops-node":
            continue
        for panel in grafana.panels(board):
            legends = [target["legendFormat"] for target in panel["targets"]]
            if any("{{node}}" in legend for legend in legends):
                urls = [link["url"] for link in links(panel)]
                assert any("/d/inferops-node?" in url for url in urls), panel["title"]


def test_links_outside_lead_to_the_router_or_to_a_runbook():
    """Their addresses come from variables, and each alert has the page."""
    outside = {url for *_, url in found()} - {url for *_, url in INSIDE}
    assert outside
    assert all(url.startswith(OUTSIDE) for url in outside)
    assert any(url.endswith("/admin/explain") for url in outside)
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}
    assert {alert.name for alert in ALERTS} <= pages


def test_holds_lead_to_their_runbook_and_to_the_router():
    """The alert that placed a hold is a column of its own, and so it is linked."""
    (panel,) = (
        panel
        for panel in grafana.panels(BOARDS["inferops-fleet"])
        if panel["title"] == "Holds now"
    )
    urls = {link["url"] for link in links(panel)}
    assert "${prometheus_url}/user/${__data.fields.runbook}.md" in urls
    assert "${router_url}/admin/nodes/${__data.fields.node}" in urls
    assert "${router_url}/admin/explain" in urls
