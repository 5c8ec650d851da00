"""The table of substitutions replaces whole names only, once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.services import Ports
from launcher.substitutions import Substitutions, table

PORTS = Ports(router=1, prometheus=2, exporter=3, node_exporter=4)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("router:8000", "127.0.0.1:1", id="an address alone"),
        pytest.param(
            "http://prometheus:9090/x", "http://127.0.0.1:2/x", id="inside a URL"
        ),
        pytest.param("exporter:21434", "127.0.0.1:3", id="our exporter"),
        pytest.param(
            "node-exporter:9100", "127.0.0.1:4", id="a name that ends in another"
        ),
        pytest.param("my-router:8000", "my-router:8000", id="the end of a longer name"),
        pytest.param("router:80001", "router:80001", id="the start of a longer port"),
        pytest.param("$1:21434", "$1:21434", id="a port alone"),
        pytest.param("simulator:21504", "127.0.0.1:21504", id="a simulated node"),
        pytest.param(
            "/etc/inferops-old/x", "/etc/inferops-old/x", id="a longer folder's name"
        ),
    ],
)
def test_whole_names_only(paths, before, after) -> None:
    """An address is replaced where it stands as a whole."""
    assert after == table(PORTS, paths).text(before)


def test_folders_of_the_containers(paths) -> None:
    """Configuration that Compose mounts is the repository's."""
    found = table(PORTS, paths).text("/etc/inferops/alerting/templates/*.tmpl")

    assert f"{paths.root}/alerting/templates/*.tmpl" == found


def test_what_was_put_in_is_not_replaced_again(paths) -> None:
    """A repository whose own path holds a name of the table stays as it is."""
    inside = replace(paths, root=paths.root / "etc" / "router:8000")

    assert f"{inside.root}/x" == table(PORTS, inside).text("/etc/inferops/x")


def test_a_document_keeps_its_shape() -> None:
    """Strings at any depth are replaced; keys and other values stay."""
    given = {"a:1": ["a:1", {"x": "http://a:1"}, 5, None]}

    assert {"a:1": ["b:2", {"x": "http://b:2"}, 5, None]} == Substitutions(
        {"a:1": "b:2"}
    ).tree(given)
