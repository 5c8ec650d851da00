"""Runs the product on this machine: start, wait until well, follow, stop.

One launcher per run directory; everything that it starts ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace

from launcher import (
    alertmanager,
    banner,
    configuration,
    files,
    fleet,
    health,
    lock,
    ports,
    rendering,
    signals,
    supervision,
    tools,
    webconfig,
)
from launcher.errors import LaunchError
from launcher.services import LOOPBACK, Paths, Ports, Programs, Service, services, url
from router.config.load import parse_config
from router.errors import ConfigError

_START_SECONDS = 90
_NEWS_SECONDS = 5
_POLL_SECONDS = 0.2
_FATAL = frozenset({"FATAL", "EXITED"})
_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    ports: Ports
    paths: Paths
    fleet: fleet.Choice = fleet.Choice.AUTO
    grafana: bool = True
    external_host: str = LOOPBACK


def up(options: Options) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit status."""
    paths = options.paths
    os.umask(files.PRIVATE)
    files.private_folder(paths.run)
    with lock.hold(paths.run) as holder:
        if holder is not None:
            _say(f"already running (pid {holder}); `make down` stops it")
            if supervision.look_again(paths, "router"):
                _say("where its code changed, a new router takes over; no stream ends")
            return 0
        if supervision.left(paths):
            _say("ending what a killed start has left behind")
            supervision.sweep(paths, seconds=_START_SECONDS)
        with signals.until_stopped():
            _run(options)
    return 0


def down(options: Options) -> int:
    """Stop what another terminal started, and whatever is left of a killed start."""
    paths = options.paths
    pid = lock.holder(paths.run) if paths.run.is_dir() else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_for_end(paths, pid)
    count = supervision.sweep(paths, seconds=_START_SECONDS)
    _say("not running" if pid is None and not count else "stopped")
    return 0


def status(options: Options) -> int:
    """Print each part's state; 0 when all are running."""
    found = supervision.states(options.paths)
    for name, state in found.items():
        _say(f"{name:14}{state.lower()}")
    if not found:
        _say("not running")
    else:
        _say(f"notified: {notified(options.paths)}")
    return 0 if set(found.values()) == {"RUNNING"} else 1


def _run(options: Options) -> None:
    programs = tools.programs(options.paths.root, grafana=options.grafana)
    options, simulate = _with_fleet(options)
    found = _parts(options, programs, simulate=simulate)
    _refuse_taken(found)
    rendering.render(options.ports, options.paths, external_host=options.external_host)
    supervisor = supervision.start(found, options.paths)
    try:
        _wait(found, options.paths, supervisor)
        _greet(options, programs)
        _follow(options.paths, supervisor)
    finally:
        _stop(found, options.paths, supervisor)


def _with_fleet(options: Options) -> tuple[Options, bool]:
    """Decide about the nodes; the fallback has an inventory of its own."""
    chosen = fleet.decide(options.fleet, fleet.members(options.paths.inventory))
    _say(f"fleet: {chosen.message}")
    if chosen.fallback:
        paths = replace(options.paths, inventory=options.paths.run / "nodes.yml")
        rendering.inventory(options.ports, paths)
        options = replace(options, paths=paths)
    return options, chosen.simulate


def _parts(
    options: Options, programs: Programs, *, simulate: bool
) -> tuple[Service, ...]:
    nodes = fleet.members(options.paths.inventory)
    simulated = tuple(node.port for node in nodes if node.simulated and simulate)
    try:
        settings = configuration.settings(
            options.paths.root / "router" / "router.yml", options.paths.site
        )
        config = parse_config(settings, os.environ)
    except ConfigError as error:
        raise LaunchError(str(error)) from error
    return services(
        options.ports,
        options.paths,
        programs,
        simulated_ports=simulated,
        grace_seconds=config.shutdown.grace_seconds,
        external_host=options.external_host,
    )


def _refuse_taken(found: tuple[Service, ...]) -> None:
    busy = ports.taken(found)
    if busy:
        lines = [each.line() for each in busy]
        hint = "or take other ports: make up ARGS='--prometheus-port 19090 …'"
        raise LaunchError("\n".join([*lines, hint]))


