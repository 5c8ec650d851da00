"""Whether the ledger's energy is what the driver of a real card counted, by key.

A real Ollama on an NVIDIA card, our exporter, Prometheus and the router, as `make up`
runs them; two keys send streams alone and together. The truth is the driver's counter,
read beside them. In a phase in which one key asks alone, what the card took beyond its
idle power is that key's, and the ledger must say so.

    python -m bench.energy --phase-seconds 45 --out energy.json

Needs `ollama` (with CUDA), `prometheus` and a card. `--simulated` plays the same on the
simulator's own card, to see whether this program works.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import requests

from bench.figures import table
from bench.stage import machine, tell
from launcher import rendering
from launcher.services import Paths, Ports, Programs, services
from launcher.tools import PROMETHEUS, find
from tests.harness.counting_model import Shape
from tests.harness.ollama import MODEL, RealOllama
from tests.harness.poll import until
from tests.harness.ports import free_port, free_ports
from tests.harness.process import ROOT, Process
from tests.harness.simulator import Simulated, SimulatedFleet

# 3.5 GB in F16: a card is busy with it for as long as it generates.
SHAPE = Shape(width=1024, layers=32, feed_forward=16_384)
STREAMS = {"alice": 1, "bob": 3}
TOKENS = {"alice": 1500, "bob": 300}
# Scrapes come each 5 s; the ledger asks as often.
_PAST_SECONDS = 12.0
# A card that has just worked draws some watts more: idle power is learned again.
_GAP_SECONDS = 45.0
_LOOK_SECONDS = 0.1
_FALL_SECONDS = 7.0


@dataclass(frozen=True, slots=True)
class MeteredNode:
    """A node, its labels in the inventory, and what its card's driver has counted."""

    labels: dict[str, str]
    model: str
    joules: Callable[[], float]


@contextlib.contextmanager
def real(folder: Path) -> Iterator[MeteredNode]:
    """Run Ollama on the first card, and our exporter beside it."""
    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    ollama = RealOllama(folder / "ollama", models={MODEL: SHAPE}, slots=4)
    port = free_port()
    exporter = Process(
        [
            *(sys.executable, "-m", "exporters", "--listen", f"127.0.0.1:{port}"),
            *("--ollama-url", ollama.url),
        ],
        log=folder / "exporter.log",
    )
    labels = {
        "__ollama": ollama.url,
        "__exporter_address": f"127.0.0.1:{port}",
        "__scrape": "exporter",
        "__slots": "4",
    }
    try:
        yield MeteredNode(
            labels,
            MODEL,
            lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3,
        )
    finally:
        exporter.kill()
        ollama.stop()


@contextlib.contextmanager
def simulated(folder: Path) -> Iterator[MeteredNode]:
    """Run one simulated node, whose card says what it took."""
    node = Simulated("card", slots=4, tokens_per_second=300.0)
    with SimulatedFleet(folder, [node]) as fleet:
        url = fleet.url("card")

        def joules() -> float:
            text = requests.get(f"{url}/metrics", timeout=5).text
            name = r"^DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION\{.*\} (\S+)$"
            return sum(map(float, re.findall(name, text, re.MULTILINE))) / 1e3

        address = url.removeprefix("http://")
        labels = {
            "__ollama": url,
            "__dcgm_address": address,
            "__scrape": "probe,dcgm",
            "__slots": "4",
        }
        yield MeteredNode(labels, "llama3.2:3b", joules)


