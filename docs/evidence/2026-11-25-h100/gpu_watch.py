"""An exporter as a real process, and the same card asked past it.

Shared by `bench.gpu_exporter` and `bench.gpu_story`. Needs prometheus_client and
pynvml, and whatever the exporter itself imports.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pynvml
from prometheus_client.parser import text_string_to_metric_families

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """One answer of /metrics, when it was there, and how long it took."""

    at: float  # monotonic
    took: float
    text: str
    values: dict[tuple[str, Labels], float]

    def get(self, name: str, **labels: str) -> float | None:
        """Return the first series of that name that has all these labels."""
        wanted = set(labels.items())
        for (found, has), value in self.values.items():
            if found == name and wanted <= has:
                return value
        return None

    def sum(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(
            value
            for (found, has), value in self.values.items()
            if found == name and wanted <= has
        )

    def need(self, name: str, **labels: str) -> float:
        value = self.get(name, **labels)
        if value is None:
            raise LookupError(f"the exporter has no {name} {labels or ''}")
        return value


class Exporter:
    """`python -m exporters` on a free port of loopback."""

    def __init__(self, out: Path, flags: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (out / "exporter.log").open("w")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exporters",
                "--listen",
                f"127.0.0.1:{port}",
                *flags,
            ],
            stdout=self._log,
            stderr=self._log,
        )
        while True:
            with contextlib.suppress(OSError):
                self.get("/healthz")
                break
            if self.process.poll() is not None or time.monotonic() - began > 60:
                self.end()
                raise RuntimeError((out / "exporter.log").read_text())
            time.sleep(0.05)
        self.started_seconds = time.monotonic() - began

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as reply:
            return reply.read().decode()

    def scrape(self) -> Scrape:
        began = time.monotonic()
        text = self.get("/metrics")
        now = time.monotonic()
        return Scrape(now, now - began, text, parsed(text))

    def cpu_seconds(self) -> float:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / CLOCK_TICKS

    def status(self) -> dict[str, float]:
        """Return resident and anonymous memory in MiB, threads and open files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {
            "rss_mib": int(fields["VmRSS"].split()[0]) / 1024,
            "anonymous_mib": int(fields["RssAnon"].split()[0]) / 1024,
            "threads": int(fields["Threads"]),
            "open_files": len(os.listdir(f"/proc/{self.process.pid}/fd")),  # noqa: PTH208
        }

    def end(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        self._log.close()


def parsed(text: str) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Buffer:
    """The driver's own power samples, drained by this process for comparison."""

    def __init__(self, handle: object) -> None:
        self._handle = handle
        self._seen: dict[int, float] = {}  # the driver's microseconds: watts
        self._offset = float("inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Buffer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            with contextlib.suppress(pynvml.NVMLError):
                _kind, found = pynvml.nvmlDeviceGetSamples(
                    self._handle, pynvml.NVML_TOTAL_POWER_SAMPLES, 0
                )
                self._seen |= {
                    each.timeStamp: each.sampleValue.uiVal / 1000 for each in found
                }
                newest = max(each.timeStamp for each in found) / 1e6
                self._offset = min(self._offset, time.time() - newest)

    def between(self, since: float, until: float) -> list[float]:
        """Return the watts sampled between two times of the wall clock."""
        return [
            watts
            for stamp, watts in self._seen.items()
            if since <= stamp / 1e6 + self._offset < until
        ]

    @property
    def first_stamp(self) -> int:
        return min(self._seen)

    @property
    def offset(self) -> float:
        return self._offset


@contextlib.contextmanager
def load(seconds: float, *, burst: float = 0.05, period: float = 0.5) -> Iterator[Load]:
    """Run bursts for so long; yields once the card is warm."""
    made = Load(seconds, burst, period)
    try:
        yield made
    finally:
        made.end()


class Load:
    """The bursts of `bench.gpu_load`, as that process itself saw them."""

    def __init__(self, seconds: float, burst: float, period: float) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.gpu_load"),
                *("--burst", str(burst), "--period", str(period)),
                *("--seconds", str(seconds)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._bursts: list[tuple[float, float]] = []
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the load did not start: is torch with CUDA installed?")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            began, ended = map(float, line.split())
            self._bursts.append((began, ended))

    def busy(self, since: float, until: float) -> float:
        """Return the seconds of work between two times of the monotonic clock."""
        return sum(
            max(0.0, min(ended, until) - max(began, since))
            for began, ended in list(self._bursts)
        )

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reader.join(5)
