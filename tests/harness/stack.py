"""The whole product on loopback, as native mode runs it, with free ports.

Rules are copied, so that a test may break one; intervals are one second and the
alerts' hold-down is short, for tests in a hurry.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from launcher import rendering, webconfig
from launcher.services import Paths, Ports, Programs, Service, services
from launcher.tools import ALERTMANAGER, PROMETHEUS, find
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process

_HOLD_DOWN = {"keep_firing_for: 30s": "keep_firing_for: 2s"}
# Of groups that are evaluated seldom.
EAGER = {f"interval: {seldom}": "interval: 2s" for seldom in ("5m", "30s", "15s")}
# A broken rule, or a restart, leaves its last samples visible for this long.
_LOOKBACK = {"--query.lookback-delta=1m": "--query.lookback-delta=10s"}
_QUICK = {
    "INFEROPS_CONTROL__INTERVAL_SECONDS": "0.5",
    "INFEROPS_CONTROL__RESIDENT_INTERVAL_SECONDS": "0.5",
    "INFEROPS_CONTROL__PRESENT_INTERVAL_SECONDS": "2",
    "INFEROPS_CONTROL__PROBE_TIMEOUT_SECONDS": "2",
    "INFEROPS_CONTROL__STALE_AFTER_SECONDS": "5",
    "INFEROPS_SHUTDOWN__GRACE_SECONDS": "5",
}


def programs() -> Programs:
    """Find the real Prometheus and Alertmanager; skips the test without them."""
    found = {each: find(each, ROOT) for each in (PROMETHEUS, ALERTMANAGER)}
    prometheus, alertmanager = found[PROMETHEUS], found[ALERTMANAGER]
    if prometheus is None or alertmanager is None:
        pytest.skip("needs prometheus and alertmanager on PATH or in .tools")
    return Programs(prometheus, alertmanager)


@dataclass(frozen=True)
class Stack:
    """Running parts by name; `rules` is where Prometheus reads them."""

    ports: Ports
    paths: Paths
    rules: Path
    processes: dict[str, Process]
    healths: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.router}"

    @property
    def login(self) -> tuple[str, str]:
        """Give user and password of Alertmanager."""
        return webconfig.login(self.paths.alertmanager_password)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the router's `/admin/nodes` by name."""
        answer = requests.get(f"{self.url}/admin/nodes", timeout=5)
        return {node["name"]: node for node in answer.json()}

    def holds(self, node: str) -> list[tuple[str, str]]:
        """Return (kind, state) of each hold of a node."""
        return [(h["kind"], h["state"]) for h in self.nodes()[node]["holds"]]

    def admin(self, method: str, path: str, body: object = None) -> requests.Response:
        """Change something under `/admin`, with the token of this run."""
        token = self.paths.admin_token.read_text().strip()
        return requests.request(
            method,
            f"{self.url}/admin/{path}",
            json={} if body is None else body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(
            f"http://127.0.0.1:{self.ports.prometheus}/api/v1/query",
            params={"query": expression},
            timeout=5,
        )
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def reload_prometheus(self) -> None:
        """Have Prometheus read its rules again."""
        os.kill(self.processes["prometheus"].pid, 1)

    def wait(self, name: str) -> None:
        process = self.processes[name]

        def healthy() -> bool:
            assert process.running, f"{name} ended:\n{process.tail()}"
            login = self.login if name == "alertmanager" else None
            return requests.get(self.healths[name], auth=login, timeout=2).ok

        until(healthy, f"{name} is healthy", seconds=90)

    def kill(self, name: str) -> None:
        self.processes[name].kill()

    def restart(self, name: str) -> None:
        """Start a part that was killed, and wait until it is healthy."""
        self.processes[name].start()
        self.wait(name)


@contextlib.contextmanager
def stack(
    folder: Path,
    inventory: Path,
    *,
    people: str | None = None,
    settings: Mapping[str, str] | None = None,
    prometheus_data: Path | None = None,
    rules: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run all parts but the simulator and node_exporter over an inventory.

    people:   URL that gets people's notifications
    settings: the router's, as environment variables, over the quick ones
    prometheus_data: where Prometheus keeps its samples
    rules:    what else is replaced in the copied rules
    """
    replaced = _HOLD_DOWN | dict(rules or {})
    made = _prepare(
        folder, inventory, people, settings or {}, prometheus_data, replaced=replaced
    )
    try:
        for name in made.processes:
            made.wait(name)
        yield made
    finally:
        for process in reversed(made.processes.values()):
            process.kill()  # nothing of it is kept, and orderly ends take seconds


def _prepare(
    folder: Path,
    inventory: Path,
    people: str | None,
    settings: Mapping[str, str],
    prometheus_data: Path | None,
    *,
    replaced: Mapping[str, str],
) -> Stack:
    ports = Ports(*free_ports(len(Ports.__dataclass_fields__)))
    paths = Paths(root=ROOT, run=folder / "run", inventory=inventory)
    found = programs()
    for each in (paths.data, paths.logs, paths.secrets):
        each.mkdir(parents=True, exist_ok=True)
    rendering.render(ports, paths, rendering.Intervals(1, 1))
    rules = _copy_rules(folder, paths, replaced)
    _quicken_alertmanager(paths, people)
    made = Stack(ports, paths, rules, {}, {})
    for part in services(ports, paths, found, grace_seconds=5):
        made.healths[part.name] = part.health
        made.processes[part.name] = _start(part, folder, settings, prometheus_data)
    return made


def _start(
    part: Service, folder: Path, settings: Mapping[str, str], data: Path | None
) -> Process:
    quick = {**_QUICK, **settings} if part.name == "router" else {}
    argv = [_LOOKBACK.get(each, each) for each in part.argv]
    if data is not None:
        argv = [
            f"--storage.tsdb.path={data}" if "tsdb.path=" in each else each
            for each in argv
        ]
    log = folder / f"{part.name}.log"
    return Process(argv, log=log, env={**part.env, **quick})


def _copy_rules(folder: Path, paths: Paths, replaced: Mapping[str, str]) -> Path:
    copy = folder / "rules"
    sources = ("prometheus/records", "alerting/rules")
    for source in sources:
        (copy / source).mkdir(parents=True)
        for each in sorted((ROOT / source).glob("*.yml")):
            text = each.read_text()
            for old, new in replaced.items():
                text = text.replace(old, new)
            (copy / source / each.name).write_text(text)
    config = yaml.safe_load(paths.prometheus_yml.read_text())
    config["rule_files"] = [f"{copy}/{source}/*.yml" for source in sources]
    paths.prometheus_yml.write_text(yaml.safe_dump(config, sort_keys=False))
    return copy / "alerting" / "rules"


def _quicken_alertmanager(paths: Paths, people: str | None) -> None:
    """Give people's receiver the recorder's address, and less patience."""
    config = yaml.safe_load(paths.alertmanager_yml.read_text())
    for route in config["route"]["routes"]:
        if route["receiver"] == "people":
            route |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        if receiver["name"] == "people" and people:
            hook = {"url": people, "send_resolved": True}
            receiver["webhook_configs"] = [hook]
    paths.alertmanager_yml.write_text(yaml.safe_dump(config, sort_keys=False))


def have(program: str) -> bool:
    return shutil.which(program) is not None