def _wait(
    found: tuple[Service, ...], paths: Paths, supervisor: subprocess.Popen[bytes]
) -> None:
    """Wait until every part is healthy; raises LaunchError with one that is not."""
    waiting = list(found)
    deadline = time.monotonic() + _START_SECONDS
    news = time.monotonic() + _NEWS_SECONDS
    while waiting := _not_yet(waiting, paths):
        if supervisor.poll() is not None:
            raise LaunchError(f"supervisord ended\n{_tail('supervisord', paths)}")
        _refuse_broken(waiting, paths)
        if time.monotonic() > deadline:
            late = waiting[0]
            why = f"no 200 from {late.health} within {_START_SECONDS} s"
            raise LaunchError(f"{late.name}: {why}\n{_tail(late.name, paths)}")
        if time.monotonic() > news:
            _say(f"still waiting for {', '.join(part.name for part in waiting)}")
            news += _NEWS_SECONDS
        time.sleep(_POLL_SECONDS)


def _not_yet(waiting: list[Service], paths: Paths) -> list[Service]:
    found = supervision.states(paths)
    left = []
    for part in waiting:
        # Running too: something else might answer at that address.
        if found.get(part.name) == "RUNNING" and _is_well(part):
            _say(f"{part.name} is ready")
        else:
            left.append(part)
    return left


def _is_well(part: Service) -> bool:
    login = webconfig.login(part.password_file) if part.password_file else None
    return health.answers(part.health, login=login)


def _refuse_broken(waiting: list[Service], paths: Paths) -> None:
    found = supervision.states(paths)
    for part in waiting:
        if found.get(part.name) in _FATAL:
            raise LaunchError(f"{part.name} does not start\n{_tail(part.name, paths)}")


def _greet(options: Options, programs: Programs) -> None:
    base = url(options.ports.router)
    curl = banner.example(base, banner.first_model(base))
    grafana = programs.grafana is not None
    _say(
        f"\n{banner.addresses(options.ports, grafana=grafana)}"
        f"\n{banner.files(options.paths)}"
        f"\n  notified      {notified(options.paths)}"
        f"\n\nTry:\n  {curl}\n  {banner.nodes(options.paths, base)}"
        "\n\nCtrl-C stops everything."
    )


def notified(paths: Paths) -> str:
    """Say who gets notifications."""
    return alertmanager.audience(rendering.receiver_secrets(paths))


def _follow(paths: Paths, supervisor: subprocess.Popen[bytes]) -> None:
    """Stay until asked to stop; says when a part goes or comes back."""
    known = supervision.states(paths)
    while not _ended(supervisor, seconds=1):
        found = supervision.states(paths)
        for name, state in found.items():
            if state != known.get(name):
                _say(f"{name}: {state.lower()} (see {paths.logs / name}.log)")
        known = found or known
    raise LaunchError(f"supervisord ended\n{_tail('supervisord', paths)}")


def _stop(
    found: tuple[Service, ...], paths: Paths, supervisor: subprocess.Popen[bytes]
) -> None:
    _say("stopping")
    supervisor.terminate()
    # supervisord stops the parts one after another.
    _ended(supervisor, seconds=sum(part.stop_seconds for part in found) + 10)
    supervision.sweep(paths, seconds=5)
    _say("stopped")


def _ended(process: subprocess.Popen[bytes], *, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _wait_for_end(paths: Paths, pid: int) -> None:
    deadline = time.monotonic() + 3 * _START_SECONDS
    while lock.holds(paths.run, pid):
        if time.monotonic() > deadline:
            raise LaunchError(f"the launcher (pid {pid}) does not end")
        time.sleep(_POLL_SECONDS)


def _tail(name: str, paths: Paths) -> str:
    log = paths.logs / f"{name}.log"
    if not log.exists():
        return f"(no {log})"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"last lines of {log}:", *lines[-_LAST_LINES:]])


def _say(text: str) -> None:
    print(text, flush=True)
