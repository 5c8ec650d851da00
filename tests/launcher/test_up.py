"""`python -m launcher up` as a person sees it: all real parts on free ports."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from launcher import supervision, tools
from launcher.errors import LaunchError
from launcher.services import Paths, Ports
from tests.compose.real.stack import Clone
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process
from tests.harness.streams import outlive

pytestmark = pytest.mark.e2e

START_SECONDS = 100
STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Launch:
    """A launcher's options, for a run directory of its own."""

    run: Path
    inventory: Path
    ports: Ports
    simulated: list[int]
    log: Path
    root: Path = ROOT

    def argv(self, command: str) -> list[str]:
        ports = [
            f"--{port.name.replace('_', '-')}-port={getattr(self.ports, port.name)}"
            for port in fields(Ports)
        ]
        return [
            *(sys.executable, "-m", "launcher", command, "--with=native"),
            *(f"--run-dir={self.run}", f"--inventory={self.inventory}"),
            *("--no-grafana", *ports),
        ]

    def start(self) -> Process:
        self.log.unlink(missing_ok=True)
        return Process(self.argv("up"), log=self.log, cwd=self.root)

    def say(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(command),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
        )

    def wait_ready(self, process: Process) -> None:
        def ready() -> bool:
            assert process.running, process.tail()
            return "Ctrl-C stops everything." in process.tail()

        until(ready, "everything is well", seconds=START_SECONDS)

    def traces(self) -> list[object]:
        """Find what a stopped product must not leave: processes, files, ports."""
        paths = Paths(ROOT, self.run, self.inventory)
        halves = [each for each in self.run.rglob(".*") if each.is_file()]
        sockets = list(self.run.rglob("*.sock"))
        listening = [port for port in self.all_ports() if answers(port)]
        return [*supervision.left(paths), *halves, *sockets, *listening]

    def all_ports(self) -> list[int]:
        return [getattr(self.ports, each.name) for each in fields(Ports)] + (
            self.simulated
        )


