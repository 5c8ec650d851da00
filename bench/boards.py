"""What the boards' queries cost Prometheus at many nodes, on blocks of made-up samples.

    python -m bench.boards --nodes 100

The template is every series that the boards read, of a demonstration
(`tests.harness.demo`), with its value and its rate. Node `one`, which has all telemetry
and three cards, is multiplied; values are lines with ripples. Then each board's queries
are asked as `/boards` asks them, all over its usual time range, one after the other.
CPU time is the Prometheus process's own: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from router.web.boards.catalogue import BoardQuery, ShownBoard, read
from router.web.boards.questions import TimeRange, filled
from tests.harness import grafana, month
from tests.harness.demo import demo, play
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.rules.catalogue import RULE_FILES, programs

POINTS = 600  # a wide panel's
MODELS = [f"model-{number}:7b" for number in range(20)]
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_RANGE = re.compile(r"now-(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Of what a job's series are apart; most records are made each 5 s.
_EXPORTER, _OTHERS = 2, 5


def harvest(url: str) -> list[dict[str, Any]]:
    """Take the series that some board reads, each with a value and a rate."""
    listed = requests.get(f"{url}/api/v1/label/__name__/values", timeout=30)
    names = set(listed.json()["data"])
    used = {
        word
        for board in grafana.dashboards().values()
        for _, expr in grafana.queries(board)
        for word in _WORD.findall(expr)
        if word in names
    }
    found = []
    for name in sorted(used):
        answer = requests.get(
            f"{url}/api/v1/query", params={"query": f"{name}[1m]"}, timeout=30
        )
        for series in answer.json()["data"]["result"]:
            (began, first), (ended, last) = series["values"][0], series["values"][-1]
            rate = (float(last) - float(first)) / ((ended - began) or 1)
            found.append({"labels": series["metric"], "at": float(last), "rate": rate})
    return found


@dataclass(frozen=True)
class Fleet:
    """What is written: so many nodes like `one`, until a time."""

    template: list[dict[str, Any]]
    nodes: int
    until: int
    router_seconds: int

    def write(self, folder: Path, promtool: Path) -> int:
        """Write blocks; return how many samples."""
        count, text = 0, folder.with_suffix(".txt")
        with text.open("w") as file:
            families: dict[str, list[dict[str, Any]]] = {}
            for series in self.template:
                families.setdefault(series["labels"]["__name__"], []).append(series)
            for name, members in families.items():
                file.write(f"# TYPE {name} unknown\n")
                for series in members:
                    for line in self._lines(series):
                        count += line.count("\n")
                        file.write(line)
            file.write("# EOF\n")
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "openmetrics", text, folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        text.unlink()
        return count

    def _lines(self, series: dict[str, Any]) -> Iterator[str]:
        labels = dict(series["labels"])
        name, node = labels.pop("__name__"), labels.get("node")
        if node in {"two", "three"}:
            return
        times = self._times(name, labels)
        ends = [f" {at}\n" for at in times]
        values = [f" {each:.6g}" for each in _values(series, name, times)]
        samples = [value + end for value, end in zip(values, ends, strict=True)]
        for copy in range(self.nodes) if node == "one" else (None,):
            spelled = _spelled(name, labels, copy)
            yield "".join([spelled + each for each in samples])

    def _times(self, name: str, labels: dict[str, str]) -> range:
        steps = {"router": self.router_seconds, "exporter": _EXPORTER}
        step = steps.get(labels.get("job", ""), _OTHERS)
        if ":" in name:
            step = max(_OTHERS, _record_intervals().get(name, 0))
        return range(self.until - _longest(name), self.until, step)


@functools.cache
def _record_intervals() -> dict[str, int]:
    """Return the seconds between samples of each record whose group says them."""
    return {
        rule["record"]: _seconds(f"now-{group['interval']}")
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule and "interval" in group
    }


def _longest(name: str) -> int:
    """Return the seconds of the longest range that a board with it shows."""
    spans = [
        _seconds(board["time"]["from"])
        for file, board in grafana.dashboards().items()
        if file != "history.json"
        and any(name in _WORD.findall(expr) for expr in _of_panels(board))
    ]
    return max(spans, default=0)  # what only History reads is of the made-up month


def _of_panels(board: dict[str, Any]) -> Iterator[str]:
    """Yield what panels ask; marks are asked of what there is."""
    for panel in grafana.panels(board):
        yield from (target["expr"] for target in panel["targets"])


def _seconds(text: str) -> int:
    found = _RANGE.fullmatch(text)
    assert found, text
    return int(found[1]) * _SECONDS[found[2]]


def _values(series: dict[str, Any], name: str, times: Iterable[int]) -> Iterator[float]:
    last, rate = series["at"], max(0.0, series["rate"])
    if name.endswith(("_total", "_bucket", "_count", "_sum")):
        yield from (last + rate * (at % 10_000_000) for at in times)
    elif last > 2:  # no flag, no share
        yield from (last * (1 + 0.02 * math.sin(at / 60)) for at in times)
    else:
        yield from (last for _ in times)


def _spelled(name: str, labels: dict[str, str], copy: int | None) -> str:
    if copy is not None:
        labels = {
            key: f"node-{copy:03}"
            if key == "node"
            else f"{value}-{copy}"
            if key in {"uuid", "instance", "gpu_uuid"}
            else value
            for key, value in labels.items()
        }
    pairs = ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
    return f"{name}{{{pairs}}}"


def serve(program: Path, folder: Path, data: Path) -> tuple[Process, str]:
    """Run a Prometheus that scrapes nothing."""
    config, port = folder / "empty.yml", free_port()
    config.write_text("{}\n")
    argv = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=10y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--query.lookback-delta=1m",
    ]
    process, url = Process(argv, log=folder / "bench.log"), f"http://127.0.0.1:{port}"
    until(lambda: requests.get(f"{url}/-/ready", timeout=2).ok, "it serves", seconds=90)
    return process, url


@dataclass(frozen=True)
class Cost:
    """Seconds of a board's queries: CPU of Prometheus, wall, and the slowest one."""

    queries: int
    series: int
    cpu: float
    wall: float
    slowest: tuple[float, str]


