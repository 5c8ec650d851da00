"""The environment of an Ollama: its process' own, else its unit's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exporters.ollama import environment as module
from exporters.ollama.environment import environment
from tests.harness.poll import until

URL = "http://127.0.0.1:11434"
# As systemctl show writes several units.
UNITS = """\
Id=ollama.service
Environment="PATH=/usr/bin:/bin" CUDA_VISIBLE_DEVICES=GPU-aaaa
EnvironmentFiles={file} (ignore_errors=yes)

Id=ollama-second.service
Environment=OLLAMA_HOST=0.0.0.0:11435 "CUDA_VISIBLE_DEVICES=GPU-bbbb" TOKEN=secret
"""


def nobody() -> str:
    return ""


def units(file: Path) -> str:
    return UNITS.format(file=file)


@pytest.mark.parametrize(
    ("port", "unit", "card"),
    [
        pytest.param(11434, "ollama.service", "GPU-aaaa", id="Ollama's own port"),
        pytest.param(11435, "ollama-second.service", "GPU-bbbb", id="another"),
    ],
)
def test_the_unit_on_that_port(tmp_path, port, unit, card) -> None:
    """Units are told apart by the port that they are given; secrets are not kept."""
    found = environment(
        f"http://127.0.0.1:{port}", proc=tmp_path, units=lambda: units(tmp_path / "no")
    )
    assert found is not None
    assert found.source == unit
    assert found.values["CUDA_VISIBLE_DEVICES"] == card
    assert not {"TOKEN", "PATH"} & found.values.keys()


def test_a_units_file_wins(tmp_path) -> None:
    """As systemd has it; comments are none of it."""
    file = tmp_path / "ollama.env"
    file.write_text('# CUDA_VISIBLE_DEVICES=7\nCUDA_VISIBLE_DEVICES="GPU-cccc"\n')
    found = environment(URL, proc=tmp_path, units=lambda: units(file))
    assert found is not None
    assert found.values["CUDA_VISIBLE_DEVICES"] == "GPU-cccc"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1:9", id="no unit has that port"),
        pytest.param("http://192.0.2.1:11434", id="another machine"),
        pytest.param("http://rig.lan:11434", id="a name, which is not looked up"),
    ],
)
def test_nothing_is_known(tmp_path, url) -> None:
    """Not of another machine's Ollama, whatever this one's unit says."""
    found = environment(url, proc=tmp_path, units=lambda: units(tmp_path / "no"))
    assert found is None


def test_without_systemd_nothing_is_known(monkeypatch, tmp_path) -> None:
    """No program, no units; one that hangs is not waited for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.systemctl() == ""
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "SYSTEMCTL_SECONDS", 0.2)
    assert module.systemctl() == ""


LISTENER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as made:
    print(made.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_process_that_listens(host) -> None:
    """Its environment as it runs comes before what a unit says."""
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-dddd", "TOKEN": "secret"}
    argv = [sys.executable, "-c", LISTENER, host]
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        if not Path(f"/proc/{child.pid}/environ").exists():
            child.terminate()
            pytest.skip("no /proc here")
        url = f"http://127.0.0.1:{port}"
        found = until(lambda: environment(url, units=nobody), "it is found")
        assert found.source == f"process {child.pid}"
        assert found.values.get("CUDA_VISIBLE_DEVICES") == "GPU-dddd"
        assert "TOKEN" not in found.values
        child.terminate()


def test_a_client_of_that_port_is_not_taken_for_it() -> None:
    """Only who listens counts: connections have the same port in the same table."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            taken = client.getsockname()[1]
            url = f"http://127.0.0.1:{taken}"
            assert environment(url, units=nobody) is None
