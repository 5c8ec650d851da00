"""Jobs over HTTP, for tests: OpenAI files of so many requests, and their ends."""

from __future__ import annotations

import json
from typing import Any

from tests.harness.poll import until
from tests.harness.router import Router

OVER = {"completed", "failed", "expired", "cancelled"}


def requests_file(count: int, model: str, **body: object) -> bytes:
    """Write requests whose answers can be told apart."""
    return b"".join(
        json.dumps(
            {
                "custom_id": f"r{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [{"role": "user", "content": f"Count on from {n}"}],
                    **body,
                },
            }
        ).encode()
        + b"\n"
        for n in range(count)
    )


def upload(router: Router, data: bytes, purpose: str = "batch") -> str:
    files = {"file": ("requests.jsonl", data)}
    answer = router.post("/v1/files", files=files, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def begin(router: Router, data: bytes, **terms: object) -> str:
    """Upload requests and make a job of them; returns its id."""
    asked = {
        "input_file_id": upload(router, data),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        **terms,
    }
    answer = router.post("/v1/batches", asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def dataset(router: Router, name: str, data: bytes, **terms: object) -> dict[str, Any]:
    """Upload a dataset as a job; returns the job."""
    fields = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in terms.items()
    }
    answer = router.post("/v1/jobs", files={"file": (name, data)}, data=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def job(router: Router, name: str) -> dict[str, Any]:
    answer = router.get(f"/v1/jobs/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(router: Router, name: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for a job's end; returns it."""

    def over() -> dict[str, Any] | None:
        found = job(router, name)
        return found if found["state"] in OVER else None

    return until(over, f"job {name} is over", seconds=seconds, every=0.1)


def results(router: Router, name: str) -> list[dict[str, Any]]:
    answer = router.get(f"/v1/jobs/{name}/results")
    return [json.loads(line) for line in answer.text.splitlines()]


def lines(router: Router, file: str | None) -> list[dict[str, Any]]:
    """Read an output or error file of OpenAI's."""
    if file is None:
        return []
    answer = router.get(f"/v1/files/{file}/content")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def batch(router: Router, name: str) -> dict[str, Any]:
    return router.get(f"/v1/batches/{name}").json()


def each_once(router: Router, name: str, count: int) -> None:
    """Assert that each of so many requests has exactly one answer, its own."""
    found = batch(router, name)
    assert found["status"] == "completed", found
    output = lines(router, found["output_file_id"])
    errors = lines(router, found["error_file_id"])
    assert [] == errors[:3], f"{len(errors)} errors"
    assert [f"r{n}" for n in range(count)] == [line["custom_id"] for line in output]
    for n, line in enumerate(output):
        message = line["response"]["body"]["choices"][0]["message"]
        assert f"said Count on from {n}" == message["content"]
