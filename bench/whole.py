"""Measures whole replies, not streamed: requests per second of one core.

wrk asks where it is on PATH, otherwise `bench.asking`, which is slower. Which one
it was is said; where the proxy's core was not full, the generator and the fleet
were the limit, and only the CPU time of each request tells about the proxy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.load import Target, chat
from bench.proxies import MissingError, Proxy
from bench.stage import Bench, load, tell

CONNECTIONS = 32
_WARM_UP_SECONDS = 2
_FULL = 0.95  # of a core; the rest is the kernel's, for others

_SCRIPT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
function done(summary, latency, requests)
  io.write(string.format('{{"requests": %d, "seconds": %f, "faults": %d}}\\n',
    summary.requests, summary.duration / 1e6,
    summary.errors.status + summary.errors.connect + summary.errors.read
      + summary.errors.write + summary.errors.timeout))
end
"""


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "bench.asking"


def measure_whole(bench: Bench, proxy: Proxy, seconds: float) -> dict[str, object]:
    """Ask for whole replies as fast as they come."""
    tell(f"whole replies, {proxy.name}")
    target = Target(proxy.port, proxy.path)
    with tempfile.TemporaryDirectory() as folder:
        argv = _argv(target, seconds + _WARM_UP_SECONDS, Path(folder))
        with load(bench, argv) as child:
            time.sleep(_WARM_UP_SECONDS)
            before, began = proxy.cpu_seconds(), time.monotonic()
            time.sleep(seconds * 0.9)  # ends before the load does
            cpu_seconds = proxy.cpu_seconds() - before
            elapsed = time.monotonic() - began
            memory = proxy.memory_bytes()
            result = _last_line(child)
    rate = result["requests"] / result["seconds"]
    if not rate:
        raise MissingError(f"{proxy.name} answered nothing")
    cores = cpu_seconds / elapsed
    return {
        "requests_per_second": rate,
        "cpu_us_per_request": cores / rate * 1e6,
        "cpu_cores": cores,
        "core_full": cores >= _FULL,
        "memory_mib": memory / 2**20,
        "faults": result["faults"],
    }


def _argv(target: Target, seconds: float, folder: Path) -> list[str]:
    if generator() != "wrk":
        argv = [sys.executable, "-m", "bench.asking", f"{target.port}{target.path}"]
        return [*argv, str(CONNECTIONS), str(seconds)]
    script = folder / "ask.lua"
    body = json.dumps(chat(1, openai=target.openai, stream=False))
    script.write_text(_SCRIPT.format(path=target.path, body=body))
    argv = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{round(seconds)}s"]
    url = f"http://127.0.0.1:{target.port}"
    return [*argv, "--timeout", "20s", "-s", str(script), url]


def _last_line(child: subprocess.Popen[str]) -> dict:
    """Read past wrk's own words to the line that `done` writes."""
    assert child.stdout is not None
    lines = [line for line in child.stdout if line.startswith("{")]
    if not lines:
        raise MissingError("the load generator ended early")
    result: dict = json.loads(lines[-1])
    return result
