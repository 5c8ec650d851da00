"""Prometheus, Alertmanager and node_exporter: found on PATH, else Debian's, unpacked.

`apt-get install` would start services on 9090, 9093 and 9100, and needs root. So the
packages are downloaded with apt (which checks their signatures) and unpacked into
`.tools/`: nothing of the system changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from native.errors import LaunchError
from native.parts import Programs

PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# What Debian's Prometheus page loads: packages of their own, next to ours.
_PAGE = re.compile(r"(libjs|fonts)-.*")
_APT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Wanted:
    """A program under its upstream and its Debian name, and the oldest that will do."""

    names: tuple[str, ...]
    oldest: tuple[int, int]


# 2.42: alerts with keep_firing_for.
PROMETHEUS = Wanted(("prometheus",), (2, 42))
PROMTOOL = Wanted(("promtool",), (2, 42))
ALERTMANAGER = Wanted(("alertmanager", "prometheus-alertmanager"), (0, 25))
AMTOOL = Wanted(("amtool",), (0, 25))
NODE_EXPORTER = Wanted(("node_exporter", "prometheus-node-exporter"), (1, 0))
RUN = (PROMETHEUS, ALERTMANAGER, NODE_EXPORTER)
CHECK = (PROMTOOL, AMTOOL)


def programs(root: Path, *, grafana: bool = True) -> Programs:
    """Find what the product runs; unpacks Debian's packages where one is missing."""
    found = ensure(root, RUN)
    panel = shutil.which("grafana") if grafana else None
    return Programs(
        prometheus=found[PROMETHEUS],
        alertmanager=found[ALERTMANAGER],
        node_exporter=found[NODE_EXPORTER],
        grafana=Path(panel) if panel else None,
    )


def ensure(root: Path, wanted: tuple[Wanted, ...]) -> Mapping[Wanted, Path]:
    """Find each program; raises LaunchError with what is missing and what to do."""
    found = {each: find(each, root) for each in wanted}
    if None in found.values():
        _unpack(root)
        found = {each: find(each, root) for each in wanted}
    missing = [each for each, path in found.items() if path is None]
    if missing:
        raise LaunchError("; ".join(map(_missing, missing)))
    return {each: path for each, path in found.items() if path is not None}


def bin_directory(root: Path) -> Path:
    return root / ".tools" / "usr" / "bin"


def find(wanted: Wanted, root: Path) -> Path | None:
    """Return the first that is new enough, from PATH, then from `.tools/`."""
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{bin_directory(root)}"
    for directory in path.split(os.pathsep):
        for name in wanted.names:
            program = shutil.which(name, path=directory)
            if program and version(Path(program)) >= wanted.oldest:
                return Path(program).resolve()
    return None


def version(program: Path) -> tuple[int, int]:
    """Ask for the version; (0, 0) where there is no answer."""
    answer = _run([str(program), "--version"], seconds=20)
    match = re.search(r"version v?(\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _missing(wanted: Wanted) -> str:
    oldest = ".".join(map(str, wanted.oldest))
    return (
        f"no {wanted.names[0]} {oldest} or newer: put one on PATH (this machine's"
        f" packages have an older one, or none)"
    )


def _unpack(root: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        names = ", ".join(each.names[0] for each in (*RUN, *CHECK))
        raise LaunchError(f"no apt-get here: put these on PATH: {names}")
    print(
        f"fetching {', '.join(PACKAGES)} into .tools/ (about 40 MB; nothing is"
        " installed, no service started) ...",
        file=sys.stderr,
        flush=True,
    )
    tools = root / ".tools"
    tools.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools, prefix="unpacking-") as scratch:
        unpacked = _fetch(Path(scratch))
        if not (tools / "usr").exists():  # another start may have been quicker
            (unpacked / "usr").rename(tools / "usr")


def _fetch(scratch: Path) -> Path:
    """Download the packages with package lists of our own, and unpack them."""
    for name in ("lists/partial", "cache/archives/partial", "packages", "unpacked"):
        (scratch / name).mkdir(parents=True)
    apt = [
        *("-q", "-o", f"Dir::State::Lists={scratch}/lists"),
        *("-o", f"Dir::Cache={scratch}/cache"),
        *("-o", "APT::Sandbox::User=root"),  # as root too: the folder is ours
    ]
    # A third party's broken source is no reason to stop; a missing package is.
    updated = _run(["apt-get", *apt, "update"])
    names = _with_pages(apt)
    downloaded = _run(["apt-get", *apt, "download", *names], cwd=scratch / "packages")
    if downloaded.returncode:
        reason = (updated.stderr + downloaded.stderr).strip()
        raise LaunchError(
            f"apt cannot download {', '.join(PACKAGES)}:\n{reason}\nis the network"
            " up? on Ubuntu, is the component 'universe' on?"
        )
    for package in sorted((scratch / "packages").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(scratch / "unpacked")], check=True)
    # 200 MB of old time zone tables that the pages do not load.
    share = scratch / "unpacked" / "usr" / "share"
    shutil.rmtree(share / "javascript" / "moment-timezone" / "data", ignore_errors=True)
    return scratch / "unpacked"


def _with_pages(apt: list[str]) -> list[str]:
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    without = [f"--no-{kind}" for kind in kinds]
    listed = _run(["apt-cache", *apt, "depends", "--recurse", *without, *PACKAGES])
    return sorted({*PACKAGES, *filter(_PAGE.fullmatch, listed.stdout.splitlines())})


def _run(
    argv: list[str],
    *,
    cwd: Path | None = None,
    seconds: float = _APT_SECONDS,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=check,
        )
    except subprocess.TimeoutExpired as late:
        raise LaunchError(f"no end within {seconds:g} s: {' '.join(argv)}") from late
    except subprocess.CalledProcessError as failed:
        raise LaunchError(f"{' '.join(argv)}: {failed.stderr.strip()}") from failed
