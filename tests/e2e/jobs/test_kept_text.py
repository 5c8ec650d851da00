"""An item that is taken back for a person goes on from the text it had.

The simulator's text counts on, so a gap or a repeat shows; what an undisturbed
request gets is what the item's result must be.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.harness.counting import START, counted, request_of
from tests.harness.inventory import write_inventory
from tests.harness.jobs import batch, begin, dataset, ended, job, lines, results
from tests.harness.ollama import MODEL as COUNTING
from tests.harness.ollama import RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
NATIVE = "/api/chat"
PEOPLE = 4


@dataclass(frozen=True)
class Place:
    """A router before nodes that take a second or so for such an item of a job."""

    router: Router
    model: str
    tokens: int

    def asked(self, path, **more):
        """Return a request that is no stream."""
        body = request_of(path, self.model, self.tokens, **more)
        body.pop("stream_options", None)
        return body | {"stream": False}

    def numbers(self, text):
        return counted(self.tokens), [int(n) for n in re.findall(r"\d+", text)]


@contextlib.contextmanager
def simulated(tmp):
    nodes = [
        Simulated(name, tokens_per_second=100.0, load_seconds=0.001)
        for name in ("one", "two")
    ]
    with SimulatedFleet(tmp, nodes) as fleet:
        yield fleet.inventory, "llama3.2:3b", 100


@contextlib.contextmanager
def real(tmp):
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    with RealOllama(tmp, slots=2) as ollama:
        inventory = write_inventory(tmp / "nodes.yml", {"real": ollama.url})
        yield inventory, f"{COUNTING}:latest", 120


@contextlib.contextmanager
def opened(nodes, tmp):
    with (
        nodes(tmp) as (inventory, model, tokens),
        Router(tmp, inventory, prometheus_port=free_port()) as router,
    ):
        yield Place(router.wait_ready(), model, tokens)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with opened(simulated, tmp_path_factory.mktemp("kept")) as found:
        yield found


def begun(place, path, body):
    """Begin a job of this one request."""
    if path == NATIVE:
        terms = {
            "model": place.model,
            "template": "{{ text }}",
            "options": body["options"],
        }
        row = f'text\n"{START}"\n'.encode()
        return dataset(place.router, "rows.csv", row, **terms)["id"]
    body = {name: value for name, value in body.items() if name != "stream"}
    line = {"custom_id": "r0", "method": "POST", "url": path, "body": body}
    return begin(place.router, json.dumps(line).encode() + b"\n", endpoint=path)


def disturbed(place, path, body):
    """Run a job beside people who come when its item has a part of its text.

    Returns its name and progress. On a machine that stands, the item may have ended
    before they came: then once more, and sooner.
    """
    began = time.monotonic()
    place.router.post(path, body).raise_for_status()
    part = (time.monotonic() - began) / 3
    for _ in range(5):
        name = begun(place, path, body)
        hurry(place, name, part)
        part /= 2
        found = ended(place.router, name)
        assert "completed" == found["state"]
        if found["progress"]["revoked"]:
            return name, found["progress"]
    raise AssertionError("the item always ended before somebody came")


def hurry(place, name, seconds):
    """Have people come, so long after the item began.

    They are as many at one time as all nodes have slots: one person alone is given
    the other node, each time where that is thought to be the faster one.
    """
    router = place.router
    until(lambda: begun_or_over(router, name), "the item runs", every=0.01)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > seconds, "it has some text", every=0.01)
    hi = {"model": place.model, "prompt": "hi", "options": {"num_predict": 10}}

    def come(_):
        return router.post("/api/generate", hi).raise_for_status()

    with ThreadPoolExecutor(PEOPLE) as people:
        until(
            lambda: (
                list(people.map(come, range(PEOPLE))) and revoked_or_over(router, name)
            ),
            "somebody came to its node",
        )


def begun_or_over(router, name):
    found = job(router, name)
    return found["progress"]["nodes"] or "completed" == found["state"]


def revoked_or_over(router, name):
    found = job(router, name)
    return found["progress"]["revoked"] or "completed" == found["state"]


def answer_of(router, path, name):
    """Return the one result's body, as a node would have sent it."""
    if path != NATIVE:
        (line,) = lines(router, batch(router, name)["output_file_id"])
        return line["response"]["body"]
    (result,) = results(router, name)
    return result


def text_of(body):
    choice = body["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_the_result_is_that_of_one_answer(place, path):
    """Text, counters, id and time are those of an answer that nobody cut."""
    check_one_answer(place, path)


@pytest.mark.long
def test_on_a_real_ollama(tmp_path):
    """The same, with the counting model: its proof is the engine's own."""
    with opened(real, tmp_path) as place:
        check_one_answer(place, CHAT)


def check_one_answer(place, path):
    whole = place.router.post(path, place.asked(path)).json()
    before = int(time.time())
    name, progress = disturbed(place, path, place.asked(path))
    body = answer_of(place.router, path, name)
    expected, heard = place.numbers(text_of(body))
    assert expected == heard
    assert text_of(whole) == text_of(body)
    assert whole["usage"] == body["usage"]
    assert whole.keys() == body.keys()
    assert whole["choices"][0].keys() == body["choices"][0].keys()
    assert whole["choices"][0]["finish_reason"] == body["choices"][0]["finish_reason"]
    assert (whole["object"], whole["model"]) == (body["object"], body["model"])
    assert before <= body["created"] <= time.time()
    assert progress["continued"] >= 1
    assert (0, place.tokens) == (
        progress["wasted_tokens"],
        progress["generated_tokens"],
    )
    assert progress["reread_tokens"] > whole["usage"]["prompt_tokens"]


def test_an_item_of_a_dataset_goes_on(place):
    """It is asked in Ollama's own words."""
    name, progress = disturbed(place, NATIVE, place.asked(NATIVE))
    found = answer_of(place.router, NATIVE, name)
    expected, heard = place.numbers(found["text"])
    assert expected == heard
    assert place.tokens == progress["generated_tokens"]
    assert progress["continued"] >= 1
    assert 0 == progress["wasted_tokens"]


def test_what_must_not_be_continued_begins_anew(place):
    """A format that binds cannot be gone on with: its text is lost, and counted."""
    bound = place.asked(CHAT, response_format={"type": "json_object"})
    name, progress = disturbed(place, CHAT, bound)
    assert 0 == progress["continued"]
    assert progress["wasted_tokens"] > 0
    assert answer_of(place.router, CHAT, name)["usage"]["completion_tokens"]
