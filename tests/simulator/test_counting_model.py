"""The counting model on a real Ollama: tests elsewhere build on its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.harness.counting_model import NUMBERS, Shape, write_counting_model
from tests.harness.ollama import MODEL, RealOllama, ollama_binary

pytestmark = pytest.mark.e2e

MERGING = "merging"


@pytest.fixture(scope="module")
def ollama(tmp_path_factory) -> Iterator[RealOllama]:
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    models = {MODEL: Shape(), MERGING: Shape(merging=True)}
    with RealOllama(tmp_path_factory.mktemp("ollama"), models=models) as ollama:
        yield ollama


def generate(
    ollama: RealOllama, prompt: str, tokens: int, model: str = MODEL
) -> dict[str, Any]:
    body = {
        "model": model,
        "prompt": prompt,
        "stream": False,
        "options": {"num_predict": tokens},
    }
    return requests.post(f"{ollama.url}/api/generate", json=body, timeout=60).json()


@pytest.mark.parametrize(
    ("prompt", "first", "count"),
    [("one 101 102 103", 104, 200), ("7", 8, 20), ("hello", 1, 20)],
)
def test_it_counts(ollama, prompt, first, count):
    """Two hundred numbers without a gap or a repeat, wherever it begins."""
    expected = "".join(f" {number}" for number in range(first, first + count))
    assert generate(ollama, prompt, count)["response"] == expected


@pytest.mark.parametrize(("said", "more"), [(1, 0), (2, 1), (3, 1), (10, 5), (11, 5)])
def test_a_merging_one_reads_fewer_tokens_than_it_says(ollama, said, more):
    """Same text; each odd number and the one after it are read as one token."""
    prompt = "count on: 101 102 103"
    first = generate(ollama, prompt, said, MERGING)
    text = "".join(f" {number}" for number in range(104, 104 + said))
    assert (text, said) == (first["response"], first["eval_count"])
    then = generate(ollama, prompt + text, 1, MERGING)
    assert f" {104 + said}" == then["response"]
    assert first["prompt_eval_count"] + more == then["prompt_eval_count"]


def test_it_ends_by_itself_after_the_last_number(ollama):
    """Without a limit the answer has a natural end."""
    answer = generate(ollama, f"{NUMBERS - 4}", -1)
    last = (answer["response"].split()[-1], answer["done_reason"])
    assert last == (str(NUMBERS - 1), "stop")


def test_a_killed_ollama_is_gone_and_returns(ollama):
    """Runners included; on the same port with the same models after a restart."""
    assert generate(ollama, "1", 1)["response"] == " 2"
    ollama.kill()
    with pytest.raises(requests.ConnectionError):
        generate(ollama, "1", 1)
    ollama.restart()
    assert generate(ollama, "1", 1)["response"] == " 2"


def test_the_file_is_the_same_each_time(tmp_path):
    """Deterministic, so that every node has the same digest."""
    paths = [write_counting_model(tmp_path / name) for name in ("a", "b")]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert len(digests) == 1
