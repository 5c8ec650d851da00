"""Docker Compose is used where an engine answers, and taken down again."""

from __future__ import annotations

import signal
import sys

import pytest

from launcher import docker
from launcher.errors import LaunchError
from tests.harness.poll import until
from tests.harness.process import ROOT, Process


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Put a `docker` on PATH that notes its calls; `body` says how it answers."""

    def install(body: str) -> None:
        calls = tmp_path / "calls"
        program = tmp_path / "docker"
        program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n{body}\n')
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return install


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param("exit 0", True, id="engine and compose"),
        pytest.param("exit 1", False, id="no engine"),
        pytest.param('[ "$1" = info ]', False, id="engine without compose"),
    ],
)
def test_docker_where_it_answers(engine, body, wanted) -> None:
    """Both the engine and Compose must answer."""
    engine(body)

    assert wanted is docker.wanted("auto")


def test_native_as_asked(engine) -> None:
    """An engine that answers is left alone when the person says so."""
    engine("exit 0")

    assert not docker.wanted("native")


def test_docker_as_asked_but_missing(engine) -> None:
    """Asking for Docker without an engine is an error, no silent change."""
    engine("exit 1")

    with pytest.raises(LaunchError, match="no Docker engine"):
        docker.wanted("docker")


@pytest.fixture
def launched(engine, tmp_path):
    """`python -m launcher up` over the made-up engine, which follows logs for ever."""
    engine('case "$*" in *logs*) exec sleep 600;; esac')
    with Process(
        [sys.executable, "-m", "launcher", "up", "--with", "docker"],
        log=tmp_path / "log",
        cwd=ROOT,
    ) as process:
        yield process


def test_up_follows_until_told_to_stop(launched, tmp_path) -> None:
    """The router first, then the others; followed, and taken down after Ctrl-C."""
    calls = tmp_path / "calls"
    until(lambda: "logs" in calls.read_text(), "the logs are followed", seconds=40)

    launched.signal(signal.SIGINT)

    assert 0 == launched.wait()
    assert [
        "info",
        "compose version",
        "compose config --images router",
        "compose build init router",
        "compose --profile * ps --services --filter status=running",
        "compose up --detach --no-build init router",
        "compose up --detach --no-build --wait router",
        "compose up --detach --no-build --wait",
        "compose exec --no-TTY config-reloader python -m launcher.reachable",
        "compose logs --follow --tail 0",
        "compose --profile * down",
    ] == calls.read_text().splitlines()
    assert "curl -s http://127.0.0.1:8000/" in launched.tail()


def launch(tmp_path, *flags: str) -> Process:
    return Process(
        [sys.executable, "-m", "launcher", "up", "--with", "docker", *flags],
        log=tmp_path / "log",
        cwd=ROOT,
    )


def test_a_failed_start_is_taken_down(engine, tmp_path) -> None:
    """When the router does not get well, nothing is left running, and it is said."""
    engine('case "$*" in *up*) exit 17;; esac')

    with launch(tmp_path) as process:
        assert 1 == process.wait()

    assert (tmp_path / "calls").read_text().endswith("compose --profile * down\n")
    assert "init router: ended 17" in process.tail()


def test_a_failed_start_leaves_what_ran_before(engine, tmp_path) -> None:
    """Only what this call started is removed from a stack that somebody else began."""
    engine(
        f'case "$*" in *up*) touch {tmp_path}/upped; exit 17;;'
        f" *ps*) echo prometheus; [ -e {tmp_path}/upped ] && echo router; exit 0;; esac"
    )

    with launch(tmp_path) as process:
        assert 1 == process.wait()

    calls = (tmp_path / "calls").read_text()
    assert calls.endswith("compose --profile * rm --stop --force router\n")
    assert " down" not in calls


def test_a_failed_build_touches_nothing(engine, tmp_path) -> None:
    """The build comes first: no container is started or stopped when it fails."""
    engine('case "$*" in *build*) exit 17;; esac')

    with launch(tmp_path) as process:
        assert 1 == process.wait()

    assert (tmp_path / "calls").read_text().endswith("compose build init router\n")


def test_the_routers_image_is_built_once(engine, tmp_path) -> None:
    """Another build could give another image, and a new container cuts streams."""
    engine('case "$*" in *--images*) echo runtime:1;; *build*) exit 17;; esac')

    with launch(tmp_path) as process:
        assert 1 == process.wait()

    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["image inspect runtime:1", "compose build init"] == calls[-2:]


def test_telemetry_that_does_not_start_is_named(engine, tmp_path) -> None:
    """The router serves, everything else is started one by one, the culprit is said."""
    engine(
        'case "$*" in *logs*) exec sleep 600;; *config*) echo router; echo grafana;;'
        ' *"up --detach --no-build --wait"|*grafana) exit 17;; esac'
    )

    with launch(tmp_path) as process:
        until(lambda: "Ctrl-C" in process.tail(), "it is up", seconds=40)
        assert "NOT EVERYTHING RUNS: grafana." in process.tail()
        process.signal(signal.SIGINT)
        assert 0 == process.wait()


@pytest.mark.long
def test_who_is_let_in_is_said(engine, tmp_path, monkeypatch) -> None:
    """A router that others reach is named as open; on loopback nothing is said."""
    engine('case "$*" in *logs*) exit 1;; esac')
    with launch(tmp_path) as process:
        process.wait()
    assert "OPEN" not in process.log.read_text()

    monkeypatch.setenv("INFEROPS_ADDRESS", "0.0.0.0")
    with launch(tmp_path) as process:
        process.wait()
    assert "who reaches 0.0.0.0 needs one: docs/keys.md" in process.log.read_text()

    monkeypatch.setenv("INFEROPS_ACCESS__KEYS", "off")
    with launch(tmp_path) as process:
        process.wait()
    assert "whoever reaches 0.0.0.0 may use the router" in process.log.read_text()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(["--router-port", "8001"], "8001/", id="port"),
        pytest.param(["--run-dir", "/tmp/x"], "--run-dir: with Docker", id="run-dir"),
        pytest.param(
            ["--exporter-port", "1"], "--exporter-port: with", id="unpublished"
        ),
    ],
)
def test_flags_count_with_docker(engine, tmp_path, flags, expected) -> None:
    """A flag is passed to Compose, or refused by name; none is ignored."""
    engine('echo "port=$INFEROPS_ROUTER_PORT"; case "$*" in *logs*) exit 1;; esac')

    with launch(tmp_path, *flags) as process:
        assert 1 == process.wait()

    assert expected in process.log.read_text()
