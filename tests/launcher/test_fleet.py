"""Real nodes when one answers, otherwise simulated ones, said aloud."""

from __future__ import annotations

import pytest

from launcher.errors import LaunchError
from launcher.fleet import Choice, Member, decide, members

REAL = Member("rig", "http://192.0.2.1:11434", simulated=False)
OTHER = Member("attic", "http://192.0.2.2:11434", simulated=False)
SIMULATED = Member("sim", "http://127.0.0.1:21501", simulated=True)


@pytest.mark.parametrize(
    ("choice", "nodes", "well", "simulate", "fallback"),
    [
        pytest.param("auto", (SIMULATED,), (), True, False, id="all simulated"),
        pytest.param("auto", (REAL, OTHER), (OTHER,), False, False, id="one answers"),
        pytest.param("auto", (REAL, OTHER), (), True, True, id="none answers"),
        pytest.param("auto", (REAL, SIMULATED), (REAL,), True, False, id="mixed"),
        pytest.param("auto", (REAL, SIMULATED), (), True, True, id="mixed, silent"),
        pytest.param("real", (REAL,), (), False, False, id="real, as asked"),
        pytest.param(
            "simulated", (REAL,), (REAL,), True, True, id="simulated, as asked"
        ),
    ],
)
def test_decision(choice, nodes, well, simulate, fallback) -> None:
    """The choice and who answers decide."""
    urls = {node.url for node in well}

    found = decide(Choice(choice), nodes, answers=lambda url: url in urls)

    assert (simulate, fallback) == (found.simulate, found.fallback)


def test_the_fallback_is_loud() -> None:
    """Who gets made-up answers is told which machines are silent."""
    found = decide(Choice.AUTO, (REAL, OTHER), answers=lambda url: False)

    assert (
        "NO OLLAMA ANSWERS on rig, attic: running on four SIMULATED nodes,"
        " their answers are made up" == found.message
    )


def test_members_of_the_shipped_inventory(paths) -> None:
    """The shipped inventory is all simulated, on ports of its own."""
    found = members(paths.inventory)

    assert [21501, 21502, 21503, 21504] == [node.port for node in found]
    assert all(node.simulated for node in found)


def test_a_faulty_inventory_is_named(tmp_path) -> None:
    """Nothing starts on a faulty inventory: file, path and value are told."""
    path = tmp_path / "nodes.yml"
    path.write_text('- targets: ["a"]\n  labels: {node: "a", __slots: "many"}\n')

    with pytest.raises(LaunchError) as error:
        members(path)

    assert "nodes.yml: [0].labels.__slots: must be a whole number >= 1, got 'many'" in (
        str(error.value)
    )
