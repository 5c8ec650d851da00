"""A simulated fleet as a real process, for tests and benchmarks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import Process
from tests.harness.stopping import Stopping


@dataclass(frozen=True, slots=True)
class Simulated:
    """A node to play; speeds are of a 7B model."""

    name: str
    slots: int = 2
    tokens_per_second: float = 200.0
    prompt_tokens_per_second: float = 50_000.0
    load_seconds: float = 0.05
    vram_bytes: float = 24e9
    tflops: float = 80.0
    gpus: int = 1


class SimulatedFleet(Stopping):
    """`python -m simulator` with an inventory of its own on free ports."""

    def __init__(
        self, tmp: Path, nodes: Sequence[Simulated], *, scaling: str = "h200-2026-11"
    ) -> None:
        tmp.mkdir(parents=True, exist_ok=True)
        control, *ports = free_ports(len(nodes) + 1)
        self.ports = dict(zip([node.name for node in nodes], ports, strict=True))
        self.control = f"http://127.0.0.1:{control}"
        self.inventory = tmp / "simulated-nodes.yml"
        self.entries = [self._entry(node) for node in nodes]
        self.write(self.entries)
        argv = [sys.executable, "-m", "simulator", "--inventory", str(self.inventory)]
        argv += ["--control-port", str(control), "--scaling", scaling]
        self.process = Process(argv, log=tmp / "simulator.log")
        try:
            until(self.states, f"the simulator answers on {self.control}")
        except BaseException:
            self.stop()
            raise

    def _entry(self, node: Simulated) -> dict[str, Any]:
        address = f"127.0.0.1:{self.ports[node.name]}"
        labels = {
            "node": node.name,
            "__ollama": f"http://{address}",
            "__dcgm_address": address,
            "__scrape": "probe,dcgm",
            "__slots": str(node.slots),
            "__vram_bytes": str(node.vram_bytes),
            "__tflops": str(node.tflops),
            "__simulated": "true",
            "__sim_tokens_per_second": str(node.tokens_per_second),
            "__sim_prompt_tokens_per_second": str(node.prompt_tokens_per_second),
            "__sim_load_seconds": str(node.load_seconds),
            "__sim_gpus": str(node.gpus),
        }
        return {"targets": ["127.0.0.1"], "labels": labels}

    def write(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Replace the inventory at once, as an editor does; JSON is YAML."""
        draft = self.inventory.with_suffix(".draft")
        draft.write_text(json.dumps(entries, indent=1))
        draft.replace(self.inventory)

    def url(self, node: str) -> str:
        return f"http://127.0.0.1:{self.ports[node]}"

    def states(self) -> list[dict[str, Any]]:
        return self._call("GET", "/nodes")

    def state(self, node: str) -> dict[str, Any]:
        return self._call("GET", f"/nodes/{node}")

    def put(self, node: str, fault: str, **details: object) -> dict[str, Any]:
        body = {"fault": fault, **details}
        return self._call("POST", f"/nodes/{node}/faults", body)

    def clear(self, node: str, fault: str = "") -> dict[str, Any]:
        """Take one fault off, or all."""
        end = f"/{fault}" if fault else ""
        return self._call("DELETE", f"/nodes/{node}/faults{end}")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self.control}{path}"
        answer = requests.request(method, url, json=body, timeout=5)
        assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer.json()

    def stop(self) -> None:
        self.process.stop()
