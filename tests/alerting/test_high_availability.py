"""compose/ha/ with real programs: Prometheus and Alertmanager twice, remote write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from launcher import configuration
from tests.alerting.stage import Recorder, recording, rendered, secrets_for
from tests.compose.stage import by_default
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process
from tests.rules.catalogue import programs

HA = ROOT / "compose" / "ha"
ALERTMANAGER = programs("alertmanager")
# The replica's name is taken from the environment, which Prometheus 2 does not do.
PROMETHEUS = [
    each
    for each in programs("prometheus")
    if "version 2." not in subprocess.check_output([each, "--version"], text=True)
]
RULES = """
groups:
  - name: proof
    rules:
      - {alert: Always, expr: vector(1), labels: {severity: critical, node: n}}
      - alert: OneIsGone
        expr: up{job=~"alertmanager(-2)?"} == 0
        labels: {severity: critical, node: n}
"""
NAMES = ("prometheus", "prometheus-2", "alertmanager", "alertmanager-2")
# A second replica waits that long for news of the first one (--cluster.peer-timeout).
PEER_SECONDS = 15
SENT = ("Always", "OneIsGone")


class _Loader(yaml.SafeLoader):
    """Knows Compose's own tags."""


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node)


_Loader.add_constructor("!override", _sequence)
SERVICES: dict[str, Any] = yaml.load((HA / "compose.yml").read_text(), _Loader)[
    "services"
]
BASE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@dataclass(frozen=True)
class Pairs:
    """What runs, by the names of the services."""

    folder: Path
    ports: dict[str, int]
    cluster: dict[str, int]
    running: dict[str, Process]

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def ask(self, name: str, path: str) -> Any:
        return requests.get(self.url(name, path), timeout=5).json()

    def addressed(self, text: str) -> str:
        """Put addresses of this machine where names of services stand."""
        for name, port in self.ports.items():
            inner = 9090 if name.startswith("prometheus") else 9093
            text = re.sub(rf"\b(?<!-){name}:{inner}\b", f"127.0.0.1:{port}", text)
        for name, port in self.cluster.items():
            text = text.replace(f"{name}:9094", f"127.0.0.1:{port}")
        return text

    def start_alertmanager(self, name: str, config: Path) -> Process:
        own = {
            "--config.file": str(config),
            "--storage.path": str(self.folder / name),
            "--web.listen-address": f"127.0.0.1:{self.ports[name]}",
            "--cluster.listen-address": f"127.0.0.1:{self.cluster[name]}",
        }
        flags = []
        for word in SERVICES[name]["command"]:
            flag, _, value = self.addressed(by_default(word)).partition("=")
            if flag != "--web.config.file":  # the login
                flags.append(f"{flag}={own.get(flag, value)}")
        return Process([ALERTMANAGER[0], *flags], log=self.folder / f"{name}.log")

    def start_prometheus(self, name: str, config: Path, *more: str) -> Process:
        replica = SERVICES[name]["environment"]["REPLICA"]
        argv = [
            str(PROMETHEUS[0]),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / name}",
            f"--web.listen-address=127.0.0.1:{self.ports[name]}",
            "--rules.alert.resend-delay=1s",
            *more,
        ]
        log = self.folder / f"{name}.log"
        return Process(argv, log=log, env={"REPLICA": replica})


def prometheus_yml(pairs: Pairs, site: Path) -> Path:
    """Write what both read: the shipped file and what compose/ha/ adds."""
    merged = configuration.prometheus(ROOT / "prometheus" / "prometheus.yml", site)
    text = pairs.addressed(yaml.safe_dump(merged, sort_keys=False))
    config = yaml.safe_load(
        text.replace("/run/inferops/prometheus/", f"{pairs.folder}/")
    )
    (pairs.folder / "alertmanager-password").write_text("unused")
    (pairs.folder / "rules.yml").write_text(RULES)
    config["rule_files"] = ["rules.yml"]
    config["global"] |= {
        f"{what}_{how}": "1s"
        for what, how in (
            ("scrape", "interval"),
            ("scrape", "timeout"),
            ("evaluation", "interval"),
        )
    }
    config["scrape_configs"] = [
        each for each in config["scrape_configs"] if each["job_name"] in NAMES
    ]
    path = pairs.folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "prometheus.yml").write_text((HA / "prometheus.yml").read_text())
    return folder


@contextmanager
def running(tmp_path: Path, site: Path, recorder: Recorder) -> Iterator[Pairs]:
    ports = free_ports(6)
    pairs = Pairs(
        tmp_path,
        dict(zip(NAMES, ports[:4], strict=True)),
        dict(zip(NAMES[2:], ports[4:], strict=True)),
        {},
    )
    people = tmp_path / "alertmanager.yml"
    people.write_text(rendered(secrets_for(recorder, tmp_path / "secrets"), recorder))
    with ExitStack() as stack:
        for name in NAMES[2:]:
            process = pairs.start_alertmanager(name, people)
            pairs.running[name] = stack.enter_context(process)
        until(
            lambda: (
                [
                    len(pairs.ask(n, "/api/v2/status")["cluster"]["peers"])
                    for n in NAMES[2:]
                ]
                == [2, 2]
            ),
            "the two are a cluster",
            seconds=60,
        )
        config = prometheus_yml(pairs, site)
        receive = "--web.enable-remote-write-receiver"
        for name, more in (("prometheus-2", (receive,)), ("prometheus", ())):
            process = pairs.start_prometheus(name, config, *more)
            pairs.running[name] = stack.enter_context(process)
        yield pairs


