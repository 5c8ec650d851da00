"""The shipped docker-compose.yml from a clone, under a name and ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from exporters import VERSION
from launcher.containers import VARIABLES
from tests.harness.poll import until
from tests.harness.process import ROOT

UP_SECONDS = 580
MODEL = "llama3.2:3b"


def answers() -> bool:
    """Tell whether an engine with Compose is there."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            asked = subprocess.run(
                command, capture_output=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if asked.returncode != 0:
            return False
    return True


def built() -> bool:
    """Tell whether our image is there: a first build takes minutes."""
    asked = ["docker", "image", "inspect", f"inferops:{VERSION}"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def steady_ports(count: int) -> list[int]:
    """Return free ports that no outgoing connection takes while an image is built."""
    found: list[int] = []
    for port in random.sample(range(12000, 20000), 8000):
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


class Clone:
    """A checkout as a person has it after `git clone`, with today's edits."""

    def __init__(self, folder: Path, *, umask: int = 0o022) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for name in filter(None, listed.decode().split("\0")):
            source = ROOT / name
            if source.is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                target.chmod((0o777 if os.access(source, os.X_OK) else 0o666) & ~umask)
        for each in [folder, *folder.rglob("*")]:
            if each.is_dir():
                each.chmod(0o777 & ~umask)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def change_code(self, text: str = "CHANGED = True") -> None:
        """Add a line to the router's code."""
        code = self.folder / "router" / "__init__.py"
        code.write_text(f"{code.read_text()}\n{text}\n")


@dataclass
class Stack:
    clone: Clone
    program: tuple[str, ...] = ("docker", "compose")
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = steady_ports(len(VARIABLES))
        self.ports = dict(zip(VARIABLES, ports, strict=True))
        self.environment |= {
            "COMPOSE_PROJECT_NAME": f"inferops-test-{uuid.uuid4().hex[:8]}",
            **{VARIABLES[name]: str(port) for name, port in self.ports.items()},
        }

    @property
    def variables(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def compose(
        self, *arguments: str, check: bool = True, seconds: float = UP_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=self.clone.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, self.story(done)
        return done

    def story(self, done: subprocess.CompletedProcess[str]) -> str:
        """Say what went wrong, for a person who reads a test's failure."""
        logs = self.compose("logs", "--tail", "15", check=False, seconds=60).stdout
        return f"{done.args}: {done.returncode}\n{done.stderr[-3000:]}\n{logs}"

    def up(self, *arguments: str) -> None:
        self.compose("up", "--detach", *arguments)

    def ids(self) -> dict[str, str]:
        """Give each service's container that is there, running or not."""
        rows = self.compose(
            *("--profile", "*", "ps", "--all"),
            *("--format", "{{.Service}} {{.ID}} {{.State}}"),
        ).stdout
        found = dict(row.split()[:2] for row in rows.splitlines())
        found.pop("init", None)
        return found

    def states(self) -> dict[str, str]:
        rows = self.compose(
            *("--profile", "*", "ps", "--all"),
            *("--format", "{{.Service}} {{.State}} {{.Health}}"),
        ).stdout
        return {row.split()[0]: row.split()[-1] for row in rows.splitlines()}

    def healthy(self, *names: str, seconds: float = 120) -> dict[str, str]:
        """Wait until the services are healthy; all of them where none is named."""

        def well() -> dict[str, str] | None:
            states = self.states()
            states.pop("init", None)
            watched = names or tuple(states)
            good = all(states.get(name) == "healthy" for name in watched)
            return states if good and states else None

        return until(well, "the services are healthy", seconds=seconds, every=1)

    def url(self, name: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def query(self, expression: str) -> list[dict]:
        asked = requests.get(
            self.url("prometheus", "/api/v1/query"),
            params={"query": expression},
            timeout=10,
        )
        return asked.json()["data"]["result"]

    def secret(self, name: str) -> str:
        """Give a secret that init made."""
        where = f"/run/inferops/secrets/{name}"
        asked = ("exec", "--no-TTY", "config-reloader", "cat", where)
        return self.compose(*asked).stdout.strip()

    def generate(self, **options: object) -> requests.Response:
        body = {"model": MODEL, "prompt": "hello", "stream": False, **options}
        return requests.post(self.url("router", "/api/generate"), json=body, timeout=60)

    def simulated(self) -> list[dict[str, Any]]:
        """Give the states of the simulated nodes."""
        control = self.url("simulator_control")
        return requests.get(f"{control}/nodes", timeout=10).json()

    def remove(self) -> None:
        self.compose(
            *("--profile", "*", "down", "--volumes", "--remove-orphans"),
            *("--timeout", "5"),
            check=False,
        )


def image_of(stack: Stack, service: str) -> str:
    """Name the image that the shipped file gives to a service."""
    shown = stack.compose("--profile", "*", "config", "--format=json").stdout
    return str(json.loads(shown)["services"][service]["image"])


NODES = """
services:
  nodes:
    image: inferops-nodes:{version}
    command:
      - python
      - -m
      - simulator
      - --inventory=/nodes/nodes.yml
      - --listen=0.0.0.0
      - --control-port=21500
    volumes: ["./site:/nodes:ro"]
    ports: ["127.0.0.1:${{INFEROPS_SIMULATOR_PORT}}:21500"]
    networks: [telemetry]
    healthcheck:
      test: [CMD, python, -m, launcher.health, "http://127.0.0.1:21501/api/version"]
      interval: 2s
"""


def own_nodes(stack: Stack, slots: Mapping[str, int]) -> None:
    """Give the stack nodes that no upgrade replaces, as one's own machines are."""
    entries = [
        {
            "targets": [name],
            "labels": {
                "node": name,
                "__ollama": f"http://nodes:{port}",
                "__scrape": "probe",
                "__slots": str(count),
                "__simulated": "true",
                "__sim_tokens_per_second": "60",
            },
        }
        for port, (name, count) in enumerate(slots.items(), start=21501)
    ]
    stack.clone.write("site/nodes.yml", json.dumps(entries))
    stack.clone.write("docker-compose.override.yml", NODES.format(version=VERSION))
    stack.environment["COMPOSE_PROFILES"] = ""
    stack.compose("build")
    tags = (f"inferops:{VERSION}", f"inferops-nodes:{VERSION}")
    subprocess.run(["docker", "tag", *tags], check=True)


class Meter(threading.Thread):
    """Asks for a short answer again and again; counts those that fail, and how long."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._over = threading.Event()
        self.answered = 0
        self.failed = 0
        self.gap = 0.0

    def run(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.1):
            if self._asked():
                now = time.monotonic()
                self.gap, last = max(self.gap, now - last), now
                self.answered += 1
            else:
                self.failed += 1

    def _asked(self) -> bool:
        try:
            reply = self._stack.generate(options={"num_predict": 5})
        except requests.RequestException:
            return False
        return bool(reply.status_code == requests.codes.ok and reply.json()["done"])

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(90)
