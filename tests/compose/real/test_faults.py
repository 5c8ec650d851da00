"""What may be wrong with a machine, an engine or a checkout; the router serves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from exporters import VERSION
from tests.compose.real.stack import UP_SECONDS, Clone, Stack, image_of
from tests.harness.poll import until
from tests.harness.process import Process

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]

BROKEN = """
services:
  node-exporter:
    devices: ["/dev/no-such-device"]
"""


def serves(stack: Stack) -> bool:
    """Ask for models, then for an answer."""
    until(lambda: stack.generate().ok, "the router answers", seconds=60, every=0.5)
    return True


def launch(stack: Stack, log, command: str = "up", *flags: str) -> Process:
    return Process(
        [sys.executable, "-m", "launcher", command, "--with", "docker", *flags],
        log=log,
        env=stack.variables,
        cwd=stack.clone.folder,
    )


def test_a_private_root(private_root, clone) -> None:
    """Where "/" is private, as on Docker Desktop, everything gets healthy."""
    stack = Stack(clone)
    try:
        stack.up()
        stack.healthy()
        assert serves(stack)
    finally:
        stack.remove()


@pytest.mark.parametrize("fault", ["device", "gpu"])
def test_telemetry_that_cannot_start(stack, fault) -> None:
    """`up` fails, and yet the router and all other telemetry run."""
    if fault == "device":
        stack.clone.write("docker-compose.override.yml", BROKEN)
    else:
        images = (image_of(stack, n) for n in ("node-exporter", "dcgm-exporter"))
        subprocess.run(["docker", "tag", *images], check=True)
        stack.environment["COMPOSE_PROFILES"] = "demo,gpu"

    failed = stack.compose("up", "--detach", check=False)

    assert 0 != failed.returncode
    stack.healthy("router", "prometheus", "alertmanager", "grafana", "exporter")
    assert serves(stack)


def test_an_image_that_cannot_be_had(stack, tmp_path) -> None:
    """`make up` starts what it can, and names what it cannot."""
    stack.clone.write(
        "docker-compose.override.yml",
        "services: {grafana: {image: 'registry.invalid/none:1.0.0'}}\n",
    )

    with launch(stack, tmp_path / "log") as process:
        until(
            lambda: "NOT EVERYTHING RUNS: grafana." in process.log.read_text(),
            "the culprit is named",
            seconds=UP_SECONDS,
            every=1,
        )
        assert serves(stack)
        assert {"router", "prometheus", "node-exporter"} <= stack.ids().keys()
        process.signal(signal.SIGINT)
        assert 0 == process.wait(120)
    assert {} == stack.ids()


def test_a_start_beside_a_running_stack(stack, tmp_path) -> None:
    """A build that fails, and Ctrl-C beside a detached stack, leave it as it was.

    Meanwhile `status` shows it.
    """
    stack.up()
    stack.healthy()
    before = stack.ids()

    with launch(stack, tmp_path / "first") as process:
        until(
            lambda: "Ctrl-C leaves it running" in process.log.read_text(),
            "it is beside the stack",
            seconds=120,
            every=1,
        )
        process.signal(signal.SIGINT)
        assert 0 == process.wait(60)
    assert before == stack.ids()
    with launch(stack, tmp_path / "status", "status") as process:
        assert 0 == process.wait(60)
        assert "notified: NOBODY" in process.log.read_text()

    stack.clone.write("Dockerfile", "FROM registry.invalid/none:1\n")
    with launch(stack, tmp_path / "second") as process:
        assert 1 == process.wait(180), process.tail()
    assert before == stack.ids()
    assert serves(stack)


@pytest.mark.parametrize("umask", [0o027, 0o077], ids=["027", "077"])
def test_a_clone_that_only_its_owner_may_read(engine, tmp_path, umask) -> None:
    """Whatever umask a clone was made under, the stack gets healthy."""
    stack = Stack(Clone(tmp_path / "clone", umask=umask))
    try:
        stack.up()
        stack.healthy()
        assert serves(stack)
    finally:
        stack.remove()


@pytest.mark.parametrize("program", [("docker", "compose"), ("docker-compose",)])
def test_rebuilt_when_the_code_changed_and_only_then(stack, program) -> None:
    """A second `up -d` recreates nothing; after new code the router goes on.

    An edit of configuration, such as of an alert rule, builds and recreates nothing.
    """
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]} on PATH")
    stack.program = program
    stack.up()
    stack.healthy()
    before = stack.ids()
    rules = stack.clone.folder / "alerting" / "rules" / "jobs.yml"
    rules.write_text(rules.read_text().replace("JobStuck", "JobStuckElsewhere"))

    stack.up()

    assert before == stack.ids()
    until(
        lambda: (
            "JobStuckElsewhere"
            in requests.get(stack.url("prometheus", "/api/v1/rules"), timeout=5).text
        ),
        "the edited rule is in force",
        seconds=40,
        every=0.5,
    )
    stack.clone.change_code()
    stack.up()

    after = stack.ids()
    # Compose 2.26 recreates the others as well, 2.30 restarts them.
    ours = ("router", "config-reloader", "exporter", "simulator")
    assert ["router"] == [name for name in ours if before[name] == after[name]]
    until(
        lambda: "taken_over" in stack.compose("logs", "router").stdout,
        "the new code has taken over",
        seconds=60,
        every=0.5,
    )


def test_leaving_the_demonstration(stack) -> None:
    """An inventory of one's own ends the simulator; nothing else is touched."""
    stack.up()
    stack.healthy()
    before = stack.ids()

    stack.clone.write(
        "site/nodes.yml",
        '- targets: ["192.0.2.1"]\n  labels: {node: own, __scrape: probe}\n',
    )

    until(
        lambda: "exited" in stack.states()["simulator"] or None,
        "the simulator ended",
        seconds=40,
        every=1,
    )
    until(
        lambda: (
            ["own"]
            == [
                each["name"]
                for each in requests.get(
                    stack.url("router", "/admin/nodes"), timeout=5
                ).json()
            ]
        ),
        "the router knows the node",
        seconds=40,
        every=1,
    )
    assert before == stack.ids()


