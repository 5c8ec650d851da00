"""What traces cost a request: off, on with none recorded, on with each recorded.

Three routers before one simulated fleet take whole replies in turn; the figure is the
CPU time of all of a router's processes, exports included, by request.

    python -m bench.traces --seconds 5 --rounds 4
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.proxies import MissingError, Proxy, on_core, start_router
from bench.stage import NODES, Bench, machine, started
from bench.whole import CONNECTIONS, measure_whole
from tests.harness.ports import free_port


class _Sink(BaseHTTPRequestHandler):
    """Takes whatever is exported."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """Serve a collector that keeps nothing; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def variants(url: str) -> Mapping[str, Mapping[str, str]]:
    return {
        "off": {},
        "on, none recorded": {"TRACES__URL": url, "TRACES__SAMPLE_RATIO": "0"},
        "on, 1 % recorded": {"TRACES__URL": url, "TRACES__SAMPLE_RATIO": "0.01"},
        "on, each recorded": {"TRACES__URL": url},
    }


@contextlib.contextmanager
def routers(bench: Bench) -> Iterator[list[Proxy]]:
    """Start one router of each kind, on the core of the proxies."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(collector())
        found = []
        for name, settings in variants(url).items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with on_core(bench.cores.proxy):
                slots = CONNECTIONS // NODES + 1
                proxy = start_router(
                    folder,
                    free_port(),
                    bench.nodes,
                    slots,
                    name=name,
                    settings=settings,
                )
            stack.callback(proxy.process.stop)
            found.append(proxy)
        yield found


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what traces cost a request")
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    costs: dict[str, list[float]] = {}
    try:
        with started((), CONNECTIONS) as bench, routers(bench) as proxies:
            if bench.cores.rest is not None:  # the collector is in this process
                os.sched_setaffinity(0, {bench.cores.rest})
            for turn in range(args.rounds):
                for proxy in proxies if turn % 2 == 0 else reversed(proxies):
                    run = measure_whole(bench, proxy, args.seconds)
                    cost = float(str(run["cpu_us_per_request"]))
                    costs.setdefault(proxy.name, []).append(cost)
    except MissingError as error:
        sys.exit(f"bench.traces: {error}")
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}\n")
    print(f"{'traces':<20}{'CPU us/request':>15}{'runs':>16}{'beside off':>12}")
    off = statistics.median(costs["off"])
    for name, runs in costs.items():
        median, spread = statistics.median(runs), f"{min(runs):.0f} to {max(runs):.0f}"
        print(f"{name:<20}{median:>15.0f}{spread:>16}{median - off:>+12.0f}")


if __name__ == "__main__":
    main()
