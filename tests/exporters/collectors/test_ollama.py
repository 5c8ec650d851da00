"""The Ollama collector, on replies that a real Ollama gave and on broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.collectors.ollama import OllamaCollector
from exporters.errors import NoAnswerError, PartialError
from tests.exporters.exposition import collected, series, text, values

DATA = Path(__file__).parents[2] / "data" / "exporters" / "ollama"
URL = "http://node:11434"


def replies(**changed: object) -> Callable[[str, float], object]:
    """Answer as recorded, but for what is changed; an exception is raised."""

    def fetch(url: str, deadline: float) -> object:
        name = url.removeprefix(f"{URL}/api/")
        reply = changed.get(name, json.loads((DATA / f"{name}.json").read_text()))
        if isinstance(reply, Exception):
            raise reply
        return reply

    return fetch


def resident(**fields: object) -> dict[str, object]:
    return {"models": [{"name": "m:latest", "size": 10, **fields}]}


def test_all_that_ollama_says_is_exposed(golden: Callable[[str, str], None]) -> None:
    """The exposition of recorded replies is the golden one."""
    metrics, error = collected(OllamaCollector(URL, replies()))
    assert error is None
    golden("ollama.prom", text(metrics))


@pytest.mark.parametrize("silent", ["version", "ps", "tags"])
def test_silence_is_data(silent: str) -> None:
    """When one call gets no answer, Ollama is down and nothing else is claimed."""
    fetch = replies(**{silent: NoAnswerError("refused")})
    metrics, error = collected(OllamaCollector(URL, fetch))
    assert error is None
    assert values(text(metrics)) == {"inferops_ollama_up": 0}


@pytest.mark.parametrize(
    ("path", "reply", "message"),
    [
        pytest.param("version", [], "must be an object, got []", id="list for object"),
        pytest.param(
            "version", {}, "version: must be a string, got None", id="no version"
        ),
        pytest.param(
            "tags", {}, "models: must be a list, got 'nothing'", id="no models"
        ),
        pytest.param(
            "tags",
            {"models": [{"name": "m", "size": "big", "digest": "d"}]},
            "size: must be a whole number, got 'big'",
            id="size in words",
        ),
        pytest.param(
            "tags",
            {"models": [{"name": "m", "size": 1, "digest": "d", "details": [1]}]},
            "must be an object, got [1]",
            id="details a list",
        ),
        pytest.param(
            "ps",
            resident(size_vram=True),
            "size_vram: must be a whole number, got True",
            id="boolean for number",
        ),
        pytest.param(
            "ps",
            resident(size_vram=-1),
            "size_vram: must be a whole number, got -1",
            id="negative memory",
        ),
        pytest.param(
            "ps",
            resident(expires_at="soon"),
            "Invalid isoformat string: 'soon'",
            id="time in words",
        ),
        pytest.param(
            "ps",
            resident(expires_at="2026-11-22T21:52:29"),
            "expires_at: must have a zone, got 2026-11-22 21:52:29",
            id="time without zone",
        ),
    ],
)
def test_malformed_reply_is_a_failure(path: str, reply: object, message: str) -> None:
    """A reply that the API does not allow: down, and the collector failed."""
    metrics, error = collected(OllamaCollector(URL, replies(**{path: reply})))
    assert isinstance(error, PartialError)
    assert str(error) == f"GET {URL}/api/{path}: {message}"
    assert values(text(metrics)) == {"inferops_ollama_up": 0}


def test_what_a_version_does_not_say_is_no_series() -> None:
    """An older Ollama without context length, expiry and VRAM gets no such series."""
    fetch = replies(ps=resident())
    metrics, _ = collected(OllamaCollector(URL, fetch))
    about_resident = {
        name: value
        for name, value in values(text(metrics)).items()
        if name.startswith("inferops_ollama_resident")
    }
    assert about_resident == {
        "inferops_ollama_resident_models": 1,
        series("inferops_ollama_resident_size_bytes", model="m:latest"): 10,
    }


@pytest.mark.parametrize(
    ("fields", "absent"),
    [
        pytest.param(
            {"expires_at": "0001-01-01T00:00:00Z"},
            "inferops_ollama_resident_expires_timestamp_seconds",
            id="Go's zero time",
        ),
        pytest.param(
            {"size": 0, "size_vram": 0},
            "inferops_ollama_resident_vram_ratio",
            id="share of nothing",
        ),
    ],
)
def test_no_value_is_made_up(fields: dict[str, object], absent: str) -> None:
    """Placeholders of Go and divisions by zero are no series."""
    metrics, error = collected(OllamaCollector(URL, replies(ps=resident(**fields))))
    assert error is None
    assert series(absent, model="m:latest") not in values(text(metrics))


def test_nothing_there_is_zero() -> None:
    """Go's null for an empty list counts as no models."""
    nothing = {"models": None}
    metrics, error = collected(OllamaCollector(URL, replies(ps=nothing, tags=nothing)))
    assert error is None
    found = values(text(metrics))
    assert found["inferops_ollama_models"] == 0
    assert found["inferops_ollama_resident_models"] == 0


def test_a_name_listed_twice_is_one_series() -> None:
    """Prometheus would refuse the whole scrape over a second one."""
    twice = {"models": resident()["models"] * 2}
    metrics, _ = collected(OllamaCollector(URL, replies(ps=twice)))
    lines = text(metrics).splitlines()
    assert len(lines) == len(set(lines))
