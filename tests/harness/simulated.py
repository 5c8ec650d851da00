"""A simulated fleet on free ports: its inventory, its process, its faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import Process

DEFAULTS = {
    "__slots": "4",
    "__vram_bytes": "24e9",
    "__tflops": "80",
    "__scrape": "probe,dcgm",
    "__simulated": "true",
    "__sim_tokens_per_second": "200",
    "__sim_prompt_tokens_per_second": "10000",
    "__sim_load_seconds": "0.05",
    "__sim_gpus": "1",
}


def entry(name: str, port: int, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a node's entry in the inventory."""
    address = f"127.0.0.1:{port}"
    own = {"node": name, "__ollama": f"http://{address}", "__dcgm_address": address}
    return {"targets": ["127.0.0.1"], "labels": {**DEFAULTS, **own, **labels}}


class Simulated:
    """One simulator process for `nodes`, given as labels by name."""

    def __init__(self, folder: Path, nodes: Mapping[str, Mapping[str, str]]) -> None:
        self.inventory = folder / "nodes.yml"
        control, *ports = free_ports(len(nodes) + 1)
        self.ports = dict(zip(nodes, ports, strict=True))
        self.entries = [
            entry(name, self.ports[name], labels) for name, labels in nodes.items()
        ]
        self.write(self.entries)
        self._control = f"http://127.0.0.1:{control}"
        self.process = Process(
            [
                *(sys.executable, "-m", "simulator"),
                *("--inventory", self.inventory),
                *("--control-port", str(control)),
            ],
            log=folder / "simulator.log",
        )

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Replace the inventory, as an editor does."""
        draft = self.inventory.with_suffix(".draft")
        draft.write_text(json.dumps(entries, indent=1))  # JSON is YAML
        draft.replace(self.inventory)

    def wait_ready(self) -> Simulated:
        until(self.nodes, "the simulator answers")
        return self

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the simulator's own view, by name."""
        answer = requests.get(f"{self._control}/nodes", timeout=5).json()
        return {node["name"]: node for node in answer}

    def fault(self, node: str, fault: str, **parameters: Any) -> None:
        answer = requests.post(
            f"{self._control}/nodes/{node}/faults",
            json={"fault": fault, **parameters},
            timeout=5,
        )
        assert answer.ok, answer.text

    def clear(self, node: str) -> None:
        answer = requests.delete(f"{self._control}/nodes/{node}/faults", timeout=5)
        assert answer.ok, answer.text

    def __enter__(self) -> Simulated:
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.process.stop()
