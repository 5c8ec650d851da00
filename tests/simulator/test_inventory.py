"""The nodes to play, out of `nodes.yml`."""

from __future__ import annotations

import pytest

from simulator.inventory import InventoryError, read
from simulator.model import NodeSpec
from tests.harness.process import ROOT

GOOD = """
- targets: ["127.0.0.1"]
  labels:
    node: "a"
    __ollama: "http://127.0.0.1:21501"
    __slots: "4"
    __vram_bytes: "24e9"
    __tflops: "82.6"
    __simulated: "true"
    __sim_tokens_per_second: "137"
    __sim_prompt_tokens_per_second: "6000"
    __sim_load_seconds: "3"
    __sim_gpus: "2"
- targets: ["192.168.1.20"]
  labels: {node: "real"}
"""


def entry(**labels: object) -> str:
    known = {"node": "a", "__ollama": "http://h:1", "__simulated": "true", **labels}
    lines = "".join(f"    {name}: {value!r}\n" for name, value in known.items())
    return f'- targets: ["h"]\n  labels:\n{lines}'


def test_takes_the_simulated_nodes_and_leaves_the_others(tmp_path):
    """Only entries marked so are played."""
    path = tmp_path / "nodes.yml"
    path.write_text(GOOD)
    assert read(path) == (
        NodeSpec(
            name="a",
            port=21501,
            slots=4,
            vram_bytes=24e9,
            tflops=82.6,
            gpus=2,
            tokens_per_second=137.0,
            prompt_tokens_per_second=6000.0,
            load_seconds=3.0,
        ),
    )


def test_the_shipped_inventories_play_the_same_four_nodes():
    """They differ in the address only."""
    native = read(ROOT / "prometheus/targets/nodes.yml")
    composed = read(ROOT / "simulator/targets/nodes.yml")
    assert native == composed
    assert [node.name for node in native] == [
        "sim-h200",
        "sim-4090",
        "sim-3060",
        "sim-t4",
    ]
    assert [node.port for node in native] == [21501, 21502, 21503, 21504]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a list of entries, got None"),
        ("[", "is no YAML: "),
        ("- 5", "[0]: must have targets and labels, got '5'"),
        (
            '- targets: ["h"]\n  labels: {node: "a"}',
            "no entry has __simulated: 'true'",
        ),
        (entry(__slots=[4]), "[0].labels.__slots: must be text, got ['4']"),
        (
            entry(__slots="many"),
            "[0].labels.__slots: must be a whole number > 0, got 'many'",
        ),
        (
            entry(__sim_load_seconds="-1"),
            "[0].labels.__sim_load_seconds: must be a number > 0, got '-1'",
        ),
        (
            entry(__vram_bytes="inf"),
            "[0].labels.__vram_bytes: must be a number > 0, got 'inf'",
        ),
        (
            entry(__sim_speed="1"),
            "[0].labels.__sim_speed: is no label of the simulator, got '1'",
        ),
        (entry(node=""), "[0].labels.node: is required, got ''"),
        (
            entry(__ollama="http://h"),
            "[0].labels.__ollama: must be a URL with a port, got 'http://h'",
        ),
        (
            entry(__ollama="http://h:99999"),
            "[0].labels.__ollama: must be a URL with a port, got 'http://h:99999'",
        ),
        (entry() + entry(__ollama="http://h:2"), "node is given twice, got 'a'"),
        (entry() + entry(node="b"), "port is given twice, got 1"),
        (
            entry(__vram_bytes="1e6"),
            "a: __vram_bytes: no model of the simulator fits, got 1000000.0",
        ),
    ],
    ids=[
        "empty",
        "broken YAML",
        "no entry",
        "nothing to play",
        "a bare number",
        "no whole number",
        "negative",
        "infinite",
        "a typo",
        "no name",
        "no port",
        "an impossible port",
        "a name twice",
        "a port twice",
        "too little memory",
    ],
)
def test_refuses_with_file_path_and_value(tmp_path, text, message):
    """The whole message, so that it stays useful."""
    path = tmp_path / "nodes.yml"
    path.write_text(text)
    with pytest.raises(InventoryError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_is_not_there(tmp_path):
    """Named, with the reason."""
    with pytest.raises(InventoryError, match=r"none\.yml: cannot be read: .*No such"):
        read(tmp_path / "none.yml")
