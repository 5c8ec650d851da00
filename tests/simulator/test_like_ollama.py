"""The simulator answers as a real Ollama does: the same calls, compared.

Compared are status, content type, framing, the JSON keys of each line in their
order, the values' types, error texts and how streams end; never the numbers.
What Ollama answered is on record, so that this holds where there is no Ollama;
where there is one of that version, the record itself is checked against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import requests

from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.simulator.ollama_calls import CALLS, CHAT, VERSION, Side, recorded

pytestmark = pytest.mark.e2e
SIMULATED_MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def ollama(tmp_path_factory) -> Iterator[RealOllama]:
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH to compare with")
    with RealOllama(tmp_path_factory.mktemp("ollama")) as ollama:
        url = f"{ollama.url}/api/version"
        version = requests.get(url, timeout=5).json()["version"]
        if version != VERSION:
            pytest.skip(f"the simulator speaks as Ollama {VERSION}, here is {version}")
        yield ollama


@pytest.fixture(scope="module")
def real(ollama) -> Side:
    return Side(ollama.url, MODEL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("sim"), [Simulated("one")]) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def simulated(fleet) -> Side:
    return Side(fleet.url("one"), SIMULATED_MODEL)


@pytest.mark.parametrize("name", CALLS)
def test_the_simulator_answers_as_recorded(simulated, name):
    """Each call gets the same text, keys line by line, errors and end."""
    assert simulated.shape(*CALLS[name]) == recorded()[name]


@pytest.mark.parametrize("name", CALLS)
def test_the_record_is_what_ollama_answers(real, name):
    """What we compare with is no memory of ours."""
    assert real.shape(*CALLS[name]) == recorded()[name]


def lists(real, expected):
    return real.shape("GET", "/api/ps") == expected


def test_lists_residents_as_ollama(real, simulated):
    """`/api/ps` has the same keys once a model is loaded, and is empty after."""
    for wanted in ('{"model":"MODEL"}', '{"model":"MODEL","keep_alive":0}'):
        for side in (real, simulated):
            assert side.call("POST", "/api/generate", wanted).ok
        expected = simulated.shape("GET", "/api/ps")
        until(  # Ollama's runner takes a moment to go
            partial(lists, real, expected),
            f"Ollama answers as {expected}",
        )


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost:8000", "10.0.0.9", "a.internal", ""]
)
def test_minds_the_host_header_as_ollama(real, simulated, host):
    """Bound to loopback, both refuse a name that is not this machine's."""
    ours = simulated.call("GET", "/api/version", Host=host)
    theirs = real.call("GET", "/api/version", Host=host)
    assert (ours.status_code, bool(ours.content)) == (
        theirs.status_code,
        bool(theirs.content),
    )


LONG = {
    "generate": (
        "/api/generate",
        '{"model":"MODEL","prompt":"0","options":{"num_predict":1900}}',
    ),
    "chat": ("/api/chat", CHAT + ',"options":{"num_predict":1900}}'),
    "v1 chat": ("/v1/chat/completions", CHAT + ',"stream":true,"max_tokens":1900}'),
    "v1 completion": (
        "/v1/completions",
        '{"model":"MODEL","prompt":"0","stream":true,"max_tokens":1900}',
    ),
}


@pytest.mark.parametrize(("path", "body"), LONG.values(), ids=LONG.keys())
def test_ends_as_ollama_when_the_runner_dies(ollama, fleet, path, body):
    """A runner killed in mid-stream ends both streams with the same last line."""
    real = Side(ollama.url, MODEL)
    with real.call("POST", path, body) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert ollama.kill_runners()
        theirs = [line.decode() for line in lines if line]
    fleet.put("one", "cut", tokens=3, times=1)
    simulated = Side(fleet.url("one"), SIMULATED_MODEL)
    with simulated.call("POST", path, body) as answer:
        ours = [line.decode() for line in answer.iter_lines() if line]
    assert simulated.outline(ours[-1]) == real.outline(theirs[-1])
    assert len(ours) == 3 + 1
