"""Compose's `config-reloader`: edits are in force without a restart.

Does again and again what `init` did once (the same arguments, then the address of each
Alertmanager), and has Alertmanager load what changed. Prometheus, Grafana and the
router look at their files themselves. Polls: Docker Desktop passes no file events on.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher import configuration, init, reachable, signals, webconfig
from launcher.errors import LaunchError

_SECONDS = 2
_RELOAD_SECONDS = 10
# Whether nodes refuse connections is looked at each minute; first when containers that
# are nodes have had time to start.
_NODES_TURNS, _NODES_FIRST = 30, 5
_LOOKED = Path("/tmp/looked")  # noqa: S108  the container's own; its healthcheck asks

Say = Callable[[str], None]
Post = Callable[[str], None]


def post(url: str, login: tuple[str, str]) -> None:
    """POST nothing; raises OSError with what the other side says."""
    request = urllib.request.Request(url, method="POST")  # noqa: S310  our own address
    given = base64.b64encode(":".join(login).encode()).decode()
    request.add_header("Authorization", f"Basic {given}")
    try:
        urllib.request.urlopen(request, timeout=_RELOAD_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as refused:
        said = refused.read(500).decode(errors="replace").strip()
        raise OSError(f"{url}: {refused.code}: {said}") from refused


@dataclass(slots=True)
class Alertmanager:
    """What it has loaded; at first, nothing is known of it."""

    url: str
    folders: tuple[Path, ...]
    post: Post
    _loaded: bytes = field(default=b"")

    def reload(self) -> bool:
        """Have it load its files, unless it has; raises OSError."""
        digest = _digest(self.folders)
        if digest == self._loaded:
            return False
        self.post(f"{self.url}/-/reload")
        self._loaded = digest
        return True


def _digest(folders: Sequence[Path]) -> bytes:
    sums = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                sums.update(f"{path}\0".encode() + path.read_bytes())
    return sums.digest()


@dataclass(slots=True)
class Reloader:
    """One look after the other; a fault is said once, until it is another one."""

    prepare: Callable[[], bool]
    alertmanagers: Sequence[Alertmanager]
    say: Say
    refusals: Callable[[], list[str]] = list
    _fault: str = ""
    _refused: frozenset[str] = frozenset()

    def look_at_nodes(self) -> None:
        """Say of each node that refuses connections how to change that, once."""
        refused = frozenset(self.refusals())
        for line in sorted(refused - self._refused):
            self.say(line)
        self._refused = refused

    def look(self) -> None:
        faults = []
        try:
            if self.prepare():
                self.say("the configuration changed")
        except (LaunchError, OSError) as error:
            faults.append(str(error))
        else:
            faults += filter(None, map(self._reload, self.alertmanagers))
        fault = "; ".join(faults)
        if fault and fault != self._fault:
            self.say(f"not in force: {fault}")
        self._fault = fault

    def _reload(self, alertmanager: Alertmanager) -> str:
        try:
            if alertmanager.reload():
                self.say("Alertmanager has the configuration")
        except OSError as error:
            return str(error)
        return ""


def main(argv: Sequence[str]) -> int:
    places, urls = argv[:4], argv[4:]
    sources, volumes, links = init.parse(places)
    password = volumes.alertmanager / init.PASSWORD
    templates = volumes.configuration / "alerting" / "templates"
    reloader = Reloader(
        lambda: init.prepare(sources, volumes, links),
        [
            Alertmanager(
                url,
                (volumes.alertmanager, templates),
                lambda url: post(url, webconfig.login(password)),
            )
            for url in urls
        ],
        lambda text: print(f"config-reloader: {text}", flush=True),
        lambda: reachable.warnings(volumes.configuration / configuration.INVENTORY),
    )
    with signals.until_stopped():
        for turn in itertools.count():
            reloader.look()
            if turn % _NODES_TURNS == _NODES_FIRST:
                reloader.look_at_nodes()
            _LOOKED.touch()
            time.sleep(_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
