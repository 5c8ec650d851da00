"""Environments for clients that the project itself does not need, made once.

They lie in `.run/clients` and are made anew when their lock changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.process import ROOT

HERE = Path(__file__).resolve().parent
_HOME = ROOT / ".run" / "clients"
_INSTALL_SECONDS = 130  # twice that is under pytest's own limit for a test


def python_environment() -> Path:
    """Return a Python that has requirements.lock; skips where that cannot be had."""
    return _made("python", HERE / "requirements.lock", _make_python) / "bin" / "python"


def node_environment() -> Path:
    """Return a folder whose programs find the packages of package-lock.json."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node and npm on PATH")
    return _made("node", HERE / "package-lock.json", _make_node)


def _made(name: str, lock: Path, make: Callable[[Path], None]) -> Path:
    folder = _HOME / name
    mark = folder / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    with _alone(name):
        if not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            mark.write_text(wanted)
    return folder


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one of the test run's workers install while the others wait."""
    _HOME.mkdir(parents=True, exist_ok=True)
    with (_HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_python(folder: Path) -> None:
    venv.create(folder, clear=True)
    python, lock = folder / "bin" / "python", HERE / "requirements.lock"
    exact = ["--quiet", "--require-hashes", "--requirement", str(lock)]
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    # uv takes a tenth of the time; pip may be set up for an index of one's own.
    if _run([*uv, *exact], folder):
        _run_or_skip([*pip, *exact], folder)


def _make_node(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run_or_skip(["npm", "ci", *quiet], folder)


def _run_or_skip(argv: Sequence[str | Path], folder: Path) -> None:
    if failure := _run(argv, folder):
        pytest.skip(f"cannot install the clients of {folder.name}: {failure}")


def _run(argv: Sequence[str | Path], folder: Path) -> str:
    """Return the first and last line of what went wrong, or nothing."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()
    return f"{lines[0]} ... {lines[-1]}" if done.returncode else ""
