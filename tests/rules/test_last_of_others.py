"""The last one that is no card: telemetry, an Ollama, a collector, a node, the router.

As test_last_one.py, for every other alert: when what it speaks of is gone, which alert
says so, from each source that may be the only one.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.rules.catalogue import ALERTS
from tests.rules.exposition import Sample
from tests.rules.scenarios import (
    STEP,
    Expected,
    Series,
    at,
    goes,
    named,
    passes,
    stays,
    turns,
    up,
)
from tests.rules.test_last_one import SICK

MINUTE = 60
JOBS = ("exporter", "node", "dcgm", "nvidia_smi", "probe")
ROUTER = 'up{job="router"}'
FLEET = ""  # an alert without a node


def of(job: str, node: str, name: str, /, **labels: str) -> str:
    return named(Sample(name, labels, ""), job, node)


def telemetry() -> dict[str, Series]:
    """The only target of a node answers no more."""
    found: dict[str, Series] = {job: {up(job, job): turns(1, 0)} for job in JOBS}
    found["probe"] |= {of("probe", "probe", "inferops_ollama_up"): goes(1)}
    found["probed"] = {
        up("probe", "probed"): stays(1),
        of("probe", "probed", "inferops_ollama_up"): turns(1, 0),
    }
    return found


def targets() -> dict[str, Series]:
    """The only target of a node is scraped no more; the router knows the node."""
    return {job: {up(job, job): goes(1)} | known(job, stays(1)) for job in JOBS}


def known(node: str, values: str) -> Series:
    """What the router says of a node: its label `node` is the router's own."""
    series = f'inferops_node_schedulable{{job="router", node="{node}"}}'
    return {series: values}


def ollamas() -> dict[str, Series]:
    return {
        job: {up(job, job): stays(1), of(job, job, "inferops_ollama_up"): turns(1, 0)}
        for job in ("exporter", "probe")
    }


def collectors() -> dict[str, Series]:
    """One part of an exporter fails, whose series vanish with it; the rest answers."""
    ours = {
        name: {
            of(
                "exporter", name, "inferops_exporter_collector_up", collector=name
            ): turns(1, 0)
        }
        for name in ("ollama", "nvml", "system")
    }
    theirs = {
        name: {
            of("node", name, "node_scrape_collector_success", collector=name): turns(
                1, 0
            )
        }
        for name in ("cpu", "filesystem", "loadavg", "meminfo", "time")
    }
    return ours | theirs


def nodes() -> dict[str, Series]:
    """No node takes work; no node is there at all."""
    router = {ROUTER: stays(1)}
    return {
        "held": router | known("rig", turns(1, 0)),
        "none": router | known("rig", goes(1)),
    }


# subject: (its scenarios, the alert that follows, after how many seconds)
SAID: Mapping[str, tuple[Mapping[str, Series], str, float]] = {
    "telemetry": (telemetry(), "NodeDown", MINUTE),
    "target": (targets(), "ExporterSilent", 6 * MINUTE),
    "Ollama": (ollamas(), "OllamaDown", MINUTE),
    "collector": (collectors(), "CollectorFailing", 3 * MINUTE),
}
# The same where the alert is the fleet's, so that each scenario is a fleet of its own.
SAID_OF_ALL: Mapping[str, tuple[Series, str, float]] = {
    "router down": ({ROUTER: turns(1, 0)}, "RouterDown", MINUTE),
    "router not scraped": ({ROUTER: goes(1)}, "RouterDown", MINUTE),
    "last node held": (nodes()["held"], "FleetHasNoNode", MINUTE),
    "last node gone": (nodes()["none"], "FleetHasNoNode", MINUTE),
    "inventory emptied": ({up("node", "rig"): goes(1)}, "FleetShrank", MINUTE),
    "last reading of a signal": (
        {'inferops_node_signal_value{node="rig", signal="heat"}': goes(1)},
        "SignalWithoutData",
        6 * MINUTE,
    ),
    "Alertmanager": (
        {"prometheus_notifications_alertmanagers_discovered": turns(1, 0)},
        "AlertmanagerUnreachable",
        2 * MINUTE,
    ),
    "Alertmanager's target": (
        {'up{job="alertmanager"}': turns(1, 0)},
        "TargetDown",
        3 * MINUTE,
    ),
    "Prometheus' target": (
        {'up{job="prometheus"}': turns(1, 0)},
        "TargetDown",
        3 * MINUTE,
    ),
}

