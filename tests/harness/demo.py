"""A demonstration that touches every panel: loads, failures, a drain, a return, a job.

Three simulated nodes; on one of them our exporter's made-up card and Ollama collector,
and a real node_exporter. Every Prometheus that is here watches the same fleet, and has
some minutes of a week ago.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml

from tests.harness import month
from tests.harness.crowd import Crowd
from tests.harness.jobs import requests_file
from tests.harness.poll import until
from tests.harness.ports import free_port, free_ports
from tests.harness.process import Process
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import EAGER, Stack, stack
from tests.rules.catalogue import programs

NODES = (
    Simulated("one", load_seconds=0.6, gpus=2),
    Simulated("two", load_seconds=0.6, tokens_per_second=120.0),
    Simulated("three", load_seconds=0.6, tokens_per_second=60.0, tflops=20.0),
)
MODELS = ("llama3.2:3b", "qwen2.5:7b")
WEEK = 7 * 86_400


@dataclass(frozen=True)
class Demo:
    """What runs.

    watchers: address of each Prometheus by its version
    began: in unix seconds
    """

    fleet: SimulatedFleet
    product: Stack
    watchers: dict[str, str]
    began: float

    def all_see(self, expr: str) -> bool:
        """Whether every Prometheus has an answer now."""
        return all(answer(url, expr) for url in self.watchers.values())


def answer(url: str, expr: str) -> list[object]:
    found = requests.get(f"{url}/api/v1/query", params={"query": expr}, timeout=10)
    result: list[object] = found.json()["data"]["result"]
    return result


@contextlib.contextmanager
def demo(folder: Path, *, with_month: bool = False) -> Iterator[Demo]:
    """Start everything; the script is `play`.

    with_month: the product's own Prometheus has a made-up month, for pictures
    """
    with contextlib.ExitStack() as running:
        fleet = running.enter_context(SimulatedFleet(folder, NODES))
        _equip(fleet, folder, running)
        blocks = _month(folder) if with_month else _week_ago(folder)
        product = running.enter_context(
            stack(
                folder,
                fleet.inventory,
                rules=EAGER,
                prometheus_data=blocks,
            )
        )
        watchers = _watchers(folder, product, running)
        yield Demo(fleet, product, watchers, time.time())


def _equip(fleet: SimulatedFleet, folder: Path, running: contextlib.ExitStack) -> None:
    """Give node `one` an exporter with a made-up card, and a node_exporter."""
    exporter, machine = free_ports(2)
    argv = [sys.executable, "-m", "simulator.gpu_exporter"]
    argv += ["--listen", f"127.0.0.1:{exporter}", "--ollama-url", fleet.url("one")]
    running.enter_context(Process(argv, log=folder / "gpu-exporter.log"))
    labels = fleet.entries[0]["labels"]
    labels["__scrape"] = "probe,dcgm,exporter"
    labels["__exporter_address"] = f"127.0.0.1:{exporter}"
    found = programs("node_exporter") + programs("prometheus-node-exporter")
    if found:
        address = f"127.0.0.1:{machine}"
        argv = [str(found[0]), f"--web.listen-address={address}"]
        running.enter_context(Process(argv, log=folder / "node-exporter.log"))
        labels["__scrape"] += ",node"
        labels["__node_address"] = address
    fleet.write(fleet.entries)


def _week_ago(folder: Path) -> Path:
    """Write what a Prometheus would have recorded around this hour a week ago."""
    folder.mkdir(exist_ok=True)
    data, text = folder / "blocks", folder / "week-ago.txt"
    now = int(time.time()) - WEEK
    lines = []
    for name in (
        "fleet:requests:rate5m",
        'node:tokens:rate5m{node="one",kind="generated"}',
    ):
        family = name.partition("{")[0]
        lines.append(f"# TYPE {family} gauge")
        lines += [f"{name} 2 {at}" for at in range(now - 300, now + 900, 10)]
    text.write_text("\n".join([*lines, "# EOF", ""]))
    for promtool in programs("promtool")[:1]:
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "openmetrics", text, data],
            check=True,
            capture_output=True,
            timeout=30,
        )
    return data


def _month(folder: Path) -> Path:
    names = [node.name for node in NODES]
    promtool = programs("promtool")[0]
    blocks = folder / "blocks"
    month.write(blocks, promtool, time.time(), nodes=names, models=MODELS)
    return blocks


def _watchers(
    folder: Path, product: Stack, running: contextlib.ExitStack
) -> dict[str, str]:
    """Have every other Prometheus look at the same, by the same rules, quietly."""
    first = product.processes["prometheus"]
    urls = [f"http://127.0.0.1:{product.ports.prometheus}"]
    config = yaml.safe_load(product.paths.prometheus_yml.read_text())
    config.pop("alerting", None)
    (folder / "quiet.yml").write_text(yaml.safe_dump(config))
    for program in programs("prometheus"):
        if program.resolve() == Path(first.argv[0]).resolve():
            continue
        port, data = free_port(), _week_ago(folder / f"other-{len(urls)}")
        argv = [
            str(program),
            f"--config.file={folder / 'quiet.yml'}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=10s",
        ]
        log = folder / f"prometheus-{len(urls)}.log"
        running.enter_context(Process(argv, log=log))
        urls.append(f"http://127.0.0.1:{port}")
    return {_version(url): url for url in urls}


def _version(url: str) -> str:
    def answer() -> str:
        found = requests.get(f"{url}/api/v1/status/buildinfo", timeout=2)
        return str(found.json()["data"]["version"])

    return until(answer, f"{url} says its version", seconds=30)


def play(made: Demo) -> None:
    """Run the script; each step waits until the product has noticed it."""
    product, fleet = made.product, made.fleet
    until(
        lambda: made.all_see("count(node_gpu:temperature:celsius) >= 4"),
        "all telemetry is in",
        seconds=60,
    )
    fleet.put("two", "hot")  # what takes longest goes on beside the rest
    _begin_job(product)
    with Crowd(product.url, MODELS, tokens=20, clients=6) as crowd:
        until(lambda: len(crowd.answers) >= 12, "the crowd is served", seconds=60)
        fleet.put("three", "error", times=3)
        _until_held(made, "two", "drain")
        fleet.clear("two")
        _load_again(made)
        _break_streams(made)
        until(lambda: product.nodes()["two"]["schedulable"], "two is back", seconds=60)
        _hold(product, "three", "cordon")
        product.kill("router")
        product.restart("router")
        _hold(product, "three", "uncordon")
        fleet.put("two", "xid")
        fleet.put("three", "refuse")
        _until_held(made, "two", "evict")
        _until_held(made, "three", "down")
        _fail_everywhere(made)


def _load_again(made: Demo) -> None:
    """A counter that is born shows no rate: a later load of the model does."""
    for model in MODELS:  # which is there: the call says `load` and loads nothing
        body = {"model": model}
        requests.post(f"{made.product.url}/api/generate", json=body, timeout=30)

    def loaded() -> bool:
        for model in MODELS:
            body = {"model": model, "keep_alive": 0}
            requests.post(f"{made.product.url}/api/generate", json=body, timeout=30)
        return made.all_see("sum(rate(inferops_model_load_seconds_count[10s])) > 0")

    until(loaded, "models are loaded again", seconds=60, every=1)


def _break_streams(made: Demo) -> None:
    """Until one was continued after the counter was there.

    One a second: more in a row, and the circuit keeps streams from that node.
    """
    pauses = "sum(rate(inferops_continuation_pause_seconds_count[10s])) > 0"

    def continued() -> bool:
        made.fleet.put("one", "cut", tokens=3, times=1)
        return made.all_see(pauses)

    until(continued, "a stream is continued", seconds=60, every=1)
    made.fleet.clear("one")


def _until_held(made: Demo, node: str, kind: str) -> None:
    until(
        lambda: any(found == kind for found, _ in made.product.holds(node)),
        f"{node} is held: {kind}",
        seconds=60,
    )


def _fail_everywhere(made: Demo) -> None:
    """Long enough for five people to get an error: a budget burns."""
    for node in NODES:
        made.fleet.put(node.name, "error")
    until(
        lambda: made.all_see(
            'ALERTS{alertname="AvailabilityBudgetBurns", alertstate="firing"}'
        ),
        "the budget burns",
        seconds=60,
    )
    for node in NODES:
        made.fleet.clear(node.name)


def _begin_job(product: Stack) -> None:
    data = requests_file(400, MODELS[0])
    files = {"file": ("requests.jsonl", data)}
    sent = requests.post(
        f"{product.url}/v1/files", files=files, data={"purpose": "batch"}, timeout=10
    )
    assert sent.ok, sent.text
    body = {
        "input_file_id": sent.json()["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    made = requests.post(f"{product.url}/v1/batches", json=body, timeout=10)
    assert made.ok, made.text


def _hold(product: Stack, node: str, what: str) -> None:
    body = {"by": "demo", "reason": "planned work"}
    answer = product.admin("POST", f"nodes/{node}/{what}", body)
    assert answer.ok, answer.text
