"""The rules of Grafana's dashboard-linter, on the committed dashboards.

Left out, with the reason: template and target rules for `job` and `instance`
(identity here is `node`, and series of one name come from one job), and
`$__rate_interval` for records of 5 min: one sample each 5 min has no scrape interval.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import product

import pytest

from tests.harness import grafana

# Of Grafana's value formats, those that are in use; a typing error is none.
UNITS = {
    *("none", "short", "percentunit", "s", "bytes"),
    *("celsius", "watt", "hertz", "Bps", "reqps", "cps", "joule", "kwatth", "massg"),
}
# A glance, and nobody scrolls past it; what is more goes to another board.
MOST_PANELS = 25
COLUMNS = 24
COUNTER = re.compile(r"(?P<call>\w*)\(?(?<!:)\b\w+_(total|bucket|sum|count)\b(?!:)")


@pytest.fixture(params=grafana.dashboards().items(), ids=lambda param: param[0])
def dashboard(request):
    return request.param[1]


@pytest.fixture
def panels(dashboard):
    return grafana.panels(dashboard)


@pytest.fixture
def targets(panels):
    return [(panel["title"], each) for panel in panels for each in panel["targets"]]


def test_identity_is_stable(dashboard):
    """A fixed uid keeps links alive; Grafana gives the id."""
    assert (dashboard["id"], dashboard["editable"]) == (None, False)
    assert re.fullmatch(r"inferops-[a-z-]{1,31}", dashboard["uid"])


def test_datasource_can_be_chosen(dashboard):
    """The variable has the name and label that the linter asks for."""
    variables = dashboard["templating"]["list"]
    chosen = [each for each in variables if each["type"] == "datasource"]
    assert [(v["name"], v["label"]) for v in chosen] == [("datasource", "Data source")]


def test_query_variables_follow_the_time_range(dashboard):
    """Nodes come and go: each list is reloaded, and offers several and all.

    Jobs have no label for it: they run wherever there is room.
    """
    variables = dashboard["templating"]["list"]
    queried = [each for each in variables if each["type"] == "query"]
    assert all(
        (each["refresh"], each["multi"], each["includeAll"]) == (2, True, True)
        for each in queried
    )
    assert {each["allValue"] for each in queried} <= {".+", ".*"}


def test_variables_are_chained(dashboard):
    """The datasource first; a list of values follows from the choices before it."""
    variables = dashboard["templating"]["list"]
    assert variables[0]["type"] == "datasource"
    before: set[str] = set()
    for each in variables:
        used = set(re.findall(r"\$(\w+)", each.get("definition", "")))
        assert used <= before, each["name"]
        if each["name"] in {"gpu", "model"}:
            assert used == {"node"}
        before.add(each["name"])


def test_variables_are_used(dashboard):
    """A choice that changes nothing would be a lie."""
    text = json.dumps([dashboard["panels"], dashboard["annotations"]])
    always = {"datasource", "router_url", "prometheus_url"}
    for each in dashboard["templating"]["list"]:
        name = each["name"]
        assert name in always or re.search(rf"\$\{{?{name}\b", text), name


def test_variables_exist(dashboard):
    """Each that is read is one of the board's, or Grafana's own."""
    own = {each["name"] for each in dashboard["templating"]["list"]}
    text = json.dumps([dashboard["panels"], dashboard["annotations"]])
    read = re.findall(r"\$(?:\{([a-z_][\w]*)|([a-z_]\w*))", text, re.IGNORECASE)
    names = {one or other for one, other in read}
    grafanas = {"__rate_interval", "__interval", "__range"}
    assert names - own <= grafanas | {"__field", "__data", "__url_time_range"}


def test_a_board_can_be_taken_in(dashboard, panels):
    """No board has more open panels than people look at."""
    assert 0 < len(panels) <= MOST_PANELS


def test_panels_read_the_chosen_datasource(dashboard, panels, targets):
    """No panel, target, variable or annotation is bound to one Grafana."""
    holders = [
        *panels,
        *(target for _, target in targets),
        *dashboard["annotations"]["list"],
        *(v for v in dashboard["templating"]["list"] if v["type"] == "query"),
    ]
    expected = {"type": "prometheus", "uid": "${datasource}"}
    assert [each["datasource"] for each in holders] == [expected] * len(holders)


def test_panels_are_explained(panels):
    """Each has a title of its own, and a sentence that says what to make of it."""
    titles = Counter(panel["title"] for panel in panels)
    assert [title for title, count in titles.items() if count > 1] == []
    short = [p["title"] for p in panels if not re.match(r".{20,}\.$", p["description"])]
    assert short == []


def test_panels_say_what_nothing_means(panels):
    """A panel without an answer has words of its own, not Grafana's "No data"."""
    assert [
        p["title"] for p in panels if not p["fieldConfig"]["defaults"]["noValue"]
    ] == []


def test_panels_have_known_units(panels):
    """A unit that Grafana does not know is shown as text behind the number."""
    for panel in panels:
        config = panel["fieldConfig"]
        overrides = [
            each["value"]
            for override in config["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        ]
        units = {config["defaults"]["unit"], *overrides}
        assert units <= UNITS, panel["title"]


def test_panels_have_targets(panels):
    """Each asks something, and no two queries of a panel share a letter."""
    for panel in panels:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters, panel["title"]
        assert len(set(letters)) == len(letters), panel["title"]


def test_series_over_time_are_told_apart(panels):
    """Where several lines may stand, the legend says which is which."""
    silent = [
        panel["title"]
        for panel in panels
        if panel["type"] in {"timeseries", "state-timeline"}
        for target in panel["targets"]
        if target["legendFormat"] == "__auto"
    ]
    assert silent == []


def test_ranges_follow_the_zoom(targets):
    """A range of fixed length is empty or wrong at some zoom.

    Records of 5 min are read over each step, which must be as long; figures over the
    whole time range are asked for once, not at each step of it.
    """
    for title, target in targets:
        for window in re.findall(r"\[(.+?)\]", target["expr"]):
            if window == "$__interval":
                assert target.get("interval") in {"5m", "1h"}, title
                records = re.findall(r"\w+:[\w:]+", target["expr"])
                assert all(re.search(r"5m$", each) for each in records), title
            elif window.startswith("$__range"):
                assert target["instant"], title
            else:
                assert window == "$__rate_interval", title


def test_counters_are_never_shown_raw(targets):
    """Counters and histograms start again at each restart: only rates are true."""
    raw = [
        (title, found.group())
        for title, target in targets
        for found in COUNTER.finditer(re.sub(r"\{.*?\}|\".*?\"", "", target["expr"]))
        if found["call"] not in {"rate", "increase"}
    ]
    assert raw == []


def test_panel_ids_are_unique(dashboard):
    """Links to a panel name its id."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert sorted(set(ids)) == ids


def test_grid_has_no_gaps_and_no_overlaps(dashboard):
    """Every cell from the top to the last panel belongs to exactly one panel."""
    cells = Counter(
        cell
        for panel in dashboard["panels"]
        for cell in product(
            range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"]),
            range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"]),
        )
    )
    bottom = 1 + max(y for _, y in cells)
    assert cells == Counter(product(range(COLUMNS), range(bottom)))