@dataclass
class Product:
    """Prometheus and the router over one node."""

    url: str
    token: str

    def report(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(f"{self.url}/admin/usage", headers=headers, timeout=10)
        answer.raise_for_status()
        report: dict[str, Any] = answer.json()
        return report

    def key(self, name: str) -> str:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.post(
            f"{self.url}/admin/keys", json={"name": name}, headers=headers, timeout=10
        )
        answer.raise_for_status()
        return str(answer.json()["key"])


@contextlib.contextmanager
def product(folder: Path, node: MeteredNode) -> Iterator[Product]:
    """Run them with the product's own intervals."""
    inventory = folder / "nodes.json"
    entry = {"targets": ["127.0.0.1"], "labels": {"node": "card", **node.labels}}
    inventory.write_text(json.dumps([entry]))
    ports = Ports(*free_ports(len(Ports.__dataclass_fields__)))
    paths = Paths(root=ROOT, run=folder / "run", inventory=inventory)
    for each in (paths.data, paths.logs, paths.secrets):
        each.mkdir(parents=True, exist_ok=True)
    rendering.render(ports, paths)
    prometheus = find(PROMETHEUS, ROOT)
    assert prometheus is not None, "no prometheus on PATH or in .tools"
    parts = services(ports, paths, Programs(prometheus, prometheus), grace_seconds=5)
    running: list[Process] = []
    try:
        for part in parts:
            if part.name not in {"prometheus", "router"}:
                continue
            log = folder / f"{part.name}.log"
            running.append(Process(part.argv, log=log, env=part.env))
            healthy = partial(_answers, part.health)
            until(healthy, f"{part.name} is healthy", seconds=60)
        token = paths.admin_token.read_text().strip()
        yield Product(f"http://127.0.0.1:{ports.router}", token)
    finally:
        for process in reversed(running):
            process.kill()


def _answers(url: str) -> bool:
    return requests.get(url, timeout=2).ok


@dataclass
class Driver:
    """The driver's counter over time, and its value at a moment between two looks."""

    read: Callable[[], float]
    looks: list[tuple[float, float]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Driver:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self.over.is_set():
            self.looks.append((time.monotonic(), self.read()))
            self.over.wait(_LOOK_SECONDS)

    def at(self, when: float) -> float:
        for (t0, j0), (t1, j1) in pairwise(self.looks):
            if t0 <= when <= t1:
                return j0 + (j1 - j0) * (when - t0) / (t1 - t0)
        raise LookupError(f"the driver was not read at {when}")


def ask(served: Product, model: str, secret: str, tokens: int) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "count on from 7"}],
        "options": {"num_predict": tokens},
    }
    headers = {"Authorization": f"Bearer {secret}"}
    answer = requests.post(
        f"{served.url}/api/chat", json=body, headers=headers, timeout=300
    )
    assert answer.status_code == 200, answer.text


