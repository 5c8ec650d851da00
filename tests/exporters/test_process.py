"""The exporter as a process, beside Ollamas that hang, lie or are not there."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import requests

from tests.exporters.backends import answering, dripping, recorded, silent
from tests.exporters.exposition import series, values
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process

pytestmark = pytest.mark.e2e

UP = series("inferops_exporter_collector_up", collector="ollama")
START_SECONDS = 30
# Whatever runs on this machine's 9100: these tests want our own series.
SYSTEM = ("--collector.system=on", "--node-exporter-url=http://127.0.0.1:1")


class Exporter:
    """A running exporter."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    def get(self, path: str, scrape_timeout: float = 10) -> requests.Response:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(scrape_timeout)}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=30)

    def scrape(self, path: str = "/metrics", timeout: float = 10) -> dict[str, float]:
        reply = self.get(path, timeout)
        assert reply.status_code == 200, reply.text
        return values(reply.text)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Exporter]]:
    with contextlib.ExitStack() as stack:

        def make(*flags: str, listen: str = "") -> Exporter:
            where = listen or f"127.0.0.1:{free_port()}"
            argv = [sys.executable, "-m", "exporters", "--listen", where, *flags]
            process = stack.enter_context(
                Process(argv, log=tmp_path / f"{where}.log", env={"OLLAMA_HOST": ""})
            )
            exporter = Exporter(process, f"http://{where}")
            until(
                lambda: exporter.get("/healthz").ok,
                "exporter is up",
                seconds=START_SECONDS,
            )
            return exporter

        yield make


def probe(url: str) -> str:
    return f"/probe?target={quote(url, safe='')}"


def test_an_ollama_that_works(start) -> None:
    """Its models come through, on the page and by probe alike."""
    with answering(recorded()) as url:
        exporter = start("--ollama-url", url)
        for path in ("/metrics", probe(url)):
            found = exporter.scrape(path)
            assert found["inferops_ollama_up"] == 1
            assert found["inferops_ollama_models"] == 2
            ratio = "inferops_ollama_resident_vram_ratio"
            assert found[series(ratio, model="llama3.1:8b")] == 0.75
            assert found[UP] == 1


def endpoints(found: dict[str, float]) -> dict[str, float]:
    name = "inferops_ollama_endpoint_up"
    keys = {each: series(name, endpoint=each) for each in ("version", "ps", "tags")}
    return {each: found[key] for each, key in keys.items() if key in found}


SILENT = {"version": 0}


@pytest.mark.parametrize(
    ("backend", "collector_up", "asked"),
    [
        pytest.param(
            lambda: contextlib.nullcontext(f"http://127.0.0.1:{free_port()}"),
            1,
            SILENT,
            id="refuses",
        ),
        pytest.param(silent, 1, SILENT, id="accepts and says nothing"),
        pytest.param(
            lambda: dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            1,
            SILENT,
            id="body drips in",
        ),
        pytest.param(
            lambda: answering(recorded(), stuck="/api/ps"),
            1,
            {"version": 1, "ps": 0, "tags": 1},
            id="stuck: accepts and never lists",
        ),
        pytest.param(
            lambda: answering({**recorded(), "/api/ps": b'{"models": [1]}'}),
            0,
            {"version": 1, "ps": 0, "tags": 1},
            id="malformed",
        ),
        pytest.param(
            lambda: answering({"/api/version": b"<html>"}),
            0,
            {"version": 0, "ps": 0, "tags": 0},
            id="HTML",
        ),
        pytest.param(
            lambda: answering({}),
            0,
            {"version": 0, "ps": 0, "tags": 0},
            id="not an Ollama",
        ),
    ],
)
def test_an_ollama_that_does_not_work(start, backend, collector_up, asked) -> None:
    """It is down, what failed is said, the rest is served within the deadline."""
    with backend() as url:
        exporter = start("--ollama-url", url, *SYSTEM)
        for path in ("/metrics", probe(url)):
            began = time.monotonic()
            found = exporter.scrape(path, timeout=1.5)
            assert time.monotonic() - began < 1.5
            assert found["inferops_ollama_up"] == 0
            assert found[UP] == collector_up
            assert asked == endpoints(found)
            assert ("inferops_ollama_models" in found) == asked.get("tags", 0)
            assert "inferops_ollama_resident_models" not in found
            assert ("node_load1" in found) == (path == "/metrics")


def test_a_patient_client_in_between_changes_nothing(start) -> None:
    """A curl beside a stuck Ollama has no run that outlasts Prometheus' scrapes."""
    with answering(recorded(), stuck="/api/ps") as url:
        exporter = start("--ollama-url", url)
        alone = set(exporter.scrape(timeout=1))
        patient = threading.Thread(target=exporter.get, args=("/metrics", 100))
        patient.start()
        hurried = [set(exporter.scrape(timeout=1)) for _ in range(3)]
        patient.join(10)
        assert not patient.is_alive()
    assert hurried == [alone] * 3


