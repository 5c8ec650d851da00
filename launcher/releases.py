"""The router's code in a volume, so that new code needs no new container.

`current` in the volume is a link to the release in use: a folder named by its content,
with `app`, the packages of the image, and `venv`, what they depend on. A release that
is replaced stays for the routers that still finish streams with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

CURRENT = "current"
_LOCK = "requirements.lock"  # beside the packages that were installed by it
_KEPT = 3
_PART = ".part"  # ends the name of what is not whole yet
_BYTECODE = "__pycache__"


def digest(files: Iterable[Path], folder: Path) -> str:
    """Name files by what is in them and where they lie below `folder`."""
    sums = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        sums.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return sums.hexdigest()[:16]


def publish(app: Path, venv: Path, folder: Path) -> bool:
    """Make an image's code the current release in `folder`; tell of a change."""
    for part in folder.glob(f"*{_PART}"):  # of a copy that was interrupted
        shutil.rmtree(part)
    packages = _named(f"venv-{sys.version.split()[0]}", [venv / _LOCK], venv)
    there = [each for each in app.rglob("*") if each.is_file()]
    code = [each for each in there if _BYTECODE not in each.parts]
    release = _named(f"release-{packages}", code, app)
    _copy(venv, folder / packages)
    if not (folder / release).exists():
        part = folder / f"{release}{_PART}"
        part.mkdir()
        shutil.copytree(app, part / "app", symlinks=True)
        (part / "venv").symlink_to(Path("..") / packages)
        part.rename(folder / release)
    if _current(folder) == release:
        return False
    os.utime(folder / release)  # the newest now, whenever it was made
    link = folder / f"{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(release)
    link.replace(folder / CURRENT)
    _sweep(folder)
    return True


def _named(name: str, files: Iterable[Path], folder: Path) -> str:
    return f"{name}-{digest(files, folder)}"


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        part = target.with_name(f"{target.name}{_PART}")
        shutil.copytree(source, part, symlinks=True)
        part.rename(target)


def _current(folder: Path) -> str:
    link = folder / CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def _sweep(folder: Path) -> None:
    """Remove releases but the newest, and packages that none of these uses."""
    releases = sorted(folder.glob("release-*"), key=lambda each: each.stat().st_mtime)
    for each in releases[:-_KEPT]:
        shutil.rmtree(each)
    used = {(each / "venv").resolve().name for each in releases[-_KEPT:]}
    for each in folder.glob("venv-*"):
        if each.name not in used:
            shutil.rmtree(each)
