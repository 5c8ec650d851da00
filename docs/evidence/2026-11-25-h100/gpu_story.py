"""A real Ollama on a real GPU: exporter, nvidia-smi and /api/ps told side by side.

    python -m bench.gpu_story --out DIR --ollama-url http://127.0.0.1:11434 --model NAME

The Ollama must run already, with slots for all streams (OLLAMA_NUM_PARALLEL=16). Each
second of each phase (idle, then 1, 4 and 16 streams) the three are asked together.
Checks that they agree on load, residency and memory; writes DIR/story.txt,
DIR/story.json, all scrapes as DIR/recording.json.gz, and the last scrape of each phase
as DIR/gpu_exporter_<phase>.prom, which are fixtures for tests/data/exported/.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gzip
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.gpu_watch import MIB, Exporter, Scrape

SMI = (
    *("uuid", "name", "driver_version", "utilization.gpu", "memory.used"),
    *("memory.total", "power.draw", "temperature.gpu", "clocks.sm"),
)
STREAMS = (0, 1, 4, 16)
BUSY = "inferops_gpu_busy_seconds_total"
OBSERVED = "inferops_gpu_observed_seconds_total"
VRAM = "inferops_ollama_resident_vram_bytes"


@dataclass(frozen=True)
class Moment:
    """What the three said within a fraction of a second."""

    wall: float
    scrape: Scrape
    smi: dict[str, str]
    before: dict[str, int]  # /api/ps: model and bytes on the card
    after: dict[str, int]


class Crowd:
    """So many streams, each asking again as soon as its answer is whole."""

    def __init__(self, url: str, model: str, streams: int) -> None:
        self._url = url
        self._model = model
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.tokens = 0
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(each,), daemon=True)
            for each in range(streams)
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                self._ask(number)
            except (OSError, ValueError) as error:
                self.errors.append(repr(error))
                return

    def _ask(self, number: int) -> None:
        body = {
            "model": self._model,
            "prompt": f"Count on from {1000 * number + 7}",
            "options": {"num_predict": 256, "temperature": 0},
        }
        request = urllib.request.Request(
            f"{self._url}/api/generate",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            for line in reply:
                if self._stop.is_set():
                    return
                found = json.loads(line)
                if "error" in found:
                    raise ValueError(found["error"])
                with self._lock:
                    self.tokens += 1


def resident(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/api/ps", timeout=10) as reply:
        models = json.load(reply)["models"]
    return {each["name"]: each.get("size_vram", 0) for each in models}


def asked() -> dict[str, str]:
    out = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    row = next(csv.reader(out.splitlines(), skipinitialspace=True))
    return dict(zip(SMI, row, strict=True))


def moment(exporter: Exporter, url: str) -> Moment:
    before = resident(url)
    scrape = exporter.scrape()
    smi = asked()
    return Moment(time.time(), scrape, smi, before, resident(url))


def phase(
    exporter: Exporter, given: argparse.Namespace, streams: int
) -> tuple[list[Moment], int, list[str]]:
    """Run so many streams and ask the three each second."""
    moments: list[Moment] = []
    with Crowd(given.ollama_url, given.model, streams) as crowd:
        if streams:
            _until_resident(given)
            time.sleep(5)  # averages of the last second or so have come round
        counted, end = crowd.tokens, time.monotonic() + given.seconds
        while time.monotonic() < end:
            moments.append(moment(exporter, given.ollama_url))
            time.sleep(1)
        tokens = crowd.tokens - counted
    return moments, tokens, crowd.errors


def _until_resident(given: argparse.Namespace) -> None:
    end = time.monotonic() + 300
    while not resident(given.ollama_url):
        if time.monotonic() > end:
            raise TimeoutError(f"{given.model!r} is not resident after 300 s")
        time.sleep(0.2)


def judged(moments: list[Moment]) -> Iterator[tuple[str, object, bool | None]]:
    """Compare what the three said of load, residency and memory in one phase."""
    first, last = moments[0].scrape, moments[-1].scrape
    busy = (last.need(BUSY) - first.need(BUSY)) / (
        last.sum(OBSERVED) - first.sum(OBSERVED)
    )
    smi = statistics.mean(float(each.smi["utilization.gpu"]) / 100 for each in moments)
    yield "utilisation: nvidia-smi, mean of each second", smi, None
    yield "utilisation: ours, busy over observed seconds", busy, abs(busy - smi) <= 0.15
    ours = statistics.mean(
        each.scrape.need("inferops_gpu_power_watts") for each in moments
    )
    theirs = statistics.mean(float(each.smi["power.draw"]) for each in moments)
    yield "power (W): nvidia-smi, mean", theirs, None
    yield "power (W): ours, mean", ours, abs(ours / theirs - 1) <= 0.1
    apart = max(
        abs(
            each.scrape.need("inferops_gpu_memory_used_bytes")
            - float(each.smi["memory.used"]) * MIB
        )
        for each in moments
    )
    yield "memory used: farthest apart (MiB)", apart / MIB, apart <= 128 * MIB
    yield (
        "memory used (MiB): nvidia-smi at the end",
        moments[-1].smi["memory.used"],
        None,
    )
    yield from _residency(moments)


def _residency(moments: list[Moment]) -> Iterator[tuple[str, object, bool | None]]:
    steady = [each for each in moments if each.before == each.after]
    wrong = [
        (told, each.before) for each in steady if (told := _told(each)) != each.before
    ]
    yield "moments in which /api/ps stood still", len(steady), bool(steady)
    yield "resident models by /api/ps at the end", moments[-1].after, None
    yield "resident models by ours", _told(moments[-1]), None
    yield "moments in which ours differed", wrong[:3], not wrong
    short = [
        each
        for each in steady
        if sum(each.before.values())
        > each.scrape.need("inferops_gpu_memory_used_bytes") * 1.02
    ]
    yield "moments with more resident than used", len(short), not short


def _told(each: Moment) -> dict[str, int]:
    return {
        dict(labels)["model"]: int(value)
        for (name, labels), value in each.scrape.values.items()
        if name == VRAM
    }


def written(out: Path, name: str, moments: list[Moment]) -> list[dict[str, object]]:
    (out / f"gpu_exporter_{name}.prom").write_text(moments[-1].scrape.text)
    return [
        {
            "phase": name,
            "at": each.wall,
            "nvidia_smi": each.smi,
            "api_ps": each.before,
            "metrics": each.scrape.text,
        }
        for each in moments
    ]


def main(arguments: list[str]) -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--ollama-url", default="http://127.0.0.1:11434")
    flags.add_argument("--model", required=True)
    flags.add_argument("--seconds", type=float, default=25, help="of each phase")
    given = flags.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    smi = asked()
    about = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "card": smi["name"],
        "driver": smi["driver_version"],
        "model": given.model,
    }
    exporter = Exporter(
        given.out, ["--ollama-url", given.ollama_url, "--collector.nvml=on"]
    )
    lines, recording, results = [f"# {json.dumps(about)}"], [], {}
    failed, shown = False, 0
    try:
        time.sleep(20)  # buffers were drained, one window is whole
        for streams in STREAMS:
            name = "idle" if streams == 0 else f"{streams}_streams"
            moments, tokens, errors = phase(exporter, given, streams)
            recording += written(given.out, name, moments)
            found: dict[str, object] = {"tokens per second": tokens / given.seconds}
            lines.append(f"## {name}: {tokens / given.seconds:.1f} tokens/s")
            for title, value, held in (
                *judged(moments),
                ("streams that failed", errors, not errors),
            ):
                found[title] = value
                failed |= held is False
                mark = {None: "    ", True: "ok  ", False: "FAIL"}[held]
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
                lines.append(f"{mark} {title}: {text}")
            print("\n".join(lines[shown:]), flush=True)
            shown = len(lines)
            results[name] = found
            (given.out / "story.json").write_text(
                json.dumps({**about, "phases": results}, indent=2, default=str)
            )
            (given.out / "story.txt").write_text("\n".join(lines) + "\n")
        lines.append(f"     exporter at the end: {exporter.status()}")
        (given.out / "story.txt").write_text("\n".join(lines) + "\n")
        print(lines[-1], flush=True)
    finally:
        exporter.end()
        with gzip.open(given.out / "recording.json.gz", "wt") as packed:
            json.dump(recording, packed)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
