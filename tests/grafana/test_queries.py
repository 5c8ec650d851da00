"""What the dashboards ask: valid PromQL over series that this project knows."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from tests.harness import grafana

QUERIES = [
    (name, *query)
    for name, dashboard in grafana.dashboards().items()
    for query in grafana.queries(dashboard)
]

# Of Prometheus itself, of the vocabulary's rules, of our exporter, of the router.
KNOWN = {
    *("ALERTS", "up"),
    *("slo:objective:ratio", "slo:sli_events:rate5m", "slo:sli_error:ratio_rate5m"),
    *("slo:sli_error:ratio_rate1h", "slo:sli_error:ratio_rate3d"),
    *(
        f"node_gpu:{rest}"
        for rest in (
            *("temperature:celsius", "temperature_limit:celsius", "power:watts"),
            *("utilization:ratio", "memory_used:bytes", "memory_total:bytes"),
            *("thermal_throttle:ratio_rate1m", "ecc_uncorrected:count"),
            *("xid_critical:count", "xid_application:count", "ecc_corrected:count"),
            *("busy:ratio_rate1m", "energy:joules_rate1m", "power_limit:watts"),
            *("utilization:window_max_ratio", "power:window_max_watts"),
            *("power:window_min_watts", "sm_activity:ratio", "tensor_activity:ratio"),
            *("dram_activity:ratio", "clock:hertz", "throttle:ratio_rate1m"),
            *("pcie_transmitted:bytes_rate1m", "pcie_received:bytes_rate1m"),
            *("nvlink_transmitted:bytes_rate1m", "nvlink_received:bytes_rate1m"),
            *("remapped_rows:count", "retired_pages:count", "recovery_action:code"),
            *("row_remap_pending:flag", "retired_pages_pending:flag"),
            *("row_remap_failure:flag", "pcie_replays:rate5m", "nvlink_errors:rate5m"),
            *("mig_instances:count", "up:flag"),
        )
    ),
    *(
        f"node:{rest}"
        for rest in (
            *("gpu_temperature:max_celsius", "gpu_utilization:ratio"),
            *("gpu_memory_used:ratio", "ollama:up", "ollama_resident_vram:ratio"),
            *("load_per_core:ratio", "memory_available:ratio", "up:ratio"),
            *("gpus:count", "gpus:max_count6h", "gpu_collection:ok"),
            "gpu_collection:age_seconds",
        )
    ),
    *("inferops_ollama_models", "inferops_ollama_resident_models"),
    *(
        f"inferops_{rest}"
        for rest in (
            *("requests_total", "tokens_total", "attempts_total", "retries_total"),
            *("failovers_total", "rejections_total", "holds_placed_total"),
            *("holds_lifted_total", "control_pass_failures_total"),
            *("webhook_notifications_total", "request_duration_seconds_bucket"),
            *("time_to_first_token_seconds_bucket", "queue_wait_seconds_bucket"),
            *("control_pass_duration_seconds_bucket", "in_flight", "slots"),
            *("queue_length", "generation_tokens_per_second", "node_score"),
            *("node_signal_value", "node_signal_score", "node_schedulable"),
            *("node_hold", "panic", "degrade_step", "snapshot_age_seconds"),
            *("event_loop_lag_seconds", "config_last_reload_successful"),
            *("gpu_sample_interval_seconds", "gpu_call_errors_total"),
            *("gpu_sampler_ticks_total", "gpu_sampler_late_ticks_total"),
        )
    ),
    "inferops_jobs",
    "inferops_job_kept_bytes",
    *(
        f"inferops_job_{rest}"
        for rest in (
            *("items", "items_ended_total", "attempts_total", "retries_total"),
            *("copies_total", "tokens_total", "wasted_tokens_total", "nodes"),
            *("continued_total", "reread_tokens_total"),
            *("eta_seconds", "oldest_seconds", "stalled_seconds"),
            "item_duration_seconds_bucket",
            *("store_up", "store_calls_total", "store_commit_seconds_bucket"),
            "store_commit_seconds_count",
        )
    ),
}
# Everything in an expression that is no name of a series, in the order in which it
# must go: a string may hold braces, and a list of labels stands before a bracket.
NOT_NAMES = (
    r'"(?:[^"\\]|\\.)*"',
    r"\{[^}]*\}|\[[^\]]*\]",
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
    r"[A-Za-z_]\w*\s*(?=\()",
    r"\b(?:and|or|unless|bool|offset)\b|\b\d[\w.]*",
)


def names(expr: str) -> set[str]:
    """The series that an expression reads."""
    for pattern in NOT_NAMES:
        expr = re.sub(pattern, " ", expr)
    return set(re.findall(r"[A-Za-z_:][\w:]*", expr))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("up", {"up"}),
        ('sum by (job) (rate(a_total{x="}"}[5m])) or 0 * b:c', {"a_total", "b:c"}),
        ("a / on (node) group_left (uuid) (b > 1e3)", {"a", "b"}),
        ('label_replace(m, "gpu", "$1", "uuid", "(.+)")', {"m"}),
    ],
    ids=["one name", "aggregation and fallback", "join", "strings"],
)
def test_names_of_series_are_found(expr, expected):
    """Functions, labels, keywords, strings and numbers are no series."""
    assert names(expr) == expected


def test_queries_read_known_series():
    """A renamed series must not leave a panel empty in silence."""
    unknown = [
        (title, name)
        for _, title, expr in QUERIES
        for name in sorted(names(expr) - KNOWN)
    ]
    assert unknown == []


def test_every_known_series_is_shown():
    """Nothing in the list above is a leftover."""
    assert KNOWN - {name for *_, expr in QUERIES for name in names(expr)} == set()


def test_variables_are_filled_in():
    """What is left of dollar signs refers to groups of a regular expression."""
    left = {found for *_, expr in QUERIES for found in re.findall(r"\$\w+", expr)}
    assert left <= {"$1"}


def test_queries_cover_the_whole_dashboard():
    """Variables and annotations ask, too; the node is the one that was given."""
    fleet = grafana.dashboards()["fleet.json"]
    asked = grafana.queries(fleet, rate_interval="7s", node="a|b")
    assert ("variable node", "inferops_node_score") in asked
    assert (
        "annotation Holds",
        'max by (node, kind, source) (inferops_node_hold{node=~"a|b"})',
    ) in asked
    assert {title for title, _ in asked} >= {p["title"] for p in grafana.panels(fleet)}
    assert {r for _, expr in asked for r in re.findall(r"\[(.+?)\]", expr)} == {"7s"}


def test_panels_that_may_be_empty_exist():
    """A title that has changed would excuse nothing, and its panel would fail."""
    assert set(grafana.RIGHTLY_EMPTY) <= {title for _, title, _ in QUERIES}


def test_prometheus_can_parse_every_query(tmp_path):
    """Each query, as the expression of a recording rule, passes promtool."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not on PATH")
    rules = [
        {"record": f"query:{number}", "expr": expr}
        for number, (*_, expr) in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(QUERIES)} rules found" in done.stdout
