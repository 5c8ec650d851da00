"""Schemathesis plays the router's own description against a real router.

A few requests of each route here; `make test-long` sends some hundred of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.core.failures import FailureGroup

from tests.harness.keys import OPERATOR, admin_token, make_key
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

EXAMPLES, MANY = 2, int(os.environ.get("INFEROPS_EXAMPLES", "200"))
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]


@pytest.fixture(scope="module")
def router(tmp_path_factory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("openapi")
    node = Simulated("one", slots=8, tokens_per_second=2000.0)
    required = {
        "ACCESS__KEYS": "required",
        "DISPATCH__QUEUE_TIMEOUT_SECONDS": "0.5",
        **admin_token(folder),
    }
    with (
        SimulatedFleet(folder, [node]) as fleet,
        Router(
            folder, fleet.inventory, prometheus_port=free_port(), settings=required
        ) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def things(router) -> dict[str, list[str]]:
    """What parts of paths may name: so that requests get past a 404."""
    rows = {"file": ("rows.csv", b"text\n" + b"x\n" * 3)}
    file = router.post(
        "/v1/files", data={"purpose": "dataset"}, files=rows, headers=OPERATOR
    ).json()["id"]
    model = router.get("/api/tags", headers=OPERATOR).json()["models"][0]["name"]
    job = router.post(
        "/v1/jobs",
        {"file_id": file, "model": model, "template": "{{ text }}"},
        headers=OPERATOR,
    ).json()["id"]
    upload = router.post(
        "/v1/uploads",
        {"filename": "a", "purpose": "batch", "bytes": 3},
        headers=OPERATOR,
    ).json()["id"]
    make_key(router, "spare")
    boards = router.get("/boards", headers=OPERATOR).text
    board = re.search('href="/boards/([^/"]+)"', boards)
    assert board
    return {
        "job": [job],
        "file": [file],
        "upload": [upload],
        "key": ["spare"],
        "name": ["one", model],
        "uid": [board[1]],
        "model": [model],
        "file_id": [file],
        "input_file_id": [file],
    }


def description(router: Router) -> Any:
    return schemathesis.openapi.from_dict(router.get("/openapi.json").json())


def play(router: Router, things: dict[str, list[str]], examples: int) -> list[str]:
    """Send so many requests of each route; returns what was wrong with answers."""
    faults: dict[str, str] = {}
    with requests.Session() as session:
        operations = [each.ok() for each in description(router).get_all_operations()]
        # Last what takes nodes away.
        operations.sort(key=lambda each: each.path.startswith("/admin"))
        for operation in operations:

            @settings(
                max_examples=examples,
                derandomize=examples == EXAMPLES,  # each run tries the same
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(), data=st.data())
            def one(case: Any, data: Any) -> None:
                known(case, things, data)
                fault = judged(session, router, case)
                if fault:
                    faults.setdefault(
                        f"{case.method} {case.path}: {fault[:120]}", fault
                    )

            one()
    return list(faults.values())


def known(case: Any, things: dict[str, list[str]], data: Any) -> None:
    """Put names that exist into half of the requests."""
    for given_ in (case.path_parameters, case.body):
        if isinstance(given_, dict):
            for name in sorted(given_.keys() & things.keys()):
                given_[name] = data.draw(st.sampled_from([given_[name], *things[name]]))


def judged(session: requests.Session, router: Router, case: Any) -> str:
    """Send a request; returns what is wrong with its answer."""
    answer = case.call(
        base_url=router.url, session=session, headers=OPERATOR, timeout=30
    )
    # 503 where it is described: there is no Prometheus, and nodes get cordoned.
    if answer.status_code >= 500 and answer.status_code != 503:
        return f"{answer.status_code}: {case.as_curl_command()}\n{answer.text[:300]}"
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as group:
        return (
            f"{group}\n{case.as_curl_command()}\n{[str(e) for e in group.exceptions]}"
        )
    return ""


def test_answers_are_as_described(router, things):
    """No 5xx, and each status, content type and error object is one of those."""
    faults = play(router, things, EXAMPLES)
    assert not faults, "\n\n".join(faults)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_answers_are_as_described(router, things):
    """The same, by the hundred."""
    faults = play(router, things, MANY)
    assert not faults, "\n\n".join(faults)
