"""docs/upgrade.md, command by command."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import requests

from tests.compose.real.stack import UP_SECONDS, Clone, Stack, own_nodes
from tests.harness.poll import until
from tests.harness.process import ROOT
from tests.harness.streams import outlive

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]

SLOTS = {"one": 16, "two": 8, "three": 4}
PAGE = ROOT / "docs" / "upgrade.md"


def commands(heading: str) -> list[list[str]]:
    """Give the blocks of commands below a heading of the page."""
    (section,) = (
        each for each in PAGE.read_text().split("\n## ") if each.startswith(heading)
    )
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [block.strip().splitlines() for block in blocks]


def do(stack: Stack, command: str) -> None:
    """Run a line of the page as it stands, but for the project's name."""
    project = stack.environment["COMPOSE_PROJECT_NAME"]
    done = subprocess.run(
        ["bash", "-c", command.replace("inferops_", f"{project}_")],
        cwd=stack.clone.folder,
        env=stack.variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UP_SECONDS,
        check=False,
    )
    assert 0 == done.returncode, stack.story(done)


def admin(stack: Stack, method: str, path: str, **body: object) -> Any:
    token = stack.secret("admin-token")
    answer = requests.request(
        method,
        stack.url("router", path),
        json=body or None,
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )
    answer.raise_for_status()
    return answer.json()


def held(stack: Stack) -> list[str]:
    nodes = admin(stack, "GET", "/admin/nodes")
    return [each["name"] for each in nodes if not each["schedulable"]]


def test_backup_and_restore(stack, tmp_path) -> None:
    """Saved while it runs, restored on an empty machine: holds and history survive."""
    stack.up()
    stack.healthy()
    admin(stack, "POST", "/admin/nodes/sim-t4/cordon", reason="proof")
    until(lambda: ["sim-t4"] == held(stack), "it is held", every=0.5)
    history = admin(stack, "GET", "/admin/holds/history?node=sim-t4")

    for block in commands("Backup"):
        for line in block:
            do(stack, line)
    assert (stack.clone.folder / "series.tar").stat().st_size > 10_000

    other = Stack(Clone(tmp_path / "other"))
    try:
        saved = (stack.clone.folder / "router.tar").read_bytes()
        (other.clone.folder / "router.tar").write_bytes(saved)
        for line in commands("Restore")[0]:
            do(other, line)
        other.healthy("router")
        until(lambda: ["sim-t4"] == held(other), "it is held again", every=0.5)
        again = admin(other, "GET", "/admin/holds/history?node=sim-t4")
        assert history
        assert [event for event in history if event not in again] == []
    finally:
        other.remove()


def test_upgrade(stack) -> None:
    """New code and configuration come together, at `up`; one's own files stay."""
    stack.clone.write("site/router.yml", "dispatch: {attempts: 2}\n")
    stack.clone.write("docker-compose.override.yml", "services: {}\n")
    stack.up()
    stack.healthy()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "old"]):
        subprocess.run([*git, *arguments], cwd=stack.clone.folder, check=True)
    status = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"],
        cwd=stack.clone.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {"!! docker-compose.override.yml", "!! site/router.yml"} == set(
        status.splitlines()
    )

    stack.clone.change_code()
    rules = stack.clone.folder / "alerting" / "rules" / "jobs.yml"
    rules.write_text(rules.read_text().replace("JobStuck", "JobStuckElsewhere"))

    def rules_in_force() -> bool:
        found = requests.get(stack.url("prometheus", "/api/v1/rules"), timeout=5).text
        return "JobStuckElsewhere" in found

    # A file of one's own passes, so the reloader has looked; the rule did not.
    stack.clone.write("site/rules/own.yml", "groups: []\n")
    until(
        lambda: stack.compose(
            *("exec", "--no-TTY", "router", "ls", "/etc/inferops/alerting/rules")
        ).stdout.count("site-own"),
        "own files are taken",
        every=1,
    )
    assert not rules_in_force()
    do(stack, commands("Upgrade")[0][1])

    stack.healthy()
    until(rules_in_force, "the new rules are in force", seconds=40, every=0.5)
    assert (
        "2"
        == stack.compose(
            *("exec", "--no-TTY", "router", "python", "-c"),
            "import router, yaml; assert router.CHANGED; print(yaml.safe_load("
            "open('/etc/inferops/router/router.yml'))['dispatch']['attempts'])",
        ).stdout.strip()
    )


@pytest.mark.parametrize("program", [("docker", "compose"), ("docker-compose",)])
def test_an_upgrade_loses_no_stream(stack, program) -> None:
    """The page's command, under 50 streams: none fails, none is cut."""
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]} on PATH")
    stack.program = program
    own_nodes(stack, SLOTS)
    stack.up()
    stack.healthy()
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)
    router = stack.ids()["router"]
    stack.clone.change_code()
    stack.compose("build")  # so that most of the streams are under way at the change

    def replace() -> None:
        stack.up()
        until(lambda: "taken_over" in logs(stack), "it has taken over", seconds=300)

    print(outlive(stack.url("router"), stack.simulated, SLOTS, replace))

    assert router == stack.ids()["router"]
    until(lambda: "predecessor_ended" in logs(stack), "the old one ended", seconds=60)
    stack.healthy()
    changed = ("python", "-c", "import router; assert router.CHANGED")
    stack.compose("exec", "--no-TTY", "router", *changed)


def test_code_that_does_not_start_changes_nothing(stack) -> None:
    """The router before it serves on; mended code then takes over."""
    stack.up()
    stack.healthy()
    stack.clone.change_code("raise RuntimeError('proof')")
    stack.up()
    until(lambda: "the one before it serves on" in logs(stack), "it failed", seconds=90)
    stack.healthy("simulator")
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)

    code = stack.clone.folder / "router" / "__init__.py"
    code.write_text(code.read_text().replace("raise RuntimeError", "MENDED ="))
    stack.up()
    until(lambda: "taken_over" in logs(stack), "the mended one has", seconds=90)
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)


def logs(stack: Stack) -> str:
    return stack.compose("logs", "router").stdout
