"""Where a benchmark plays: a simulated fleet, proxies before it, and load on them.

Fleet and load generator share one core, the proxy under test has the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.peers import start_litellm, start_olla
from bench.proxies import MissingError, Proxy, on_core, start_nginx, start_router
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process

NODES = 4
TOKENS_PER_SECOND = 50
PROXIES = ("nginx", "router", "olla", "litellm")

# A load generator that is still not done is ended: it hangs.
_LONGEST_RUN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run; None where there is only one core."""

    proxy: int | None
    rest: int | None

    @classmethod
    def here(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(None, None)


@dataclass(frozen=True, slots=True)
class Bench:
    """A running fleet with its proxies; `missing` says why others are not there."""

    nodes: Sequence[int]
    proxies: Sequence[Proxy]
    cores: Cores
    missing: Sequence[str] = ()


@contextlib.contextmanager
def started(
    names: Sequence[str], most_streams: int, *, required: bool = True
) -> Iterator[Bench]:
    """Start fleet and proxies, and end them for sure.

    A proxy that cannot be started is noted, or ends everything if `required`.
    """
    cores = Cores.here()
    ports = free_ports(NODES + len(names))
    nodes, free = ports[:NODES], ports[NODES:]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(running_fleet(nodes, cores))
        proxies: list[Proxy] = []
        missing = []
        for name, port in zip(names, free, strict=True):
            tell(f"starting {name}")
            try:
                with on_core(cores.proxy):
                    proxies.append(_start(name, folder, port, nodes, most_streams))
            except MissingError as error:
                if required:
                    raise
                missing.append(f"{name}: {error}")
            else:
                stack.callback(proxies[-1].process.stop)
        yield Bench(nodes, proxies, cores, missing)


def _start(
    name: str, folder: Path, port: int, nodes: Sequence[int], most_streams: int
) -> Proxy:
    if name == "nginx":
        return start_nginx(folder, port, nodes)
    if name == "olla":
        return start_olla(folder, port, nodes)
    if name == "litellm":
        return start_litellm(folder, port, nodes)
    return start_router(folder, port, nodes, most_streams // len(nodes) + 1)


@contextlib.contextmanager
def running_fleet(nodes: Sequence[int], cores: Cores) -> Iterator[Path]:
    """Run the simulated nodes; yields a folder for what goes with them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        with on_core(cores.rest):
            stack.enter_context(fleet(folder, nodes))
        # nginx shuns a node for 10 s that once did not answer.
        for node in nodes:
            until(partial(listens, node), f"the simulated node at {node} listens")
        yield folder


def fleet(folder: Path, nodes: Sequence[int]) -> Process:
    argv = [sys.executable, "-m", "bench.simulated_fleet"]
    argv += ["--ports", ",".join(map(str, nodes))]
    argv += ["--tokens-per-second", str(TOKENS_PER_SECOND)]
    return Process(argv, log=folder / "fleet.log")


def listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


@contextlib.contextmanager
def load(bench: Bench, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a load generator on the core of the rest."""
    with on_core(bench.cores.rest):
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    watchdog = threading.Timer(_LONGEST_RUN_SECONDS, child.kill)
    watchdog.start()
    try:
        yield child
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()


def own_load(*argv: str) -> list[str]:
    return [sys.executable, "-m", "bench.load", *argv]


def line_of(child: subprocess.Popen[str]) -> str:
    """Read the next line of a load generator."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise MissingError("the load generator ended early")
    return line.strip()


def result_of(child: subprocess.Popen[str]) -> dict:
    result: dict = json.loads(line_of(child))
    return result


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    return f"{os.cpu_count()} cores ({model}), {platform.platform()}"


def tell(step: str) -> None:
    print(f"bench: {step}", file=sys.stderr, flush=True)
