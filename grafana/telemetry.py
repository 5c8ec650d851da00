"""What the rest of the page rests on: alerts, scrapes and the control loop."""

from __future__ import annotations

from grafana import promql
from grafana.grid import Band, Section
from grafana.overview import DEGRADE_WORDS
from grafana.panels import GREEN, ORANGE, RED, Field, Json, Query, timeline, timeseries
from grafana.tables import labels

# ALERTS has one series for each state; the firing one, at 2, covers a pending one.
ALERT_BITS = """\
2 * max by (alertname, node) (ALERTS{alertstate="firing"})
or
1 * max by (alertname, node) (ALERTS{alertstate="pending"})"""

# Targets that belong to no node have no label `node`, which the empty name matches.
TARGETS = 'min by (job, node) (up{node=~"$node|"})'


def alerts() -> Section:
    shown = "alertname, severity, action, node, uuid"
    return Section(
        "Alerts",
        (
            Band(
                8,
                (
                    timeline(
                        "Alerts over time",
                        "Pending and firing. Watchdog always fires: a hole in its "
                        "band is time in which nobody evaluated the others.",
                        [Query(ALERT_BITS, "{{alertname}} {{node}}")],
                        Field(
                            "none", words={1: ("pending", ORANGE), 2: ("firing", RED)}
                        ),
                    ),
                    labels(
                        "Alerts firing now",
                        "Watchdog left out. An action of drain or evict takes the "
                        "node out of dispatch, derate gives it less; each alert's "
                        "runbook is named after it.",
                        f'max by ({shown}) (ALERTS{{alertstate="firing", '
                        'severity!="none"})',
                        shown.split(", "),
                        "nothing fires",
                    ),
                ),
            ),
        ),
    )


def health() -> Section:
    return Section(
        "Telemetry and control",
        (
            Band(9, (_targets(), _configuration())),
            Band(7, (_degrade(), _snapshot_age(), _loop_lag())),
            Band(7, (_passes(), _failures(), _webhooks())),
        ),
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
    series = "inferops_control_pass_duration_seconds"
    return timeseries(
        "Control pass duration",
        "Observe, decide, publish. It must stay well below the time between passes.",
        [
            Query(promql.quantile(0.5, series), "p50"),
            Query(promql.quantile(0.95, series), "p95"),
        ],
        Field("s", 3, low=0),
    )


def _failures() -> Json:
    failures = promql.rate("inferops_control_pass_failures_total", by="stage")
    return timeseries(
        "Control pass failures",
        "Per second, by stage; the last good readings stand meanwhile.",
        [Query(promql.or_zero(failures), "{{stage}}")],
        Field("cps", 3, low=0),
    )


def _webhooks() -> Json:
    rings = promql.rate("inferops_webhook_notifications_total", by="outcome")
    return timeseries(
        "Alertmanager's notifications",
        "Doorbells per second by outcome. Unauthorized: the two tokens differ, and "
        "drains wait for the next control pass.",
        [Query(promql.or_zero(rings), "{{outcome}}")],
        Field("cps", 3, low=0),
    )
