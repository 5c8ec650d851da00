"""Proxies under test, as they are shipped: nginx and the router."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.harness.poll import until
from tests.harness.process import Process

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Both write one line for each request; neither buffers replies.
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream fleet {{
    least_conn;
    {nodes}
    keepalive 512;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://fleet;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      {more}
    }}
  }}
}}
"""


class MissingError(Exception):
    """A proxy cannot be started here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: its port, and the first of its processes.

    path:         where it takes chats
    most_streams: with more it is saturated, and they are not asked of it
    """

    name: str
    port: int
    process: Process
    path: str = "/api/chat"
    most_streams: int | None = None

    def cpu_seconds(self) -> float:
        """CPU time, user and system, of all its processes so far."""
        return sum(_cpu_seconds(pid) for pid in _tree(self.process.pid))

    def memory_bytes(self) -> int:
        return sum(_memory_bytes(pid) for pid in _tree(self.process.pid))


def start_nginx(
    folder: Path, port: int, nodes: Sequence[int], *, more: str = ""
) -> Proxy:
    """Start nginx; `more`: directives of its one location."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise MissingError("nginx is not on PATH: apt-get install nginx-light")
    config = folder / "nginx.conf"
    listed = "\n    ".join(f"server 127.0.0.1:{node};" for node in nodes)
    config.write_text(_NGINX.format(folder=folder, port=port, nodes=listed, more=more))
    argv: list[str | Path] = [program, "-c", config, "-e", folder / "error.log"]
    proxy = Proxy("nginx", port, Process(argv, log=folder / "nginx.log"))
    return ready(proxy, "/api/version")


def start_router(
    folder: Path,
    port: int,
    nodes: Sequence[int],
    slots: int,
    *,
    name: str = "router",
    settings: Mapping[str, str] | None = None,
) -> Proxy:
    """Start the router as it is run, with `slots` on each node.

    settings: `SECTION__FIELD` overrides
    No Prometheus: scores are the inventory's, as they are while it is down.
    """
    inventory = folder / "nodes.yml"
    entries = [_entry(index, node, slots) for index, node in enumerate(nodes)]
    inventory.write_text(json.dumps(entries))  # JSON is YAML
    env = {
        "INFEROPS_BIND": f"127.0.0.1:{port}",
        "INFEROPS_INVENTORY__PATH": str(inventory),
        "INFEROPS_STATE__DIRECTORY": str(folder / "state"),
        "INFEROPS_PROMETHEUS__URL": "http://127.0.0.1:9",
        **{f"INFEROPS_{key}": value for key, value in (settings or {}).items()},
    }
    gunicorn = Path(sys.executable).with_name("gunicorn")
    argv: list[str | Path] = [
        gunicorn,
        "-c",
        "router/gunicorn.conf.py",
        "router.wsgi:app",
    ]
    process = Process(argv, log=folder / "router.log", env=env)
    return ready(Proxy(name, port, process), "/readyz")


def _entry(index: int, port: int, slots: int) -> Mapping[str, object]:
    labels = {
        "node": f"simulated-{index}",
        "__ollama": f"http://127.0.0.1:{port}",
        "__slots": str(slots),
    }
    return {"targets": ["127.0.0.1"], "labels": labels}


def ready(proxy: Proxy, path: str, *, seconds: float = 60) -> Proxy:
    """Wait until a proxy answers; what ends or never answers is stopped."""

    def answers() -> bool:
        if not proxy.process.running:
            raise MissingError(f"{proxy.name} ended:\n{proxy.process.tail()}")
        connection = HTTPConnection("127.0.0.1", proxy.port, timeout=2)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status == 200

    try:
        until(answers, f"{proxy.name} answers {path}", seconds=seconds)
    except BaseException:
        proxy.process.stop()
        raise
    return proxy


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let the processes that are started inside inherit this core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def _cpu_seconds(pid: int) -> float:
    """Take the larger: ticks are coarse, and schedstat forgets threads that ended."""
    ticks = seconds = 0.0
    with contextlib.suppress(OSError):
        # The name, field 2, may hold anything; fields 14 and 15 are utime, stime.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            seconds += int(thread.read_text().split()[0]) / 1e9
    return max(ticks, seconds)


def _memory_bytes(pid: int) -> int:
    """Proportional set size: shared pages are counted once."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        line = next(each for each in text.splitlines() if each.startswith("Pss:"))
        return int(line.split()[1]) * 1024
    return 0
