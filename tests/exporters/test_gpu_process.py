"""The exporter as a process with GPUs: a driver that hangs, kills, many scrapers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.exporters.exposition import series, values
from tests.exporters.fake_nvml import cards
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process

pytestmark = pytest.mark.e2e

STUCK, WELL = (card.uuid for card in cards(2))
COLLECTOR = series("inferops_exporter_collector_up", collector="nvml")


class Exporter:
    """A running exporter with two made-up cards, or over the simulated driver."""

    def __init__(self, process: Process, url: str, hang_file: Path) -> None:
        self.process = process
        self.url = url
        self.hang_file = hang_file

    def scrape(self, timeout: float = 2) -> dict[str, float]:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
        reply = requests.get(f"{self.url}/metrics", headers=headers, timeout=timeout)
        return values(reply.text)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Exporter]]:
    with contextlib.ExitStack() as stack:

        def make(*flags: str, module: str = "tests.exporters.with_fake_nvml"):
            where = f"127.0.0.1:{free_port()}"
            hang_file = tmp_path / "hang"
            given = [hang_file] if module != "simulator.gpu_exporter" else []
            argv = [
                *(sys.executable, "-m", module, *given, "--listen", where),
                *("--collector.nvml=on", "--collector.ollama=off", *flags),
            ]
            process = stack.enter_context(Process(argv, log=tmp_path / f"{where}.log"))
            exporter = Exporter(process, f"http://{where}", hang_file)
            until(exporter.scrape, "exporter is up", seconds=30)
            return exporter

        yield make


def up(uuid: str) -> str:
    return series("inferops_gpu_up", uuid=uuid)


def test_a_driver_call_that_hangs(start) -> None:
    """Each scrape is in time, the hung card says so, its neighbour is whole."""
    exporter = start()
    exporter.hang_file.touch()
    took: list[float] = []

    def hangs() -> dict[str, float] | None:
        began = time.monotonic()
        found = exporter.scrape()
        took.append(time.monotonic() - began)
        return found if found[up(STUCK)] == 0 else None

    found = until(hangs, "it is noticed", every=0.2)
    assert max(took) < 1
    assert found[COLLECTOR] == 0
    assert found[up(WELL)] == 1
    assert series("inferops_gpu_temperature_celsius", uuid=WELL) in found
    assert series("inferops_gpu_temperature_celsius", uuid=STUCK) not in found
    seen = series(
        "inferops_gpu_sampler_last_success_timestamp_seconds",
        uuid=STUCK,
        sampler="fast",
    )
    assert 5 < time.time() - found[seen] < 30
    exporter.hang_file.unlink()
    until(lambda: exporter.scrape()[up(STUCK)] == 1, "it goes on")
    assert exporter.scrape()[COLLECTOR] == 1


def test_two_ollamas_with_a_card_each(start) -> None:
    """An exporter reads the cards that its own Ollama sees, or those it is given."""
    with ollama(CUDA_VISIBLE_DEVICES=WELL) as url:
        found = start("--ollama-url", url).scrape()
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 2)
    assert found[up(WELL)] == 1
    assert not [name for name in found if STUCK in name]
    with ollama() as url:
        assert start("--ollama-url", url).scrape()["inferops_gpus"] == 2
        found = start("--ollama-url", url, "--gpus", "0").scrape()
    assert found["inferops_gpus"] == 1
    assert found[up(STUCK)] == 1
    assert not [name for name in found if WELL in name]


@contextlib.contextmanager
def ollama(**env: str) -> Iterator[str]:
    """A process on the port of an Ollama, with its environment."""
    code = (
        "import socket, sys\n"
        "made = socket.create_server(('127.0.0.1', 0))\n"
        "print(made.getsockname()[1], flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        child.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_killed_while_a_call_hangs(start, number) -> None:
    """No thread in the driver keeps the process; a new one starts at once."""
    exporter = start()
    exporter.hang_file.touch()
    until(lambda: exporter.scrape()[up(STUCK)] == 0, "it hangs", every=0.2)
    exporter.process.signal(number)
    code = exporter.process.wait(10)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    exporter.hang_file.unlink()
    assert start().scrape()[up(STUCK)] == 1


def test_scrapers_at_once_change_nothing(start) -> None:
    """Totals only grow, and windows are told alike, whoever asks and how often."""
    exporter = start()
    found: list[dict[str, float]] = []
    end = time.monotonic() + 3

    def scrape() -> None:
        while time.monotonic() < end:
            found.append(exporter.scrape())

    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ticks = series("inferops_gpu_sampler_ticks_total", uuid=WELL)
    late = series("inferops_gpu_sampler_late_ticks_total", uuid=WELL)
    first, last = found[0], exporter.scrape()
    assert len(found) > 8
    # As many ticks as time allows: a scrape neither makes one nor holds one up.
    assert 10 < last[ticks] - first[ticks] + last[late] - first[late] < 60
    for name in first:
        if "_total" in name:
            assert last.get(name, first[name]) >= first[name], name


def test_the_simulated_driver_as_a_process(start) -> None:
    """The exporter over it needs no driver, and is small."""
    exporter = start(module="simulator.gpu_exporter")
    found = until(
        lambda: (
            (it := exporter.scrape()).get(
                series(
                    "inferops_gpu_up",
                    uuid="GPU-00000000-dead-beef-0000-00000000demo",
                )
            )
            and it
        ),
        "the card is there",
    )
    cards_found = [name for name in found if name.startswith("inferops_gpu")]
    assert len(cards_found) > 100
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if "VmRSS" in line)
    assert int(resident.split()[1]) < 60 * 1024
