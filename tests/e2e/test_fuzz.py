"""What no client should send does no harm to a real router.

`python -m bench.fuzz` plays the same by the hundred thousand.
"""

from __future__ import annotations

import asyncio
import random

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz import (
    BODY_SECONDS,
    Attempt,
    Manner,
    Tally,
    attempt,
    exchange,
    left_open,
)
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """A router before one quick node, shared by every connection of this file."""
    tmp = tmp_path_factory.mktemp("fuzz")
    node = Simulated("one", slots=16, tokens_per_second=2000.0)
    quick = {"DISPATCH__BODY_TIMEOUT_SECONDS": str(BODY_SECONDS)}
    with (
        SimulatedFleet(tmp, [node]) as fleet,
        Router(
            tmp, fleet.inventory, prometheus_port=free_port(), settings=quick
        ) as started,
    ):
        yield started


def play(router, *made: Attempt) -> Tally:
    tally = Tally()

    async def at_once() -> None:
        await asyncio.gather(*(exchange(router.port, each, tally) for each in made))

    asyncio.run(at_once())
    return tally


def worker_of(router) -> psutil.Process:
    (worker,) = psutil.Process(router.process.pid).children()
    return worker


def test_made_up_requests(router):
    """Sound and tampered with: no 500, no hang, nothing left open, same worker."""
    worker, rng = worker_of(router), random.Random(7)
    tally = Tally()
    for _ in range(10):
        seen = play(router, *(attempt(rng) for _ in range(50)))
        tally.statuses += seen.statuses
        assert [] == seen.hangs + seen.failures
    assert left_open(worker, router.port) == 0
    assert worker == worker_of(router)
    assert {200, 400, 404, 405} < set(tally.statuses)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_any_bytes(router, data, cut):
    """Bytes that were never meant as HTTP are refused, or are none at all."""
    seen = play(router, Attempt((data[:cut], data[cut:]), Manner.HALF_CLOSE))
    assert [] == seen.hangs + seen.failures
    assert set(seen.statuses) <= {400, 414, 431, 501}


_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = (
    "model",
    "messages",
    "prompt",
    "input",
    "stream",
    "options",
    "format",
    "tools",
)


@settings(max_examples=80)
@given(
    path=st.sampled_from(["/api/chat", "/api/generate", "/v1/messages", "/api/embed"]),
    fields=st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4),
)
def test_any_json(router, path, fields):
    """Whatever the fields hold, the router's answer is no failure of its own."""
    body = {"model": "llama3.2:3b", "options": {"num_predict": 2}} | fields
    status = router.post(path, body).status_code
    assert status in {200, 400, 404}, body
