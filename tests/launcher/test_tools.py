"""Programs are taken from PATH when they are new enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher import debian, tools
from launcher.errors import LaunchError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a function that puts a made-up program on PATH, first come first found."""

    def put(place: str, name: str, version: str) -> Path:
        home = tmp_path / place
        home.mkdir(exist_ok=True)
        program = home / name
        program.write_text(f"#!/bin/sh\necho '{name}, version {version} (x)'\n")
        program.chmod(0o755)
        return program

    path = os.pathsep.join(str(tmp_path / place) for place in ("first", "second"))
    monkeypatch.setenv("PATH", path)
    return put


@pytest.mark.parametrize(
    ("version", "found"),
    [
        pytest.param("2.42.0+ds", True, id="debian 12's"),
        pytest.param("v3.14.0", True, id="with a v"),
        pytest.param("2.100.1", True, id="two digits more"),
        pytest.param("2.31.2+ds1", False, id="ubuntu 22.04's"),
        pytest.param("unknown", False, id="no number"),
    ],
)
def test_old_ones_are_passed_over(folder, tmp_path, version, found) -> None:
    """2.42 is the oldest Prometheus that knows our rules."""
    program = folder("first", "prometheus", version)

    assert (program if found else None) == tools.find(tools.PROMETHEUS, tmp_path)


def test_the_next_one_on_path(folder, tmp_path) -> None:
    """An old one early on PATH does not hide a new one."""
    folder("first", "prometheus", "2.0.0")
    newer = folder("second", "prometheus", "3.0.0")

    assert newer == tools.find(tools.PROMETHEUS, tmp_path)


def test_debians_names(folder, tmp_path) -> None:
    """Alertmanager has another name in Debian."""
    program = folder("first", "prometheus-alertmanager", "0.25.0")

    assert program == tools.find(tools.ALERTMANAGER, tmp_path)


def test_nothing_and_no_apt(folder, tmp_path) -> None:
    """Where packages cannot be had, it says what to put on PATH."""
    with pytest.raises(LaunchError, match="no apt-get here: put prometheus, promtool"):
        tools.ensure(tmp_path, tools.RUN)


def test_the_packages_are_too_old(folder, tmp_path) -> None:
    """A distribution with an older Prometheus is told so."""
    (tmp_path / ".tools" / "usr" / "bin").mkdir(parents=True)
    folder(".tools/usr/bin", "prometheus", "2.31.0")
    for name in ("apt-get", "dpkg", "apt-cache"):
        folder("first", name, "0")

    with pytest.raises(LaunchError, match=r"no prometheus 2\.42 or newer"):
        tools.ensure(tmp_path, (tools.PROMETHEUS,))


def test_the_relocated_path_fits() -> None:
    """A path compiled into a program can only be replaced by one as long."""
    assert len(debian._COMPILED_IN) == len(debian._RELOCATED)
