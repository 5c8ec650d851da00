"""No input of a stranger, or of a node, cuts other people's streams.

The router runs with a gibibyte of memory, as Compose gives it, beside twenty streams
that go on all the time. Each input is the worst of its kind; none may end a stream,
hold the event loop, have the kernel end a process, or leave its memory behind.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import itertools
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator

import brotli
import pytest
import requests

from router.web.inference.encoding import zstd
from tests.harness.crowd import Crowd
from tests.harness.hostile_node import (
    JSON,
    MIB,
    NDJSON,
    Answer,
    HostileNode,
    repeated,
)
from tests.harness.inventory import entry
from tests.harness.loop_time import RouterLoopTime
from tests.harness.memory_cgroup import MemoryCgroup, NoCgroupError, memory_cgroup
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.wire import connect, post, read_answer

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

MODEL = "llama3.2:3b"
LIMIT = 1024 * MIB
STREAMS = 20
MOST_HELD = 0.05  # processor seconds between two switches of greenlets
LARGE = 60 * MIB  # just below the largest body that is taken
HELD = "inferops_request_bodies_bytes"


def ndjson(*pieces: Iterator[bytes]) -> Callable[[], Answer]:
    return lambda: (200, {"Content-Type": NDJSON}, itertools.chain(*pieces))


def whole(status: int, start: bytes, unit: bytes, size: int) -> Callable[[], Answer]:
    return lambda: (
        status,
        {"Content-Type": JSON},
        itertools.chain([start], repeated(unit, size)),
    )


_WELL = b'{"content":[{"type":"text","text":"x"}],"response":"x","done":true}'
# Takes whatever is sent and answers well: what strangers send must harm no node.
SINK: dict[str, Callable[[], Answer]] = {
    "sink": lambda: (200, {"Content-Type": JSON}, iter([_WELL])),
}
ANSWERS: dict[str, Callable[[], Answer]] = {
    "large-reply": whole(200, b'{"response":"', b"a", 100 * MIB),
    "endless-reply": whole(200, b'{"response":"', b"a", 2048 * MIB),
    "dense-reply": whole(200, b'{"x":[', b"[],", 30 * MIB),
    "dense-error": whole(500, b'{"error":[', b"[],", 30 * MIB),
    "deep-error": whole(500, b'{"error":', b"[", MIB),
    "long-line": ndjson(iter([b'{"response":"']), repeated(b"a", 15 * MIB)),
    "endless-line": ndjson(repeated(b"a", 2048 * MIB)),
    "dense-line": ndjson(
        iter([b'{"x":[']), repeated(b"[],", 15 * MIB), iter([b'1],"done":true}\n'])
    ),
    "empty-lines": ndjson(repeated(b"\n", 60 * MIB)),
    "error-lines": ndjson(
        iter([b'{"error":[']), repeated(b"[],", 15 * MIB), iter([b"\n"])
    ),
    "large-head": lambda: (200, {"X-Large": "a" * 200_000}, iter([b"{}"])),
}


@pytest.fixture(scope="module")
def cgroup() -> Iterator[MemoryCgroup]:
    try:
        with memory_cgroup(LIMIT) as made:
            yield made
    except NoCgroupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def node() -> Iterator[HostileNode]:
    with HostileNode(ANSWERS) as node:
        yield node


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, node) -> Iterator[SimulatedFleet]:
    steady = Simulated("steady", slots=STREAMS, tokens_per_second=400.0)
    folder = tmp_path_factory.mktemp("fleet")
    with HostileNode(SINK) as sink, SimulatedFleet(folder, [steady]) as fleet:
        hostile = entry("hostile", node.url, slots=16)
        fleet.write([*fleet.entries, hostile, entry("sink", sink.url, slots=16)])
        yield fleet


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> RouterLoopTime:
    return RouterLoopTime(tmp_path_factory.mktemp("loop") / "measure")


@pytest.fixture(scope="module")
def router(tmp_path_factory, fleet, cgroup, loop) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("router")
    with Router(
        folder,
        fleet.inventory,
        prometheus_port=free_port(),
        settings={  # the machine is busy
            "CONTROL__PROBE_TIMEOUT_SECONDS": "20",
            "DISPATCH__CONNECT_TIMEOUT_SECONDS": "30",
        },
        inside=cgroup.inside,
        app="tests.harness.measured:app",
        env=loop.env,
    ) as router:
        yield router


@pytest.fixture(scope="module")
def crowd(router) -> Iterator[Crowd]:
    with Crowd(router.url, (MODEL,), tokens=40, clients=STREAMS) as crowd:
        until(lambda: len(crowd.answers) >= STREAMS, "everybody had an answer")
        yield crowd


@pytest.fixture(autouse=True)
def nobody_is_cut(crowd, router, cgroup, loop) -> Iterator[None]:
    """All who stream meanwhile are answered in full, and after it as before."""
    loop.begin()
    at = len(crowd.answers)
    yield
    enough = len(crowd.answers) + STREAMS
    until(lambda: len(crowd.answers) >= enough, "the streams go on", seconds=60)
    assert {"ok"} == {answer.result for answer in crowd.answers[at:]}
    assert cgroup.kills == 0
    # The small bodies of those who stream are counted too.
    until(lambda: (router.metric(HELD) or 0) < MIB, "no large body is held")
    started = [line for line in router.log() if "event=started" in line]
    assert len(started) == 1, "the worker was never replaced"
    print(f"held {loop.longest * 1000:.0f} ms")
    assert loop.longest < MOST_HELD


def polled_down(router: Router) -> bool:
    """Return whether polls hold the hostile node; its answers may as well."""
    holds = router.nodes()["hostile"]["holds"]
    return any(hold["source"] == "probe" for hold in holds)


def send(router: Router, path: str, body: bytes, *headers: str) -> tuple[int, str]:
    """Send a request as fast as it goes; the answer may come before its end."""
    with connect(router.port, seconds=120) as client:
        length = f"Content-Length: {len(body)}"
        head = [f"POST {path} HTTP/1.1", "Host: localhost", length]
        client.sendall("\r\n".join([*head, *headers, "", ""]).encode())
        with contextlib.suppress(OSError):
            client.sendall(body)
        answer = read_answer(client)
        return answer.status, answer.body.decode(errors="replace")


def together(count: int, call: Callable[[], tuple[int, str]]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(call())) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return found


BODIES: dict[str, tuple[Callable[[], bytes], int]] = {
    "lists": (lambda: b'{"model":"sink","x":[' + b"[]," * (LARGE // 3) + b"[]]}", 400),
    "objects": (lambda: b'{"model":"sink","x":[' + b"{}," * (LARGE // 3) + b"0]}", 400),
    "members": (lambda: b"{" + b'"a":0,' * (LARGE // 6) + b'"model":"sink"}', 400),
    "levels": (lambda: b'{"model":"sink","x":' + b"[" * LARGE, 400),
    "numbers": (lambda: b'{"model":"sink","x":[' + b"1," * (LARGE // 2) + b"1]}", 200),
    "strings": (lambda: b'{"x":[' + b'"",' * (LARGE // 3) + b'1],"model":"sink"}', 200),
    "escapes": (lambda: b'{"model":"sink","x":"' + b'\\"' * (LARGE // 2) + b'"}', 200),
    "one text": (lambda: b'{"model":"sink","x":"' + b"a" * LARGE + b'"}', 200),
    "name": (lambda: b'{"model":"' + b"a" * LARGE + b'"}', 400),
    "space": (lambda: b" " * LARGE + b"{}", 400),
    "cut": (lambda: b'{"model":"sink","x":"' + b"a" * LARGE, 400),
    "no JSON": (lambda: b"\xff" * LARGE, 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(router, name):
    """Three of the largest bodies at one time, of each shape that is dear to read."""
    make, status = BODIES[name]
    body = make()
    answers = together(3, lambda: send(router, "/v1/messages", body))
    assert {status} == {status for status, _ in answers}, answers


def test_as_many_as_are_taken(router, cgroup):
    """All the bodies that may be held at one time fit beside everything else."""
    body = BODIES["one text"][0]()
    answers = together(12, lambda: send(router, "/v1/messages", body))
    assert {status for status, _ in answers} <= {200, 429}
    print(f"peak {cgroup.peak_bytes / MIB:.0f} MiB")


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("br", functools.partial(brotli.compress, quality=1)),
        ("zstd", zstd.compress),
    ],
    ids=["gzip", "br", "zstd"],
)
def test_bombs(router, coding, pack):
    """A small body that decodes to very much is refused on the way there."""
    bomb = pack(bytes(200 * MIB))
    headers = f"Content-Encoding: {coding}"
    answers = together(8, lambda: send(router, "/api/chat", bomb, headers))
    assert {413} == {status for status, _ in answers}
    assert "decodes to over" in answers[0][1]


def test_compressed_to_the_brim(router):
    """As much as may come out of compressed bodies comes out of several at a time."""
    noise = base64.b64encode(random.Random(7).randbytes(LARGE * 7 // 10))
    body = zstd.compress(b'{"model":"sink","x":"' + noise + b'"}')
    headers = "Content-Encoding: zstd"
    answers = together(6, lambda: send(router, "/v1/messages", body, headers))
    assert {status for status, _ in answers} <= {200, 429}


@pytest.mark.parametrize("form", [b"--", b"-a" * 90, b"a" * 60], ids=str)
def test_forms(router, form):
    """A form without the field is searched for its boundary to the end."""
    body = b"--" + form + b"b\r\n" + form * (LARGE // len(form))
    answers = together(
        4, lambda: send(router, "/v1/audio/transcriptions", body[:LARGE])
    )
    assert {(400, "model is required")} == {
        (status, json.loads(text)["error"]["message"]) for status, text in answers
    }


def test_heads(router):
    """Hundreds of clients send the largest heads that are taken, and larger ones."""
    line = "X-Large: " + "a" * 32_000
    for lines, status in (([line] * 2, 200), ([line] * 3, 431), ([line * 2], 431)):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(router.port)) for _ in range(300)]
            for client in clients:
                head = ["GET /api/version HTTP/1.1", "Host: localhost", *lines, "", ""]
                client.sendall("\r\n".join(head).encode())
            found = {read_answer(client).status for client in clients}
        assert {status} == found


def test_names(router):
    """Unknown names and paths become no labels."""
    with requests.Session() as session:
        for number in range(40):
            body = {"model": f"x{number}", "messages": [number]}
            with contextlib.suppress(requests.Timeout):
                session.post(f"{router.url}/api/chat", json=body, timeout=0.1)
            path = f"{router.url}/api/u{number}"
            session.post(path, json={"model": MODEL}, timeout=60)
    metrics = router.get("/metrics").text
    assert "x39" not in metrics
    assert "u39" not in metrics


def test_a_flood_of_light_calls(router):
    """Six hundred questions about models at one time are all answered."""
    answers = together(600, lambda: send(router, "/api/show", b'{"model":"sink"}'))
    assert {200} == {status for status, _ in answers}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_a_node(router, cgroup, name):
    """Whatever a node answers, three times at once, it holds up nobody."""
    body = {"model": name, "prompt": "x"}

    def ask() -> tuple[int, str]:
        with connect(router.port, seconds=60) as client:
            client.sendall(post("/api/generate", body, Connection="close"))
            return _drained(client)

    assert len(together(3, ask)) == 3
    print(f"peak {cgroup.peak_bytes / MIB:.0f} MiB")


def _drained(client: socket.socket) -> tuple[int, str]:
    """Read an answer without keeping it, but not for ever."""
    start = client.recv(65_536)
    left = 200 * MIB
    while left > 0 and (piece := client.recv(MIB)):
        left -= len(piece)
    return int(start[9:12]), ""


@pytest.mark.parametrize(
    "listing",
    [
        '{"models":[' + "[]," * (5 * MIB) + "[]]}",
        '{"models":' + "[" * (15 * MIB),
        '{"models":[{"name":"' + "a" * (15 * MIB) + '"}]}',
        "a" * (40 * MIB),
    ],
    ids=["lists", "levels", "name", "too large"],
)
def test_listings_of_a_node(router, node, listing):
    """A poll's answer is bounded as well; the node is down for it, or ignored."""
    before, node.listing = node.listing, listing
    asked = node.polls
    try:
        until(lambda: node.polls >= asked + 3, "its answer was read twice")
    finally:
        node.listing = before
        until(lambda: not polled_down(router), "it is back")
