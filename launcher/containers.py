"""The command line's options, in the words of Compose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from launcher import configuration, standalone
from launcher.docker import Stack
from launcher.errors import LaunchError
from launcher.fleet import Choice
from launcher.services import LOOPBACK, Ports
from simulator.inventory import InventoryError, any_simulated

# Published ports, by the variable that docker-compose.yml reads.
VARIABLES = {
    "router": "INFEROPS_ROUTER_PORT",
    "prometheus": "INFEROPS_PROMETHEUS_PORT",
    "alertmanager": "INFEROPS_ALERTMANAGER_PORT",
    "grafana": "INFEROPS_GRAFANA_PORT",
    "simulator_control": "INFEROPS_SIMULATOR_PORT",
}
_PROFILES = "COMPOSE_PROFILES"
_DEMO = "demo"


def stack(
    options: standalone.Options,
    inventory: Path | None,
    run: Path,
    environ: Mapping[str, str],
) -> Stack:
    """Say it to Compose; raises LaunchError for an option that it has no word for.

    inventory: as given on the command line. run: the default of --run-dir.
    """
    root = options.paths.root
    said = variables(root, environ)
    if options.paths.run != run:
        raise LaunchError("--run-dir: with Docker, state is in volumes; leave it out")
    given = _ports(options.ports)
    given |= _inventory(inventory)
    if options.external_host != LOOPBACK:
        given["INFEROPS_EXTERNAL_HOST"] = options.external_host
    demo = _demo(options.fleet, root, said)
    if options.fleet is Choice.SIMULATED:
        given["INFEROPS_TARGETS"] = "./simulator/targets"
    profiles = [each for each in said.get(_PROFILES, "").split(",") if each]
    others = [each for each in profiles if each != _DEMO]
    given[_PROFILES] = ",".join([*others, _DEMO] if demo else others)
    return Stack(
        root=root,
        ports=_as_published(options.ports, said | given),
        environment=given,
        demo=demo,
        grafana=options.grafana,
        notified=standalone.notified(options.paths),
        address=said.get("INFEROPS_ADDRESS") or LOOPBACK,
        keys=said.get("INFEROPS_ACCESS__KEYS") or "auto",
    )


def variables(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read what Compose will read: .env, then site/env, then the environment."""
    found: dict[str, str] = {}
    for path in (root / ".env", root / "site" / "env"):
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                found[name.strip()] = value.strip().strip("\"'")
    return found | dict(environ)


def _ports(ports: Ports) -> dict[str, str]:
    changed = [
        each.name for each in fields(Ports) if getattr(ports, each.name) != each.default
    ]
    for name in changed:
        if name not in VARIABLES:
            flag = f"--{name.replace('_', '-')}-port"
            raise LaunchError(f"{flag}: with Docker it is not published; leave it out")
    return {VARIABLES[name]: str(getattr(ports, name)) for name in changed}


def _as_published(ports: Ports, said: Mapping[str, str]) -> Ports:
    own = {
        name: int(said[variable])
        for name, variable in VARIABLES.items()
        if said.get(variable, "").isdigit()
    }
    return Ports(
        **{each.name: getattr(ports, each.name) for each in fields(Ports)} | own
    )


def _inventory(inventory: Path | None) -> dict[str, str]:
    if inventory is None:
        return {}
    if inventory.name != "nodes.yml":
        raise LaunchError(f"{inventory}: with Docker it must be named nodes.yml")
    return {"INFEROPS_TARGETS": str(inventory.resolve().parent)}


def _demo(choice: Choice, root: Path, said: Mapping[str, str]) -> bool:
    """Tell whether the simulator is to play: as asked, else as the inventory says."""
    if choice is not Choice.AUTO:
        return choice is Choice.SIMULATED
    own = configuration.inventory(root / "site")
    if own is not None and not _simulated(own):
        return False
    return _DEMO in said.get(_PROFILES, "").split(",")


def _simulated(inventory: Path) -> bool:
    try:
        return any_simulated(inventory)
    except InventoryError as error:
        raise LaunchError(str(error)) from error
