"""Unmodified clients talk to the router as they would to Ollama or to OpenAI.

Each program in `programs/` lists the models, chats, streams, embeds and asks for
a model that nobody has: of a simulated node and, where there is one, of a real
Ollama. Both count on from the prompt, so whatever is lost or repeated shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import HERE, node_environment, python_environment
from tests.harness.inventory import entry
from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

SIMULATED = "llama3.2:3b"
COUNTED = [str(number) for number in range(103, 153)]


@dataclass(frozen=True)
class Stage:
    """A router, and the models behind it."""

    url: str
    models: tuple[str, ...]

    @property
    def real(self) -> str:
        if MODEL not in self.models:
            pytest.skip("no ollama on PATH")
        return MODEL


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("clients")
    with SimulatedFleet(folder, [Simulated("simulated", slots=4)]) as fleet:
        if ollama_binary() is None:
            with Router(folder, fleet.inventory, prometheus_port=free_port()) as router:
                yield Stage(router.url, (SIMULATED,))
            return
        with RealOllama(folder / "ollama") as ollama:
            fleet.write([*fleet.entries, entry("real", ollama.url)])
            with Router(folder, fleet.inventory, prometheus_port=free_port()) as router:
                yield Stage(router.url, (SIMULATED, MODEL))


def run(argv: Sequence[str | Path], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in argv],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **env},
        check=False,
    )


def told(argv: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Run a program; every line that it prints is about one model."""
    done = run(argv)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(answers: list[dict[str, Any]], models: Sequence[str], error: str) -> None:
    """Compare what a program told with what any client must get."""
    assert len(models) == len(answers)
    for model, answer in zip(models, answers, strict=True):
        for text in answer["texts"]:
            assert COUNTED == text.split()
        assert answer["pieces"] >= len(COUNTED)
        assert answer.get("vectors", 2) == 2
        assert any(each.startswith(model) for each in answer.get("listed", [model]))
        # Nodes are asked twice a second: a model may have been loaded since.
        assert set(answer.get("resident", [])) <= set(answer.get("listed", []))
        assert answer.get("shut", "403").startswith("403")
        assert answer.get("family", "llama") == "llama"
        assert re.match(error, answer["error"])
        assert "model 'nobody-has-it' not found" in answer["error"]


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("ollama_client.py", "ResponseError 404"),
        ("openai_client.py", "NotFoundError 404"),
    ],
)
def test_python(stage, program, error):
    """The packages most programs use."""
    argv = [sys.executable, HERE / "programs" / program, stage.url]
    check(told([*argv, *stage.models]), stage.models, error)


@pytest.mark.long
def test_langchain(stage):
    """`langchain-ollama`, which checks the list of models first."""
    argv = [python_environment(), HERE / "programs" / "langchain_client.py", stage.url]
    check(told([*argv, *stage.models]), stage.models, "ResponseError 404")


@pytest.mark.long
def test_litellm(stage):
    """`litellm` in three protocols; Anthropic's only where Ollama speaks it."""
    argv = [python_environment(), HERE / "programs" / "litellm_client.py", stage.url]
    names = [f"{each}/{m}" for m in stage.models for each in ("ollama_chat", "openai")]
    names += [f"anthropic/{MODEL}"] * (MODEL in stage.models)
    models = [name.partition("/")[2] for name in names]
    check(told([*argv, *names]), models, "NotFoundError 404")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("ollama_client.mjs", "ResponseError 404"),
        ("openai_client.mjs", "NotFoundError 404"),
    ],
)
def test_node(stage, program, error):
    """`ollama-js`, and `openai` for Node."""
    folder = node_environment()
    copy = shutil.copy(HERE / "programs" / program, folder)  # imports start there
    answers = told(["node", copy, stage.url, *stage.models])
    check(answers, stage.models, error)


def test_command_line(stage, tmp_path):
    """`ollama run`, `ps`, `list` and `show` with OLLAMA_HOST at the router."""
    model = stage.real
    env = {"OLLAMA_HOST": stage.url, "HOME": str(tmp_path)}
    said = run(["ollama", "run", model, "1985 1986"], **env)
    assert said.returncode == 0, said.stderr
    # After its last number the model ends by itself.
    assert [str(number) for number in range(1987, 2000)] == said.stdout.split()
    row = f"\n{model}:latest"
    until(lambda: row in run(["ollama", "ps"], **env).stdout, "ps shows the model")
    listed = run(["ollama", "list"], **env).stdout
    assert row in listed
    assert SIMULATED in listed
    assert "architecture" in run(["ollama", "show", model], **env).stdout


@pytest.mark.parametrize(
    "argv", [("run", "nobody-has-it", "hi"), ("pull", "nobody-has-it"), ("rm", MODEL)]
)
def test_command_line_cannot_change_a_node(stage, tmp_path, argv):
    """What `ollama` would do to a node is refused; the person reads how it is done."""
    assert stage.real
    done = run(["ollama", *argv], OLLAMA_HOST=stage.url, HOME=str(tmp_path))
    assert done.returncode != 0
    assert "the router keeps it shut; an operator runs on the node" in done.stderr
