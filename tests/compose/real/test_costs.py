"""What each step of operating the stack costs in failed requests: docs/compose.md."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import requests

from tests.compose.real.stack import Meter, Stack, own_nodes
from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1500)]

# What may fail requests: the router is alone, and is replaced or killed.
_HEAD = "| step | answered | failed | longest time without an answer |"
RECREATED = "a variable of the router changed"
ROUTER_AWAY = {"restart router", "kill -9 router", RECREATED}
KILLED = (
    *("prometheus", "alertmanager", "grafana", "exporter", "node-exporter"),
    *("config-reloader", "router"),
)


def test_costs(stack) -> None:
    """No step but those that take the router away fails a request."""
    if os.geteuid() != 0:
        pytest.skip("only root may kill what runs in containers")
    rows: dict[str, Meter] = {}

    def measured(name: str, step) -> None:
        with Meter(stack) as meter:
            until(lambda: meter.answered, "requests are answered", seconds=60)
            step()
            until(lambda: stack.generate().ok, "it answers", seconds=120, every=0.5)
        rows[name] = meter

    stack.up()
    stack.healthy()
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)
    measured("second `up -d`", stack.up)
    for name in KILLED:
        measured(f"kill -9 {name}", lambda name=name: _kill(stack, name))
    measured("receiver added", lambda: _receiver(stack))
    measured("hot node", lambda: _heat(stack))
    measured("restart router", lambda: stack.compose("restart", "router"))
    stack.environment["INFEROPS_HOSTS"] = "ai.lan"
    measured(RECREATED, stack.up)
    stack.remove()
    own_nodes(stack, {"one": 4, "two": 2})
    stack.up()
    stack.healthy()
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)
    measured("new code", lambda: _upgrade(stack))

    _write(rows)
    failed = {name for name, meter in rows.items() if meter.failed}
    assert failed <= ROUTER_AWAY


def _kill(stack: Stack, name: str) -> None:
    """Kill its process, and wait until the engine has it back."""
    container = stack.ids()[name]
    killed = _pid(container)
    os.kill(killed, signal.SIGKILL)
    until(lambda: _pid(container) not in {0, killed}, f"{name} is back", every=0.2)
    stack.healthy(name)


def _pid(container: str) -> int:
    asked = subprocess.run(
        ["docker", "inspect", container, "--format", "{{.State.Pid}}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return int(asked.stdout)


def _upgrade(stack: Stack) -> None:
    stack.clone.change_code()
    stack.up()
    until(
        lambda: "predecessor_ended" in stack.compose("logs", "router").stdout,
        "another router serves",
        seconds=90,
    )


def _receiver(stack: Stack) -> None:
    stack.clone.write("site/secrets/webhook-url", "http://192.0.2.1/")
    stack.up()


def _heat(stack: Stack) -> None:
    """Let a simulated GPU get hot, see its node drained, and let it cool."""

    def states() -> dict[str, bool]:
        nodes = requests.get(stack.url("router", "/admin/nodes"), timeout=5).json()
        return {each["name"]: each["schedulable"] for each in nodes}

    control = stack.url("simulator_control")
    fault = {"fault": "hot", "celsius": 99}
    url = f"{control}/nodes/sim-4090/faults"
    requests.post(url, json=fault, timeout=5).raise_for_status()
    until(lambda: not states()["sim-4090"], "it is drained", seconds=60, every=0.2)
    requests.delete(url, timeout=5)


def _write(rows: dict[str, Meter]) -> None:
    page = os.environ.get("INFEROPS_COMPOSE_PAGE")
    lines = [
        _HEAD,
        "|---|---|---|---|",
        *(
            f"| {name} | {meter.answered} | {meter.failed} | {meter.gap:.1f} s |"
            for name, meter in rows.items()
        ),
    ]
    text = "\n".join(lines)
    print(f"\n{text}")
    if page:
        path = Path(page)
        head, _, _ = path.read_text().partition(_HEAD)
        path.write_text(f"{head}{text}\n")
