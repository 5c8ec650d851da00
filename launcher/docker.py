"""`docker compose`, where its engine answers: up until Ctrl-C, then down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher import banner, signals
from launcher.errors import LaunchError
from launcher.services import LOOPBACK, Ports, url

_ANSWER_SECONDS = 5
_BUILD_SECONDS = 1800  # the first time it downloads the base and the packages
_UP_SECONDS = 1800  # the first time it downloads images
_DOWN_SECONDS = 300
_CORE = ("init", "router")
_DEMO = "simulator"
_GRAFANA_PASSWORD = "/run/inferops/grafana/grafana-admin-password"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class Stack:
    """The services as one person wants them.

    ports:     published on this machine
    environment: for Compose, over what .env and site/env say
    demo:      simulated nodes are wanted
    grafana:   False leaves it out
    notified:  who gets notifications, in one line
    address:   of this machine, on which the router listens
    keys:      the router's setting access.keys
    """

    root: Path
    ports: Ports = field(default_factory=Ports)
    environment: Mapping[str, str] = field(default_factory=dict)
    demo: bool = True
    grafana: bool = True
    notified: str = ""
    address: str = LOOPBACK
    keys: str = "auto"


def wanted(engine: str) -> bool:
    """Decide for Docker: when asked for, or when its engine and Compose answer."""
    if engine == "native":
        return False
    answering = _answers("info") and _answers("compose", "version")
    if engine == "docker" and not answering:
        raise LaunchError("no Docker engine with Compose answers: see `docker info`")
    return answering


def up(stack: Stack) -> int:
    """Start every service, follow until asked to stop, end what this call started."""
    with signals.until_stopped():
        # Before anything is touched: a build that fails changes nothing.
        _compose(stack, "build", *_unbuilt(stack), seconds=_BUILD_SECONDS)
        before = running(stack)
        try:
            _start(stack)
            _greet(stack, beside=bool(before))
            _warn_of_nodes(stack)
            _compose(stack, "logs", "--follow", "--tail", "0", seconds=None)
        finally:
            _end(stack, before)
    return 0


def down(stack: Stack) -> int:
    """Stop and remove every container, of every profile; volumes stay."""
    _compose(stack, "--profile", "*", "down", seconds=_DOWN_SECONDS)
    return 0


def status(stack: Stack) -> int | None:
    """Show the containers; None where there are none, else 0 when the router runs."""
    there = running(stack)
    if not there:
        return None
    _compose(stack, "ps", "--all", seconds=_DOWN_SECONDS)
    print(f"notified: {stack.notified}", flush=True)
    _warn_of_nodes(stack)
    return 0 if "router" in there else 1


def running(stack: Stack) -> frozenset[str]:
    """Name the services that run now, of every profile."""
    return _listed(
        stack, "--profile", "*", "ps", "--services", "--filter", "status=running"
    )


def _listed(stack: Stack, *arguments: str) -> frozenset[str]:
    command = [*_command(stack), *arguments]
    asked = subprocess.run(
        command,
        cwd=stack.root,
        env={**os.environ, **stack.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DOWN_SECONDS,
        check=False,
    )
    if asked.returncode != 0:
        raise LaunchError(f"{' '.join(command)}: {asked.stderr.strip()}")
    return frozenset(asked.stdout.split())


def _unbuilt(stack: Stack) -> tuple[str, ...]:
    """Name what is to be built: the router's image only where it is missing.

    Compose labels what it builds with its version and the project's name. So a second
    build may give another image, for which the router's container would be recreated.
    """
    (init, router), image = _CORE, _listed(stack, "config", "--images", "router")
    there = bool(image) and _answers("image", "inspect", *image)
    return (init,) if there else (init, router)


def _start(stack: Stack) -> None:
    """Start the router, without which there is no product; then all else."""
    up = ("up", "--detach", "--no-build")
    if not stack.demo:  # any more
        ended = ("--profile", "*", "rm", "--stop", "--force", _DEMO)
        _compose(stack, *ended, seconds=_DOWN_SECONDS)
    try:
        _compose(stack, *up, *_CORE, seconds=_UP_SECONDS)
        _compose(stack, *up, "--wait", "router", seconds=_UP_SECONDS)
    except LaunchError as failed:
        _quietly(stack, "logs", "--no-log-prefix", "--tail", "5", *_CORE)
        raise LaunchError(f"the router does not start: {failed}") from failed
    without = () if stack.grafana else ("--scale", "grafana=0")
    try:
        _compose(stack, *up, *without, "--wait", seconds=_UP_SECONDS)
    except LaunchError:
        _start_one_by_one(stack)


def _start_one_by_one(stack: Stack) -> None:
    """Start what can be started; a missing image stops only its own service."""
    faulty = []
    for name in sorted(_listed(stack, "config", "--services")):
        if name == "grafana" and not stack.grafana:
            continue
        try:
            up = ("up", "--detach", "--no-build", "--no-deps", name)
            _compose(stack, *up, seconds=_UP_SECONDS)
        except LaunchError:
            faulty.append(name)
    if faulty := faulty or ["see docker compose ps --all"]:
        print(
            f"\nNOT EVERYTHING RUNS: {', '.join(faulty)}. The router serves without it."
            "\n  docker compose up --detach NAME, docker compose logs NAME say why",
            flush=True,
        )


def _open(stack: Stack) -> str:
    if stack.address in {LOOPBACK, "::1", "localhost"}:
        return ""
    if stack.keys != "off":
        return f"\n  KEYS          who reaches {stack.address} needs one: docs/keys.md"
    return (
        f"\n  OPEN          whoever reaches {stack.address} may use the router and see"
        " its jobs: docs/access.md"
    )


def _warn_of_nodes(stack: Stack) -> None:
    """Say which nodes refuse connections, as containers see them."""
    asked = ("exec", "--no-TTY", "config-reloader", "python", "-m")
    _quietly(stack, *asked, "launcher.reachable")


def _end(stack: Stack, before: frozenset[str]) -> None:
    """Leave the stack as it was found."""
    if not before:
        down(stack)
    elif new := sorted(running(stack) - before):
        ended = ("--profile", "*", "rm", "--stop", "--force", *new)
        _compose(stack, *ended, seconds=_DOWN_SECONDS)


def _greet(stack: Stack, *, beside: bool) -> None:
    base = url(stack.ports.router)
    print(
        f"\n{banner.addresses(stack.ports, grafana=stack.grafana)}"
        f"\n  secrets       docker compose exec grafana cat {_GRAFANA_PASSWORD}"
        f"\n  notified      {stack.notified}{_open(stack)}"
        f"\n\nTry:\n  {banner.example(base, banner.first_model(base))}"
        + (
            "\n\nIt ran before: Ctrl-C leaves it running, `make down` stops it.\n"
            if beside
            else "\n\nCtrl-C stops everything.\n"
        ),
        flush=True,
    )


def _answers(*arguments: str) -> bool:
    try:
        asked = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _command(stack: Stack) -> list[str]:
    own = stack.root / "site" / "env"
    given = ["--env-file", ".env", "--env-file", str(own)] if own.is_file() else []
    return ["docker", "compose", *given]


def _quietly(stack: Stack, *arguments: str) -> None:
    try:
        _compose(stack, *arguments, seconds=_DOWN_SECONDS)
    except LaunchError as failed:
        print(failed, flush=True)


def _compose(stack: Stack, *arguments: str, seconds: float | None) -> None:
    command = [*_command(stack), *arguments]
    try:
        # A session of its own: Ctrl-C is for us alone, we say what ends when.
        subprocess.run(
            command,
            cwd=stack.root,
            env={**os.environ, **stack.environment},
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=True,
            start_new_session=True,
        )
    except subprocess.CalledProcessError as failed:
        raise LaunchError(f"{' '.join(command)}: ended {failed.returncode}") from failed
    except subprocess.TimeoutExpired as late:
        raise LaunchError(f"{' '.join(command)}: no end in {seconds} s") from late
