"""The shared PromQL does what it says, by promtool on made-up series."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from grafana import promql
from tests.harness import grafana

ROUTER_UP = {"series": 'up{job="router"}', "values": "1x20"}
ROUTER_DOWN = {"series": 'up{job="router"}', "values": "0x20"}
FLEET = [
    {"series": f'inferops_node_schedulable{{node="{node}"}}', "values": "1x20"}
    for node in ("a", "b")
]


def requests(code, outcome, values):
    labels = f'code="{code}", outcome="{outcome}"'
    return {"series": f"inferops_requests_total{{{labels}}}", "values": values}


def hold(node, kind, source):
    labels = f'node="{node}", kind="{kind}", source="{source}", state="confirmed"'
    return {"series": f"inferops_node_hold{{{labels}}}", "values": "1x20"}


def first_token(values):
    name = "inferops_time_to_first_token_seconds_bucket"
    return [
        {"series": f'{name}{{node="a", le="{le}"}}', "values": values}
        for le in ("1", "+Inf")
    ]


REQUESTS = promql.or_zero(promql.rate("inferops_requests_total"))
BY_CODE = promql.or_zero(promql.rate("inferops_requests_total", by="code"))
BY_NODE = promql.or_node_zero(
    promql.rate("inferops_attempts_total", promql.NODE, by="node, outcome")
)
MEDIAN = promql.quantile(0.5, "inferops_time_to_first_token_seconds", promql.NODE)

CASES = {
    "no request yet reads 0": (REQUESTS, [ROUTER_UP], {"{}": 0}),
    "no router reads nothing": (REQUESTS, [ROUTER_DOWN], {}),
    "a rate beats the zero": (
        REQUESTS,
        [ROUTER_UP, requests(200, "end", "0+60x20")],
        {"{}": 1},
    ),
    "a zero leaves no line beside series": (
        BY_CODE,
        [ROUTER_UP, requests(200, "end", "0+60x20")],
        {'{code="200"}': 1},
    ),
    "a node without attempts reads 0": (
        BY_NODE,
        [
            *FLEET,
            {
                "series": 'inferops_attempts_total{node="a", outcome="end"}',
                "values": "0+60x20",
            },
        ],
        {'{node="a", outcome="end"}': 1, '{node="b"}': 0},
    ),
    "no traffic is no error": (
        promql.ERROR_RATIO,
        [ROUTER_UP, requests(200, "end", "7x20")],
        {"{}": 0},
    ),
    "no failure yet is no error": (
        promql.ERROR_RATIO,
        [ROUTER_UP, requests(200, "end", "0+60x20")],
        {"{}": 0},
    ),
    "an error is counted once": (
        promql.ERROR_RATIO,
        [
            ROUTER_UP,
            requests(200, "end", "0+120x20"),
            requests(200, "stalled", "0+60x20"),
            requests(503, "refused", "0+30x20"),
            requests(502, "eof", "0+30x20"),
        ],
        {"{}": 0.5},
    ),
    "a client's fault is no error": (
        promql.ERROR_RATIO,
        [
            ROUTER_UP,
            requests(404, "refused", "0+60x20"),
            requests(200, "client_gone", "0+60x20"),
        ],
        {"{}": 0},
    ),
    "hold kinds add up, sources do not": (
        promql.STATES,
        [
            *FLEET,
            hold("a", "cordon", "operator:x"),
            hold("a", "drain", "alert:One"),
            hold("a", "drain", "alert:Two"),
        ],
        {'{node="a"}': 3, '{node="b"}': 0},
    ),
    **{
        f"{kind} is no serving node": (
            promql.STATES,
            [*FLEET, hold("b", kind, "x")],
            {'{node="a"}': 0, '{node="b"}': bit},
        )
        for kind, bit in promql.HOLD_BITS.items()
    },
    "a quantile of nothing is nothing": (MEDIAN, first_token("5x20"), {}),
    "a quantile of something": (MEDIAN, first_token("0+60x20"), {"{}": 0.5}),
}


@pytest.mark.parametrize(
    ("expr", "series", "expected"), CASES.values(), ids=CASES.keys()
)
def test_shared_promql(expr, series, expected, tmp_path):
    """Evaluated after 10 minutes of the series, once a minute."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not on PATH")
    values = {"__rate_interval": "5m", "node": ".+"}
    filled = grafana.fill(expr, values)
    samples = [{"labels": labels, "value": each} for labels, each in expected.items()]
    question = {"expr": filled, "eval_time": "10m", "exp_samples": samples}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [question]}
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = subprocess.run(
        [promtool, "test", "rules", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
