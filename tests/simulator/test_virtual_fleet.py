"""What would happen with another policy: the inventory's nodes in virtual time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from simulator.inventory import InventoryError
from simulator.virtual.__main__ import POLICIES, main
from simulator.virtual.fleet import read_fleet

NODES = """
- targets: [a]
  labels: {node: fast, __ollama: "http://a:1", __slots: "4",
           __sim_tokens_per_second: "137", __sim_prompt_tokens_per_second: "7000"}
- targets: [b]
  labels: {node: slow, __ollama: "http://b:1", __slots: "2", __tflops: "8.26"}
"""
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2026-01-01 00:{n // 60:02}:{n % 60:02}.0000000,{200 + 37 * n % 900},{20 + n}\n"
    for n in range(120)
)


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "nodes.yml"
    path.write_text(NODES)
    return path


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def test_the_inventory_says_what_nodes_do(fleet):
    """Speeds are declared, or guessed by TFLOPS, and guesses are named."""
    (fast, slow), guessed = read_fleet(fleet)
    assert (137, 7000, 4) == (fast.speed, fast.prompt_speed, fast.slots)
    assert pytest.approx((13.7, 2)) == (slow.speed, slow.slots)
    assert ["slow"] == guessed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no node"),
        ("- {targets: [a], labels: {node: a}}", "a: needs __sim_tokens_per_second"),
        ("- {targets: [a], labels: {node: a, __tflops: x}}", "must be a number > 0"),
    ],
    ids=["empty", "no speed", "no number"],
)
def test_what_is_missing_is_named(tmp_path, text, message):
    path = tmp_path / "nodes.yml"
    path.write_text(text)
    with pytest.raises(InventoryError, match=message):
        read_fleet(path)


def simulated(capsys, *arguments):
    assert 0 == main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


def test_every_policy_answers(fleet, trace, capsys):
    """Each serves all requests; the fast node makes the difference."""
    asked = [part for name in POLICIES for part in ("--policy", name)]
    found = simulated(
        capsys, trace, "--fleet", fleet, "--requests", 100, "--load", 0.6, *asked
    )
    assert ["slow"] == found["speeds_guessed"]
    results = found["policies"]
    assert list(POLICIES) == list(results)
    assert {0.0} == {each["failed"] for each in results.values()}
    ours = results["shortest_completion"]
    assert ours["p95"] < results["round_robin"]["p95"]
    assert ours["p95"] < results["node-queues:round_robin"]["p95"]


def test_a_limit_of_the_first_token(fleet, trace, capsys):
    """Under overload some are refused, and more than without are served well."""
    arguments = trace, "--fleet", fleet, "--requests", 120, "--load", 2
    whole = simulated(capsys, *arguments)["policies"]["shortest_completion"]
    limited = simulated(capsys, *arguments, "--first-token", "1.5")
    limited = limited["policies"]["shortest_completion"]
    assert whole["failed"] == 0.0 < limited["failed"]
    assert limited["good"] > whole["good"]


def test_it_runs_alike_each_time(fleet, trace, capsys):
    """A seed names the requests; the trace's own rate is the usual one."""
    arguments = trace, "--fleet", fleet, "--requests", 60, "--seed", 7
    first = simulated(capsys, *arguments)
    assert first == simulated(capsys, *arguments)
    assert pytest.approx(1.0, rel=0.02) == first["requests_per_second"]


def test_faults_are_told(fleet, tmp_path, capsys):
    """A file that is not there, and one that is no trace."""
    assert 2 == main(["nowhere.csv", "--fleet", str(fleet)])
    assert "nowhere.csv" in capsys.readouterr().err
    odd = tmp_path / "odd.csv"
    odd.write_text("a,b\n1,2\n")
    assert 2 == main([str(odd), "--fleet", str(fleet)])
    assert "TIMESTAMP" in capsys.readouterr().err
    odd.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    assert 2 == main([str(odd), "--fleet", str(fleet)])
    assert "no request" in capsys.readouterr().err


def test_the_command():
    """`inferops simulate` is this program."""
    command = [sys.executable, "-m", "router.cli", "simulate", "--help"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60
    )
    assert (0, True) == (done.returncode, "usage: inferops simulate" in done.stdout)


def test_a_table_for_people(fleet, trace, capsys):
    """It says that nothing was sent, and which speeds are guesses."""
    assert 0 == main([str(trace), "--fleet", str(fleet), "--requests", "40"])
    out = capsys.readouterr().out
    assert "simulated: no request was sent" in out
    assert "shortest_completion" in out
    assert "speeds guessed by TFLOPS: slow" in out
