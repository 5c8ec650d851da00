"""`make` writes `.venv/bin/inferops`, which works from every folder."""

from __future__ import annotations

import subprocess

from tests.harness.process import ROOT


def test_make_writes_a_command_that_works_everywhere(tmp_path) -> None:
    """In a checkout of its own, called from outside it and through a link."""
    checkout = tmp_path / "a checkout"
    (checkout / "launcher").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "launcher/inferops"):
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    (checkout / "launcher/inferops").chmod(0o755)
    for package in ("router", "exporters", "simulator", "alerting"):
        (checkout / package).symlink_to(ROOT / package)
    programs = checkout / ".venv/bin"
    programs.mkdir(parents=True)
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec "{ROOT}/.venv/bin/python" "$@"\n')
    python.chmod(0o755)
    (checkout / ".venv/.run-installed").touch()
    made = _run(["make", "-C", str(checkout), ".venv/bin/inferops"], tmp_path)
    assert 0 == made.returncode, made.stdout + made.stderr
    link = tmp_path / "link"
    link.symlink_to(programs / "inferops")
    for program in (programs / "inferops", link):
        help_ = _run([str(program), "jobs", "--help"], tmp_path)
        assert 0 == help_.returncode, help_.stderr
        assert "Exit codes: 0 done" in help_.stdout


def _run(argv: list[str], cwd) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
