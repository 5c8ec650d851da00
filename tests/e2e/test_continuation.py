"""A stream whose node dies goes on from another; the client sees one stream.

Simulated nodes that are cut at random points, on the real router. The counting
text shows every gap and every repeat. INFEROPS_CUTS=1000 makes the long run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from tests.harness.cases import long_but
from tests.harness.counting import PATHS, Heard, counted, listen, request_of
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
CUTS = int(os.environ.get("INFEROPS_CUTS", "120"))
VARIANTS = ("runner", "clean", "line", "socket")


def in_flight(router: Router) -> int:
    return sum(node["in_flight"] for node in router.nodes().values())


def check_whole(heard: Heard, tokens: int, reason: str = "length") -> None:
    """The client saw one whole answer, with the counters of a whole answer."""
    assert heard.error is None
    assert heard.ended
    assert heard.numbers == counted(tokens)
    assert (heard.reason, heard.generated) == (reason, tokens)
    assert len(heard.ids) == 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", PATHS)
def test_cut_stream_goes_on(router, fleet, path, variant):
    """However the node breaks off, text and counters are those of one answer."""
    whole = listen(router.url, path, request_of(path, MODEL, 20))
    fleet.put("fast", "slow", factor=60.0)
    fleet.put("fast", "cut", tokens=7, variant=variant)
    heard = listen(router.url, path, request_of(path, MODEL, 20))
    assert heard.node == "fast"
    check_whole(heard, 20)
    assert heard.prompt == whole.prompt
    assert [*heard.lines[-1]] == [*whole.lines[-1]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A fleet of one, and the router before it."""
    folder = tmp_path_factory.mktemp("alone")
    # Slow enough for the client to have a token by then, however busy this machine.
    node = Simulated("only", load_seconds=0.001, tokens_per_second=20.0)
    settings = {"DISPATCH__RETRY_RATIO": "1"}  # each request here is one
    port = free_port()
    with (
        SimulatedFleet(folder, (node,)) as fleet,
        Router(
            folder, fleet.inventory, prometheus_port=port, settings=settings
        ) as router,
    ):
        yield router.wait_ready(), fleet


@pytest.mark.parametrize("path", PATHS)
def test_a_dead_runner_of_the_only_node(alone, path):
    """Where no other node is, the stream goes on where its runner died."""
    router, fleet = alone
    fleet.clear("only")  # of what a test that failed may have left
    assert listen(router.url, path, request_of(path, MODEL, 2)).ended
    fleet.put("only", "cut", tokens=7, variant="runner", times=1)
    check_whole(listen(router.url, path, request_of(path, MODEL, 20)), 20)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", PATHS)
def test_a_runner_that_died_before_it_said_anything(alone, path, stream):
    """Where no other node is, the same is asked again: it has a new runner.

    Where that dies as well, while the node generates for the router, the request is
    at fault.
    """
    router, fleet = alone
    fleet.clear("only")
    fleet.put("only", "error", times=1)
    body = request_of(path, MODEL, 5 + stream) | {"stream": stream}
    answer = router.post(path, body)
    assert (200, "2") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    fleet.put("only", "error", times=2)
    answer = router.post(path, body)
    assert (422, "2") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    assert "model runner has unexpectedly stopped" in answer.text


@pytest.mark.long
def test_random_cuts(tmp_path):
    """Whatever the point and the kind of a cut, the client sees one whole answer."""
    seed = int(os.environ.get("INFEROPS_SEED", "20261122"))
    rng = random.Random(seed)
    nodes = (
        Simulated("fast", tokens_per_second=2000.0, load_seconds=0.001),
        Simulated("slow", tokens_per_second=500.0, load_seconds=0.001, tflops=20.0),
    )
    # Many are cut before the client has a byte: here each may be tried again.
    settings = {"DISPATCH__RETRY_RATIO": "1"}
    port = free_port()
    with (
        SimulatedFleet(tmp_path, nodes) as fleet,
        Router(
            tmp_path, fleet.inventory, prometheus_port=port, settings=settings
        ) as router,
    ):
        for path in PATHS:
            assert listen(router.url, path, request_of(path, MODEL, 2)).ended
        for _ in range(CUTS):
            cut_at_random(router, fleet, rng)
        until(lambda: in_flight(router) == 0, "every slot is given back")
        seams = router.metric(CONTINUED) or 0.0
        print(
            f"\n  {CUTS} cuts, seed {seed}: {seams:.0f} in mid-stream, {pauses(router)}"
        )
        # The others were cut before the client had a byte.
        assert seams >= CUTS / 20


CONTINUED = 'inferops_failovers_total{outcome="continued",phase="mid_stream"}'


# At the edges of tokens, within one, and over several: what is left of the first
# token that a stop string meets reaches the client just before the end does.
STOPS = (
    [" 131"],
    [" 118 1"],
    [" 104 105 106"],
    ["nothing"],
    ["25"],
    ["3"],
    ["18 119 1"],
    ["06 1", "4 11"],
    ["05 106 107 10"],
)


