"""`launcher/venv` makes the environment, or says exactly what is missing."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.harness.process import ROOT


@pytest.fixture
def machine(tmp_path):
    """A machine with these programs only; gives what `launcher/venv` says there."""

    def run(**programs: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "bin"
        home.mkdir()
        for name in ("bash", "dirname", "id", "env"):
            (home / name).symlink_to(f"/usr/bin/{name}")
        for name, body in programs.items():
            program = home / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        return subprocess.run(
            [ROOT / "launcher" / "venv"],
            env={"PATH": str(home), "CALLS": str(tmp_path / "calls")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


# Says what Debian's own python3.11 says before python3.11-venv is installed.
WITHOUT_VENV = """
case "$*" in
    *version_info\\ \\<*) exit 0;;
    *ensurepip*) exit 1;;
    *print*) echo python3.11-venv;;
    *) echo "$@" >>"$CALLS";;
esac
"""


def test_no_python(machine) -> None:
    """An old Python alone is told what to install."""
    found = machine(python3="exit 1")

    assert 1 == found.returncode
    assert "no Python 3.11 or newer here" in found.stderr


def test_the_package_cannot_be_had(machine) -> None:
    """Without the right to install, the exact command is told."""
    found = machine(python3=WITHOUT_VENV, apt_get="exit 1", sudo="exit 1")

    assert 1 == found.returncode
    assert "sudo apt-get install python3.11-venv" in found.stderr


def test_the_package_is_installed(machine, tmp_path) -> None:
    """With the right to install, the package comes, then the environment."""
    install = 'echo "$@" >>"$CALLS"'

    found = machine(python3=WITHOUT_VENV, apt_get=install, sudo=install)

    assert 0 == found.returncode, found.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "python3.11-venv" in calls[1]
    assert "-m venv .venv" == calls[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_sudo_does_not_wait_for_a_password(machine, tmp_path) -> None:
    """Without a terminal nobody is asked for a password."""
    machine(python3=WITHOUT_VENV, sudo='echo "$@" >>"$CALLS"')

    assert (tmp_path / "calls").read_text().startswith("-n apt-get")
