"""What the parts are, for any ports and paths."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, replace

import pytest

from launcher.services import Ports, services


@pytest.fixture
def every_part(paths, programs):
    return services(Ports(), paths, programs, simulated_ports=(21501, 21502))


def test_the_order_of_starting(every_part) -> None:
    """What others ask comes first, people's panel last."""
    assert [
        "simulator",
        "exporter",
        "alertmanager",
        "node-exporter",
        "prometheus",
        "router",
        "grafana",
    ] == [part.name for part in every_part]


def test_no_two_parts_share_a_port(every_part) -> None:
    """Every port of the table is used, each by one part."""
    used = Counter(port for part in every_part for port in part.ports)
    own = {getattr(Ports(), each.name) for each in fields(Ports)}

    assert {1} == set(used.values())
    assert own | {21501, 21502} == set(used)


def test_everything_is_on_loopback(every_part) -> None:
    """No address in a command line or variable is reachable from elsewhere."""
    for part in every_part:
        text = " ".join([*part.argv, *part.env.values(), part.health])
        addresses = set(re.findall(r"\d+\.\d+\.\d+\.\d+", text))
        assert {"127.0.0.1"} == addresses, part.name


def test_alertmanager_gossips_with_nobody(every_part) -> None:
    """Without the flag it listens on all addresses for its peers."""
    (part,) = (each for each in every_part if each.name == "alertmanager")

    assert "--cluster.listen-address=" in part.argv


def test_other_ports_are_taken_everywhere(paths, programs, every_part) -> None:
    """No default port is left when all ports are given."""
    given = Ports(11, 12, 13, 14, 15, 16, 17)

    found = services(given, paths, programs, simulated_ports=(18, 19))

    defaults = {str(port) for part in every_part for port in part.ports}
    for part in found:
        text = " ".join([*part.argv, *part.env.values(), part.health])
        assert set() == defaults & set(re.findall(r"\d+", text)), part.name


def test_what_is_missing_is_left_out(paths, programs) -> None:
    """Without simulated nodes, Grafana and node_exporter, the rest runs."""
    few = replace(programs, grafana=None, node_exporter=None)

    assert ["exporter", "alertmanager", "prometheus", "router"] == [
        part.name for part in services(Ports(), paths, few)
    ]


def test_the_router_may_end_its_streams(paths, programs) -> None:
    """It is given longer than its own grace."""
    found = services(Ports(), paths, programs, grace_seconds=120)

    (router,) = (part for part in found if part.name == "router")
    assert router.stop_seconds > 120


def test_grafanas_password_is_in_no_command_line(every_part, paths) -> None:
    """Grafana gets the name of the file, and reads it itself."""
    (grafana,) = (part for part in every_part if part.name == "grafana")

    assert (
        f"$__file{{{paths.grafana_password}}}"
        == (grafana.env["GF_SECURITY_ADMIN_PASSWORD"])
    )


def test_the_pages_of_an_unpacked_prometheus(paths, programs, tmp_path) -> None:
    """Debian's Prometheus outside /usr is told where its pages are."""
    pages = tmp_path / "usr" / "share" / "prometheus" / "web"
    pages.mkdir(parents=True)
    unpacked = replace(programs, prometheus=tmp_path / "usr" / "bin" / "prometheus")

    (found,) = (p for p in services(Ports(), paths, unpacked) if p.name == "prometheus")

    assert f"--web.local-assets={pages}" in found.argv
