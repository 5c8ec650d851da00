"""The unmodified `openai` package, on simulated nodes and on a real Ollama."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import openai
import pytest

from tests.harness.inventory import write_inventory
from tests.harness.ollama import MODEL as COUNTING
from tests.harness.ollama import RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OVER = {"completed", "failed", "expired", "cancelled"}


@dataclass
class Place:
    """A router, a client of OpenAI's, and a model that is there."""

    router: Router
    client: openai.OpenAI
    model: str
    embedder: str | None


@pytest.fixture(scope="module", params=["simulated", "ollama"])
def place(request, tmp_path_factory):
    """A fleet of simulated nodes, or one real Ollama with the counting model."""
    tmp = tmp_path_factory.mktemp(request.param)
    fleet: RealOllama | SimulatedFleet
    embedder: str | None
    if request.param == "ollama":
        if ollama_binary() is None:
            pytest.skip("no ollama on PATH")
        fleet, embedder, model = RealOllama(tmp, slots=2), None, COUNTING
        inventory = write_inventory(tmp / "nodes.yml", {"real": fleet.url})
    else:
        fleet = SimulatedFleet(tmp, [Simulated("a"), Simulated("b")])
        inventory, model = fleet.inventory, "llama3.2:3b"
        embedder = "nomic-embed-text:latest"
    with fleet, Router(tmp, inventory, prometheus_port=free_port()) as router:
        client = openai.OpenAI(
            base_url=f"{router.url}/v1", api_key="unused", max_retries=0
        )
        with client:
            yield Place(router, client, model, embedder)


def lines(endpoint, *bodies):
    return "\n".join(
        json.dumps(
            {"custom_id": f"id {n}", "method": "POST", "url": endpoint, "body": body}
        )
        for n, body in enumerate(bodies)
    ).encode()


def chats(place, count=6, tokens=5):
    return [
        {
            "model": place.model,
            "messages": [{"role": "user", "content": f"Count on from {n}"}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        for n in range(count)
    ]


def begin(place, endpoint, *bodies, **terms):
    data = lines(endpoint, *bodies)
    file = place.client.files.create(file=("in.jsonl", data), purpose="batch")
    return place.client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **terms
    )


def ended(place, batch):
    def over():
        found = place.client.batches.retrieve(batch.id)
        return found if found.status in OVER else None

    return until(over, f"{batch.id} is over", seconds=120, every=0.1)


def output(place, file):
    text = place.client.files.content(file).text
    return {each["custom_id"]: each for each in map(json.loads, text.splitlines())}


def test_chats_run_and_are_answered_in_order(place):
    """Each request has its own answer; the batch tells its history."""
    batch = ended(place, begin(place, "/v1/chat/completions", *chats(place)))
    assert "completed" == batch.status
    assert (6, 0, 6) == (
        batch.request_counts.completed,
        batch.request_counts.failed,
        batch.request_counts.total,
    )
    assert batch.created_at <= batch.in_progress_at <= batch.completed_at
    assert batch.error_file_id is None
    assert 30 == batch.usage.output_tokens
    found = output(place, batch.output_file_id)
    assert [f"id {n}" for n in range(6)] == list(found)
    for n in range(6):
        response = found[f"id {n}"]["response"]
        direct = place.client.chat.completions.create(**chats(place)[n])
        said = response["body"]["choices"][0]["message"]["content"]
        assert (200, direct.choices[0].message.content) == (
            response["status_code"],
            said,
        )


def test_completions_run(place):
    """The older endpoint as well."""
    bodies = [{"model": place.model, "prompt": "7", "max_tokens": 3, "temperature": 0}]
    batch = ended(place, begin(place, "/v1/completions", *bodies))
    assert 1 == batch.request_counts.completed
    body = output(place, batch.output_file_id)["id 0"]["response"]["body"]
    assert body["choices"][0]["text"]


def test_responses_run(place):
    """Where the node has them: a real Ollama does."""
    if place.embedder is not None:
        pytest.skip("the simulator has no /v1/responses")
    bodies = [{"model": place.model, "input": "7", "max_output_tokens": 4}]
    batch = ended(place, begin(place, "/v1/responses", *bodies))
    assert 1 == batch.request_counts.completed
    body = output(place, batch.output_file_id)["id 0"]["response"]["body"]
    assert body["output"][-1]["content"][0]["text"]
    assert batch.usage.output_tokens


def test_embeddings_run(place):
    """Where the fleet has a model for them."""
    if place.embedder is None:
        pytest.skip("the counting model has no embeddings")
    bodies = [{"model": place.embedder, "input": f"text {n}"} for n in range(3)]
    batch = ended(place, begin(place, "/v1/embeddings", *bodies))
    assert 3 == batch.request_counts.completed
    body = output(place, batch.output_file_id)["id 2"]["response"]["body"]
    assert len(body["data"][0]["embedding"]) > 10


def test_a_bad_line_fails_that_line(place):
    """The others run; the error file says line and column."""
    data = lines("/v1/chat/completions", *chats(place, 2)) + b'\n{"custom_id": \n'
    file = place.client.files.create(file=("in.jsonl", data), purpose="batch")
    batch = ended(
        place,
        place.client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
        ),
    )
    assert ("completed", 2, 1) == (
        batch.status,
        batch.request_counts.completed,
        batch.request_counts.failed,
    )
    error = output(place, batch.error_file_id)[""]["error"]
    assert "invalid_line" == error["code"]
    assert error["message"].startswith("line 3, column ")


