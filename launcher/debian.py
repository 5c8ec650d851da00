"""Debian's packages, unpacked into `.tools/` instead of installed.

`apt-get install` would start services on 9090, 9093 and 9100, and needs root. apt
downloads the packages, and checks their signatures, as any user: nothing of the
system changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from launcher.errors import LaunchError

PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
TOOLS = ".tools"
# What Debian's Prometheus page loads: packages of their own, next to ours.
_PAGE = re.compile(r"(libjs|fonts)-.*")
_APT_SECONDS = 300
# Debian's Alertmanager opens its default templates by a path that no flag changes.
# Its unpacked copy gets one of the same length, from the directory it is run in.
_COMPILED_IN = b"/usr/share/prometheus/alertmanager"
_RELOCATED = b"/proc/self/cwd/.tools/alertmanager"


def unpack(root: Path) -> None:
    """Fetch and unpack the packages, once; raises LaunchError where that fails."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise LaunchError(
            "no apt-get here: put prometheus, promtool, alertmanager, amtool and"
            " node_exporter on PATH"
        )
    print(
        f"fetching {', '.join(PACKAGES)} into .tools/ (about 40 MB; nothing is"
        " installed, no service started) ...",
        file=sys.stderr,
        flush=True,
    )
    tools = root / TOOLS
    tools.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools, prefix="unpacking-") as scratch:
        unpacked = _fetch(Path(scratch))
        if not (tools / "usr").exists():  # another start may have been quicker
            program = unpacked / "usr" / "bin" / "prometheus-alertmanager"
            program.write_bytes(program.read_bytes().replace(_COMPILED_IN, _RELOCATED))
            templates = tools / "alertmanager"
            templates.unlink(missing_ok=True)
            templates.symlink_to("usr/share/prometheus/alertmanager")
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
    updated = run(["apt-get", *apt, "update"])
    names = _with_pages(apt)
    downloaded = run(["apt-get", *apt, "download", *names], cwd=scratch / "packages")
    if downloaded.returncode:
        reason = (updated.stderr + downloaded.stderr).strip()
        raise LaunchError(
            f"apt cannot download {', '.join(PACKAGES)}:\n{reason}\nis the network"
            " up? on Ubuntu, is the component 'universe' on?"
        )
    for package in sorted((scratch / "packages").glob("*.deb")):
        run(["dpkg", "-x", str(package), str(scratch / "unpacked")], check=True)
    # 200 MB of old time zone tables that the pages do not load.
    share = scratch / "unpacked" / "usr" / "share"
    shutil.rmtree(share / "javascript" / "moment-timezone" / "data", ignore_errors=True)
    return scratch / "unpacked"


def _with_pages(apt: list[str]) -> list[str]:
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    without = [f"--no-{kind}" for kind in kinds]
    listed = run(["apt-cache", *apt, "depends", "--recurse", *without, *PACKAGES])
    return sorted({*PACKAGES, *filter(_PAGE.fullmatch, listed.stdout.splitlines())})


def run(
    argv: list[str],
    *,
    cwd: Path | None = None,
    seconds: float = _APT_SECONDS,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run to the end, output kept; raises LaunchError when it takes too long."""
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