# What each other alert speaks of, by the subjects above.
SUBJECTS: Mapping[str, str] = {
    "GpuMissing": "target",
    "GpuCollectionFailing": "target",
    "GpuCollectionStale": "collector",
    "NodeDown": "target",
    "TargetDown": "target",
    "ExporterSilent": "last node gone",
    "NodeExportedTwice": "telemetry",
    "NodeDiskFilling": "collector",
    "NodeDiskNearlyFull": "collector",
    "NodeMemoryPressure": "collector",
    "NodeLoadHigh": "collector",
    "NodeClockSkewed": "collector",
    "CollectorFailing": "telemetry",
    "OllamaDown": "telemetry",
    "OllamaWedged": "Ollama",
    "OllamaOnCpu": "Ollama",
    "OllamaModelsThrashing": "Ollama",
    "OllamaModelFailing": "router down",
    "OllamaDigestSkew": "Ollama",
    "OllamaVersionSkew": "Ollama",
    "FleetShrank": "last node gone",
    "FleetHasNoNode": "router down",
    "FleetCapacityLost": "last node held",
    "FleetHeadroomLow": "last node held",
    "FleetQueueGrowing": "router down",
    "FleetPanic": "router down",
    "SignalWithoutData": "router down",
    "RuleEvaluationFailing": "Prometheus' target",
    "RuleEvaluationSlow": "Prometheus' target",
    "PrometheusConfigRejected": "Prometheus' target",
    "PrometheusStorageFailing": "Prometheus' target",
    "AlertmanagerUnreachable": "Prometheus' target",
    "AlertmanagerConfigRejected": "Alertmanager's target",
    "NotificationsFailing": "Alertmanager's target",
}
ROUTERS = {"router", "slo", "jobs"}  # components whose alerts read the router alone


def test_every_alert_has_a_successor() -> None:
    """A new alert says what becomes of it when its subject vanishes."""
    subjects = {
        alert.name: "router down"
        for alert in ALERTS
        if alert.labels["component"] in ROUTERS and alert.name != "RouterDown"
    }
    subjects |= {**SUBJECTS, **dict.fromkeys(SICK, "a card")}
    # The end of these is somebody else's: a dead man's switch hears Watchdog.
    assert {alert.name for alert in ALERTS} - subjects.keys() == {
        "Watchdog",
        "RouterDown",
    }
    assert set(subjects.values()) <= {"a card", *SAID, *SAID_OF_ALL}


@pytest.mark.parametrize("subject", SAID)
def test_the_last_one_of_a_node_is_missed(subject, tmp_path) -> None:
    """From each source that may be the only one, and not before."""
    scenarios, alert, seconds = SAID[subject]
    passes(
        tmp_path,
        scenarios.values(),
        [
            Expected(alert, at(-STEP), ()),
            Expected(alert, at(seconds + STEP), scenarios),
        ],
    )


@pytest.mark.parametrize("subject", SAID_OF_ALL)
def test_the_last_one_of_the_fleet_is_missed(subject, tmp_path) -> None:
    """One of everything is the normal case."""
    scenario, alert, seconds = SAID_OF_ALL[subject]
    passes(
        tmp_path,
        [scenario],
        [
            Expected(alert, at(-STEP), ()),
            Expected(alert, at(seconds + STEP), (FLEET,)),
        ],
    )


def test_a_node_that_is_taken_out_stays_silent(tmp_path) -> None:
    """Out of the inventory: neither Prometheus nor the router knows it any more."""
    scenarios = [
        {
            up(job, job): goes(1),
            of(job, job, "inferops_ollama_up"): goes(1),
            **known(job, goes(1)),
        }
        for job in JOBS
    ]
    others = {up("node", "rig"): stays(1)} | known("rig", stays(1))
    passes(
        tmp_path,
        [*scenarios, others, {ROUTER: stays(1)}],
        [
            Expected("Node.+|Gpu.+|Ollama.+|Exporter.+|Target.+", at(seconds), ())
            for seconds in (0, MINUTE, 3 * MINUTE, 12 * MINUTE)
        ],
    )