def test_a_killed_exporter_comes_back_with_all_of_it(start) -> None:
    """No file, lock or child is left that its successor would trip over."""
    with answering(recorded(), stuck="/api/ps") as url:
        first = start("--ollama-url", url, *SYSTEM)
        before = set(first.scrape(timeout=1))
        scraping = threading.Thread(target=_scrape_until_cut, args=(first,))
        scraping.start()
        first.process.signal(signal.SIGKILL)
        first.process.wait(10)
        scraping.join()
        with pytest.raises(requests.ConnectionError):  # `up 0` to Prometheus
            first.get("/metrics")
        where = first.url.removeprefix("http://")
        again = start("--ollama-url", url, *SYSTEM, listen=where)
        found = again.scrape(timeout=1)
    assert before == set(found)
    assert endpoints(found) == {"version": 1, "ps": 0, "tags": 1}


def test_an_ollama_that_ignores_every_deadline(start) -> None:
    """A head that drips in hangs the collector: cut off, and not started again."""
    with dripping(b"HTTP/1.1 200 OK\r\nX: ") as url:
        exporter = start("--ollama-url", url, *SYSTEM)
        first = exporter.scrape(timeout=1)
        second = exporter.scrape(timeout=1)
    duration = series(
        "inferops_exporter_collector_duration_seconds", collector="ollama"
    )
    for found in (first, second):
        assert found[UP] == 0
        assert "inferops_ollama_up" not in found
        assert "node_load1" in found
    assert second[duration] > first[duration] > 0.4


def test_scrapes_at_once(start) -> None:
    """Many scrapes beside a hung Ollama are all answered within the deadline."""
    with silent() as url:
        exporter = start("--ollama-url", url)
        took: list[float] = []

        def scrape(path: str) -> None:
            began = time.monotonic()
            assert exporter.scrape(path, timeout=2)["inferops_ollama_up"] == 0
            took.append(time.monotonic() - began)

        threads = [
            threading.Thread(target=scrape, args=(path,))
            for path in ("/metrics", probe(url)) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(took) == 8
    assert max(took) < 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once(start, number) -> None:
    """A scrape under way and a hung Ollama hold nothing up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        exporter = start(
            "--ollama-url", f"http://127.0.0.1:{listening.getsockname()[1]}"
        )
        scraping = threading.Thread(target=_scrape_until_cut, args=(exporter,))
        scraping.start()
        asked, _ = listening.accept()
        exporter.process.signal(number)
        assert exporter.process.wait(2) == 0
        asked.close()
        scraping.join()


def _scrape_until_cut(exporter: Exporter) -> None:
    with contextlib.suppress(OSError):
        exporter.get("/metrics", 60)


def test_bad_targets_are_refused(start) -> None:
    """400 for what is no target; 403 for what is not in the inventory."""
    exporter = start("--probe-targets", "http://127.0.0.1:1")
    target = "http://127.0.0.1:1/?x"
    bad = exporter.get(probe(target))
    assert (bad.status_code, bad.text) == (
        400,
        f"target: must have no path, query or fragment, got {target!r}\n",
    )
    assert exporter.get(probe("http://127.0.0.1:22")).status_code == 403
    assert exporter.get(probe("http://127.0.0.1:1/api/delete")).status_code == 403
    assert exporter.scrape(probe("http://127.0.0.1:1"))["inferops_ollama_up"] == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        pytest.param(
            ["--listen", "nowhere"],
            2,
            "exporters: --listen: must be host:port, got 'nowhere'\n",
            id="wrong flag",
        ),
        pytest.param(
            ["--listen", "127.0.0.1:{taken}"],
            1,
            "exporters: cannot listen on 127.0.0.1:{taken}: "
            "[Errno 98] Address already in use\n",
            id="port taken",
        ),
    ],
)
def test_it_says_why_it_does_not_start(start, flags, code, message) -> None:
    """One line, no traceback, and a status that is not success."""
    taken = start("--no-collector.ollama").url.rpartition(":")[2]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "exporters",
            *(each.format(taken=taken) for each in flags),
        ],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, message.format(taken=taken))


def test_a_real_ollama(start, tmp_path) -> None:
    """A real Ollama without models is up, with its version and zero models."""
    if shutil.which("ollama") is None:
        pytest.skip("ollama is not on PATH")
    where = f"127.0.0.1:{free_port()}"
    env = {
        "OLLAMA_HOST": where,
        "OLLAMA_MODELS": str(tmp_path / "models"),
        "HOME": str(tmp_path),
    }
    exporter = start("--ollama-url", f"http://{where}")
    with Process(["ollama", "serve"], log=tmp_path / "ollama.log", env=env):
        found = until(
            lambda: (it := exporter.scrape())["inferops_ollama_up"] == 1 and it,
            "Ollama is up",
            seconds=60,
        )
    assert found["inferops_ollama_models"] == 0
    assert found["inferops_ollama_resident_models"] == 0
    assert [name for name in found if name.startswith("inferops_ollama_info{version=")]
    until(lambda: exporter.scrape()["inferops_ollama_up"] == 0, "Ollama is down")
