"""Limits at a real router: refused in the dialect, streams whole, counts kept."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.harness.keys import OPERATOR, admin_token, bearer, make_key
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=200.0),)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


def router(folder, fleet, **settings: str) -> Router:
    priced = {"USAGE__PRICE_PER_NODE_HOUR": "3600"}  # one for each second
    own = {**admin_token(folder), **priced, **settings}
    return Router(folder, fleet.inventory, prometheus_port=free_port(), settings=own)


def make(router: Router, name: str, **limits: float) -> dict[str, str]:
    return bearer(make_key(router, name, limits=limits))


def model(router: Router) -> str:
    return str(router.get("/api/tags", headers=OPERATOR).json()["models"][0]["name"])


def ask(
    router: Router, path: str, headers: dict[str, str], **more: Any
) -> requests.Response:
    body = {
        "model": model(router),
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3,
        "options": {"num_predict": 3},
        "stream": False,
        **more,
    }
    return router.post(path, body, headers=headers)


def test_limits(tmp_path, fleet):
    """One router for all of it; its restart at the end."""
    with router(tmp_path, fleet) as first:
        refused_in_each_dialect(first)
        tokens_and_streams(first)
        at_one_time(first)
        cap(first)
        context(first)
        money(first)
        items_of_a_job(first)
        kept = make(first, "kept", requests_per_day=2, tokens_per_month=1000)
        used = ask(first, "/api/chat", kept).json()
        tokens = used["prompt_eval_count"] + used["eval_count"]
        first.process.signal(signal.SIGTERM)
        until(lambda: not first.process.running, "it has ended", seconds=30)
    with router(tmp_path, fleet) as second:
        answer = ask(second, "/api/chat", kept)
        assert 200 == answer.status_code
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert (1000 - tokens, "0") == (
            left,
            answer.headers["x-ratelimit-remaining-requests"],
        )
        assert 429 == ask(second, "/api/chat", kept).status_code


def refused_in_each_dialect(router: Router) -> None:
    """429 with when to come back, as each protocol's clients read it."""
    for path, header in (
        ("/api/chat", "x-ratelimit-remaining-requests"),
        ("/v1/chat/completions", "x-ratelimit-remaining-requests"),
        ("/v1/messages", "anthropic-ratelimit-requests-remaining"),
    ):
        key = make(router, f"one{path.replace('/', '-')}", requests_per_day=1)
        first = ask(router, path, key)
        if path != "/v1/messages":  # the simulator has none
            assert (200, "0") == (first.status_code, first.headers[header]), path
        answer = ask(router, path, key)
        assert 429 == answer.status_code
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        assert "0" == answer.headers[header]
        error = answer.json()["error"]
        text = error if isinstance(error, str) else error["message"]
        assert "this API key may have 1 requests per day" in text
        if not isinstance(error, str):
            assert "rate_limit_error" == error["type"]
    shown = router.get("/metrics", headers=OPERATOR).text
    assert 'limit="requests_per_day",mode="enforce",of="key"} 3.0' in shown


def refused(router: Router, path: str, key: dict[str, str]) -> bool:
    return ask(router, path, key).status_code == 429


def tokens_and_streams(router: Router) -> None:
    """A stream that goes beyond its limit is whole; the next request is refused."""
    for path in ("/api/chat", "/v1/chat/completions"):
        key = make(router, f"tokens{path.replace('/', '-')}", tokens_per_day=5)
        more = {"options": {"num_predict": 40}, "max_tokens": 40, "stream": True}
        stream = ask(router, path, key, **more)
        assert 200 == stream.status_code
        end = '"done":true' if path == "/api/chat" else "data: [DONE]"
        assert end in stream.text
        until(partial(refused, router, path, key), "its tokens are counted", seconds=5)


