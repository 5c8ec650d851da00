"""The command line's options become Compose's variables and profiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.containers import stack
from launcher.errors import LaunchError
from launcher.fleet import Choice
from launcher.services import Paths, Ports
from launcher.standalone import Options

OWN = '- targets: ["h"]\n  labels: {node: h}\n'
SIMULATED = OWN.replace("node: h", 'node: h, __simulated: "true"')


@pytest.fixture
def root(tmp_path):
    (tmp_path / ".env").write_text("# a comment\nCOMPOSE_PROFILES=demo,chat\n")
    (tmp_path / "site").mkdir()
    return tmp_path


@pytest.fixture
def options(root) -> Options:
    return Options(Ports(), Paths(root, root / ".run", root / "nodes.yml"))


def made(options, inventory=None, environ=None):
    root = options.paths.root
    return stack(options, inventory, root / ".run", environ or {})


@pytest.mark.parametrize(
    ("fleet", "own", "profiles"),
    [
        (Choice.AUTO, None, "chat,demo"),
        (Choice.AUTO, OWN, "chat"),
        (Choice.AUTO, SIMULATED, "chat,demo"),
        (Choice.REAL, None, "chat"),
        (Choice.SIMULATED, OWN, "chat,demo"),
    ],
)
def test_the_demonstration(options, root, fleet, own, profiles) -> None:
    """It runs as asked for, or while the inventory has simulated nodes."""
    if own:
        (root / "site" / "nodes.yml").write_text(own)

    found = made(replace(options, fleet=fleet))

    assert profiles == found.environment["COMPOSE_PROFILES"]
    assert ("demo" in profiles) is found.demo


def test_what_wins(options, root) -> None:
    """A flag over the environment, that over site/env, that over .env."""
    (root / "site" / "env").write_text(
        "INFEROPS_ROUTER_PORT=1\nINFEROPS_GRAFANA_PORT='2'\nCOMPOSE_PROFILES=\n"
    )
    chosen = replace(options, ports=Ports(prometheus=4))

    found = made(chosen, environ={"INFEROPS_ROUTER_PORT": "3"})

    assert (3, 2, 4) == (
        found.ports.router,
        found.ports.grafana,
        found.ports.prometheus,
    )
    assert "" == found.environment["COMPOSE_PROFILES"]
    assert "4" == found.environment["INFEROPS_PROMETHEUS_PORT"]
    assert "INFEROPS_ROUTER_PORT" not in found.environment


def test_an_inventory_on_the_command_line(options, tmp_path) -> None:
    """Its folder is mounted; it must have the name that the services read."""
    found = made(options, tmp_path / "fleet" / "nodes.yml")
    assert str(tmp_path / "fleet") == found.environment["INFEROPS_TARGETS"]

    with pytest.raises(LaunchError, match=r"must be named nodes\.yml"):
        made(options, tmp_path / "mine.yml")


def test_a_faulty_inventory_is_named(options, root) -> None:
    """The message names the file, before anything is started."""
    (root / "site" / "nodes.yml").write_text("a: [")

    with pytest.raises(LaunchError, match=r"site/nodes\.yml"):
        made(options)
