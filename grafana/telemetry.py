"""The board "Telemetry health": what all other boards rest on."""

from __future__ import annotations

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Field,
    Json,
    Query,
    timeline,
    timeseries,
)
from grafana.states import DEGRADE_WORDS
from grafana.tables import labels
from grafana.variables import NODE as NODE_VARIABLE

# ALERTS has one series for each state; the firing one, at 2, covers a pending one.
# One that only informs is no fault, and Watchdog, without a severity, is meant to fire.
ALERT_BITS = """\
2 * max by (alertname, node)
  (ALERTS{alertstate="firing", severity=~"critical|warning"})
or
3 * max by (alertname, node) (ALERTS{alertstate="firing", severity="info"})
or
4 * max by (alertname, node) (ALERTS{alertstate="firing", severity="none"})
or
1 * max by (alertname, node) (ALERTS{alertstate="pending"})"""

# Targets that belong to no node have no label `node`, which the empty name matches.
TARGETS = 'min by (job, node) (up{node=~"$node|"})'


def telemetry() -> Board:
    return Board(
        "monitoring",
        "Telemetry health",
        "Whether figures and alerts can be believed: scrapes, rules, control loop.",
        (
            Section("Alerts", Band(8, _alerts_over_time(), firing_now())),
            Section(
                "Scrapes",
                Band(9, _targets(), _configuration()),
                Band(7, _scrape_duration(), _collectors(), _clock()),
            ),
            Section(
                "The router's control loop",
                Band(7, _degrade(), _snapshot_age(), _loop_lag()),
                Band(7, _passes(), _failures(), _webhooks()),
            ),
            Section(
                "Prometheus and Alertmanager",
                Band(7, _rules(), _samples(), _storage()),
                Band(7, _notifications(), _ignored()),
            ),
        ),
        (NODE_VARIABLE,),
    )


def _alerts_over_time() -> Json:
    return timeline(
        "Alerts over time",
        "Pending and firing. Watchdog always fires: a hole in its band is time in "
        "which nobody evaluated the others.",
        [Query(ALERT_BITS, "{{alertname}} {{node}}")],
        Field(
            "none",
            words={
                1: ("pending", ORANGE),
                2: ("firing", RED),
                3: ("informs", BLUE),
                4: ("as it should", GREEN),
            },
        ),
    )


def firing_now() -> Json:
    shown = "alertname, severity, action, component, node, uuid"
    return labels(
        "Alerts firing now",
        "Watchdog left out. Drain or evict takes the node out of dispatch, derate "
        "gives it less. The name leads to the runbook, the component to the board.",
        f'max by ({shown}) (ALERTS{{alertstate="firing", severity!="none"}})',
        shown.split(", "),
        "nothing fires",
    )


def _scrape_duration() -> Json:
    return timeseries(
        "Scrape duration",
        "The slowest target of each job. Near the job's timeout figures go missing.",
        [Query("max by (job) (scrape_duration_seconds)", "{{job}}")],
        Field("s", 3, low=0),
    )


def _collectors() -> Json:
    up = "min by (node, collector) (inferops_exporter_collector_up"
    return timeline(
        "Collectors work",
        "Whether each part of our exporter could read what it is to read.",
        [Query(f"{up}{{{promql.NODE}}})", "{{node}} {{collector}}")],
        Field(
            "none",
            words={0: ("failing", RED), 1: ("works", GREEN)},
            empty="no exporter",
        ),
    )


def _clock() -> Json:
    return timeseries(
        "Clock skew",
        "A node's clock against Prometheus', the time of the scrape included. XIDs and "
        "ages are judged by clocks.",
        [Query(promql.per_node("node:clock_skew:seconds"), "{{node}}")],
        Field("s", 2, empty="no node_exporter"),
    )


def _rules() -> Json:
    took = "max by (rule_group) (prometheus_rule_group_last_duration_seconds)"
    every = "max by (rule_group) (prometheus_rule_group_interval_seconds)"
    short = '"rule_group", "$1", "rule_group", ".*;(.+)"'
    return timeseries(
        "Rule groups: duration of their interval",
        "How much of its interval a group's evaluation takes. At 100 % it misses "
        "evaluations, and alerts come late.",
        [Query(f"label_replace({took} / {every}, {short})", "{{rule_group}}")],
        Field("percentunit", 1, low=0),
    )


