"""`/boards` in front of a Prometheus that says what it was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from router.errors import NotFoundError, PrometheusError
from router.web.admin.auth import check_spelling
from router.web.app import routed
from router.web.boards import MOST_QUERIES, BoardContext, boards_blueprint
from router.web.boards.catalogue import BoardCatalogue, read
from router.web.boards.known import KnownValues
from router.web.pages import pages_blueprint
from tests.harness import grafana

RANGE = "from=0&to=3600&points=100"
NODE_BOARD = grafana.dashboards()["node.json"]
OF_NODES = next(
    panel
    for panel in grafana.panels(NODE_BOARD)
    if panel["targets"][0]["instant"] and "$node" in panel["targets"][0]["expr"]
)
STAT = f"/boards/inferops-node/panels/{OF_NODES['id']}/A"


class Recorder:
    """Knows two nodes; keeps each question."""

    def __init__(self):
        self.asked = []
        self.listed = 0
        self.fault = None
        self.nodes = ["a", "b"]

    def query(self, expression, params):
        if self.fault:
            raise self.fault
        self.asked.append((expression, params))
        return b'{"status":"success"}'

    def label_values(self, label, series, since, until):
        self.listed += 1
        return json.dumps({"status": "success", "data": self.nodes}).encode()


def application(context) -> Flask:
    """With the pages of jobs, whose frame the boards have."""
    pages: Any = None  # none of theirs is asked for
    return routed([pages_blueprint(pages), boards_blueprint(context)], lambda: None)


class Rig:
    def __init__(self):
        self.prometheus = Recorder()
        self.now = 100.0
        known = KnownValues(
            self.prometheus, monotonic=lambda: self.now, wall=lambda: 4e9
        )
        catalogue = read(grafana.DASHBOARDS)
        context = BoardContext(catalogue, self.prometheus, known)
        self.app = application(context)
        self.client = self.app.test_client()

    def status(self, path):
        return self.client.get(path).status_code


@pytest.fixture
def rig():
    return Rig()


def test_the_step_between_points_is_told(rig):
    """Whoever draws them has to know what is a gap: here a scrape, not 60 / 100 s."""
    line = next(
        panel
        for panel in grafana.panels(NODE_BOARD)
        if panel["type"] == "timeseries" and not panel["targets"][0].get("interval")
    )
    path = f"/boards/inferops-node/panels/{line['id']}/A?from=0&to=60&points=100"
    answer = rig.client.get(path)
    ((_, params),) = rig.prometheus.asked
    assert "5" == params["step"] == answer.headers["X-InferOps-Step"]
    instant = rig.client.get(f"{STAT}?{RANGE}")
    assert "X-InferOps-Step" not in instant.headers


def test_a_query_is_asked_as_committed(rig):
    """By board, panel and target; Prometheus' bytes come back as they are."""
    answer = rig.client.get(f"{STAT}?{RANGE}&var-node=a")
    assert (200, b'{"status":"success"}') == (answer.status_code, answer.data)
    [(expression, params)] = rig.prometheus.asked
    committed = OF_NODES["targets"][0]["expr"]
    assert expression == committed.replace("$node", "a")
    assert params == {"time": "3600.000"}


@pytest.mark.parametrize(
    "path",
    [
        "/boards/none/panels/2/A",
        "/boards/inferops-fleet/panels/999/A",
        "/boards/inferops-fleet/panels/2/Z",
        "/boards/inferops-fleet/marks/99",
        "/boards/inferops-fleet/variables/router_url",
        "/boards/inferops-energy/variables/price",
    ],
)
def test_nothing_else_is_there(rig, path):
    """What no board asks cannot be asked."""
    assert (404, []) == (rig.status(f"{path}?{RANGE}"), rig.prometheus.asked)


@pytest.mark.parametrize(
    "query",
    [
        "query=up",
        "from=0&to=3600&points=100000",
        f"{RANGE}&var-node=c",
        f"{RANGE}&var-expr=up",
        f"{RANGE}&var-node=a&var-node=.%2B",
    ],
)
def test_what_is_not_allowed_is_not_asked(rig, query):
    """Free PromQL, too many points, unknown nodes, unknown variables."""
    assert (400, []) == (rig.status(f"{STAT}?{query}"), rig.prometheus.asked)


def test_a_new_node_is_known_soon(rig):
    """Values are looked up again for one that is missing, and not at each request."""
    assert rig.status(f"{STAT}?{RANGE}&var-node=a") == 200
    rig.prometheus.nodes.append("c")
    assert rig.status(f"{STAT}?{RANGE}&var-node=c") == 400
    assert rig.prometheus.listed == 1
    rig.now += 3
    assert rig.status(f"{STAT}?{RANGE}&var-node=c") == 200
    assert rig.prometheus.listed == 2


def test_a_silent_prometheus_is_said(rig):
    """With what it said; the page shows it in the panel."""
    rig.prometheus.fault = PrometheusError("503: too many queries")
    answer = rig.client.get(f"{STAT}?{RANGE}")
    assert 503 == answer.status_code
    assert answer.json == {"error": "Prometheus: 503: too many queries"}


def test_queries_take_turns(rig):
    """One more than the bound is refused, and told to come back."""
    statuses = []

    def ask_another(_expression, _params):
        if 429 not in statuses:
            another = rig.app.test_client().get(f"{STAT}?{RANGE}")
            statuses.append(another.status_code)
        return b"{}"

    rig.prometheus.query = ask_another
    assert rig.status(f"{STAT}?{RANGE}") == 200
    assert statuses == [429, *[200] * (MOST_QUERIES - 1)]
    assert rig.status(f"{STAT}?{RANGE}") == 200


@pytest.mark.parametrize("path", ["/boards", "/boards/inferops-fleet"])
def test_pages_take_nothing_from_elsewhere(rig, path):
    """A policy forbids other sites' and inline scripts, and frames."""
    answer = rig.client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert b"Grafana" in answer.data


def test_without_boards_the_page_says_so():
    """A router whose folder is missing serves all the same."""
    known = KnownValues(Recorder(), monotonic=lambda: 0.0, wall=lambda: 0.0)
    context = BoardContext(BoardCatalogue(), Recorder(), known)
    client = application(context).test_client()
    assert b"web.boards" in client.get("/boards").data


@pytest.mark.parametrize("raw", ["//boards", "/%62oards", "/boards/a%2Fb", "/boards/"])
def test_boards_have_one_spelling(raw):
    """As `/admin` has: a proxy's rule for the path cannot be passed by."""
    check_spelling("/boards?from=1")
    check_spelling("/boards/inferops-fleet/panels/2/A")
    with pytest.raises(NotFoundError):
        check_spelling(raw)
