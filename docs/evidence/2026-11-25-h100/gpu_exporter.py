"""The GPU exporter on a real card: what it sees, what it costs, that it lasts.

    python -m bench.gpu_exporter --out DIR [--promtool PATH] [--parts a,b]

Starts the exporter as a process of its own and asks the driver past it for the truth.
Each part writes itself into DIR/results.json and DIR/report.txt as it ends, so that a
run that is cut off leaves what it had. `--demo` runs the same on the made-up card, to
try the bench itself where there is none. Ends with 1 where a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml

from bench.gpu_watch import Buffer, Exporter, Load, Scrape, load
from exporters import nvml_library
from exporters.gpu.catalogue import CATALOGUE
from exporters.gpu.demo import BURST_SECONDS, PERIOD_SECONDS, DemoLibrary

BUSY = "inferops_gpu_busy_seconds_total"
OBSERVED = "inferops_gpu_observed_seconds_total"
ENERGY = "inferops_gpu_energy_joules_total"
MOST_MIB = 60e6 / 2**20  # what the exporter may take
WINDOW_END = "inferops_gpu_window_end_timestamp_seconds"
WINDOWS = (
    "inferops_gpu_power_window_min_watts",
    "inferops_gpu_power_window_max_watts",
    "inferops_gpu_utilization_window_max_ratio",
    "inferops_gpu_memory_used_window_max_bytes",
)


class DemoLoad:
    """The made-up card's bursts, which nobody has to make."""

    def busy(self, since: float, until: float) -> float:
        return (until - since) * BURST_SECONDS / PERIOD_SECONDS


class Bench:
    """The exporter under test, the card it watches, and where results go."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.out: Path = given.out
        self.out.mkdir(parents=True, exist_ok=True)
        if given.demo:
            nvml_library.use(DemoLibrary())
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.uuid = pynvml.nvmlDeviceGetUUID(self.handle)
        self.about = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "card": pynvml.nvmlDeviceGetName(self.handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "python": platform.python_version(),
        }
        flags = ["--collector.ollama=off", "--collector.nvml=on"]
        flags += ["--demo"] if given.demo else []
        self.exporter = Exporter(self.out, flags)
        self.began = time.monotonic()
        self.memory: list[dict[str, float]] = []
        self.results: dict[str, dict[str, object] | str] = {**self.about, "parts": {}}

    def load(self, seconds: float) -> contextlib.AbstractContextManager[Load]:
        if self.given.demo:
            return contextlib.nullcontext(DemoLoad())  # type: ignore[arg-type]
        return load(seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass, which is what is measured here."""
        time.sleep(seconds * self.given.scale)

    def scrape(self) -> Scrape:
        return self.exporter.scrape()

    def joules(self) -> float:
        """Return the driver's own energy counter."""
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3

    def memory_begin(self) -> None:
        self.memory.append({"at": 0.0, **self.exporter.status()})


