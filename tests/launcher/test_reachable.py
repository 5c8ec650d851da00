"""A node that refuses connections is named, with the way out."""

from __future__ import annotations

import socket

import pytest
import yaml

from launcher.reachable import refuses, warnings


@pytest.fixture
def inventory(tmp_path):
    """An inventory with one node, whose Ollama is at the given address."""

    def write(url: str):
        labels = {"node": "n", "__ollama": url, "__scrape": "probe"}
        path = tmp_path / "nodes.yml"
        path.write_text(yaml.safe_dump([{"targets": ["n"], "labels": labels}]))
        return path

    return write


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host.docker.internal:11434", "on this machine: OLLAMA_HOST=0.0.0.0"),
        ("http://127.0.0.1:11434", "http://host.docker.internal:11434"),
        ("http://localhost:11434", "http://host.docker.internal:11434"),
        ("http://192.0.2.1:11434", "there: OLLAMA_HOST=0.0.0.0"),
    ],
)
def test_a_refusal_says_the_way_out(inventory, url, words) -> None:
    """Each kind of address has its own advice; the node is named."""
    (said,) = warnings(inventory(url), lambda _host, _port: True)

    assert words in said
    assert said.startswith(f"node n: {url} ")


def test_nothing_is_said_of_others(inventory, tmp_path) -> None:
    """A node that answers, or is silent, or an inventory with a fault: no warning."""
    assert [] == warnings(inventory("http://h:1"), lambda _host, _port: False)
    assert [] == warnings(tmp_path / "none.yml")


def test_refused_and_silent_are_told_apart() -> None:
    """A closed port refuses; one that listens does not; a name that is none neither."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not refuses("127.0.0.1", port)
    assert refuses("127.0.0.1", port)
    assert not refuses("no-such-host.invalid", port)