def load(
    served: Product,
    model: str,
    secrets: dict[str, str],
    names: Sequence[str],
    for_: float,
) -> None:
    """Have these keys ask again and again; returns when all replies have ended."""
    until_ = time.monotonic() + for_

    def one(name: str) -> None:
        while time.monotonic() < until_:
            ask(served, model, secrets[name], TOKENS[name])
            if name == "bob":
                time.sleep(0.5)  # its streams come in bursts

    threads = [
        threading.Thread(target=one, args=(name,))
        for name in names
        for _ in range(STREAMS[name])
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def settled(served: Product, seconds: float) -> dict[str, float]:
    """Return what the ledger says of each key once meters have gone past now."""
    time.sleep(seconds)
    groups = served.report()["usage"]
    return {each["name"]: each["joules"] for each in groups}


def measure(
    node: MeteredNode, served: Product, seconds: float, gap: float
) -> dict[str, Any]:
    """Play the phases; returns all figures in joules."""
    secrets = {name: served.key(name) for name in STREAMS}
    ask(served, node.model, secrets["bob"], 20)  # loads the model
    until(
        lambda: served.report()["total"]["metered_joules"] > 0,
        "the meter is read",
        seconds=120,
    )
    tell("learning the idle power with the model loaded")
    with Driver(node.joules) as driver:
        known = settled(served, gap)
        begin, ledger = moved(served)
        phases = []
        for names in (["alice"], ["bob"], ["alice", "bob"], ["bob"], ["alice", "bob"]):
            tell(f"{' and '.join(names)} for {seconds:g} s")
            began = time.monotonic()
            load(served, node.model, secrets, names, seconds)
            ended = time.monotonic()
            now = settled(served, gap)
            used = {n: now.get(n, 0.0) - known.get(n, 0.0) for n in secrets}
            known = now
            phases.append({"keys": names, "began": began, "ended": ended, "used": used})
        end, last = moved(served)
        time.sleep(5 * _LOOK_SECONDS)  # until the driver was read after that
    report = served.report()
    return figures(driver, (begin, end), (ledger, last), phases, report)


def moved(served: Product) -> tuple[float, dict[str, float]]:
    """Return what the ledger has, and when, just after it was told a new reading."""
    first = served.report()["total"]["metered_joules"]
    while (total := served.report()["total"])["metered_joules"] == first:
        time.sleep(0.05)
    names = ("joules", "idle_joules", "metered_joules")
    return time.monotonic(), {name: total[name] for name in names}


def figures(
    driver: Driver,
    span: tuple[float, float],
    ledger: tuple[dict[str, float], dict[str, float]],
    phases: list[dict[str, Any]],
    report: dict[str, Any],
) -> dict[str, Any]:
    """Set the ledger beside the driver: as a whole, and where one key asked alone."""
    counted = driver.at(span[1]) - driver.at(span[0])
    grown = {name: ledger[1][name] - ledger[0][name] for name in ledger[0]}
    # A card's power falls over some seconds once it has nothing to do.
    idle_watts = [
        (driver.at(b["began"]) - driver.at(a["ended"] + _FALL_SECONDS))
        / (b["began"] - a["ended"] - _FALL_SECONDS)
        for a, b in pairwise(phases)
    ]
    idle = sum(idle_watts) / len(idle_watts)
    shown = []
    for each in phases:
        over = each["ended"] + _FALL_SECONDS
        took = driver.at(over) - driver.at(each["began"])
        shown.append(
            {
                "keys": each["keys"],
                "seconds": each["ended"] - each["began"],
                "driver": took,
                "beyond_idle": took - idle * (over - each["began"]),
                "ledger": each["used"],
            }
        )
    return {
        "seconds": span[1] - span[0],
        "driver_joules": counted,
        "ledger_joules": grown["joules"] + grown["idle_joules"],
        "keys_joules": grown["joules"],
        "idle_joules": grown["idle_joules"],
        "metered_joules": grown["metered_joules"],
        "idle_watts": idle,
        "phases": shown,
        "usage": report["usage"],
    }


def show(found: dict[str, Any]) -> str:
    difference = found["ledger_joules"] / found["driver_joules"] - 1
    rows = []
    for each in found["phases"]:
        used = each["ledger"]
        whole = sum(used.values())
        off = whole / each["beyond_idle"] - 1 if each["beyond_idle"] else float("nan")
        rows.append(
            [
                " + ".join(each["keys"]),
                f"{each['seconds']:.0f}",
                f"{each['driver']:.0f}",
                f"{each['beyond_idle']:.0f}",
                *(f"{used[name]:.0f}" for name in STREAMS),
                f"{100 * off:+.1f} %",
            ]
        )
    head = ["keys", "s", "driver J", "beyond idle", *STREAMS, "ledger off"]
    return "\n".join(
        [
            (
                f"{found['seconds']:.0f} s: driver {found['driver_joules']:.0f} J, keys"
                f" {found['keys_joules']:.0f} J + idle {found['idle_joules']:.0f} J:"
                f" {100 * difference:+.2f} %; idle {found['idle_watts']:.0f} W"
            ),
            *table(head, rows),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase-seconds", type=float, default=45.0)
    parser.add_argument(
        "--gap-seconds",
        type=float,
        default=_GAP_SECONDS,
        help=f"between two phases, at least {_PAST_SECONDS:g}",
    )
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tell("starting the node")
        node = stack.enter_context((simulated if args.simulated else real)(folder))
        served = stack.enter_context(product(folder, node))
        found = measure(
            node, served, args.phase_seconds, max(_PAST_SECONDS, args.gap_seconds)
        )
    print(machine())
    print(show(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
