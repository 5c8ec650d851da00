"""Which targets /probe may reach: a list, or the inventory, read again on change.

The only file that imports yaml, and only where an inventory is given: an exporter on
a compute node has none. An edit that cannot be read keeps the last good
list.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from exporters import logs
from exporters.access import NO_ACCESS, Access
from exporters.addresses import OLLAMA_PORT, backend_url
from exporters.errors import SettingError

log = logs.get(__name__)

_ACCESS = tuple(field.name for field in fields(Access))
_MOST_BYTES = 8 * 1024 * 1024


class Allowed(Protocol):
    def access(self, target: str) -> Access | None:
        """Return how to ask `target`, as `backend_url` has it; None if not at all."""


class AnyTarget:
    """For an exporter that only this machine can reach."""

    def access(self, target: str) -> Access | None:
        del target
        return NO_ACCESS


class Targets:
    """A fixed list, given as `http://a:11434,http://b:11434`; may be empty."""

    def __init__(self, text: str) -> None:
        try:
            self._urls = frozenset(
                backend_url(url, path=True) for url in text.split(",") if url
            )
        except ValueError as error:
            raise SettingError(f"--probe-targets: {error}") from error

    def access(self, target: str) -> Access | None:
        return NO_ACCESS if target in self._urls else None


class Inventory:
    """The Ollama endpoints of an inventory in Prometheus' file_sd format."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._targets: Mapping[str, Access] = {}
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise SettingError(f"--probe-targets: {error}") from error

    def access(self, target: str) -> Access | None:
        try:
            self._load()
        except (OSError, ValueError) as error:
            log.warning("inventory_rejected", error=str(error))
        return self._targets.get(target)

    def _load(self) -> None:
        status = self._path.stat()
        seen = (status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        self._targets = dict(_endpoints(self._path))


def _text(path: Path) -> str:
    """Read a small regular file: a named pipe would be waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, encoding="utf-8") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise ValueError(f"{path}: must be a file of at most {_MOST_BYTES} bytes")
        return file.read()


def _endpoints(path: Path) -> Iterator[tuple[str, Access]]:
    import yaml  # noqa: PLC0415 - a megabyte that most exporters do without

    try:
        entries = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path.name}: must be a list, got {entries!r:.80}")  # noqa: TRY004 - one class for one finding
    for index, entry in enumerate(entries):
        try:
            yield from _of_entry(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}: [{index}]: {error!r}") from error


def _of_entry(entry: dict[str, Any]) -> Iterator[tuple[str, Access]]:
    labels = entry.get("labels") or {}
    for target in entry["targets"]:
        host = urlsplit(f"//{target}").hostname or target
        host = f"[{host}]" if ":" in host else host
        url = labels.get("__ollama", f"http://{host}:{OLLAMA_PORT}")
        given = {name: labels.get(f"__ollama_{name}") for name in _ACCESS}
        known = {name: value for name, value in given.items() if value}
        if "pin" in known:
            known["pin"] = known["pin"].removeprefix("sha256:")
        yield backend_url(url, path=True), Access(**known)


def allowed(text: str | None, *, loopback: bool) -> Allowed:
    """Read --probe-targets: URLs, or the path of an inventory.

    Without it, any target is open to this machine only; to others none is, lest
    the exporter be everybody's way into its network.
    """
    if text is None:
        return AnyTarget() if loopback else Targets("")
    return Targets(text) if "://" in text else Inventory(Path(text))
