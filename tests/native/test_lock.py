"""One launcher a run directory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from native import lock
from native.errors import LaunchError


def test_the_first_holds(tmp_path) -> None:
    """A free directory is had, and says by whom to everybody else."""
    with lock.hold(tmp_path) as before:
        assert before is None
        assert os.getpid() == lock.holder(tmp_path)
        with lock.hold(tmp_path) as second:
            assert os.getpid() == second


def test_free_again_afterwards(tmp_path) -> None:
    """Nobody holds the directory once its launcher has ended."""
    with lock.hold(tmp_path):
        pass

    assert lock.holder(tmp_path) is None


def test_a_killed_holder_frees_it(tmp_path) -> None:
    """The kernel gives the lock back, however the launcher ended."""
    code = (
        "import os, pathlib; from native import lock\n"
        f"with lock.hold(pathlib.Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=20)

    assert lock.holder(tmp_path) is None


def test_a_lock_without_a_name(tmp_path) -> None:
    """In the instant before a launcher says who it is, nobody is signalled."""
    with lock.hold(tmp_path):
        (tmp_path / "lock").write_text("")

        with pytest.raises(LaunchError, match="just under way"):
            lock.holder(tmp_path)
