"""The environment of the Ollama that listens on a port of this machine.

The process' own where we may read it (the same user, or root); else what systemd says
of its unit, drop-ins included, which anybody may ask. An Ollama in a container or on
another machine says nothing.
"""

from __future__ import annotations

import ipaddress
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from exporters.addresses import ollama_url
from exporters.errors import SettingError

PROC = Path("/proc")
LISTENING = "0A"  # in /proc/net/tcp
SYSTEMCTL_SECONDS = 5.0
# Nothing else of an environment is kept: it may hold secrets.
KEPT = {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OLLAMA_HOST"}

Units = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Environment:
    """source: whose it is, for messages."""

    values: Mapping[str, str]
    source: str


def systemctl() -> str:
    """Ask systemd for its units of Ollama; empty where there is none to ask."""
    argv = ["systemctl", "show", "--no-pager", "*ollama*.service"]
    argv += ["--property=Id", "--property=Environment", "--property=EnvironmentFiles"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=SYSTEMCTL_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def environment(
    url: str, *, proc: Path = PROC, units: Units = systemctl
) -> Environment | None:
    """Return the environment of the Ollama at a base URL; None where it is unknown."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port is None or not _is_here(parts.hostname):
        return None
    return _of_process(parts.port, proc) or _of_unit(parts.port, units())


def _is_here(host: str) -> bool:
    """Whether an address is this machine's own: a socket can be bound to it.

    Of names only localhost, since others would ask DNS.
    """
    if host == "localhost":
        return True
    with suppress(ValueError, OSError):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address = str(ipaddress.ip_address(host))
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
        return True
    return False


def _of_process(port: int, proc: Path) -> Environment | None:
    wanted = {f"socket:[{inode}]" for inode in _listeners(port, proc)}
    if not wanted:
        return None
    for folder in sorted(proc.glob("[0-9]*"), key=_is_not_ollama):
        with suppress(OSError):
            if wanted.isdisjoint(_links(folder / "fd")):
                continue
            text = (folder / "environ").read_bytes().decode(errors="replace")
            return Environment(_kept(text.split("\0")), f"process {folder.name}")
    return None


def _listeners(port: int, proc: Path) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                (
                    _,
                    local,
                    _,
                    state,
                    *_,
                ) = fields = line.split()
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield fields[9]


def _is_not_ollama(folder: Path) -> bool:
    """Sort the likely processes to the front: each other one costs a look."""
    try:
        return b"ollama" not in (folder / "cmdline").read_bytes()
    except OSError:
        return True


def _links(folder: Path) -> Iterator[str]:
    for each in folder.iterdir():
        with suppress(OSError):  # closed since
            yield str(each.readlink())


def _of_unit(port: int, shown: str) -> Environment | None:
    for block in shown.split("\n\n"):
        pairs = [line.partition("=") for line in block.splitlines()]
        values: dict[str, str] = {}
        for name, _, text in pairs:
            if name == "Environment":
                values |= _assignments(text)
        for name, _, text in pairs:  # files are read last, and win
            if name == "EnvironmentFiles":
                values |= _file(Path(text.rpartition(" (")[0]))
        unit = next((text for name, _, text in pairs if name == "Id"), "")
        if unit and _port(values) == port:
            return Environment(values, unit)
    return None


def _port(values: Mapping[str, str]) -> int | None:
    with suppress(SettingError):
        return urlsplit(ollama_url(values.get("OLLAMA_HOST", ""))).port
    return None


def _file(path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            if not line.lstrip().startswith(("#", ";")):
                values |= _assignments(line)
    return values


def _assignments(text: str) -> dict[str, str]:
    """Read NAME=VALUE words, quoted as a shell has them."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return _kept(words)


def _kept(words: Iterable[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: value for name, _, value in pairs if name in KEPT}
