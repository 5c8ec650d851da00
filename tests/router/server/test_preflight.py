"""What the master is told of the files, and that it does not read them itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from router.config.settings import Config, TraceSettings
from router.errors import ConfigError
from router.server.preflight import StartSettings, ask, check_traces
from tests.harness.process import ROOT


def written(folder, text="", nodes="[]"):
    inventory = folder / "nodes.yml"
    inventory.write_text(nodes)
    config = folder / "router.yml"
    config.write_text(f"inventory: {{path: {inventory}}}\n{text}")
    return config


ONE = "[{targets: [a], labels: {node: a}}]"


def environment(folder):
    return {**os.environ, "INFEROPS_STATE__DIRECTORY": str(folder / "state")}


def test_files_are_told(tmp_path):
    """Level, format, connections, files for the nodes' slots and polls, the grace."""
    nodes = '[{targets: ["a"], labels: {node: a, __slots: "3"}}]'
    text = "log: {level: warning, format: json}\nshutdown: {grace_seconds: 7}\n"
    text += "web: {max_connections: 12}\n"
    start = ask(written(tmp_path, text, nodes), environment(tmp_path))
    assert start == StartSettings(
        "warning", "json", connections=12, open_files=3 + 2, grace_seconds=7
    )


def test_https_that_cannot_be_spoken_ends_the_start(tmp_path, capfd):
    """The address is told; files that are no certificate and key are a fault."""
    pem = tmp_path / "server.pem"
    pem.write_text("no certificate")
    web = f'web: {{tls_address: "127.0.0.1:8443", tls_cert: {pem}, tls_key: {pem}}}\n'
    with pytest.raises(SystemExit):
        ask(written(tmp_path, web, ONE), environment(tmp_path))
    assert "the certificate and the key cannot be used" in capfd.readouterr().err


def test_faults_end_the_start(tmp_path, capfd):
    """Every fault is on stderr; the status says that the configuration is at fault."""
    config = written(tmp_path, "log: {level: loud}\n")
    with pytest.raises(SystemExit) as ended:
        ask(config, environment(tmp_path))
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert told.startswith("the router cannot start:\n")
    assert "log.level" in told


def test_traces_need_their_extra(monkeypatch):
    """Who wants traces and lacks the SDK is told what to install, at the start."""
    traced = Config(traces=TraceSettings(url="http://127.0.0.1:4318"))
    check_traces(traced)  # it is there: this environment has every extra
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    check_traces(Config())
    with pytest.raises(ConfigError) as error:
        check_traces(traced)
    assert str(error.value) == (
        "traces.url: needs OpenTelemetry's SDK, which is not installed:"
        " pip install 'inferops[opentelemetry]'"
    )


def test_the_master_stays_small():
    """What gunicorn's master imports of ours brings neither pydantic nor YAML."""
    code = (
        "import sys, router.server.preflight, router.server.worker,"
        " router.server.arbiter, router.server.file_limit;"
        " print(sorted({'pydantic', 'yaml'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    assert answer.stdout.strip() == b"[]"
