"""OpenAI's Uploads, by its own unmodified client; compressed files; `/v1/responses`."""

from __future__ import annotations

import gzip
import hashlib
import json

import openai
import pyarrow as pa
import pytest

from tests.harness.jobs import batch, ended, lines, requests_file
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.tallied_node import MODEL, TalliedNode, write_inventory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    with TalliedNode("one", seconds=0.01) as node:
        inventory = write_inventory(folder / "nodes.yml", [node])
        with Router(folder, inventory, prometheus_port=free_port()) as made:
            yield made


@pytest.fixture
def client(router):
    with openai.OpenAI(
        base_url=f"{router.url}/v1", api_key="unused", max_retries=0
    ) as made:
        yield made


def run(router, client, file, endpoint="/v1/chat/completions"):
    made = client.batches.create(
        input_file_id=file, endpoint=endpoint, completion_window="24h"
    )
    ended(router, made.id)
    return batch(router, made.id)


def test_a_file_in_chunks_becomes_a_batch(router, client):
    """As the client cuts it; the checksum holds, each line is answered."""
    data = requests_file(300, MODEL)
    upload = client.uploads.upload_file_chunked(
        file=data,
        filename="requests.jsonl",
        bytes=len(data),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=10_000,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )
    assert ("completed", "requests.jsonl") == (upload.status, upload.filename)
    assert data == client.files.content(upload.file.id).content
    found = run(router, client, upload.file.id)
    assert ("completed", 300) == (found["status"], found["request_counts"]["completed"])


def test_what_is_wrong_is_told(client):
    """Each with its field, or its state."""
    asked = {
        "filename": "a.jsonl",
        "mime_type": "text/plain",
        "purpose": "batch",
        "bytes": 3,
    }
    with pytest.raises(openai.BadRequestError) as purpose:
        client.uploads.create(**{**asked, "purpose": "vision"})
    assert "purpose" == purpose.value.param
    with pytest.raises(openai.BadRequestError) as size:
        client.uploads.create(**{**asked, "bytes": 0})
    assert "bytes" == size.value.param
    with pytest.raises(openai.APIStatusError) as large:
        client.uploads.create(**{**asked, "bytes": 2**40})
    assert 413 == large.value.status_code
    with pytest.raises(openai.NotFoundError):
        client.uploads.parts.create("upload_none", data=b"x")
    made = client.uploads.create(**asked)
    assert "pending" == made.status
    part = client.uploads.parts.create(made.id, data=b"abc")
    with pytest.raises(openai.BadRequestError):
        client.uploads.complete(made.id, part_ids=["part_none"])
    assert "cancelled" == client.uploads.cancel(made.id).status
    with pytest.raises(openai.ConflictError):
        client.uploads.complete(made.id, part_ids=[part.id])


@pytest.mark.parametrize("name", ["requests.jsonl.gz", "requests.jsonl.zst"])
def test_a_compressed_file_of_requests(router, client, name):
    """Is unpacked as it is read; the file itself stays as it came."""
    plain = requests_file(20, MODEL)
    if name.endswith("gz"):
        data = gzip.compress(plain)
    else:
        data = pa.Codec("zstd").compress(plain, asbytes=True)
    file = client.files.create(file=(name, data), purpose="batch")
    found = run(router, client, file.id)
    assert ("completed", 20) == (found["status"], found["request_counts"]["completed"])
    assert data == client.files.content(file.id).content


def test_responses_run_in_a_batch(router, client):
    """Each answer is in the output file as the node gave it."""
    body = {"model": MODEL, "input": "Count on", "max_output_tokens": 9}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    file = client.files.create(
        file=("r.jsonl", json.dumps(line).encode()), purpose="batch"
    )
    found = run(router, client, file.id, "/v1/responses")
    (output,) = lines(router, found["output_file_id"])
    said = output["response"]["body"]["output"][0]["content"][0]["text"]
    assert ("a", "said Count on") == (output["custom_id"], said)
    assert 5 == found["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (requests_file(2, MODEL).decode().encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"[" + requests_file(1, MODEL) + b"]", "the file is a JSON list; write each"),
        (b"id,text\n1,hello\n", "not one row can be used; line 1: not JSON"),
    ],
    ids=["UTF-16", "list", "CSV"],
)
def test_a_file_that_is_wrong_as_a_whole_fails_its_batch(router, client, data, message):
    """With the reason among its errors, as OpenAI's service does."""
    file = client.files.create(file=("r.jsonl", data), purpose="batch")
    found = run(router, client, file.id)
    assert "failed" == found["status"]
    first = found["errors"]["data"][0]
    assert ("invalid_file", True) == (first["code"], message in first["message"])


def test_an_error_keeps_its_custom_id(router, client):
    """Also that of a line whose id another line had before."""
    one = requests_file(1, MODEL)
    file = client.files.create(file=("r.jsonl", one + one), purpose="batch")
    found = run(router, client, file.id)
    (error,) = lines(router, found["error_file_id"])
    assert "r0" == error["custom_id"]
    assert "custom_id: must be unique in the file" in error["error"]["message"]
