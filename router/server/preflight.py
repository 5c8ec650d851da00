"""What gunicorn's master must know of the files, told by a process that ends.

Reading them takes pydantic and YAML: 12 MiB that would stay in the master for good.
`python -m router.server.preflight CONFIG` reads, and writes one line of JSON; with
every fault of the files on stderr it ends with 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from router.errors import ConfigError

if TYPE_CHECKING:
    from router.config.settings import Config

_SECONDS = 60
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class StartSettings:
    """level, format: of the log, as `router.logs.events.LogSettings`

    connections:   most of clients
    open_files:    what the nodes' connections need
    grace_seconds: for streams when the router stops
    tls_address:   where https is spoken; empty: nowhere
    """

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["logfmt", "json"]
    connections: int
    open_files: int
    grace_seconds: float
    tls_address: str = ""


def ask(config: Path, environ: Mapping[str, str]) -> StartSettings:
    """Have the files read by a process of its own; faulty files end this one too."""
    path = os.pathsep.join(filter(None, (str(_ROOT), environ.get("PYTHONPATH"))))
    answer = subprocess.run(
        [sys.executable, "-m", "router.server.preflight", str(config)],
        env={**environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=_SECONDS,
        check=False,
    )
    if answer.returncode:
        sys.exit(answer.returncode)
    return StartSettings(**json.loads(answer.stdout))


def read(config: Path, environ: Mapping[str, str]) -> StartSettings:
    """Read the files. Raises ConfigError."""
    from router.config.reload import open_config_files  # noqa: PLC0415
    from router.logs.events import configure, get_logger  # noqa: PLC0415 - 12 MiB
    from router.server.file_limit import for_nodes  # noqa: PLC0415

    # On stderr, before the files say how: standard output is the answer.
    configure(
        StartSettings("info", "logfmt", connections=0, open_files=0, grace_seconds=0)
    )
    files = open_config_files(config, environ, get_logger("start"), time.time())
    settings = files.config.value
    _check_access(settings, environ)
    check_traces(settings)
    _check_certificate(settings)
    return StartSettings(
        settings.log.level,
        settings.log.format,
        connections=settings.web.max_connections,
        open_files=for_nodes(files.inventory.value, settings.dispatch.default_slots),
        grace_seconds=settings.shutdown.grace_seconds,
        tls_address=settings.web.tls_address,
    )


def _check_access(settings: Config, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where others reach a router that asks for no key unmeant."""
    from router.access.exposure import reached_by_others, refusal  # noqa: PLC0415
    from router.access.file import load_keys  # noqa: PLC0415
    from router.access.store import KeyStore  # noqa: PLC0415

    access = settings.access
    if access.keys_file is not None:
        load_keys(access.keys_file)
        return
    address = reached_by_others(environ, settings.web.tls_address)
    keys = KeyStore(settings.state.directory)
    if address is not None and access.keys == "auto" and not keys.exists():
        raise ConfigError(refusal(address))


def check_traces(settings: Config) -> None:
    """Raise ConfigError where traces are wanted without what sends them."""
    if settings.traces.url and find_spec("opentelemetry") is None:
        raise ConfigError(
            "traces.url: needs OpenTelemetry's SDK, which is not installed:"
            " pip install 'inferops[opentelemetry]'"
        )


def _check_certificate(settings: Config) -> None:
    """Raise ConfigError where https could not be spoken."""
    from router.server.tls import Certificate  # noqa: PLC0415

    web = settings.web
    if web.tls_cert and web.tls_key:
        Certificate(web.tls_cert, web.tls_key)


def main() -> None:
    try:
        start = read(Path(sys.argv[1]), os.environ)
    except ConfigError as error:
        sys.stderr.write(f"the router cannot start:\n{error}\n")
        sys.exit(2)
    sys.stdout.write(json.dumps(asdict(start)))


if __name__ == "__main__":
    main()
