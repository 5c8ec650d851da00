"""A taken port is named with its holder and what it was wanted for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import psutil
import pytest

from launcher.ports import Taken, taken
from launcher.services import Service
from tests.harness.ports import free_port


def part(*ports: int) -> Service:
    return Service(name="prometheus", argv=(), health="", ports=ports)


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def busy(request) -> Iterator[int]:
    with socket.create_server((request.param, 0)) as listener:
        yield listener.getsockname()[1]


def test_a_free_port_is_no_obstacle() -> None:
    """Nothing is said about ports that can be had."""
    assert () == taken([part(free_port())])


def test_the_holder_is_named(busy) -> None:
    """The line names port, part, process and pid, and how to end it."""
    found = taken([part(free_port(), busy)])

    name = psutil.Process().name()
    assert [(busy, "prometheus", os.getpid(), name)] == [
        (each.port, each.part, each.pid, each.name) for each in found
    ]
    start = f"port {busy} (for prometheus) is taken by {name} (pid {os.getpid()})"
    assert found[0].line().startswith(start)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        pytest.param(
            Taken(9090, "prometheus", 7, "prometheus", "prometheus.service"),
            "port 9090 (for prometheus) is taken by prometheus (pid 7); to end it:"
            " sudo systemctl stop prometheus.service",
            id="a service of the system",
        ),
        pytest.param(
            Taken(9090, "prometheus", 7, "nc"),
            "port 9090 (for prometheus) is taken by nc (pid 7); to end it: kill 7",
            id="a process",
        ),
        pytest.param(
            Taken(9090, "prometheus"),
            "port 9090 (for prometheus) is taken by a process of another user;"
            " who it is: sudo ss -ltnp 'sport = :9090'",
            id="somebody else's",
        ),
    ],
)
def test_what_to_do_is_said(found, line) -> None:
    """Each kind of holder has its own advice."""
    assert line == found.line()