def test_networks_are_apart(stack) -> None:
    """What is among the clients reaches the router, and neither of the deciders."""
    stack.up()
    stack.healthy("router", "prometheus", "alertmanager")
    network = f"{stack.environment['COMPOSE_PROJECT_NAME']}_clients"

    def reached(url: str) -> bool:
        asked = subprocess.run(
            [
                *("docker", "run", "--rm", "--network", network),
                *(f"inferops:{VERSION}", "python", "-m", "launcher.health", url),
            ],
            timeout=120,
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0

    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    prometheus = subprocess.run(
        ["docker", "inspect", stack.ids()["prometheus"], "--format", address],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert reached("http://router:8000/healthz")
    assert not reached("http://prometheus:9090/-/ready")
    assert not reached("http://alertmanager:9093/-/ready")
    assert not any(reached(f"http://{each}:9090/-/ready") for each in prometheus)


@pytest.fixture
def small_disk(engine, tmp_path):
    """A file system of 8 MB, mounted where the engine sees it too."""
    pid = Path(os.environ.get("INFEROPS_ENGINE", "/nowhere")) / "dockerd.pid"
    if os.geteuid() != 0 or not pid.exists():
        pytest.skip("only root may mount, and only beside an engine of our own")
    enter = ["nsenter", "--mount", "--target", pid.read_text().strip()]
    image = tmp_path / "disk"
    place = Path(tempfile.mkdtemp(dir="/srv"))  # as node-exporter sees
    place.chmod(0o755)
    image.write_bytes(bytes(8 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    made = subprocess.run(["mount", "-o", "loop", image, place], check=False)
    if made.returncode != 0:
        place.rmdir()
        pytest.skip("no loop device here")
    device = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", place],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run([*enter, "mount", device, place], check=True)
    yield place
    subprocess.run([*enter, "umount", place], check=False)
    subprocess.run(["umount", place], check=False)
    place.rmdir()


def test_a_disk_of_the_control_plane_fills(small_disk, stack) -> None:
    """The shipped alert about a full disk begins to count for the right one."""
    with (small_disk / "full").open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    stack.up()
    stack.healthy("prometheus", "node-exporter")

    found = until(
        lambda: stack.query(
            'ALERTS{alertname="NodeDiskNearlyFull",severity="critical"}'
        ),
        "the alert counts",
        seconds=60,
        every=1,
    )

    assert {str(small_disk)} == {each["metric"]["mountpoint"] for each in found}