def part_exposition(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """What the card gives, and promtool's opinion of it."""
    bench.wait(34)  # the first whole window has ended, and is told
    scrape = bench.scrape()
    (bench.out / "exposition.prom").write_text(scrape.text)
    names = {name for name, _ in scrape.values}
    missing = [
        each.name for each in CATALOGUE if not {each.name, f"{each.name}_count"} & names
    ]
    yield "seconds from start to /healthz", bench.exporter.started_seconds, None
    yield "series", len(scrape.values), None
    yield "not on this card", missing, None
    yield (
        "collector_up",
        scrape.get("inferops_exporter_collector_up", collector="nvml"),
        scrape.get("inferops_exporter_collector_up", collector="nvml") == 1,
    )
    yield (
        "sample intervals (s)",
        {
            dict(labels)["source"]: value
            for (name, labels), value in scrape.values.items()
            if name == "inferops_gpu_sample_interval_seconds"
        },
        None,
    )
    promtool = bench.given.promtool or shutil.which("promtool")
    if promtool is None:
        yield "promtool check metrics", "no promtool here", None
        return
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=scrape.text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    yield "promtool check metrics", said or "no fault", done.returncode == 0


def part_duty(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """Bursts of 50 ms every 500 ms: seen as such, and what an instant gauge saw."""
    gauges: list[dict[str, float]] = []
    scrapes: list[Scrape] = []
    # Whole windows need at most 15 s to begin, 15 s, and 2 s of grace.
    with bench.load(100) as load, Buffer(bench.handle) as buffer:
        bench.wait(3)
        for _ in range(4):
            scrape = bench.scrape()
            scrapes.append(scrape)
            gauges.append(
                {
                    "utilization": scrape.need("inferops_gpu_utilization_ratio"),
                    "power": scrape.need("inferops_gpu_power_watts"),
                    "power_instant": scrape.get("inferops_gpu_power_instant_watts")
                    or float("nan"),
                }
            )
            bench.wait(15)
        # Scrapes in step with the bursts see all of them or none: so at odd times.
        odd = []
        for _ in range(int(150 * bench.given.scale)):
            odd.append(bench.scrape().get("inferops_gpu_power_instant_watts") or 0.0)
            time.sleep(0.137)
        last = bench.scrape()
        time.sleep(1.0)  # the bench's own look at the buffer catches up
        first, middle = scrapes[0], scrapes[2]
        yield from _duty(load, first, middle)
        end = last.need(WINDOW_END)
        length = last.need("inferops_gpu_window_seconds")
        own = buffer.between(end - length, end)
        yield (
            "driver's first stamp, offset to epoch (s)",
            [
                buffer.first_stamp,
                buffer.offset,
            ],
            None,
        )
    told = last.get("inferops_gpu_power_window_max_watts")
    peak = max(own, default=float("nan"))
    yield "samples of the driver's buffer in the window", len(own), None
    yield "power peak by the driver's buffer (W)", peak, None
    yield "power peak that we tell (W)", told, abs((told or 0) / peak - 1) <= 0.05
    yield "instant gauges scraped every 15 s", gauges, None
    seen = [each["power_instant"] for each in gauges]
    yield "greatest power that such a scrape saw (W)", max(seen), None
    yield "share of the peak that such a scrape saw", max(seen) / peak, None
    yield (
        "share of scrapes at odd times that saw more than half of the peak",
        sum(watts > peak / 2 for watts in odd) / len(odd),
        None,
    )


def _duty(
    load: Load, first: Scrape, last: Scrape
) -> Iterator[tuple[str, object, bool | None]]:
    truth = load.busy(first.at, last.at) / (last.at - first.at)
    busy = last.need(BUSY) - first.need(BUSY)
    observed = last.sum(OBSERVED) - first.sum(OBSERVED)
    by_time = busy / (last.at - first.at)
    by_observed = busy / observed
    yield "seconds between the two scrapes", last.at - first.at, None
    yield "duty cycle, truth by the load itself", truth, None
    yield "duty cycle by rate(busy_seconds)", by_time, abs(by_time / truth - 1) <= 0.1
    yield (
        "duty cycle by busy over observed seconds",
        by_observed,
        abs(by_observed / truth - 1) <= 0.1,
    )
    yield "observed share of the time", observed / (last.at - first.at), None


def part_energy(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """Joules over 60 s, half of them under load, beside the driver's counter."""
    scrape, driver = bench.scrape(), bench.joules()
    watts = "inferops_gpu_power_sample_watts"
    with bench.load(40):
        bench.wait(40)
    bench.wait(20)
    later, driver_later = bench.scrape(), bench.joules()
    ours = later.need(ENERGY) - scrape.need(ENERGY)
    truth = driver_later - driver
    seconds = later.at - scrape.at
    samples = later.need(f"{watts}_count") - scrape.need(f"{watts}_count")
    mean = (later.need(f"{watts}_sum") - scrape.need(f"{watts}_sum")) / samples
    yield "seconds", seconds, None
    yield "joules by the driver's counter", truth, None
    yield "joules by ours", ours, abs(ours / truth - 1) <= 0.02
    yield "ours over the driver's", ours / truth, None
    yield "mean watts by the counter", truth / seconds, None
    yield "mean watts by the samples", mean, None


def part_cost(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """A scrape's time; CPU and memory, idle and under load."""
    took = sorted(bench.scrape().took for _ in range(50))
    yield "scrape p50 (ms)", 1e3 * statistics.median(took), None
    yield "scrape longest of 50 (ms)", 1e3 * took[-1], took[-1] < 0.5
    for name, context in (
        ("idle", contextlib.nullcontext()),
        ("load", bench.load(25)),
    ):
        with context:
            before, cpu = bench.scrape(), bench.exporter.cpu_seconds()
            bench.wait(10)
            without = bench.exporter.cpu_seconds() - cpu
            at = time.monotonic()
            yield (
                f"CPU without a scrape, {name} (% of a core)",
                100 * without / (at - before.at),
                100 * without / (at - before.at) < 2,
            )
            for _ in range(2):
                bench.wait(5)
                bench.scrape()
            after = bench.scrape()
            spent = bench.exporter.cpu_seconds() - cpu
            yield (
                f"CPU with a scrape every 5 s, {name} (% of a core)",
                100 * spent / (after.at - before.at),
                None,
            )
            for sampler in ("fast", "slow"):
                key = "inferops_gpu_sampler_busy_seconds_total"
                inside = after.need(key, sampler=sampler) - before.need(
                    key, sampler=sampler
                )
                yield (
                    f"time inside the {sampler} sampler, {name} (% of the time)",
                    100 * inside / (after.at - before.at),
                    None,
                )
    status = bench.exporter.status()
    yield "resident memory (MiB)", status["rss_mib"], status["rss_mib"] < MOST_MIB
    yield "of it anonymous (MiB)", status["anonymous_mib"], None
    yield "threads", status["threads"], None
    scrape = bench.scrape()
    yield "ticks", scrape.need("inferops_gpu_sampler_ticks_total"), None
    yield "late ticks", scrape.need("inferops_gpu_sampler_late_ticks_total"), None


def part_together(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """Two scrapers at once and curl in between: all read the same."""
    found: dict[str, list[Scrape]] = {"a": [], "b": [], "curl": []}
    with bench.load(40):
        end = time.monotonic() + 36 * bench.given.scale
        threads = [
            threading.Thread(target=_keep, args=(bench, each, pause, end))
            for each, pause in ((found["a"], 1.0), (found["b"], 0.7))
        ]
        for thread in threads:
            thread.start()
        curl = shutil.which("curl")
        while time.monotonic() < end:
            time.sleep(1.3)
            if curl is None:
                found["curl"].append(bench.scrape())
            else:
                subprocess.run(
                    [curl, "-sf", "-o", "/dev/null", f"{bench.exporter.url}/metrics"],
                    timeout=30,
                    check=True,
                )
        for thread in threads:
            thread.join()
    everything = sorted(
        (each for scrapes in found.values() for each in scrapes),
        key=lambda each: each.at - each.took,
    )
    yield "scrapes of a and b", [len(found["a"]), len(found["b"])], None
    yield from _agreement(found, everything)


def _keep(bench: Bench, into: list[Scrape], pause: float, end: float) -> None:
    while time.monotonic() < end:
        into.append(bench.scrape())
        time.sleep(pause)


def _agreement(
    found: dict[str, list[Scrape]], everything: list[Scrape]
) -> Iterator[tuple[str, object, bool | None]]:
    told: dict[tuple[float, str], set[float]] = {}
    for scrape in everything:
        for name in WINDOWS:
            value = scrape.get(name)
            if value is not None:
                told.setdefault((scrape.need(WINDOW_END), name), set()).add(value)
    differing = [str(key) for key, values in told.items() if len(values) > 1]
    yield "windows that both saw", len({end for end, _ in told}), None
    yield "windows that were told differently", differing, not differing
    rates = {}
    for name in ("a", "b"):
        first, last = found[name][0], found[name][-1]
        rates[name] = (last.need(BUSY) - first.need(BUSY)) / (
            last.sum(OBSERVED) - first.sum(OBSERVED)
        )
    apart = abs(rates["a"] - rates["b"])
    yield "duty cycle by a and by b", rates, apart <= 0.02 + 0.1 * rates["a"]


def part_growth(bench: Bench) -> Iterator[tuple[str, object, bool | None]]:
    """Ten minutes of the same process: memory, threads and files at both ends."""
    wanted = 60 * bench.given.minutes * bench.given.scale
    samples: list[dict[str, float]] = []
    with bench.load(max(1.0, wanted - (time.monotonic() - bench.began))):
        while True:
            samples.append(
                {"at": time.monotonic() - bench.began, **bench.exporter.status()}
            )
            left = wanted - (time.monotonic() - bench.began)
            if left <= 0:
                break
            bench.scrape()
            time.sleep(min(5.0, left))
    first, last = bench.memory[0], samples[-1]
    yield "seconds since the exporter was up", last["at"], None
    for name in ("rss_mib", "anonymous_mib", "threads", "open_files"):
        yield f"{name} after the first part", first[name], None
        yield f"{name} at the end", last[name], None
    grown = last["rss_mib"] - first["rss_mib"]
    yield "growth (MiB)", grown, grown < 3
    yield (
        "resident memory at the end (MiB)",
        last["rss_mib"],
        last["rss_mib"] < MOST_MIB,
    )
    yield "every tenth sample of RSS (MiB)", [e["rss_mib"] for e in samples[::10]], None
    scrape = bench.scrape()
    yield "late ticks", scrape.need("inferops_gpu_sampler_late_ticks_total"), None
    yield "CPU of the whole run (s)", bench.exporter.cpu_seconds(), None


Part = Callable[[Bench], Iterator[tuple[str, object, bool | None]]]
PARTS: dict[str, Part] = {
    "exposition": part_exposition,
    "duty": part_duty,
    "energy": part_energy,
    "cost": part_cost,
    "together": part_together,
    "growth": part_growth,
}


def run(bench: Bench, name: str) -> bool:
    """Run one part and write what it found; whether it held."""
    began = time.monotonic()
    findings: dict[str, object] = {}
    failed: list[str] = []
    lines = [f"## {name}: {(PARTS[name].__doc__ or '').strip()}"]
    try:
        for title, value, held in PARTS[name](bench):
            findings[title] = value
            mark = {None: "    ", True: "ok  ", False: "FAIL"}[held]
            lines.append(f"{mark} {title}: {_shown(value)}")
            print(lines[-1], flush=True)
            if held is False:
                failed.append(title)
    except Exception:  # noqa: BLE001 - the other parts are wanted still
        lines.append("FAIL " + traceback.format_exc())
        print(lines[-1], flush=True)
        failed.append("exception")
    seconds = time.monotonic() - began
    if not bench.memory:
        bench.memory_begin()
    bench.results["parts"][name] = {
        "seconds": seconds,
        "failed": failed,
        "findings": findings,
    }
    path = bench.out / "results.json"
    path.write_text(json.dumps(bench.results, indent=2, default=str))
    with (bench.out / "report.txt").open("a") as report:
        report.write("\n".join([*lines, f"     took {seconds:.0f} s", ""]) + "\n")
    return not failed


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str]) -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--promtool")
    flags.add_argument("--parts", default=",".join(PARTS))
    flags.add_argument("--minutes", type=float, default=10)
    flags.add_argument("--scale", type=float, default=1, help="of all waits, to try it")
    flags.add_argument("--demo", action="store_true")
    given = flags.parse_args(arguments)
    chosen = given.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        flags.error(f"--parts: no such part: {', '.join(sorted(unknown))}")
    bench = Bench(given)
    with (given.out / "report.txt").open("a") as report:
        report.write(f"# GPU exporter: {json.dumps(bench.about)}\n\n")
    print(bench.about, flush=True)
    try:
        held = [run(bench, name) for name in chosen]
    finally:
        bench.exporter.end()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
