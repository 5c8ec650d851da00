"""How long the shipped rules take, for fleets of several sizes.

A real Prometheus with every shipped rule scrapes nodes that are one process: each
exports a card by our exporter or two by dcgm-exporter, in turns, with an Ollama and a
machine. What they export is what was recorded (tests/data); it stands still, which
costs the rules the same.

Nothing is asserted: printed are, for each group, its interval, the median and the
longest evaluation, and how many it missed. Windows of hours are not filled yet.

    python -m bench.rules --nodes 8 1000 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from bench.stage import machine
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process
from tests.rules.catalogue import RULE_FILES
from tests.rules.exposition import samples

DATA = ROOT / "tests/data"
OWN = ("exporters/golden/nvml.prom", "exporters/golden/ollama.prom")
DCGM = ("exported/dcgm-exporter-4.8.prom", "exporters/golden/ollama.prom")
SYSTEM = "exporters/golden/system.prom"
# Above this many nodes, each is scraped every 15 s; the few, as shipped.
FEW = 50
WARM_SECONDS = 70  # the rates of a minute have their samples


class Fleet(BaseHTTPRequestHandler):
    """What a node exports: odd ones have our exporter, even ones DCGM's."""

    texts: tuple[bytes, bytes]

    def do_GET(self) -> None:
        body = self.texts[int(self.path.rpartition("/")[2]) % 2]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def text(*files: str) -> bytes:
    """One node's exposition; what would alert on every node at once is mended."""
    whole = "\n".join((DATA / file).read_text() for file in (*files, SYSTEM))
    for name in ("ecc_uncorrected_errors", "recovery_action"):
        whole = re.sub(
            rf"^(inferops_gpu_{name}\{{.*}}) .*$", r"\1 0", whole, flags=re.MULTILINE
        )
    vram = re.compile(r"^(inferops_ollama_resident_vram_bytes.*) .*$", re.MULTILINE)
    return vram.sub(r"\1 1e12", whole).encode()


@contextmanager
def serving() -> Iterator[int]:
    """Play the fleet on a port of its own."""
    handler = type("Playing", (Fleet,), {"texts": (text(*DCGM), text(*OWN))})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield httpd.server_address[1]
    finally:
        httpd.shutdown()


def configuration(folder: Path, nodes: int, port: int, own_port: int) -> Path:
    """The shipped rules; the nodes by two jobs, as their kind wants."""
    every = ("1s", "2s") if nodes <= FEW else ("15s", "15s")
    jobs = []
    for odd, (job, interval) in enumerate(
        zip(("dcgm", "exporter"), every, strict=True)
    ):
        targets = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"node": f"n{i}", "__metrics_path__": f"/{i}"},
            }
            for i in range(nodes)
            if i % 2 == odd
        ]
        jobs.append(
            {
                "job_name": job,
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "static_configs": targets,
            }
        )
    own = {
        "job_name": "prometheus",
        "static_configs": [{"targets": [f"127.0.0.1:{own_port}"]}],
    }
    path = folder / "prometheus.yml"
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": list(map(str, RULE_FILES)),
        "scrape_configs": [*jobs, own],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def metrics(url: str) -> str:
    with urlopen(f"{url}/metrics", timeout=10) as reply:
        return reply.read().decode()


def measure(program: str, nodes: int, seconds: float) -> dict[str, Any]:
    """Let Prometheus run and look at its own figures once a second."""
    with tempfile.TemporaryDirectory() as name, serving() as port:
        folder, own = Path(name), free_port()
        url = f"http://127.0.0.1:{own}"
        argv = [
            program,
            f"--config.file={configuration(folder, nodes, port, own)}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
            "--query.lookback-delta=1m",
        ]
        with Process(argv, log=folder / "prometheus.log"):
            until(lambda: metrics(url), "Prometheus answers")
            time.sleep(WARM_SECONDS)
            return watched(url, seconds)


def watched(url: str, seconds: float) -> dict[str, Any]:
    """The evaluations of `seconds`, by group, and what the process used."""
    durations: dict[str, list[float]] = defaultdict(list)
    first = {str(each): float(each.value) for each in samples(metrics(url))}
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(1)
        for each in samples(metrics(url)):
            if each.name == "prometheus_rule_group_last_duration_seconds":
                group = each.labels["rule_group"].rpartition(";")[2]
                durations[group].append(float(each.value))
    took = time.monotonic() - began
    last = {str(each): float(each.value) for each in samples(metrics(url))}
    missed = {
        key.rpartition(";")[2].partition('"')[0]: value - first.get(key, 0.0)
        for key, value in last.items()
        if key.startswith("prometheus_rule_group_iterations_missed_total")
    }
    cpu = "process_cpu_seconds_total{}"
    return {
        "groups": {
            group: {
                "median_ms": 1e3 * statistics.median(found),
                "longest_ms": 1e3 * max(found),
                "missed": missed.get(group, 0.0),
            }
            for group, found in sorted(durations.items())
        },
        "cores": (last[cpu] - first[cpu]) / took,
        "resident_mb": last["process_resident_memory_bytes{}"] / 1e6,
        "series": last["prometheus_tsdb_head_series{}"],
    }


def show(nodes: int, report: dict[str, Any]) -> str:
    used = f"{report['cores']:.2f} cores, {report['resident_mb']:.0f} MB"
    rows = [
        f"{nodes} nodes: {report['series']:.0f} series, {used}",
        f"{'group':<22}{'median ms':>10}{'longest ms':>11}{'missed':>7}",
    ]
    rows += [
        f"{group:<22}{each['median_ms']:>10.1f}{each['longest_ms']:>11.1f}"
        f"{each['missed']:>7.0f}"
        for group, each in report["groups"].items()
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rules", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 1000])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    if not args.prometheus:
        sys.stderr.write("prometheus is not on PATH\n")
        return 1
    sys.stdout.write(f"{machine()}; {args.prometheus}\n")
    reports = {}
    for nodes in args.nodes:
        reports[nodes] = measure(args.prometheus, nodes, args.seconds)
        sys.stdout.write(f"\n{show(nodes, reports[nodes])}\n")
    if args.out:
        args.out.write_text(json.dumps(reports, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