def heard(recorder: Recorder) -> list[str]:
    """Give what people were notified of, each time that they were."""
    return [
        name
        for name, status in recorder.alerts("/people")
        if name in SENT and status == "firing"
    ]


@pytest.mark.e2e
@pytest.mark.long
def has_always(pairs: Pairs, alertmanager: str) -> bool:
    alerts = pairs.ask(alertmanager, "/api/v2/alerts")
    labels = [each["labels"] for each in alerts]
    return any(x["alertname"] == "Always" and "replica" not in x for x in labels)


@pytest.mark.skipif(not ALERTMANAGER or not PROMETHEUS, reason="no newer programs")
def test_one_notification_not_two(tmp_path, site) -> None:
    """Each Prometheus tells both Alertmanagers, and people hear of an alert once.

    When one of each dies, people hear of that too, and once.
    """
    with recording() as recorder, running(tmp_path, site, recorder) as pairs:
        for name in NAMES[2:]:
            until(partial(has_always, pairs, name), f"{name} has it", seconds=60)
        until(lambda: heard(recorder), "people hear of it", seconds=60)
        for name in NAMES[:2]:
            found = pairs.ask(name, "/api/v1/alertmanagers")["data"]
            assert 2 == len(found["activeAlertmanagers"])
        after = time.monotonic() + PEER_SECONDS + 5
        until(lambda: time.monotonic() > after, "the other one would have", seconds=60)
        assert ["Always"] == heard(recorder)

        pairs.running["alertmanager"].kill()
        pairs.running["prometheus"].kill()
        until(lambda: "OneIsGone" in heard(recorder), "people hear of it", seconds=90)
        assert 1 == heard(recorder).count("OneIsGone")


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.skipif(not ALERTMANAGER or not PROMETHEUS, reason="no newer programs")
def test_remote_write(tmp_path, site) -> None:
    """The other Prometheus as the store: it has the first one's series by replica."""
    text = (HA / "remote-write.yml").read_text()
    assert "http://metrics.example.org:9090" in text
    own = text.replace("metrics.example.org:9090", "prometheus-2:9090")
    with (site / "prometheus.yml").open("a") as file:
        file.write(f"\n{own}")

    with recording() as recorder, running(tmp_path, site, recorder) as pairs:
        query = "/api/v1/query?query=up{job='alertmanager',replica='a'}"
        (found,) = until(
            lambda: pairs.ask("prometheus-2", query)["data"]["result"],
            "the series arrive",
            seconds=90,
        )
    assert ("inferops", "1") == (found["metric"]["fleet"], found["value"][1])


def test_the_flags_are_the_shipped_ones() -> None:
    """A cluster's Alertmanager differs in nothing but the cluster."""
    alone, both = (
        {word for word in each["alertmanager"]["command"] if "--cluster" not in word}
        for each in (BASE, SERVICES)
    )
    assert alone == both
    assert SERVICES["alertmanager"]["command"] == SERVICES["alertmanager-2"]["command"]
    reloader = BASE["config-reloader"]["command"]
    assert [*reloader, "http://alertmanager-2:9093"] == SERVICES["config-reloader"][
        "command"
    ]


def test_compose_takes_the_files(compose_config) -> None:
    """Both of each run, with data and ports of their own."""
    found = compose_config("docker-compose.yml", "compose/ha/compose.yml")["services"]

    for first, second in (NAMES[:2], NAMES[2:]):
        ports = {found[n]["ports"][0]["published"] for n in (first, second)}
        data = {
            volume["source"]
            for name in (first, second)
            for volume in found[name]["volumes"]
            if volume["source"].endswith("-data")
        }
        assert (2, 2) == (len(ports), len(data))
        assert 1 == len(found[second]["ports"])
    replicas = {n: found[n]["environment"]["REPLICA"] for n in NAMES[:2]}
    assert {"prometheus": "a", "prometheus-2": "b"} == replicas


@pytest.fixture
def compose_config():
    def config(*files: str) -> dict[str, Any]:
        try:
            shown = subprocess.run(
                [
                    *("docker-compose", *(w for file in files for w in ("-f", file))),
                    *("config", "--format=json"),
                ],
                cwd=ROOT,
                env={"HOME": "/nonexistent", "PATH": os.environ["PATH"]},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        except FileNotFoundError:
            pytest.skip("no docker-compose on PATH")
        return json.loads(shown.stdout)

    return config
