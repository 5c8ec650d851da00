"""The README's steps on an empty clone: an answer, a node of one's own, a page.

Simulated: the node of one's own is a simulated Ollama on this machine.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.compose.real.stack import MODEL, Stack, steady_ports
from tests.compose.real.test_short import gateway, inbox
from tests.harness.poll import until
from tests.harness.process import ROOT, Process

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1500)]


def from_readme(stack: Stack, beginning: str) -> list[str]:
    """Give the command of the README, for the ports of this stack."""
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith(beginning))
    return shlex.split(line.replace(":8000", f":{stack.ports['router']}"))


def asked_inside() -> list[list[str]]:
    """Give the commands of docs/compose.md that are run in a service of every stack."""
    page = (ROOT / "docs" / "compose.md").read_text()
    found = re.findall(r"`docker compose exec (?!ollama)([^`]+)`", page)
    assert found
    return [shlex.split(each) for each in found]


def own_machine(folder: Path, address: str, port: int) -> Process:
    """Start an Ollama that containers reach, as one on another machine."""
    labels = {"node": "mine", "__ollama": f"http://{address}:{port}"}
    labels |= {"__simulated": "true"}
    inventory = folder / "simulated.yml"
    inventory.write_text(json.dumps([{"targets": ["mine"], "labels": labels}]))
    (control,) = steady_ports(1)
    argv = [sys.executable, "-m", "simulator", "--inventory", str(inventory)]
    argv += ["--listen", address, "--control-port", str(control)]
    return Process(argv, log=folder / "simulator.log")


def test_from_a_clone_to_a_page(stack, tmp_path) -> None:
    """Each step leads on by what the README says; prints how long each took."""
    took: dict[str, float] = {}
    began = time.monotonic()

    def step(name: str) -> None:
        nonlocal began
        took[name] = time.monotonic() - began
        began = time.monotonic()

    def answered() -> str | None:
        asked = from_readme(stack, "curl http://127.0.0.1:8000/api/chat")
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return done.stdout if '"done":true' in done.stdout else None

    stack.up()
    until(answered, "the README's request is answered", seconds=300, every=1)
    step("`docker compose up -d` to a chat answer")
    stack.healthy("grafana", "config-reloader")
    for words in asked_inside():
        assert stack.compose("exec", "--no-TTY", *words).stdout.strip(), words
    began = time.monotonic()

    (port,) = steady_ports(1)
    address = gateway(stack)
    with own_machine(tmp_path, address, port) as machine:
        stack.clone.write(
            "site/nodes.yml",
            f'- targets: ["{address}"]\n  labels:\n    node: mine\n'
            f"    __ollama: http://{address}:{port}\n    __scrape: probe\n",
        )

        def by_mine() -> bool:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
            url = stack.url("router", "/api/chat")
            reply = requests.post(url, json=body | {"stream": False}, timeout=30)
            return reply.headers.get("X-InferOps-Node") == "mine" and reply.ok

        until(by_mine, "the own node answers", seconds=120, every=1)
        step("`site/nodes.yml` to an answer of the own node")

        with inbox(address) as (url, got):
            stack.clone.write("site/secrets/webhook-url", url)
            machine.kill()
            until(
                lambda: any(
                    alert["labels"].get("node") == "mine"
                    for each in got
                    for alert in each["alerts"]
                ),
                "a page about the node arrives",
                seconds=300,
                every=1,
            )
        step("a receiver, and the node's end, to a page about it")
    for name, seconds in took.items():
        print(f"{name}: {seconds:.0f} s")
