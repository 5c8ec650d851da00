"""Compose's services as processes of this machine, mounts and names replaced.

The repository's folders are copied to where a container would see them, below a
folder of the test; the table of launcher/substitutions.py replaces the names in them,
and the lines below add what only Compose has: paths of volumes, addresses of all.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import health
from launcher.services import Paths, Ports, Programs
from launcher.substitutions import SECRETS, SIMULATED, Substitutions, table
from tests.harness.process import ROOT, Process

Service = Mapping[str, Any]


def by_default(value: str) -> str:
    """Give what Compose puts in where nobody sets the variable."""
    inner = r"\$\{\w+:-([^{}]*)\}"
    while re.search(inner, value):
        value = re.sub(inner, r"\1", value)
    return value


# The entry points of the images that are not ours, by service.
ENTRY_POINTS = ("prometheus", "alertmanager", "node-exporter")


@dataclass(frozen=True, slots=True)
class Stage:
    """`root` is the containers' file system."""

    root: Path
    ports: Ports
    simulated: tuple[int, ...]
    programs: Programs

    def substitutions(self) -> Substitutions:
        paths = Paths(
            root=self.root / "etc" / "inferops",
            run=self.root / "run",
            inventory=self.root / "unused",
        )
        default = Ports()
        own = {
            f"{address}:{getattr(default, name)}": f"127.0.0.1:{port}"
            for name, port in self._by_name().items()
            for address in ("0.0.0.0", "127.0.0.1")
        }
        for shipped, port in zip(SIMULATED, self.simulated, strict=True):
            for name in ("simulator", "127.0.0.1"):
                own[f"{name}:{shipped}"] = f"127.0.0.1:{port}"
        # With their flags: the names alone are those of services too.
        folders = {
            f"{flag}{folder}": f"{flag}{self.root}{folder}"
            for flag, folder in (
                ("", "/run/inferops"),
                ("", SECRETS),
                ("", "/var/lib/inferops"),
                ("", "/source"),
                ("", "/targets"),
                ("", "/release"),
                ("--storage.tsdb.path=", "/prometheus"),
                ("--storage.path=", "/alertmanager"),
            )
        }
        return Substitutions(
            {
                **table(self.ports, paths).table,
                **own,
                **folders,
                "0.0.0.0": "127.0.0.1",
                "--control-port=21500": (
                    f"--control-port={self.ports.simulator_control}"
                ),
                "--path.rootfs=/host": "--path.rootfs=/",
                "--path.procfs=/host/proc": "--path.procfs=/proc",
            }
        )

    def _by_name(self) -> dict[str, int]:
        names = Ports.__dataclass_fields__
        return {name: getattr(self.ports, name) for name in names}

    def mount(self, service: Service) -> None:
        """Put the repository's folders, and empty volumes, where they are mounted."""
        for volume in service.get("volumes", ()):
            source, target = by_default(volume).split(":")[:2]
            place = Path(f"{self.root}{target}")
            if source.startswith("./"):
                self._copy(ROOT / source, place)
            elif source != "/":
                place.mkdir(parents=True, exist_ok=True)
            if source == "releases":
                self._release(place)

    def _release(self, place: Path) -> None:
        """Have this checkout as the release that init would copy."""
        release = place / "release-test"
        if not release.exists():
            release.mkdir()
            (release / "app").symlink_to(ROOT)
            (release / "venv").symlink_to(sys.prefix)
            (place / "current").symlink_to(release.name)

    def _copy(self, source: Path, place: Path) -> None:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source, place, ignore=ignored, dirs_exist_ok=True)
        self.rewrite(place)

    def rewrite(self, folder: Path) -> None:
        """Replace names in the configuration that lies there."""
        substitutions = self.substitutions()
        for path in folder.rglob("*.yml"):
            path.write_text(substitutions.text(path.read_text()))

    def start(self, name: str, service: Service) -> Process:
        """Run the container's command line in its environment."""
        self.mount(service)
        substitutions = self.substitutions()
        argv = [substitutions.text(by_default(str(w))) for w in service["command"]]
        if name == "init":
            argv.pop()  # the volume for releases: a copy of hundreds of megabytes
        environment = {
            variable: substitutions.text(by_default(value))
            for variable, value in service.get("environment", {}).items()
        }
        return Process(
            [*_named(service), *self._entry_point(name), *argv],
            log=self.root / f"{name}.log",
            env=environment,
        )

    def _entry_point(self, name: str) -> tuple[str, ...]:
        if name not in ENTRY_POINTS:
            return ()
        return (str(getattr(self.programs, name.replace("-", "_"))),)

    def healthy(self, service: Service) -> bool:
        """Do what the healthcheck does; an address at its end is asked itself."""
        words = [self.substitutions().text(w) for w in service["healthcheck"]["test"]]
        found = re.search(r'"http://(\w+):\$\$\(cat (\S+)\)@(\S+)"', words[-1])
        if not found:
            return health.answers(words[-1])
        user, file, rest = found.groups()
        login = user, Path(file).read_text().strip()
        return health.answers(f"http://{rest}", login=login)


def _named(service: Service) -> tuple[str, ...]:
    """Give the machine the container's name, for this process alone."""
    if "hostname" not in service:
        return ()
    script = 'hostname "$0" && exec "$@"'
    return "unshare", "--uts", "sh", "-c", script, str(service["hostname"])
