"""python -m exporters: reads the flags, builds the parts, serves until SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import structlog

from exporters import VERSION
from exporters.addresses import Listen, backend_url, listen, ollama_url
from exporters.allowlist import Allowed, allowed
from exporters.app import App, serving
from exporters.errors import SettingError
from exporters.probe import Prober
from exporters.registry import COLLECTORS, Switch, enabled
from exporters.runner import Runner

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    listen: Listen
    ollama_url: str
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
        "--probe-targets",
        metavar="URLS|FILE",
        help="what /probe may reach: base URLs with commas between, or the path of "
        "the inventory (nodes.yml), read again when it changes; without it, any "
        "target where --listen is loopback, else none",
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
        ollama_url=_ollama_url(flags.ollama_url, env),
        switches={entry.name: getattr(flags, entry.name) for entry in COLLECTORS},
        probe=allowed(flags.probe_targets, loopback=where.loopback),
    )


def _ollama_url(flag: str | None, env: Mapping[str, str]) -> str:
    if flag is None:
        return ollama_url(env.get("OLLAMA_HOST", ""))
    try:
        return backend_url(flag)
    except ValueError as error:
        raise SettingError(f"--ollama-url: {error}") from error


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.LogfmtRenderer(
                key_order=("timestamp", "level", "event")
            ),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    try:
        settings = read(arguments, env)
        collectors = enabled(settings.switches, settings.ollama_url)
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
        ollama=settings.ollama_url,
    )
    serve.serve_forever()
    return 0


def _end(*_signal: object) -> NoReturn:
    # The other threads are daemons: a scrape under way is cut, nothing waits.
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
