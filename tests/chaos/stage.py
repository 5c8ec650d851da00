"""The product under streaming load, things to break in it, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.chaos.report import Row
from tests.harness.crowd import Answer, Crowd
from tests.harness.poll import until
from tests.harness.process import ROOT
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import Stack, stack

MODEL = "llama3.2:3b"
NODES = tuple(
    Simulated(name, slots=4, tokens_per_second=speed)
    for name, speed in (
        ("alpha", 200.0),
        ("beta", 160.0),
        ("gamma", 120.0),
        ("delta", 100.0),
    )
)
NAMES = tuple(node.name for node in NODES)
SICK = 14.0  # °C at which only the drain of tests/data/node-health-rules.yml fires
STALE_SECONDS, FORGET_SECONDS = 3, 10
HOLD_DOWN_SECONDS, FLAP_RETURNS, FLAP_WINDOW_SECONDS = 5, 3, 30
PROBE_INTERVAL_SECONDS, PROBE_TIMEOUT_SECONDS = 0.5, 1.0
_DISK_MEGABYTES = 96

_SETTINGS = {
    "STALE_AFTER_SECONDS": STALE_SECONDS,
    "FORGET_AFTER_SECONDS": FORGET_SECONDS,
    "FLAP_RETURNS": FLAP_RETURNS,
    "FLAP_WINDOW_SECONDS": FLAP_WINDOW_SECONDS,
    "HOLD_DOWN_SECONDS": HOLD_DOWN_SECONDS,
    "SLOW_START_SECONDS": 2,
    "RESIDENT_INTERVAL_SECONDS": PROBE_INTERVAL_SECONDS,
    "PROBE_TIMEOUT_SECONDS": PROBE_TIMEOUT_SECONDS,
    "VERIFY_RETRY_SECONDS": 1,
}


@dataclass
class Scene:
    """Everything that a case may break; `disk` is None where none can be mounted."""

    product: Stack
    fleet: SimulatedFleet
    clock_file: Path
    disk: Path | None
    rules: str = field(init=False)

    def __post_init__(self) -> None:
        self.rules = (self.product.rules / "test-health.yml").read_text()

    # Looking

    def nodes(self) -> dict[str, dict[str, Any]]:
        return self.product.nodes()

    def serves(self, *names: str) -> bool:
        nodes = self.nodes()
        return all(nodes[name]["schedulable"] for name in names or NAMES)

    def out(self, node: str) -> bool:
        return not self.nodes()[node]["schedulable"]

    def metric(self, sample: str) -> float | None:
        text = requests.get(f"{self.product.url}/metrics", timeout=5).text
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return None

    def degrade(self) -> float:
        return self.metric("inferops_degrade_step") or 0.0

    def history(self, **filters: str | float) -> list[dict[str, Any]]:
        url = f"{self.product.url}/admin/holds/history"
        answer = requests.get(url, params=filters, timeout=5)
        assert answer.ok, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def passes(self, count: int = 3) -> None:
        """Wait until control has looked so many times more."""
        name = "inferops_control_pass_duration_seconds_count"
        before = self.metric(name) or 0.0
        until(lambda: (self.metric(name) or 0) >= before + count, "passes", seconds=60)

    def firing(self, alert: str, node: str) -> bool:
        series = f'ALERTS{{alertname="{alert}",alertstate="firing",node="{node}"}}'
        return bool(self.product.query(series))

    # Breaking

    def fall_sick(self, node: str) -> None:
        self.fleet.put(node, "hot", celsius=SICK)

    def recover(self, node: str) -> None:
        self.fleet.clear(node)

    def drained(self, node: str) -> None:
        """Have a node drained by its alert, confirmed."""
        self.fall_sick(node)
        until(
            lambda: ("drain", "confirmed") in self.product.holds(node),
            f"{node} is drained",
            seconds=30,
        )

    def write_rules(self, text: str) -> None:
        (self.product.rules / "test-health.yml").write_text(text)
        self.product.reload_prometheus()

    def ring(self, *alerts: dict[str, Any], token: str | None = None) -> int:
        """Notify the router as Alertmanager does; returns the status."""
        given = self.token if token is None else token
        answer = requests.post(
            f"{self.product.url}/webhook/alertmanager",
            data=json.dumps({"version": "4", "status": "firing", "alerts": alerts}),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {given}",
            },
            timeout=10,
        )
        return answer.status_code

    @property
    def token(self) -> str:
        return self.product.paths.webhook_token.read_text().strip()

    def mend(self) -> None:
        """Undo whatever a case left behind, and wait until all serve."""
        self.clock_file.write_text("0")
        self.fleet.write(self.fleet.entries)
        for name in NAMES:
            self.fleet.clear(name)
            self.product.admin("POST", f"nodes/{name}/uncordon")
        for name, process in self.product.processes.items():
            if not process.running:
                self.product.restart(name)
        if (self.product.rules / "test-health.yml").read_text() != self.rules:
            self.write_rules(self.rules)
        until(self._well, "everything is well again", seconds=90)

    def _well(self) -> bool:
        telemetry = f"count(max by (node) (DCGM_FI_DEV_GPU_TEMP)) == {len(NODES)}"
        return (
            bool(self.product.query(telemetry))
            and self.serves()
            and not self.degrade()
            and all(map(self._read, NAMES))
        )

    def _read(self, node: str) -> bool:
        """Whether the router has telemetry of a node in its score, not only facts."""
        labels = f'{{node="{node}",signal="temperature_headroom"}}'
        return self.metric(f"inferops_node_signal_value{labels}") is not None


@contextlib.contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Run the product over four simulated nodes, with the tests' own alerts."""
    clock_file = folder / "clock"
    clock_file.write_text("0")
    settings = {f"INFEROPS_CONTROL__{name}": str(v) for name, v in _SETTINGS.items()}
    settings["INFEROPS_CLOCK_FILE"] = str(clock_file)
    with (
        small_disk(folder) as disk,
        SimulatedFleet(folder / "fleet", NODES) as fleet,
        stack(
            folder, fleet.inventory, settings=settings, prometheus_data=disk
        ) as product,
    ):
        rules = (ROOT / "tests/data/node-health-rules.yml").read_text()
        (product.rules / "test-health.yml").write_text(rules)
        product.reload_prometheus()
        made = Scene(product, fleet, clock_file, disk)
        made.mend()
        yield made


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a small tmpfs; None where that is not allowed."""
    where = folder / "disk"
    where.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        yield None
        return
    size = f"size={_DISK_MEGABYTES}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "inferops-chaos", str(where)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


class Case:
    """One thing that goes wrong, under load: takes the times, counts the failures.

    react, recover: seconds since it was broken, and since mending began
    lost: requests that a killed router had under way, or refused while it was away
    """

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.crowd = crowd
        self.began = time.monotonic()
        self.react: float | None = None
        self.recover: float | None = None
        self.lost: list[Answer] = []
        self.note = ""
        self._since = self.began

    def now(self) -> float:
        """Take the time from here on; returns it."""
        self._since = time.monotonic()
        return self._since

    def reacted(self, what: str, check: Callable[[], object], seconds: float) -> None:
        until(check, what, seconds=seconds, every=0.01)
        self.react = time.monotonic() - self._since

    def recovered(self, what: str, check: Callable[[], object], seconds: float) -> None:
        until(check, what, seconds=seconds, every=0.01)
        self.recover = time.monotonic() - self._since

    def excuse(self, back: float) -> None:
        """Leave out what failed because there was no router until `back`."""
        until(lambda: self.crowd.since(back), "people are back", seconds=30)
        self.lost = [
            a
            for a in self.crowd.since(self.began)
            if a.began <= back and a.result.startswith("no whole answer")
        ]

    def served(self, count: int = 8) -> None:
        """Wait until people were served so many times from now on."""
        now = time.monotonic()
        until(
            lambda: sum(a.result == "ok" for a in self.crowd.since(now)) >= count,
            f"{count} requests are served",
            seconds=60,
        )

    def went_to(self, node: str, since: float) -> int:
        return sum(a.node == node for a in self.crowd.since(since))

    def row(self) -> Row:
        answers = [a for a in self.crowd.since(self.began) if a not in self.lost]
        failed = [a for a in answers if a.result != "ok"]
        return Row(
            case=self.name,
            requests=len(answers),
            failed=len(failed),
            failures=tuple(sorted({a.result for a in failed})),
            react=self.react,
            recover=self.recover,
            note=self.note,
        )
