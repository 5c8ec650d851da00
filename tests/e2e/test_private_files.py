"""What the product writes is for its own user alone; shown as another user."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=2000.0),)
NOBODY = 65534
SECRET = "a prompt that nobody else may read"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter: what is in it keeps others out by itself."""
    made = Path(tempfile.mkdtemp(prefix="inferops-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=[0o022, 0o000], ids=["usual umask", "no umask"])
def open_hearted(request) -> Iterator[None]:
    """Whoever starts it has a umask that lets others read, as most have."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> set[int]:
    """Return the modes of all files below, but sockets."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {stat.S_IMODE(path.stat().st_mode) for path in files}


def folders(folder: Path) -> set[int]:
    found = (path for path in (folder, *folder.rglob("*")) if path.is_dir())
    return {stat.S_IMODE(path.stat().st_mode) for path in found}


def seen_by_others(folder: Path) -> list[str]:
    """List what another user can read or enter, as that user."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    found = subprocess.run(
        ["setpriv", *who, "find", folder, "-readable", "-o", "-executable"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.splitlines()


def work(router: Router) -> None:
    """Leave all that a router keeps: a file, a job, results, holds, learned numbers."""
    form: dict[str, tuple[str | None, str | bytes]] = {
        "file": ("a.csv", f"text\n{SECRET}\n".encode()),
        "model": (None, "llama3.2:3b"),
        "template": (None, "{{ text }}"),
    }
    made = requests.post(f"{router.url}/v1/jobs", files=form, timeout=30)
    job = f"/v1/jobs/{made.json()['id']}"
    until(lambda: router.get(job).json()["state"] == "completed", "the job is done")
    assert router.post("/admin/nodes/one/cordon", {}).ok


def test_state_of_the_router(folder, open_hearted):
    """State, uploads, results and holds: 0600 in folders of 0700."""
    state = folder / "state"
    with SimulatedFleet(folder, NODES) as fleet:
        settings = {"STATE__DIRECTORY": str(state)}
        with Router(
            folder, fleet.inventory, prometheus_port=free_port(), settings=settings
        ) as router:
            work(router)
            assert any(SECRET.encode() in f.read_bytes() for f in state.rglob("file-*"))
            assert (modes(state), folders(state)) == ({0o600}, {0o700})
            assert seen_by_others(state) == []


def test_state_of_an_earlier_release(folder):
    """What others could read is shut at the next start."""
    state = folder / "state"
    state.mkdir(mode=0o755)
    with SimulatedFleet(folder, NODES) as fleet:
        settings = {"STATE__DIRECTORY": str(state)}

        def started() -> Router:
            return Router(
                folder, fleet.inventory, prometheus_port=free_port(), settings=settings
            )

        with started() as router:
            work(router)
        for path in (state, *state.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        assert seen_by_others(state) != []
        with started():
            assert seen_by_others(state) == []
