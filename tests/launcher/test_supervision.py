"""supervisord's configuration, and what is left of a killed run."""

from __future__ import annotations

import configparser
import os
import shlex
import sys
from dataclasses import replace

import psutil
import pytest

from launcher import supervision
from launcher.errors import LaunchError
from launcher.services import Ports, Service, services
from tests.harness.poll import until
from tests.harness.process import Process

ODD = '/a b/"c"/100%/d;e\\f$g'


def read(text: str) -> configparser.RawConfigParser:
    # As supervisord reads it.
    parser = configparser.RawConfigParser(
        inline_comment_prefixes=(";", "#"), strict=False
    )
    parser.read_string(text)
    return parser


def words(command: str) -> list[str]:
    return shlex.split(command % {})


def test_every_part_is_a_program_in_order(paths, programs) -> None:
    """Priorities follow the order of the parts: stopping goes backwards."""
    found = services(Ports(), paths, programs)

    text = read(supervision.configuration(found, paths))

    order = {name: text[f"program:{name}"]["priority"] for name in names(found)}
    assert {name: str(n + 1) for n, name in enumerate(names(found))} == order


def names(found) -> list[str]:
    return [part.name for part in found]


def test_odd_paths_survive(paths) -> None:
    """Blanks, quotes, percent signs and backslashes reach the program as they are."""
    part = Service("odd", ("/bin/x", ODD, "--y=" + ODD), "", (), env={"Z": ODD})

    section = read(supervision.configuration([part], paths))["program:odd"]

    assert [
        *("env", f"Z={ODD}", "setpriv", "--pdeathsig", "TERM", "--"),
        *part.argv,
    ] == words(section["command"])


def test_a_part_may_take_its_time_to_stop(paths) -> None:
    """Its stopwaitsecs is the part's own."""
    part = Service("slow", ("x",), "", (), stop_seconds=77)

    section = read(supervision.configuration([part], paths))["program:slow"]

    assert "77" == section["stopwaitsecs"]


def test_a_socket_with_too_long_a_name(paths, tmp_path) -> None:
    """The kernel's limit is told with the way out, before anything starts."""
    deep = replace(paths, run=tmp_path / ("x" * 107))

    with pytest.raises(LaunchError, match="--run-dir"):
        supervision.start([], deep)


def test_no_supervisord_no_states(paths) -> None:
    """Asking where nothing runs is no error."""
    assert {} == supervision.states(paths)


@pytest.fixture
def stubborn(paths, tmp_path):
    """A process of the run that ignores SIGTERM."""
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); signal.pause()"
    )
    process = Process(
        [sys.executable, "-c", code],
        log=tmp_path / "log",
        env={supervision.MARK: str(paths.run)},
    )
    until(process.log.read_text, "it ignores SIGTERM")
    yield process
    process.kill()


def test_what_is_left_is_swept(paths, stubborn) -> None:
    """A process of a killed run is found by its mark, and ended for sure."""
    assert [stubborn.pid] == [each.pid for each in supervision.left(paths)]

    assert 1 == supervision.sweep(paths, seconds=0.2)

    assert not psutil.pid_exists(stubborn.pid)


def test_other_runs_are_left_alone(paths, stubborn, tmp_path) -> None:
    """Another run directory's processes are not ours to end."""
    other = replace(paths, run=tmp_path / "other")

    assert 0 == supervision.sweep(other, seconds=0.2)
    assert psutil.pid_exists(stubborn.pid)


def test_this_process_is_of_no_run(paths) -> None:
    """A person's own shell carries no mark."""
    assert os.getpid() not in [each.pid for each in supervision.left(paths)]
