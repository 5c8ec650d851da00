"""A Docker engine and a clone of this checkout, for tests on real containers.

`make test-compose` (INFEROPS_COMPOSE=full) runs them all, and starts an engine of its
own where ../shared/docker has one. `make test` runs the short one, on an engine that
answers already or, in continuous integration (INFEROPS_COMPOSE=own), on such an engine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.real.stack import Clone, Stack, answers, built
from tests.harness.process import ROOT

_SHARED = ROOT.parent / "shared" / "docker"
_WANTED = os.environ.get("INFEROPS_COMPOSE")
FULL = _WANTED == "full"
_START_SECONDS = 600 if FULL else 300


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _WANTED == "own":  # minutes of waiting: the other workers go on meanwhile
        items.sort(key=lambda item: "compose/real" not in str(item.path))
    for item in items:
        if item.get_closest_marker("long") and "compose/real" in str(item.path):
            item.add_marker(
                pytest.mark.skipif(not FULL, reason="only in `make test-compose`")
            )


def _run(*argv: str | Path, **environment: str) -> str:
    return subprocess.run(
        argv,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=True,
    ).stdout


def _own(command: str, **environment: str) -> str:
    """Let ../shared/docker's engine do something."""
    return _run(_SHARED / "engine.sh", command, **environment)


def _adopt() -> None:
    """Take the environment that reaches our engine."""
    for word in _own("env").removeprefix("export ").split():
        name, _, value = word.partition("=")
        os.environ[name] = value.replace("$PATH", os.environ["PATH"])
    socket = os.environ["DOCKER_HOST"].removeprefix("unix://")
    os.environ["INFEROPS_ENGINE"] = str(Path(socket).parent)  # its folder: it is ours
    # Beside the engine lies an older stand-alone Compose.
    first = filter(None, (_programs(), os.environ["PATH"]))
    os.environ["PATH"] = os.pathsep.join(first)


def _start() -> bool:
    """Have an engine with the images; tells whether it is one of our own."""
    started = False
    if not answers():
        may = _WANTED in {"full", "own"} and os.geteuid() == 0
        if not (may and (_SHARED / "engine.sh").exists()):
            pytest.skip("no Docker engine with Compose answers")
        _own("start")
        started = True
        _adopt()
    elif _WANTED is None and not built():
        pytest.skip("its image is not built yet: `make test-compose` does it")
    if (_SHARED / "images.sh").exists():
        _run(_SHARED / "images.sh", ROOT, _programs())
    return started


@pytest.fixture(scope="package")
def engine() -> Iterator[None]:
    """An engine with the images: the one that answers, else one of our own."""
    before = dict(os.environ)
    try:
        started = _start()
    except subprocess.SubprocessError as error:
        os.environ.clear()
        os.environ.update(before)
        if FULL:
            raise
        _own("stop")
        last = str(getattr(error, "stderr", None) or "").strip().splitlines()[-1:]
        pytest.skip(f"no engine of our own here: {error}: {last}")
    yield
    if started:
        _own("stop")
    os.environ.clear()
    os.environ.update(before)


def _programs() -> str:
    unpack = _SHARED.parent / "bin" / "unpack"
    if not unpack.exists():
        return ""
    return subprocess.run(
        [unpack], capture_output=True, text=True, timeout=300, check=True
    ).stdout.strip()


@pytest.fixture
def private_root(engine) -> Iterator[None]:
    """An engine whose "/" is private, as on Docker Desktop and WSL2."""
    if "INFEROPS_ENGINE" not in os.environ:
        pytest.skip("only with an engine that these tests started")
    _own("stop")
    _own("start", INFEROPS_ENGINE_PRIVATE_ROOT="1")
    yield
    _own("stop")
    _own("start")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def stack(engine, clone) -> Iterator[Stack]:
    """Nothing of it runs yet; whatever runs at the end is removed, with its volumes."""
    made = Stack(clone)
    yield made
    made.remove()