def cut_at_random(router: Router, fleet: SimulatedFleet, rng: random.Random) -> None:
    path = rng.choice(PATHS)
    tokens = rng.randint(2, 60)
    variant = rng.choice(VARIANTS)
    body = request_of(path, MODEL, tokens)
    stop = rng.choice(STOPS) if rng.random() < 0.5 else None
    if stop and path.startswith("/v1/"):
        body["stop"] = stop
    elif stop:
        body["options"]["stop"] = stop
    whole = listen(router.url, path, body)
    # As often as not between the last token and the end, or one before.
    said = whole.generated or tokens
    at = rng.choice((said, said - 1, rng.randint(1, said), rng.randint(1, said)))
    # Below four failures of ten the circuit leaves the node in use.
    assert listen(router.url, path, request_of(path, MODEL, 2)).ended
    fleet.put("fast", "cut", tokens=max(1, at), variant=variant)
    heard = listen(router.url, path, body)
    fleet.clear("fast")
    what = f"{path} {variant} after {at} of {said}, stop {stop}"
    assert (None, True) == (heard.error, heard.ended), what
    assert whole.text == heard.text, what
    assert (whole.reason, whole.prompt) == (heard.reason, heard.prompt), what
    assert whole.generated == heard.generated, what
    assert len(heard.ids) == 1, what


def pauses(router: Router) -> str:
    name = "inferops_continuation_pause_seconds"
    count = router.metric(f"{name}_count") or 0.0
    total = router.metric(f"{name}_sum") or 0.0
    return f"mean pause {1000 * total / max(count, 1):.1f} ms"


@pytest.mark.parametrize("path", long_but(PATHS, {"/v1/completions"}))
def test_several_seams(tmp_path, path):
    """A stream may lose one node after the other."""
    names = ("one", "two", "three")
    nodes = [Simulated(name, tokens_per_second=200.0) for name in names]
    with (
        SimulatedFleet(tmp_path, [*nodes, Simulated("four")]) as fleet,
        Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        for name in names:
            fleet.put(name, "cut", tokens=6, variant="clean")
        heard = listen(router.url, path, request_of(path, MODEL, 40))
        check_whole(heard, 40)


def test_nothing_left_is_finished_here(router, fleet):
    """A limit reached at the cut ends the stream; no node is told `0`: no limit."""
    fleet.put("fast", "slow", factor=20.0)
    fleet.put("fast", "cut", tokens=8, variant="clean")
    heard = listen(router.url, "/api/chat", request_of("/api/chat", MODEL, 8))
    check_whole(heard, 8)
    assert fleet.state("slow")["inferences"]["cancelled"] == 0


def test_hung_node_is_left(tmp_path, fleet):
    """A node that says nothing more counts as dead after the time that it gets."""
    settings = {"DISPATCH__STALL_TIMEOUT_SECONDS": "1"}
    port = free_port()
    with Router(
        tmp_path, fleet.inventory, prometheus_port=port, settings=settings
    ) as router:
        fleet.put("fast", "slow", factor=20.0)
        heard = Heard()
        body = request_of("/api/chat", MODEL, 60)
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(listen, router.url, "/api/chat", body, heard=heard)
            until(lambda: len(heard.lines) > 5, "the stream is under way")
            fleet.put("fast", "hang")
            ended.result(timeout=30)
        check_whole(heard, 60)
        explained = router.get(f"/admin/explain/{heard.request_id}").json()
        first, second = explained["attempts"]
        assert first["failure"].startswith("fast: stalled after")
        assert ("slow", None, "end") == (
            second["picked"],
            second["failure"],
            explained["ended"],
        )


def test_client_that_leaves_at_the_seam(router, fleet):
    """A slot that the next leg waits for, or has, is free at once."""
    fleet.put("slow", "hang")
    fleet.put("fast", "slow", factor=20.0)
    fleet.put("fast", "cut", tokens=5)
    body = request_of("/api/chat", MODEL, 40)
    with requests.post(f"{router.url}/api/chat", json=body, stream=True) as answer:
        until(lambda: fleet.state("fast")["inferences"]["failed"], "the node is cut")
        assert answer.raw.read(1)
        until(lambda: router.nodes()["slow"]["in_flight"] == 1, "the next leg asks")
    until(lambda: in_flight(router) == 0, "the slot is free", seconds=5)


def all_have(heard: Iterable[Heard], lines: int) -> bool:
    return all(len(each.lines) >= lines for each in heard)


def test_killed_nodes_under_load(tmp_path):
    """200 streams over 8 nodes, 3 of them killed one by one: nobody notices."""
    nodes = [Simulated(f"node-{n}", slots=40, tokens_per_second=12.0) for n in range(8)]
    settings = {"DISPATCH__PICKER": "least_in_flight"}
    with (
        SimulatedFleet(tmp_path, nodes, scaling="linear") as fleet,
        Router(
            tmp_path, fleet.inventory, prometheus_port=free_port(), settings=settings
        ) as router,
        ThreadPoolExecutor(200) as pool,
    ):
        heard = [Heard() for _ in range(200)]
        streams = [
            pool.submit(load, router.url, PATHS[n % 4], each)
            for n, each in enumerate(heard)
        ]
        for n in range(3):
            until(partial(all_have, heard, 8 * (n + 1)), "all go on")
            fleet.put(f"node-{n}", "refuse", reset=True)
        for stream in streams:
            stream.result(timeout=120)
        seams = router.metric(CONTINUED) or 0.0
        print(f"\n  200 streams, 3 nodes killed: {seams:.0f} seams, {pauses(router)}")
    assert [] == [each.error for each in heard if each.error]
    for each in heard:
        check_whole(each, TOKENS)
    assert seams >= 20


TOKENS = 60


def load(url: str, path: str, heard: Heard) -> None:
    listen(url, path, request_of(path, MODEL, TOKENS), heard=heard)
