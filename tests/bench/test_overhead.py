"""The benchmark measures what it says; no figure is judged here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from bench.overhead import show
from bench.proxies import MissingError, Proxy, on_core, start_nginx
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") or shutil.which("/usr/sbin/nginx")),
    reason="nginx is not installed",
)


def run(*argv, out):
    done = subprocess.run(
        [sys.executable, "-m", "bench.overhead", *argv, "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.mark.e2e
@needs_nginx
@pytest.mark.long
def test_measures_both_proxies_over_one_fleet(tmp_path):
    """Every reply through both is whole, and each figure is there."""
    argv = ["--streams", "8", "--seconds", "1", "--rounds", "1", "--pairs", "10"]
    printed, report = run(*argv, out=tmp_path / "out.json")

    assert set(report["first_token"]) == {"direct", "nginx", "router"}
    runs = report["streams"]["8"]
    assert set(runs) == {"direct", "nginx", "router"}
    for name, (only,) in runs.items():
        assert only["faults"] == 0, only["first_fault"]
        assert only["tokens_per_second"] > 0, name
    assert "router / nginx, CPU per token" in printed


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


def figures(cpu, *, faults=0, fed=1.0):
    return {
        "cpu_us_per_token": cpu,
        "cpu_cores": 0.5,
        "memory_mib": 10,
        "tokens_per_second": 5000,
        "fed": fed,
        "faults": faults,
        "first_fault": "answered b'HTTP/1.1 503'" if faults else None,
        "first_token_ms": {"p50": 1, "p99": 2},
    }


def report(**runs):
    added = {"p50": 0.5, "p99": 2.0}
    first = {name: {"ms": added, "added_ms": added} for name in runs}
    return {
        "machine": "a machine",
        "load_average": 0.5,
        "first_token": first,
        "streams": {"50": runs},
        "idle_cores": {},
    }


def test_table_shows_ratios_of_medians():
    """Ratios are the router's median over nginx's."""
    text = show(
        report(
            nginx=[figures(20), figures(18), figures(30)],
            router=[figures(35), figures(30), figures(29)],
        )
    )

    assert "router / nginx, added time: p50 1.0, p99 1.0" in text
    assert "router / nginx, CPU per token: 1.50" in text
    assert "note:" not in text


def test_table_owns_up_to_bad_runs():
    """Faulty replies and a proxy that fell behind are said beside the figures."""
    text = show(report(nginx=[figures(20, fed=0.5)], router=[figures(30, faults=2)]))

    assert "note: nginx passed on fewer tokens than the fleet makes" in text
    assert "note: router had 2 faulty replies, first: answered b'HTTP/1.1 503'" in text
