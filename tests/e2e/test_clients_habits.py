"""What real clients ask of an Ollama, asked of the router in front of real ones.

Two nodes with one slot each; a poll of what they have on disk comes too late for any
of these tests.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import brotli
import pytest
import requests

from router.web.inference.encoding import zstd
from tests.harness.counting_model import SLOW, Shape
from tests.harness.hostile_node import JSON, HostileNode
from tests.harness.inventory import write_inventory
from tests.harness.ollama import MODEL, RealOllama, ollama_binary, real_nodes
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.wire import connect, read_answer
from tests.router.test_model import NOT_NAMES, SAME

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
]

FIVE = [{"role": "user", "content": "5"}]
CHAT = {"messages": FIVE, "stream": False, "options": {"num_predict": 1}}
HUGGING_FACE = "hf.co/Somebody/Count-GGUF:Q4_K_M"
MODELS = {MODEL: Shape(), "slow": SLOW}
# By time to completion the second would rather wait than load the model once more.
SPREAD = {"X-InferOps-Picker": "least_in_flight"}


def run(node: RealOllama, *arguments: str, host: str = "") -> str:
    """Run Ollama's own command line against a node, or against `host`."""
    env = {**os.environ, **node._env, "OLLAMA_HOST": host or node.url}
    done = subprocess.run(
        [str(ollama_binary()), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


def create(node: RealOllama, name: str) -> None:
    modelfile = node._tmp / "from-counting"
    modelfile.write_text(f"FROM {MODEL}\n")
    run(node, "create", name, "-f", str(modelfile))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[list[RealOllama]]:
    folder = tmp_path_factory.mktemp("nodes")
    with real_nodes(folder, models=MODELS) as made:
        for node in made.values():
            create(node, HUGGING_FACE)
            create(node, "me/Mine:V2")
        yield [*made.values()]


@pytest.fixture(scope="module")
def router(tmp_path_factory, nodes) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("router")
    urls = {"one": nodes[0].url, "two": nodes[1].url}
    with Router(
        folder,
        write_inventory(folder / "nodes.yml", urls, slots=None),
        prometheus_port=free_port(),
        settings={"CONTROL__PRESENT_INTERVAL_SECONDS": "900"},
    ) as router:
        yield router


def both(router: Router, node: RealOllama, path: str, body: object) -> list[int]:
    """Return the statuses that node and router answer with."""
    return [
        requests.post(url + path, json=body, timeout=60).status_code
        for url in (node.url, router.url)
    ]


FORMS = [
    *(form for forms in SAME.values() for form in forms if "/team/" not in form),
    "ollama.com/library/counting",
    "hf.co/Somebody/Count-GGUF",
]


@pytest.mark.parametrize("name", FORMS)
def test_names(router, nodes, name):
    """Each form of a name is the model that it is to Ollama, on each route."""
    for path, fields in (
        (
            "/api/generate",
            {"prompt": "5", "stream": False, "options": {"num_predict": 1}},
        ),
        ("/api/chat", CHAT),
        ("/api/show", {}),
        ("/api/embed", {"input": "5"}),
        ("/api/embeddings", {"prompt": "5"}),
        ("/v1/chat/completions", {"messages": FIVE, "max_tokens": 1}),
    ):
        on_node, through = both(router, nodes[0], path, {"model": name, **fields})
        assert on_node == through, path


@pytest.mark.parametrize("name", NOT_NAMES[1:-1], ids=repr)
def test_no_names(router, nodes, name):
    """What is no name to Ollama is not found, or refused, by both."""
    for status in both(router, nodes[0], "/api/generate", {"model": name, **CHAT}):
        assert status in {400, 404}


PATHS = [
    ("POST", "//api/chat"),
    ("POST", "/api/chat/"),
    ("POST", "/api//chat"),
    ("POST", "/api/./chat"),
    ("POST", "/x/../api/chat"),
    ("POST", "/api/%63hat"),
    ("POST", "/api/chat?x=1"),
    ("POST", "//v1//chat/completions/"),
    ("POST", "/API/chat"),
    ("POST", "/api/Chat"),
    ("POST", "/api/nope"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "//api/tags"),
    ("GET", "/api/tags/"),
    ("HEAD", "/api/tags"),
    ("HEAD", "/"),
    ("GET", "/api/chat"),
    ("PUT", "/api/chat"),
    ("OPTIONS", "/api/chat"),
    ("OPTIONS", "/api/tags"),
    ("TRACE", "/v1/messages"),
    ("POST", "/api/version"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_paths(router, nodes, method, path):
    """A client that follows redirects gets the same status, and the same `Allow`."""
    body = json.dumps({"model": MODEL, **CHAT, "max_tokens": 1})
    answers = []
    for url in (nodes[0].url, router.url):
        with requests.Session() as session:
            asked = requests.Request(method, url, data=body).prepare()
            asked.url = url + path  # as it is: the library would tidy it
            answers.append(session.send(asked, timeout=60))
    direct, through = answers
    assert direct.status_code == through.status_code
    allow = [set(a.headers.get("Allow", "").split(", ")) for a in answers]
    assert allow[0] <= allow[1]  # HEAD is answered wherever GET is
    if direct.status_code == 404 and method == "POST" and path.startswith("/api/"):
        assert direct.content == through.content == b"404 page not found"


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("zstd", zstd.compress),
        ("gzip", gzip.compress),
        ("br", brotli.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"input": "5 6", "max_output_tokens": 3}),
        ("/api/chat", CHAT),
    ],
)
def test_compressed(router, coding, pack, path, fields):
    """Codex' compressed bodies are read on every route, by nodes that read none."""
    body = pack(json.dumps({"model": MODEL, **fields}).encode())
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    answer = requests.post(router.url + path, data=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def test_unknown_coding(router):
    """A coding that is not read is refused with those that are."""
    headers = {"Content-Encoding": "compress"}
    answer = router.post("/api/chat", {"model": MODEL}, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "zstd, gzip, deflate, br"
    assert "must be one of zstd, gzip, deflate, br, got 'compress'" in answer.text


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Authorization: Bearer " + "a" * 16_000], 200),
        (["Content-Type: application/json"] * 2, 200),
        (["Content-Type: application/json", "Content-Type: text/plain"], 200),
        (["Content-Type: application/json, application/json"], 200),
        (["X-Request-Timeout: 30s"], 200),
        (["Authorization: Bearer " + "a" * 40_000], 431),
        (["X-A: a"] * 200, 431),
    ],
    ids=[
        "large token",
        "content type twice",
        "two content types",
        "content type as a list",
        "duration",
        "too large",
        "too many",
    ],
)
def test_headers(router, lines, status):
    """Headers as companies and libraries send them pass; beyond is said clearly."""
    body = json.dumps({"model": MODEL, **CHAT}).encode()
    head = [
        "POST /api/chat HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    with connect(router.port) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode() + body)
        answer = read_answer(client)
    assert status == answer.status, answer.body
    if status == 431:
        assert answer.json["error"] == (
            "the headers are too large: at most 32768 bytes each, 65536 together, and"
            " 100 of them"
        )


def test_a_model_that_was_just_made(router, nodes):
    """It is served at once, on whichever node it is, though no poll has brought it."""
    create(nodes[1], "fresh")
    answer = router.post("/api/chat", {"model": "Fresh", **CHAT})
    assert (200, "two") == (answer.status_code, answer.headers["X-InferOps-Node"])
    assert router.get("/v1/models/fresh").status_code == 200
    names = {model["name"] for model in router.get("/api/tags").json()["models"]}
    assert "fresh:latest" in names


@pytest.mark.parametrize("path", ["/api/show", "/v1/models/"])
def test_just_made_and_only_looked_at(router, nodes, path):
    """A client looks at a model before it uses it: that finds it as well."""
    name = f"fresh-{len(path)}"
    create(nodes[0], name)
    if path == "/api/show":
        answer = router.post(path, {"model": name})
    else:
        answer = router.get(path + name)
    assert answer.status_code == 200


def test_a_model_that_moved(router, nodes):
    """It was taken from one node and made on another since the last poll."""
    create(nodes[0], "moving")
    assert router.post("/api/chat", {"model": "moving", **CHAT}).status_code == 200
    run(nodes[0], "rm", "moving")
    create(nodes[1], "moving")
    answer = router.post("/api/chat", {"model": "moving", **CHAT})
    assert (200, "two") == (answer.status_code, answer.headers.get("X-InferOps-Node"))


def loaded(node: RealOllama) -> set[str]:
    answer = requests.get(f"{node.url}/api/ps", timeout=10).json()
    return {model["name"] for model in answer["models"]}


def unloaded(node: RealOllama) -> bool:
    return not loaded(node)


def test_ollama_stop(router, nodes):
    """`ollama stop`, and a keep_alive of 0, empty every node that holds the model."""
    generate = [f"{node.url}/api/generate" for node in nodes]
    for way in ("stop", "generate", "chat"):
        for node, url in zip(nodes, generate, strict=True):
            for name in loaded(node):  # another name of the same weights would stay
                requests.post(url, json={"model": name, "keep_alive": 0}, timeout=60)
            until(partial(unloaded, node), "nothing is loaded")
            requests.post(url, json={"model": MODEL}, timeout=60)
            assert {f"{MODEL}:latest"} == loaded(node)
        if way == "stop":
            run(nodes[0], "stop", MODEL, host=router.url)
        else:
            body = {"model": MODEL.upper(), "keep_alive": 0}
            answer = router.post(f"/api/{way}", body)
            assert answer.json()["done_reason"] == "unload"
        for node in nodes:
            until(partial(unloaded, node), "it is unloaded")


def queued(router: Router) -> int:
    return sum(router.get("/admin/queue").json()["waiting"].values())


@pytest.fixture
def busy(router) -> Iterator[Callable[[], bool]]:
    """Occupy both slots by long answers; says whether they still go on."""
    body = {
        "model": "slow",
        "prompt": "1",
        "raw": True,
        "options": {"num_predict": 900},
    }
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(
                router.post(
                    "/api/generate", body, stream=True, timeout=300, headers=SPREAD
                )
            )
            for _ in range(2)
        ]
        lines = [stream.iter_lines() for stream in streams]
        for each in lines:
            next(each)
        yield lambda: all(b'"done":false' in next(each) for each in lines)


@pytest.mark.long
def test_what_needs_no_slot(router, nodes, busy):
    """Looks, loads of what is loaded and unloads are answered beside full slots."""
    for path, body in (
        ("/api/show", {"model": "slow"}),
        ("/api/show", {"model": MODEL, "verbose": True}),
        ("/api/generate", {"model": "slow"}),
        ("/api/generate", {"model": "slow", "keep_alive": "20m"}),
        ("/api/chat", {"model": "slow", "messages": []}),
        ("/api/chat", {"model": "slow", "messages": FIVE, "_debug_render_only": True}),
        ("/api/embed", {"model": "slow", "input": []}),
        ("/api/embeddings", {"model": "slow"}),
        ("/v1/completions", {"model": "slow", "prompt": ""}),
        ("/api/generate", {"model": MODEL, "keep_alive": 0}),
    ):
        answer = router.post(path, body)
        assert answer.status_code == 200, (path, answer.text)
        assert busy(), f"{path} did not wait for a slot"
    for path in (
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/v1/models",
        "/v1/models/slow",
    ):
        assert router.get(path).status_code == 200
    assert not queued(router)
    assert busy()


@pytest.mark.long
def test_a_flood_of_looks(router, busy):
    """Six hundred at one time are answered, and take nobody's place in the queue."""

    def look(number: int) -> int:
        return router.post("/api/show", {"model": list(MODELS)[number % 2]}).status_code

    with ThreadPoolExecutor(100) as pool:
        looks = [pool.submit(look, number) for number in range(600)]
        until(looks[99].done, "the flood is there")
        assert not queued(router)
        assert {200} == {each.result() for each in looks}
    assert busy(), "the flood was over before the answers were"


@pytest.fixture
def newer() -> Iterator[HostileNode]:
    """A node of a later release: it has a route more, and sends odd headers."""
    headers = {
        "Content-Type": JSON,
        "Set-Cookie": "session=1",
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Credentials": "true",
        "Location": "http://elsewhere/",
        "WWW-Authenticate": "Basic",
        "Server": "theirs",
        "X-Powered-By": "them",
        "X-InferOps-Node": "not me",
        "X-Request-Id": "not this",
        "Cache-Control": "no-store",
        "Content-Disposition": "inline",
    }
    answer = {"answers": lambda: (200, headers, iter([b'{"label":"yes"}']))}
    with HostileNode({"newest": answer["answers"]}, "0.35.0") as node:
        yield node


def test_routes_of_a_newer_node(tmp_path, nodes, newer):
    """A route that is not known here goes to the nodes whose release has it."""
    for node in nodes:
        create(node, "newest")
    urls = {"one": nodes[0].url, "two": nodes[1].url, "new": newer.url}
    with Router(
        tmp_path,
        write_inventory(tmp_path / "nodes.yml", urls, slots=None),
        prometheus_port=free_port(),
    ) as router:
        for _ in range(6):
            answer = router.post("/v1/systemone", {"model": "newest", "input": "x"})
            assert (200, {"label": "yes"}) == (answer.status_code, answer.json())
            assert answer.headers["X-InferOps-Node"] == "new"
        assert {"/v1/systemone"} == set(newer.asked)
        count = router.post("/v1/messages/count_tokens", {"model": "newest"})
        assert (200, "new") == (count.status_code, count.headers["X-InferOps-Node"])
        newer.asked.clear()
        missing = router.post("/v1/systemone", {"model": MODEL, "input": "x"})
        assert (404, "404 page not found") == (missing.status_code, missing.text)
        assert router.post("/v1/systemone", {"model": "none"}).status_code == 404
        assert "model" in router.post("/v1/systemone", {"model": "none"}).text
        assert not any(node["holds"] for node in router.nodes().values())
        for path in ("/api/pull", "/api//pull", "/api/pull/", "/api/v2/create"):
            shut = router.post(path, {"model": "newest"})
            assert shut.status_code in {403, 404}, path
        assert not newer.asked
        check_headers(answer)


def check_headers(answer: requests.Response) -> None:
    """Of a node's head only what describes the body is passed on."""
    passed = set(answer.headers) - {"Date", "Connection", "Content-Length"}
    assert {
        "Content-Type",
        "Cache-Control",
        "Content-Disposition",
        "X-Request-Id",
        "X-InferOps-Node",
        "X-InferOps-Attempts",
    } == passed
    assert answer.headers["X-Request-Id"] != "not this"
