"""The side by side run and its tables; no figure is judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from bench import peers
from bench.proxies import MissingError
from bench.relay import show
from tests.harness.process import ROOT

needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") or shutil.which("/usr/sbin/nginx")),
    reason="nginx is not installed",
)


@pytest.mark.e2e
@needs_nginx
@pytest.mark.long
def test_measures_what_is_installed(tmp_path, monkeypatch):
    """Only olla, which is not on PATH, is left out."""
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/bin")
    out = tmp_path / "out.json"
    argv = ["--proxies", "nginx", "router", "olla", "--streams", "4"]
    argv += ["--seconds", "1", "--rounds", "1", "--pairs", "5", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.relay", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert set(report["streams"]["4"]) == {"direct", "nginx", "router"}
    assert report["missing"][0].startswith("olla: not on PATH")
    for name in ("nginx", "router"):
        (whole,) = report["whole"][name]
        (streams,) = report["streams"]["4"][name]
        assert whole["faults"] == streams["faults"] == 0, name
        assert whole["requests_per_second"] > 10, name
        assert streams["gap_ms"]["p99"] > 0, name


def test_missing_litellm_says_how_to_get_it(tmp_path, monkeypatch):
    """The message is a command that installs it."""
    monkeypatch.setattr(peers, "LITELLM", tmp_path / "absent")

    with pytest.raises(
        MissingError, match=r"venv .run/litellm && .*litellm\[proxy\]=="
    ):
        peers.start_litellm(tmp_path, 1, [2])


def stream(cpu, streams=300):
    milliseconds = {"p50": 1.0, "p99": 2.0, "largest": 3.0}
    return {
        "streams": streams,
        "cpu_us_per_token": cpu,
        "cpu_cores": 0.5,
        "memory_mib": 80,
        "tokens_per_second": 15000,
        "fed": 1.0,
        "faults": 0,
        "first_fault": None,
        "first_token_ms": milliseconds,
        "gap_ms": milliseconds,
    }


def whole(cpu, *, full=True):
    return {
        "requests_per_second": 1e6 / cpu,
        "cpu_us_per_request": cpu,
        "cpu_cores": 1.0,
        "core_full": full,
        "memory_mib": 80,
        "faults": 0,
    }


def test_ratios_are_of_the_same_round():
    """A round that was disturbed disturbs both, and so not their ratio."""
    report = {
        "machine": "a machine",
        "begun_at": "now",
        "load_average": 0.5,
        "load_average_at_end": 1.5,
        "missing": ["olla: not on PATH"],
        "idle_cores": {"nginx": 0.0, "router": 0.01},
        "first_token": {},
        "streams": {
            "300": {
                "direct": [stream(0)],
                "nginx": [stream(20), stream(40)],
                "router": [stream(30), stream(64)],
                "litellm": [stream(900, 20), stream(1920, 20)],
            }
        },
        "generator": "wrk",
        "whole": {"nginx": [whole(25, full=False)], "router": [whole(400)]},
    }

    text = show(report)

    assert "left out: olla: not on PATH" in text
    row = next(each for each in text.splitlines() if each.startswith("CPU per token"))
    assert "1.55 (1.50 to 1.60)" in row
    assert "30.00 (30.00 to 30.00)" in row
    assert " - " in row
    assert "note: nginx was not full" in text
    assert "note: router" not in text