def answers(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def launch(tmp_path):
    """A launch on free ports; skips where the programs are neither here nor to be had.

    Whatever the test leaves is swept.
    """
    try:
        tools.ensure(ROOT, tools.RUN)
    except LaunchError as error:
        pytest.skip(str(error))
    numbers = free_ports(len(fields(Ports)) + 2)
    ports = Ports(*numbers[2:])
    entries = [
        {
            "targets": ["127.0.0.1"],
            "labels": {
                "node": f"sim-{port}",
                "__ollama": f"http://127.0.0.1:{port}",
                "__dcgm_address": f"127.0.0.1:{port}",
                "__scrape": "probe,dcgm",
                "__simulated": "true",
            },
        }
        for port in numbers[:2]
    ]
    inventory = tmp_path / "nodes.yml"
    inventory.write_text(yaml.safe_dump(entries))
    made = Launch(tmp_path / "run", inventory, ports, numbers[:2], tmp_path / "log")
    yield made
    supervision.sweep(Paths(ROOT, made.run, inventory), seconds=STOP_SECONDS)


def printed_curl(process: Process) -> list[str]:
    (line,) = (
        each.strip()
        for each in process.log.read_text().splitlines()
        if each.strip().startswith("curl ")
    )
    return shlex.split(line)


def _modes(run: Path, kind: Callable[[Path], bool]) -> set[int]:
    """Return the modes of all files or folders: others may neither read nor enter."""
    found = (path for path in (run, *run.rglob("*")) if kind(path))
    return {path.stat().st_mode & 0o777 for path in found} - {0o400}


def _holds_a_node(process: Process) -> None:
    """The printed command works with the token that was made; without it, 401."""
    (line,) = (
        each.strip()
        for each in process.log.read_text().splitlines()
        if "inferops nodes" in each
    )
    program, _, *options = shlex.split(line)

    def run(*words: str) -> str:
        done = subprocess.run(
            [program, *words, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout + done.stderr

    name = run("nodes").splitlines()[1].partition("\t")[0]
    base = options[options.index("--url") + 1]
    path = f"{base}/admin/nodes/{name}/cordon"
    assert requests.post(path, json={}, timeout=10).status_code == 401
    assert f"{name} drained" in run("cordon", name)
    assert f"{name} schedulable" in run("uncordon", name)


def test_from_up_to_ctrl_c_and_again(launch) -> None:
    """All parts get well, the printed curl works, Ctrl-C leaves nothing behind.

    A second start says that one runs; a start after the stop works at once.
    """
    with launch.start() as first:
        launch.wait_ready(first)
        reply = subprocess.run(
            printed_curl(first), capture_output=True, text=True, timeout=60, check=True
        )
        assert '"done":true' in reply.stdout.replace(" ", "")
        _holds_a_node(first)
        assert {0o600} == _modes(launch.run, Path.is_file)
        assert {0o700} == _modes(launch.run, Path.is_dir)
        second = launch.say("up")
        assert 0 == second.returncode, second.stderr
        assert "already running" in second.stdout
        first.signal(signal.SIGINT)
        assert 0 == first.wait(STOP_SECONDS), first.tail()
    assert [] == launch.traces()

    with launch.start() as again:
        launch.wait_ready(again)
        assert 0 == launch.say("status").returncode
        stopped = launch.say("down")
        assert (0, "stopped\n") == (stopped.returncode, stopped.stdout), stopped.stderr
        assert 0 == again.wait(STOP_SECONDS)
    assert [] == launch.traces()
    assert 1 == launch.say("status").returncode


def test_a_killed_launcher_takes_everything_along(launch) -> None:
    """After SIGKILL of the launcher the parts end by themselves; down tidies up."""
    with launch.start() as process:
        launch.wait_ready(process)
        process.kill()

        assert 0 == launch.say("down").returncode

    assert [] == launch.traces()


@pytest.mark.long
def test_a_killed_supervisord_takes_everything_along(launch) -> None:
    """The launcher says that supervisord is gone, and leaves nothing behind."""
    with launch.start() as process:
        launch.wait_ready(process)
        pid = int((launch.run / "supervisord.pid").read_text())

        subprocess.run(["kill", "-9", str(pid)], check=True)

        assert 1 == process.wait(STOP_SECONDS)
        assert "supervisord ended" in process.tail()
    assert [] == launch.traces()


def test_a_taken_port_is_named(launch) -> None:
    """The start is refused with port, purpose and holder; nothing was started."""
    with socket.create_server(("127.0.0.1", launch.ports.prometheus)):
        with launch.start() as process:
            assert 1 == process.wait(STOP_SECONDS)

        where = f"port {launch.ports.prometheus} (for prometheus) is taken by"
        assert where in process.tail()
        assert not (launch.run / "logs").exists()


@pytest.mark.long
def test_a_part_that_cannot_start_is_named(launch) -> None:
    """A part that ends at once is named with its last words; the rest is stopped."""
    journal = launch.run / "data" / "prometheus" / "wal"
    journal.parent.mkdir(parents=True)
    journal.write_text("a file, where Prometheus has a folder")

    with launch.start() as process:
        assert 1 == process.wait(START_SECONDS)

    assert "prometheus does not start" in process.tail()
    assert f"last lines of {launch.run}/logs/prometheus.log" in process.tail()
    assert [] == launch.traces()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_router_of_other_code_takes_over(launch, tmp_path) -> None:
    """`make up` beside one that runs: 50 streams, none fails, none is cut."""
    clone = Clone(tmp_path / "clone").folder
    changed = clone / "router" / "__init__.py"
    slots = {f"sim-{port}": 14 for port in launch.simulated}
    entries = yaml.safe_load(launch.inventory.read_text())
    for each in entries:
        each["labels"] |= {"__slots": "14", "__sim_tokens_per_second": "60"}
    launch.inventory.write_text(yaml.safe_dump(entries))
    launch = replace(launch, root=clone)
    log = launch.run / "logs" / "router.log"

    def states() -> list[dict[str, Any]]:
        control = f"http://127.0.0.1:{launch.ports.simulator_control}"
        return requests.get(f"{control}/nodes", timeout=5).json()

    def renew() -> None:
        changed.write_text(f"{changed.read_text()}\nCHANGED = True\n")
        assert "a new router takes over" in launch.say("up").stdout
        until(lambda: "taken_over" in log.read_text(), "it has", seconds=300)

    with launch.start() as process:
        launch.wait_ready(process)
        assert "a new router takes over" in launch.say("up").stdout
        router = f"http://127.0.0.1:{launch.ports.router}"
        print(outlive(router, states, slots, renew))
        until(lambda: "predecessor_ended" in log.read_text(), "it has", seconds=300)
        process.signal(signal.SIGINT)
        assert 0 == process.wait(STOP_SECONDS), process.tail()
    assert 1 == log.read_text().count("event=taken_over")
    assert [] == launch.traces()