def _samples() -> Json:
    samples = promql.rate("prometheus_tsdb_head_samples_appended_total")
    return timeseries(
        "Samples and series",
        "What Prometheus takes in each second, and how many series it has open.",
        [
            Query(samples, "samples a second"),
            Query("sum(prometheus_tsdb_head_series)", "series"),
        ],
        Field("short", 0, low=0),
    )


def _storage() -> Json:
    return timeseries(
        "Disk of Prometheus",
        "Blocks on the disk, without the newest hours. At the limit the oldest go, "
        "whatever the retention time says; 0 is no limit.",
        [
            Query("sum(prometheus_tsdb_storage_blocks_bytes)", "blocks"),
            Query("max(prometheus_tsdb_retention_limit_bytes)", "limit"),
        ],
        Field("bytes", 1, low=0),
        dashed="limit",
    )


def _notifications() -> Json:
    return timeseries(
        "Notifications on their way",
        "Alerts that Prometheus sent, and those that were dropped or failed. Of "
        "Alertmanager: what it sent on, and what failed.",
        [
            Query(promql.rate("prometheus_notifications_sent_total"), "sent"),
            Query(promql.rate("prometheus_notifications_dropped_total"), "dropped"),
            Query(promql.rate("prometheus_notifications_errors_total"), "failed"),
            Query(promql.rate("alertmanager_notifications_total"), "Alertmanager sent"),
            Query(
                promql.rate("alertmanager_notifications_failed_total"),
                "Alertmanager failed",
            ),
        ],
        Field("cps", 3, low=0),
    )


def _ignored() -> Json:
    ignored = "sum by (reason) (inferops_alerts_ignored)"
    return timeseries(
        "Alerts without consequence",
        "Firing alerts with an action that the router does not carry out, by reason.",
        [Query(promql.or_zero(ignored, "reason"), "{{reason}}")],
        Field("none", 0, low=0),
    )


def _targets() -> Json:
    return timeline(
        "Targets answer",
        "Prometheus' scrapes, by job and node. Losing telemetry alone never takes a "
        "node out; it only makes its score older.",
        [Query(TARGETS, "{{job}} {{node}}")],
        Field("none", words={0: ("down", RED), 1: ("up", GREEN)}),
    )


def _configuration() -> Json:
    loaded = "max by (file) (inferops_config_last_reload_successful)"
    return timeline(
        "Configuration loaded",
        "Whether the router took each file's last edit. Rejected: the last good one "
        "stands, and the router's log names file, path and value.",
        [Query(loaded, "{{file}}")],
        Field("none", words={0: ("rejected", RED), 1: ("loaded", GREEN)}),
    )


def _degrade() -> Json:
    return timeline(
        "Scores go by",
        "The degrade step over time; anything but fresh means that Prometheus was "
        "silent. Requests are served all the same.",
        [Query("max(inferops_degrade_step)", "scores")],
        Field("none", words=DEGRADE_WORDS),
    )


def _snapshot_age() -> Json:
    return timeseries(
        "Snapshot age over time",
        "A saw of a few seconds; a ramp is a control loop that stands.",
        [Query("max(inferops_snapshot_age_seconds)", "age")],
        Field("s", 1, low=0),
    )


def _loop_lag() -> Json:
    return timeseries(
        "Event loop lag",
        "How late the router's event loop runs: every stream waits that long. Tens "
        "of milliseconds for long mean that something blocks it.",
        [Query("max(inferops_event_loop_lag_seconds)", "lag")],
        Field("s", 3, low=0),
    )


def _passes() -> Json:
    return timeseries(
        "Control pass duration",
        "Observe, decide, publish. It must stay well below the time between passes.",
        promql.percentiles("inferops_control_pass_duration_seconds", 0.5, 0.95),
        Field("s", 3, low=0),
    )


def _failures() -> Json:
    failures = promql.rate("inferops_control_pass_failures_total", by="stage")
    return timeseries(
        "Control pass failures",
        "Per second, by stage; the last good readings stand meanwhile.",
        [Query(promql.or_zero(failures, "stage"), "{{stage}}")],
        Field("cps", 3, low=0),
    )


def _webhooks() -> Json:
    rings = promql.rate("inferops_webhook_notifications_total", by="outcome")
    return timeseries(
        "Alertmanager's notifications",
        "Webhook notifications per second by outcome. Unauthorized: the two tokens "
        "differ, and drains wait for the next control pass.",
        [Query(promql.or_zero(rings, "outcome"), "{{outcome}}")],
        Field("cps", 3, low=0),
    )
