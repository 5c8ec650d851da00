"""One launcher a run directory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from launcher import lock, standalone
from launcher.errors import LaunchError
from launcher.services import Ports
from tests.harness.poll import until
from tests.harness.process import Process


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


def test_a_launcher_that_is_just_ending_is_waited_for(tmp_path) -> None:
    """Without its name, its lock is still held: until then, it has not ended."""
    with lock.hold(tmp_path):
        assert lock.holds(tmp_path, os.getpid())
        assert not lock.holds(tmp_path, 1)
        (tmp_path / "lock").write_text("")
        assert lock.holds(tmp_path, os.getpid())

    assert not lock.holds(tmp_path, os.getpid())


# Gives up its name at SIGTERM, and its lock half a second later.
SLOW_END = """
import pathlib, signal, sys, time
from launcher import lock, standalone
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
run = pathlib.Path(sys.argv[1])
with lock.hold(run):
    print("held", flush=True)
    signal.sigwait({signal.SIGTERM})
    (run / "lock").write_text("")
    time.sleep(0.5)
"""


def test_down_outlasts_a_slow_end(paths, tmp_path, capsys) -> None:
    """Looking at a launcher between its name and its end is no failure."""
    paths.run.mkdir()
    argv = [sys.executable, "-c", SLOW_END, paths.run]
    with Process(argv, log=tmp_path / "log") as slow:
        until(slow.log.read_text, "it holds the lock")
        assert 0 == standalone.down(standalone.Options(Ports(), paths))
        assert 0 == slow.wait()
    assert "stopped\n" == capsys.readouterr().out