def measure(board: ShownBoard, process: Process, url: str, over: TimeRange) -> Cost:
    """Ask everything that the page asks: panels, marks, variables' values left out."""
    every = {each.name: each.every for each in board.variables.values()}
    began, cpu = time.monotonic(), _cpu(process.pid)
    series, slowest = 0, (0.0, "")
    asked = [*board.panels.values(), *board.marks]
    for query in asked:
        before = _cpu(process.pid)
        series += _ask(url, query, over, every)
        slowest = max(slowest, (_cpu(process.pid) - before, query.expr))
    wall = time.monotonic() - began
    return Cost(len(asked), series, _cpu(process.pid) - cpu, wall, slowest)


def _ask(url: str, query: BoardQuery, over: TimeRange, every: dict[str, str]) -> int:
    path = "query" if query.instant else "query_range"
    data = {"query": filled(query, over, every), **over.params(query)}
    answer = requests.post(f"{url}/api/v1/{path}", data=data, timeout=120).json()
    assert answer["status"] == "success", answer
    return len(answer["data"]["result"])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--router-seconds", type=int, default=1, help="its scrapes")
    parser.add_argument("--data", type=Path, help="blocks to keep, or that are there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = given.data or folder / "data"
        end = _written(data, given)
        for program in programs("prometheus"):
            process, url = serve(program, folder, data)
            try:
                _report(given, program, process, url, end)
            finally:
                process.stop()


def _written(data: Path, given: argparse.Namespace) -> int:
    """Write the blocks, once; return where they end."""
    stamp = data.with_suffix(".until")
    if stamp.exists():
        return int(stamp.read_text())
    end = int(time.time()) // 300 * 300
    promtool = programs("promtool")[0]
    kept = data.with_suffix(".json")
    if not kept.exists():
        with demo(data.with_suffix(".demo")) as made:
            play(made)
            kept.write_text(json.dumps(harvest(next(iter(made.watchers.values())))))
    template = json.loads(kept.read_text())
    fleet = Fleet(template, given.nodes, end, given.router_seconds)
    print(f"{fleet.write(data, promtool):,} samples", flush=True)
    nodes = [f"node-{number:03}" for number in range(given.nodes)]
    month.write(data, promtool, end, nodes=nodes, models=MODELS)
    stamp.write_text(str(end))
    return end


def _report(
    given: argparse.Namespace, program: Path, process: Process, url: str, end: int
) -> None:
    print(f"\n{program}, load {os.getloadavg()[0]:.0f}\n")
    head = ("board", "queries", "series", "CPU s", "wall s", "slowest, CPU s")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    catalogue, dashboards = read(grafana.DASHBOARDS), grafana.dashboards()
    for dashboard in dashboards.values():
        board = catalogue.board(dashboard["uid"])
        since = end - _seconds(dashboard["time"]["from"])
        over = TimeRange(since, end - 5, POINTS)
        costs = [measure(board, process, url, over) for _ in range(given.rounds)]
        cpu = statistics.median(each.cpu for each in costs)
        slowest = min(each.slowest for each in costs)
        first = slowest[1].split("\n")[0][:90].replace("|", "\\|")
        print(
            f"| {board.title} | {costs[0].queries} | {costs[0].series} | {cpu:.2f} |"
            f" {min(each.wall for each in costs):.2f} | {slowest[0]:.2f} `{first}` |",
            flush=True,
        )


if __name__ == "__main__":
    main()
