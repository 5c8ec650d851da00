"""What benchmarks of proxies stand on: CPU time, cores, notes of bad runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from bench.proxies import MissingError, Proxy, on_core, start_nginx
from bench.streams import notes
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process


def test_missing_nginx_says_how_to_get_it(tmp_path, monkeypatch):
    """The message names the package."""
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(MissingError, match="apt-get install nginx-light"):
        start_nginx(tmp_path, free_port(), [free_port()])


def test_cpu_time_is_that_of_the_whole_tree(tmp_path):
    """A child's work counts: gunicorn and nginx do theirs in children."""
    child = "sum(range(10**7)); print('burned', flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    argv = ["sh", "-c", 'sleep 60 | "$@"', "sh", sys.executable, "-c", code]
    with Process(argv, log=tmp_path / "log") as process:
        until(lambda: "burned" in process.tail(), "the child has worked")

        assert Proxy("python", 1, process).cpu_seconds() > 0.05
        process.kill()


def test_children_inherit_the_core():
    """What is started inside runs on that core, and this process moves back."""
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_core(core):
        code = "import os; print(os.sched_getaffinity(0))"
        seen = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert seen.strip() == str({core})
    assert os.sched_getaffinity(0) == before


def test_notes_own_up_to_bad_runs():
    """Faulty replies and a proxy that fell behind are said beside the figures."""
    good = {"fed": 1.0, "faults": 0}
    bad = {"fed": 1.0, "faults": 2, "first_fault": "answered 503"}
    assert [] == list(notes({"nginx": [good]}))
    assert [
        "note: nginx passed on fewer tokens than the fleet makes",
        "note: router had 2 faulty replies, first: answered 503",
    ] == list(notes({"nginx": [{**good, "fed": 0.5}], "router": [bad]}))