def at_one_time(router: Router) -> None:
    """A second request beside the first is refused, and taken once that is over."""
    key = make(router, "one-at-a-time", concurrent_requests=1)
    more = {"options": {"num_predict": 6000}, "stream": True}
    body = {"model": model(router), "prompt": "hi", **more}
    with requests.post(
        f"{router.url}/api/generate", json=body, headers=key, stream=True, timeout=30
    ) as stream:
        pieces = stream.iter_content(1)  # a dropped one would close the stream
        next(pieces)
        beside = ask(router, "/api/chat", key)
        assert (429, "1") == (beside.status_code, beside.headers["Retry-After"])
    until(lambda: ask(router, "/api/chat", key).ok, "there is room again", seconds=10)


def cap(router: Router) -> None:
    """An answer has no more tokens than the key's may have."""
    key = make(router, "short-answers", max_output_tokens=4)
    for options in ({}, {"num_predict": 100}):
        answer = ask(router, "/api/chat", key, options=options).json()
        assert 4 == answer["eval_count"]
    few = ask(router, "/api/chat", key, options={"num_predict": 2}).json()
    assert 2 == few["eval_count"]


def context(router: Router) -> None:
    """A prompt that is too long is refused in each protocol's words."""
    key = make(router, "short-prompts", max_context_tokens=100)
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        messages = [{"role": "user", "content": "word " * 200}]
        answer = ask(router, path, key, messages=messages)
        assert 400 == answer.status_code, path
        error = answer.json()["error"]
        text = error if isinstance(error, str) else error["message"]
        assert "this API key may send 100 (max_context_tokens)" in text
    assert ask(router, "/api/chat", key).ok


def money(router: Router) -> None:
    """What a node's time costs counts within seconds; then the next is refused."""
    key = make(router, "poor", cost_per_month=0.001)
    more = {"options": {"num_predict": 40}}
    assert ask(router, "/api/chat", key, **more).ok

    def refused() -> bool:
        answer = ask(router, "/api/chat", key)
        return "may have 0.001 cost per month" in answer.text

    until(refused, "its money is spent", seconds=20)


def items_of_a_job(router: Router) -> None:
    """So many are answered, and the job says for what it waits."""
    key = bearer(
        make_key(router, "few", limits={"job_items_per_day": 3}, scopes=["jobs"])
    )
    rows = {"file": ("rows.csv", b"text\n" + b"x\n" * 6)}
    form = {"model": model(router), "template": "{{ text }}"}
    form["options"] = '{"num_predict": 3}'
    job = router.post("/v1/jobs", data=form, files=rows, headers=key).json()["id"]

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = router.get(f"/v1/jobs/{job}", headers=key).json()
        return found

    until(
        lambda: "may have 3 job items per day" in (shown()["why_idle"] or ""),
        "the job waits for tomorrow",
        seconds=30,
    )
    results = router.get(f"/v1/jobs/{job}/results", headers=key).text
    assert 3 == len(results.splitlines())


def test_shared_limits_in_shadow(tmp_path, fleet):
    """Of a tag and of everybody, from the file: counted, and not enforced."""
    file = tmp_path / "keys.yml"
    file.write_text(
        json.dumps(
            {
                "limits": {
                    "everyone": {"requests_per_day": 2},
                    "tags": {"guests": {"requests_per_day": 1}},
                }
            }
        )
    )
    settings = {"ACCESS__KEYS_FILE": str(file), "ACCESS__LIMITS": "shadow"}
    with router(tmp_path, fleet, **settings) as shadow:
        terms = {"name": "guest", "tags": ["guests"]}
        made = shadow.post("/admin/keys", terms, headers=OPERATOR).json()["key"]
        guest = {"Authorization": f"Bearer {made}"}
        for _ in range(4):
            answer = ask(shadow, "/api/chat", guest)
            assert 200 == answer.status_code
            assert "x-ratelimit-limit-requests" not in answer.headers
        shown = shadow.get("/metrics", headers=OPERATOR).text
        exceeded = [
            line for line in shown.splitlines() if "limits_exceeded_total{" in line
        ]
        assert all('mode="shadow"' in line for line in exceeded)
        assert {'of="tag"', 'of="everyone"'} >= {
            part for line in exceeded for part in line.partition("}")[0].split(",")[-1:]
        }
        assert 3.0 == sum(float(line.rpartition(" ")[2]) for line in exceeded)
