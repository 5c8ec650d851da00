"""The Ollama collector, on replies that a real Ollama gave and on broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporters.collectors.ollama import OllamaCollector
from exporters.errors import NoAnswerError, PartialError
from tests.exporters.exposition import collected, series, text, values

DATA = Path(__file__).parents[2] / "data" / "exporters" / "ollama"
URL = "http://node:11434"
WALL = 1_795_384_000.0


def replies(**changed: object) -> Callable[[str, float], object]:
    """Answer as recorded, but for what is changed; an exception is raised."""

    def fetch(url: str, deadline: float) -> object:
        name = url.removeprefix(f"{URL}/api/")
        reply = changed.get(name, json.loads((DATA / f"{name}.json").read_text()))
        if isinstance(reply, Exception):
            raise reply
        return reply

    return fetch


def resident(**fields: object) -> dict[str, list[dict[str, object]]]:
    return {"models": [{"name": "m:latest", "size": 10, **fields}]}


class Node:
    """An Ollama whose residents change, and both clocks."""

    def __init__(self, *resident: tuple[str, str, float]) -> None:
        self.now = 1000.0
        self.silent: set[str] = set()
        self.show(*resident)
        self.collector = OllamaCollector(
            URL, self.fetch, clock=lambda: self.now, wall=lambda: WALL + self.now
        )

    def show(self, *resident: tuple[str, str, float]) -> None:
        """Have these loaded: name, digest, expiry in seconds from the start."""
        self.resident = [
            {"name": n, "size": 1, "digest": d, "expires_at": _moment(WALL + e)}
            for n, d, e in resident
        ]

    def fetch(self, url: str, deadline: float) -> object:
        path = url.rpartition("/")[2]
        if path in self.silent:
            raise NoAnswerError("refused")
        tags = [{"name": n, "size": 1, "digest": "d"} for n in ("a:1", "b:1")]
        return {
            "version": {"version": "0.17.4"},
            "ps": {"models": self.resident},
            "tags": {"models": tags},
        }[path]

    def scrape(self, *, after: float = 2.0) -> dict[str, float]:
        self.now += after
        metrics, error = collected(self.collector)
        assert error is None
        return values(text(metrics))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def loads(model: str) -> str:
    return series("inferops_ollama_loads_total", model=model)


def unloads(model: str, reason: str) -> str:
    return series("inferops_ollama_unloads_total", model=model, reason=reason)


def test_all_that_ollama_says_is_exposed(golden: Callable[[str, str], None]) -> None:
    """The exposition of recorded replies, the second time, is the golden one."""
    steps = iter(range(1000))
    at = datetime.fromisoformat("2026-11-22T21:53:00Z").timestamp()
    collector = OllamaCollector(
        URL, replies(), clock=lambda: next(steps) / 8, wall=lambda: at
    )
    collected(collector)
    metrics, error = collected(collector)
    assert error is None
    golden("ollama.prom", text(metrics))


def endpoints(found: dict[str, float]) -> dict[str, float]:
    names = ("version", "ps", "tags")
    keys = {n: series("inferops_ollama_endpoint_up", endpoint=n) for n in names}
    return {name: found[key] for name, key in keys.items() if key in found}


@pytest.mark.parametrize(
    ("silent", "asked", "there"),
    [
        pytest.param("version", {"version": 0}, set(), id="gone"),
        pytest.param(
            "ps", {"version": 1, "ps": 0, "tags": 1}, {"info", "models"}, id="stuck"
        ),
        pytest.param(
            "tags",
            {"version": 1, "ps": 1, "tags": 0},
            {"info", "resident_models"},
            id="no list",
        ),
    ],
)
def test_silence_is_data(silent: str, asked: dict, there: set) -> None:
    """What got no answer is named; it is down; what did answer is served."""
    fetch = replies(**{silent: NoAnswerError("refused")})
    metrics, error = collected(OllamaCollector(URL, fetch))
    assert error is None
    found = values(text(metrics))
    assert found["inferops_ollama_up"] == 0
    assert asked == endpoints(found)
    heads = {name.partition("{")[0] for name in found}
    wanted = ("info", "models", "resident_models")
    assert there == {w for w in wanted if f"inferops_ollama_{w}" in heads}
    failures = series(
        "inferops_ollama_endpoint_failures_total", endpoint=silent, reason="no_answer"
    )
    assert found[failures] == 1


def test_a_call_that_hangs_leaves_time_for_the_next() -> None:
    """A stuck /api/ps must not take /api/tags with it."""
    told: list[float] = []

    def fetch(url: str, deadline: float) -> object:
        told.append(deadline)
        return replies()(url, deadline)

    collected(OllamaCollector(URL, fetch, clock=lambda: 100.0), deadline=108.0)
    assert told == [104.0, 104.0, 108.0]


def test_comings_and_goings_are_counted() -> None:
    """Born at 0, so that `increase` sees the first; nothing counts at the start."""
    node = Node(("a:1", "d", 1010.0))
    first = node.scrape()
    assert [first[loads(m)] for m in ("a:1", "b:1")] == [0, 0]
    assert first[unloads("b:1", "early")] == 0
    assert "inferops_ollama_poll_interval_seconds" not in first
    node.show(("b:1", "d", 1e6))
    second = node.scrape(after=10)
    assert second["inferops_ollama_poll_interval_seconds"] == 10
    assert second[loads("b:1")] == 1
    assert second[unloads("a:1", "expired")] == 1
    node.show()
    third = node.scrape()
    assert third[unloads("b:1", "early")] == 1
    assert third[unloads("b:1", "expired")] == 0


def test_another_build_under_the_name_is_another_load() -> None:
    """A pulled tag that was loaded anew between two polls."""
    node = Node(("a:1", "old", 1e6))
    node.scrape()
    node.show(("a:1", "new", 1e6))
    found = node.scrape()
    assert found[loads("a:1")] == found[unloads("a:1", "early")] == 1
    assert found[series("inferops_ollama_resident_info", model="a:1", digest="new")]


def test_counts_outlive_silence() -> None:
    """They are the collector's own; what a restart of Ollama unloaded counts."""
    node = Node(("a:1", "d", 1e6))
    node.scrape()
    node.show()
    node.silent = {"version", "ps", "tags"}
    assert node.scrape()[unloads("a:1", "early")] == 0
    node.silent = set()
    found = node.scrape()
    assert found[unloads("a:1", "early")] == 1
    assert found["inferops_ollama_poll_interval_seconds"] == 4


def test_a_model_that_was_deleted_is_forgotten() -> None:
    """Its counts end with it; while the list is silent nothing is forgotten."""
    node = Node(("c:1", "d", 1e6))
    assert loads("c:1") in node.scrape()
    node.show()
    node.silent = {"tags"}
    assert node.scrape()[unloads("c:1", "early")] == 1
    node.silent = set()
    assert loads("c:1") not in node.scrape()


def test_a_model_past_its_expiry_is_overdue() -> None:
    """By how much; 0 while it is not due."""
    node = Node(("a:1", "d", 1010.0))
    overdue = series("inferops_ollama_resident_overdue_seconds", model="a:1")
    assert node.scrape()[overdue] == 0
    assert node.scrape(after=98)[overdue] == 90


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
    found = values(text(metrics))
    assert found["inferops_ollama_up"] == 0
    assert endpoints(found)[path] == 0
    failures = series(
        "inferops_ollama_endpoint_failures_total", endpoint=path, reason="bad_answer"
    )
    assert found[failures] == 1
    others = {"version", "ps", "tags"} - {path}
    assert [endpoints(found)[other] for other in sorted(others)] == [1, 1]


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
