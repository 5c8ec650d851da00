"""Nodes: Ollama in Compose, one that refuses, and what a node runs."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest
import requests

from tests.compose.real.stack import steady_ports
from tests.harness.counting_model import MODELFILE, write_counting_model
from tests.harness.ollama import ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]

EXPORTER_PORT = 21434
INSTALLER = ROOT / "exporters" / "install.sh"
STAND_IN = """
FROM python:3.11.14-slim-bookworm
COPY ollama /usr/bin/ollama
ENV OLLAMA_HOST=0.0.0.0:11434
ENTRYPOINT ["/usr/bin/ollama"]
CMD ["serve"]
"""


@pytest.fixture
def ollama_image(engine, tmp_path) -> None:
    """The image that compose names: there already, or this machine's Ollama in it."""
    text = (ROOT / "docker-compose.yml").read_text()
    (image,) = set(re.findall(r"ollama/ollama:\S+", text))
    asked = ["docker", "image", "inspect", image]
    if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
        return
    binary = ollama_binary()
    if binary is None:
        pytest.skip("no ollama on PATH for a stand-in of its image")
    context = tmp_path / "image"
    context.mkdir()
    shutil.copy(binary, context / "ollama")
    (context / "Dockerfile").write_text(STAND_IN)
    subprocess.run(["docker", "build", "--quiet", "-t", image, context], check=True)


def test_one_machine_is_a_whole_product(ollama_image, stack, tmp_path) -> None:
    """With Ollama in Compose, one command and one model lead to a chat answer."""
    stack.environment |= {
        "COMPOSE_PROFILES": "ollama",
        "INFEROPS_TARGETS": "./compose/ollama",
    }
    stack.up()
    stack.healthy("router", "ollama")
    weights = write_counting_model(tmp_path)
    stack.compose("cp", str(weights), "ollama:/root/.ollama/model.gguf")
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(MODELFILE.format(gguf="/root/.ollama/model.gguf"))
    stack.compose("cp", str(modelfile), "ollama:/root/.ollama/Modelfile")
    create = ("ollama", "create", "counting", "-f", "/root/.ollama/Modelfile")
    stack.compose("exec", "--no-TTY", "ollama", *create)

    def chat() -> str | None:
        message = {"role": "user", "content": "1 2 3"}
        body = {"model": "counting", "messages": [message], "stream": False}
        reply = requests.post(
            stack.url("router", "/api/chat"),
            json=body | {"options": {"num_predict": 4}},
            timeout=60,
        )
        return reply.json()["message"]["content"] if reply.ok else None

    assert "4" in until(chat, "the model answers", seconds=90, every=1)


def test_a_node_that_refuses_is_named(stack) -> None:
    """An Ollama on the Docker host that listens on 127.0.0.1 only is named."""
    (port,) = steady_ports(1)
    address = f"http://host.docker.internal:{port}"
    stack.clone.write(
        "site/nodes.yml",
        f'- targets: ["h"]\n  labels: {{node: h, __ollama: "{address}",'
        " __scrape: probe}\n",
    )
    server = http.server.HTTPServer(
        ("127.0.0.1", port), http.server.BaseHTTPRequestHandler
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        stack.environment["COMPOSE_PROFILES"] = ""
        stack.up()

        said = until(
            lambda: re.search(
                r"node h: .*", stack.compose("logs", "config-reloader").stdout
            ),
            "it is said",
            seconds=90,
            every=1,
        )
    finally:
        server.shutdown()
        server.server_close()

    assert f"{address} refuses connections" in said[0]
    assert "OLLAMA_HOST=0.0.0.0" in said[0]


def test_a_node_without_a_clone(engine, tmp_path) -> None:
    """exporters/ and compose/node.yml are enough; both exporters get healthy."""
    for name in ("exporters", "compose"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    ours, theirs = steady_ports(2)
    (tmp_path / "ports.yml").write_text(
        "services:\n"
        f"  exporter: {{ports: !override ['127.0.0.1:{ours}:21434']}}\n"
        f"  node-exporter: {{ports: !override ['127.0.0.1:{theirs}:9100']}}\n"
    )
    compose = [
        *("docker", "compose", "--project-name", f"inferops-node-{ours}"),
        *("-f", "compose/node.yml", "-f", "ports.yml", "--profile", "cpu"),
    ]

    def do(*arguments: str) -> str:
        done = subprocess.run(
            [*compose, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout

    try:
        do("up", "--detach", "--wait")
        rows = [json.loads(row) for row in do("ps", "--format=json").splitlines()]
        assert {("exporter", "healthy"), ("node-exporter", "healthy")} == {
            (row["Service"], row["Health"]) for row in rows
        }
        text = requests.get(f"http://127.0.0.1:{theirs}/metrics", timeout=10).text
        assert re.search(r'node_filesystem_readonly{.*mountpoint="/"} 0', text)
        assert requests.get(f"http://127.0.0.1:{ours}/metrics", timeout=10).ok
    finally:
        do("down", "--volumes", "--timeout", "3")


def test_a_node_joins_with_its_exporter(engine, tmp_path) -> None:
    """`inferops join --exporter`: installed in a container, the node's entry has it."""
    if not free(EXPORTER_PORT):
        pytest.skip(f"port {EXPORTER_PORT} is taken on this machine")
    nodes = [Simulated("rig-4090"), Simulated("rig-3060")]
    with SimulatedFleet(tmp_path / "fleet", nodes) as fleet:
        joins = fleet.entries.pop()
        fleet.write(fleet.entries)
        port = joins["labels"]["__ollama"].rpartition(":")[2]
        with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
            try:
                done = subprocess.run(
                    [
                        *(ROOT / "launcher" / "inferops", "join", "--exporter"),
                        *("--name", "rig-3060", "--address", "127.0.0.1"),
                        *("--port", port),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=500,
                    check=False,
                    env=os.environ | {"INFEROPS_URL": router.url},
                )
                assert 0 == done.returncode, done.stderr
                text = requests.get(
                    f"http://127.0.0.1:{EXPORTER_PORT}/metrics", timeout=10
                ).text
            finally:
                subprocess.run([INSTALLER, "remove", "--way", "container"], check=True)

    assert "scrape: exporter" in done.stderr
    assert "no exporter yet" not in done.stderr
    assert re.search(r"^inferops_ollama_up\S* 1", text, re.MULTILINE), text[:2000]


def free(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0
