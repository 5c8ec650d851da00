"""python -m exporters: reads the flags, builds the parts, serves until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from exporters import VERSION, logs
from exporters.addresses import Listen, backend_url, listen, ollama_url
from exporters.allowlist import Allowed, allowed
from exporters.app import App
from exporters.collectors import Background
from exporters.errors import SettingError
from exporters.gpu.selection import parse
from exporters.gpu.settings import (
    LEAST_TICK_SECONDS,
    MOST_TICK_SECONDS,
    GpuSettings,
)
from exporters.node_exporter import DEFAULT_URL
from exporters.probe import Prober
from exporters.registry import COLLECTORS, Sources, Switch, enabled
from exporters.runner import Runner
from exporters.server import serving

log = logs.get(__name__)

M_ARENA_MAX = -8  # of glibc's mallopt


@dataclass(frozen=True, slots=True)
class Settings:
    listen: Listen
    sources: Sources
    switches: Mapping[str, Switch]
    probe: Allowed


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="python -m exporters", allow_abbrev=False)
    flags.add_argument("--version", action="version", version=VERSION)
    flags.add_argument(
        "--listen",
        default="127.0.0.1:21434",
        metavar="HOST:PORT",
        help="where to serve (default %(default)s)",
    )
    flags.add_argument(
        "--ollama-url",
        metavar="URL",
        help="Ollama's base URL (default from OLLAMA_HOST, else its own default)",
    )
    flags.add_argument(
        "--node-exporter-url",
        default=DEFAULT_URL,
        metavar="URL",
        help="node_exporter's base URL: while it answers there, the system collector "
        "says nothing (default %(default)s)",
    )
    flags.add_argument(
        "--probe-targets",
        metavar="URLS|FILE",
        help="what /probe may reach: base URLs with commas between, or the path of "
        "the inventory (nodes.yml), read again when it changes; without it, any "
        "target where --listen is loopback, else none",
    )
    flags.add_argument(
        "--gpu-tick",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="between two looks at what is momentary on a GPU, 0.02 to 1 "
        "(default %(default)s)",
    )
    flags.add_argument(
        "--gpus",
        metavar="all|GPU,...",
        help="which GPUs to read, by index or UUID as nvidia-smi -L has them (default: "
        "those that the Ollama at --ollama-url sees, where CUDA_VISIBLE_DEVICES of its "
        "process or unit can be read, else all)",
    )
    flags.add_argument(
        "--gpu-processes",
        action="store_true",
        help="series for each process on a GPU; in a container it needs the "
        "machine's process ids (off: they come and go)",
    )
    for entry in COLLECTORS:
        flags.add_argument(
            f"--collector.{entry.name}",
            dest=entry.name,
            type=Switch,
            choices=list(Switch),
            default=Switch.AUTO,
            help=f"auto (default): {entry.when}",
        )
        flags.add_argument(
            f"--no-collector.{entry.name}",
            dest=entry.name,
            action="store_const",
            const=Switch.OFF,
            help=argparse.SUPPRESS,
        )
    return flags


def read(arguments: Sequence[str], env: Mapping[str, str]) -> Settings:
    """Read flags and environment; raises SettingError."""
    flags = parser().parse_args(arguments)
    where = listen(flags.listen)
    return Settings(
        listen=where,
        sources=Sources(
            ollama_url=_ollama_url(flags.ollama_url, env),
            node_exporter_url=_base_url("--node-exporter-url", flags.node_exporter_url),
            gpu=_gpu(flags),
        ),
        switches={each.name: getattr(flags, each.name) for each in COLLECTORS},
        probe=allowed(flags.probe_targets, loopback=where.loopback),
    )


def _gpu(flags: argparse.Namespace) -> GpuSettings:
    tick = flags.gpu_tick
    if not LEAST_TICK_SECONDS <= tick <= MOST_TICK_SECONDS:
        raise SettingError(
            f"--gpu-tick: must be {LEAST_TICK_SECONDS} to {MOST_TICK_SECONDS} seconds, "
            f"got {tick!r}"
        )
    try:
        gpus = parse(flags.gpus, "--gpus") if flags.gpus is not None else None
    except ValueError as error:
        raise SettingError(f"--gpus: {error}") from error
    return GpuSettings(tick_seconds=tick, by_process=flags.gpu_processes, gpus=gpus)


def _ollama_url(flag: str | None, env: Mapping[str, str]) -> str:
    if flag is None:
        return ollama_url(env.get("OLLAMA_HOST", ""))
    return _base_url("--ollama-url", flag)


def _base_url(name: str, text: str) -> str:
    try:
        return backend_url(text)
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from error


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    logs.configure()
    _spare_memory()
    try:
        settings = read(arguments, env)
        collectors = enabled(settings.switches, settings.sources)
        app = App(Runner(collectors), Prober(settings.probe))
        serve = serving(app, settings.listen)
    except SettingError as error:
        print(f"exporters: {error}", file=sys.stderr)  # noqa: T201 - to the person who starts it
        return 2
    except OSError as error:
        where = f"{settings.listen.host}:{settings.listen.port}"
        print(f"exporters: cannot listen on {where}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    log.info(
        "serving",
        listen=f"{settings.listen.host}:{settings.listen.port}",
        collectors=",".join(collectors),
        ollama=settings.sources.ollama_url,
    )
    for collector in collectors.values():
        if isinstance(collector, Background):
            collector.start()
    serve.serve_forever()
    return 0


def _spare_memory() -> None:
    """Let all threads share one of the allocator's arenas, where it is glibc's.

    It makes one for nearly each thread, which the samplers and the threads of
    scrapes fill with remnants of their own.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _end(*_signal: object) -> NoReturn:
    # The other threads are daemons: a scrape under way is cut, nothing waits.
    raise SystemExit(0)


def run() -> NoReturn:
    """Serve as the installed command `inferops-exporter`."""
    sys.exit(main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    run()
