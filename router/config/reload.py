"""Reloads configuration files when they change, and keeps the last good version.

A caller's timer calls `check(now)`, which compares time, size and inode: inotify does
not work on Docker Desktop. Disk access and slow work run through `offload`; listeners
run in the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from router.config import yaml as document
from router.config.files import read_text
from router.config.inventory import parse_inventory, refuse_shrinking
from router.config.load import parse_config, waiting_for_restart
from router.config.settings import Config
from router.config.signals import parse_signals
from router.errors import BusyError, ConfigError
from router.logs.events import Logger
from router.model import Inventory, Signal
from router.runtime.whole_file import write_whole

T = TypeVar("T")
V = TypeVar("V")

# A file written twice within its clock's tick looks unchanged: while it is this
# young its text is compared as well.
_YOUNG_SECONDS = 2.0

_Signature = tuple[int, int, int]


class Offload(Protocol):
    """Runs a call in another thread; raises what the call raises, and BusyError."""

    def __call__(self, call: Callable[[], V], /) -> V: ...


def _in_place(call: Callable[[], V], /) -> V:
    return call()


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """The result of the latest reload.

    succeeded_at: unix seconds of the last accepted version; None: never
    fault:        why the latest version was rejected; None if it was accepted
    """

    file: str
    succeeded_at: float | None = None
    fault: str | None = None

    @property
    def successful(self) -> bool:
        return self.succeeded_at is not None and self.fault is None


class LastGood:
    """The last accepted text, on disk; replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> str | None:
        """Return the stored text; None if there is none that can be read."""
        try:
            return read_text(self.path)
        except (OSError, UnicodeDecodeError):
            return None

    def save(self, text: str) -> None:
        """Replace the stored text; raises OSError, and the old one is intact."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, text.encode(), durable=True)


@dataclass(frozen=True, slots=True)
class FileFormat(Generic[T]):
    """How a file's text becomes a value.

    parse:     makes the value; raises ConfigError with every fault
    judge:     raises ConfigError if the new value must not replace the current one
    last_good: stores the accepted text over a restart
    """

    parse: Callable[[str], T]
    judge: Callable[[T, T], None] = lambda _new, _current: None
    last_good: LastGood | None = None


class Watched(Generic[T]):
    """One file: its current value, its listeners and the status of reloads."""

    def __init__(
        self,
        path: Path,
        rules: FileFormat[T],
        log: Logger,
        *,
        now: float,
        offload: Offload = _in_place,
    ) -> None:
        """Load the file, or what was last good; ConfigError when there is neither."""
        self._path = path
        self._offload = offload
        self._turn = threading.RLock()  # the timer and an operator may meet
        self._rules = rules
        self._log = log
        self._listeners: list[Callable[[T, T], None]] = []
        self._status = ReloadStatus(path.name)
        self._seen = _signature(path)
        self._text, self._value = self._first(now)

    @property
    def value(self) -> T:
        return self._value

    def status(self) -> ReloadStatus:
        return self._status

    def listen(self, listener: Callable[[T, T], None]) -> None:
        """Call `listener(old, new)` after each change of the value."""
        self._listeners.append(listener)

    def check(self, now: float) -> None:
        """Reload the file if it seems to have changed."""
        with self._turn:
            self._check(now)

    def _check(self, now: float) -> None:
        try:
            signature = self._offload(lambda: _signature(self._path))
        except BusyError as error:
            self._reject(f"{self._path.name}: cannot be read: {error.message}")
            return
        young = signature is not None and now - signature[0] / 1e9 < _YOUNG_SECONDS
        if signature == self._seen and not young:
            return
        self._seen = signature
        self.reload(now)

    def reload(self, now: float, *, confirmed: bool = False) -> ReloadStatus:
        """Reload the file; if `confirmed` by an operator, without judging it."""
        with self._turn:
            return self._reload(now, confirmed=confirmed)

    def _reload(self, now: float, *, confirmed: bool) -> ReloadStatus:
        try:
            text = self._offload(lambda: document.read(self._path))
            if text == self._text:  # as before, or put right after a rejection
                self._status = ReloadStatus(self._path.name, now)
                return self._status
            value = self._offload(lambda: self._rules.parse(text))
            if not confirmed:
                self._rules.judge(value, self._value)
        except ConfigError as error:
            self._reject(str(error))
            return self._status
        except BusyError as error:
            self._reject(f"{self._path.name}: cannot be read: {error.message}")
            return self._status
        self._accept(text, value, now)
        return self._status

    def _first(self, now: float) -> tuple[str, T]:
        kept = self._kept()
        try:
            text = self._offload(lambda: document.read(self._path))
            value = self._offload(lambda: self._rules.parse(text))
            if kept is not None:
                self._rules.judge(value, kept[1])
        except ConfigError as error:
            if kept is None:
                raise
            self._reject(str(error))
            return kept
        self._status = ReloadStatus(self._path.name, now)
        self._keep(text)
        return text, value

    def _kept(self) -> tuple[str, T] | None:
        """Return what was last good, if it still is."""
        text = self._rules.last_good.load() if self._rules.last_good else None
        if text is None:
            return None
        try:
            return text, self._rules.parse(text)
        except ConfigError as error:
            self._log.warning(
                "last_good_unusable", file=self._path.name, fault=str(error)
            )
            return None

    def _accept(self, text: str, value: T, now: float) -> None:
        old, self._value, self._text = self._value, value, text
        self._status = ReloadStatus(self._path.name, now)
        self._log.info("config_reloaded", file=self._path.name, path=str(self._path))
        self._keep(text)
        for listener in self._listeners:
            listener(old, value)

    def _reject(self, fault: str) -> None:
        if fault != self._status.fault:  # said once, not at each check
            self._log.error(
                "config_rejected",
                file=self._path.name,
                path=str(self._path),
                fault=fault,
                consequence="the last good one stays in force",
            )
        self._status = ReloadStatus(self._path.name, self._status.succeeded_at, fault)

    def _keep(self, text: str) -> None:
        """A full disk must not stop a good reload; the next start is told."""
        last_good = self._rules.last_good
        if last_good is None:
            return
        try:
            self._offload(lambda: last_good.save(text))
        except (OSError, BusyError) as error:
            self._log.error(
                "last_good_not_kept",
                file=str(last_good.path),
                fault=str(error),
            )


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None  # the reload that follows says why
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """The three files that the router reloads inside its process."""

    config: Watched[Config]
    signals: Watched[tuple[Signal, ...]]
    inventory: Watched[Inventory]

    def __iter__(self) -> Iterator[Watched[object]]:
        yield from (self.config, self.signals, self.inventory)  # type: ignore[misc]

    def check(self, now: float) -> None:
        for each in self:
            each.check(now)


def open_config_files(
    path: Path,
    environ: Mapping[str, str],
    log: Logger,
    now: float,
    offload: Offload = _in_place,
) -> ConfigFiles:
    """Open `router.yml` at `path`, and the two files that it names.

    Raises ConfigError when one is faulty and has no last good one. `router.yml`
    has none: it says where they are kept.
    """
    parse = partial(parse_config, environ=environ, source=path.name)
    config = Watched(path, FileFormat(parse), log, now=now, offload=offload)
    first = config.value
    config.listen(lambda _, new: _warn_restart(first, new, log))
    return ConfigFiles(
        config=config,
        signals=_open_signals(first, log, now, offload),
        inventory=_open_inventory(first, log, now, offload),
    )


def _open_signals(
    config: Config, log: Logger, now: float, offload: Offload
) -> Watched[tuple[Signal, ...]]:
    path = config.signals.path
    rules = FileFormat(
        parse=partial(parse_signals, source=path.name),
        last_good=LastGood(config.state.directory / "signals.last-good.yml"),
    )
    return Watched(path, rules, log, now=now, offload=offload)


def _open_inventory(
    config: Config, log: Logger, now: float, offload: Offload
) -> Watched[Inventory]:
    path = config.inventory.path
    rules = FileFormat(
        parse=partial(parse_inventory, source=path.name),
        judge=partial(refuse_shrinking, source=path.name),
        last_good=LastGood(config.state.directory / "nodes.last-good.yml"),
    )
    return Watched(path, rules, log, now=now, offload=offload)


def _warn_restart(running: Config, wanted: Config, log: Logger) -> None:
    waiting = waiting_for_restart(running, wanted)
    if waiting:
        log.warning("restart_needed", settings=", ".join(waiting))