def test_a_bad_line_fails_the_batch_if_asked(place):
    """As OpenAI does it; nothing of it has run."""
    bodies = [*chats(place, 1), {"model": place.model, "stream": True}]
    terms = {"extra_body": {"bad_lines": "fail_job"}}
    batch = ended(place, begin(place, "/v1/chat/completions", *bodies, **terms))
    assert "failed" == batch.status
    (error,) = batch.errors.data
    assert ("invalid_line", 2, "body.stream") == (error.code, error.line, error.param)
    assert 0 == batch.request_counts.completed


@pytest.mark.parametrize("place", ["simulated"], indirect=True)
def test_a_model_that_nobody_has_is_told(place):
    """The wrong line fails, after a while in which it might be pulled."""
    bodies = [{**chats(place, 1)[0], "model": "absent"}, *chats(place, 1)]
    batch = ended(place, begin(place, "/v1/chat/completions", *bodies))
    assert (1, 1) == (batch.request_counts.completed, batch.request_counts.failed)
    error = output(place, batch.error_file_id)["id 0"]["error"]
    assert "model_not_found" == error["code"]


def test_a_batch_is_cancelled(place):
    """What was answered stays, the rest is told apart."""
    bodies = chats(place, 60, tokens=60)
    batch = begin(place, "/v1/chat/completions", *bodies, metadata={"who": "me"})
    until(
        lambda: place.client.batches.retrieve(batch.id).request_counts.completed,
        "some are done",
        seconds=60,
    )
    assert place.client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    batch = ended(place, batch)
    assert ("cancelled", {"who": "me"}) == (batch.status, batch.metadata)
    done = output(place, batch.output_file_id)
    rest = output(place, batch.error_file_id)
    assert 60 == len(done) + len(rest) == len(done.keys() | rest.keys())
    assert {"batch_cancelled"} == {each["error"]["code"] for each in rest.values()}


def test_lists_are_paged(place):
    """The clients' own paging finds each once, the newest first."""
    made = [begin(place, "/v1/chat/completions", *chats(place, 1)) for _ in range(3)]
    found = [each.id for each in place.client.batches.list(limit=2)]
    assert [each.id for each in reversed(made)] == found[:3]
    assert len(found) == len(set(found))
    files = [each.id for each in place.client.files.list(limit=2, order="asc")]
    assert {each.input_file_id for each in made} <= set(files)
    assert len(files) == len(set(files))
    for each in made:
        ended(place, each)


def test_files_come_back_as_they_went(place):
    """Bytes, name, size, expiry; deleted ones are gone."""
    data = bytes(range(256)) * 5000
    file = place.client.files.create(
        file=("täst.bin", data),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert ("täst.bin", len(data), "processed") == (
        file.filename,
        file.bytes,
        file.status,
    )
    assert abs(file.expires_at - time.time() - 3600) < 60
    assert file == place.client.files.retrieve(file.id)
    assert data == place.client.files.content(file.id).content
    assert place.client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        place.client.files.retrieve(file.id)


def test_errors_are_the_clients_own(place):
    """Each wrong call raises what OpenAI's would, and says which field."""
    with pytest.raises(openai.BadRequestError) as purpose:
        place.client.files.create(file=("a", b"x"), purpose="vision")
    assert "purpose" == purpose.value.param
    with pytest.raises(openai.NotFoundError):
        place.client.batches.retrieve("batch_none")
    with pytest.raises(openai.NotFoundError):
        place.client.batches.create(
            input_file_id="file-none",
            endpoint="/v1/chat/completions",
            completion_window="24h",
        )
    file = place.client.files.create(file=("a", b"{}\n"), purpose="batch")
    with pytest.raises(openai.BadRequestError) as endpoint:
        place.client.batches.create(
            input_file_id=file.id, endpoint="/v1/moderations", completion_window="24h"
        )
    assert "endpoint" == endpoint.value.param
