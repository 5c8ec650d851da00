"""The troubled nodes, and the table of what they cost."""

from __future__ import annotations

import contextlib
import json
import threading
from math import inf

import pytest
import requests

from bench.trouble import _contained, cells, main, markdown, spread
from bench.troubled_node import Asked, Played, TroubledNode
from bench.troubles import TROUBLES, chat, poison
from tests.harness.ollama import ollama_binary
from tests.harness.poll import until
from tests.harness.scripted_node import ScriptedNode

RUN = {
    "requests": 80,
    "failed": 0,
    "why": [],
    "attempts": 3,
    "contained_seconds": 0.4,
    "back_seconds": None,
    "lost_tokens": 10,
    "tokens": 1000,
    "p50_seconds": 1.0,
    "p95_seconds": 2.0,
}


def test_a_range_of_rounds():
    """What never came, in one round or in all, is said."""
    assert "3" == spread([3, 3], "{:.0f}")
    assert "1.0 s to no" == spread([inf, 1.0], "{:.1f} s")
    assert "-" == spread([None], "{:.0f}")


def test_a_row_of_the_docs():
    """One line for each trouble and proxy."""
    other = RUN | {"attempts": 60, "contained_seconds": inf, "failed": 2}
    report = {"troubles": {"fails fast": {"router": [RUN, other]}}}
    assert ["80", "0 to 2", "3 to 60", "0.4 s to no", "-"] == cells([RUN, other])[:5]
    assert "| fails fast | router | 80 |" in markdown(report)


@pytest.mark.parametrize(
    ("at", "contained"),
    [([], 0.0), ([1.0], 1.5), ([9.5], 10.0), ([*range(1, 10)], inf)],
    ids=["none", "one", "one at the end", "all the time"],
)
def test_contained(at, contained):
    """By when the last failed attempt was over; never where they go on."""
    asked = [Asked(each, "m", ended_at=each + 0.5, failed=True) for each in at]
    assert contained == _contained(asked, 0.0, 10.0)


def test_each_trouble_has_its_name():
    """The table's first column."""
    names = [each.name for each in TROUBLES]
    assert 13 == len(set(names)) == len(names)


@pytest.fixture
def node():
    """A troubled node; a played one stands for its Ollama."""

    def script(exchange):
        line = {"message": {"content": "x"}, "done": False}
        last = {"done": True, "eval_count": 3}
        lines = [line, line, line, last]
        texts = (json.dumps(each, separators=(",", ":")) for each in lines)
        exchange.stream(f"{text}\n".encode() for text in texts)

    with ScriptedNode(script) as ollama:
        made = TroubledNode(ollama)
        try:
            yield made
        finally:
            made.stop()


def post(node, body, **more):
    url = f"http://127.0.0.1:{node.port}/api/chat"
    return requests.post(url, json=body, timeout=10, **more)


def test_well_it_passes_everything_on(node):
    """And knows what was asked of it, but for the router's own trials."""
    tags = requests.get(f"http://127.0.0.1:{node.port}/api/tags", timeout=10)
    assert ["m:latest"] == [each["name"] for each in tags.json()["models"]]
    assert 4 == len(post(node, chat(0)).text.splitlines())
    post(node, chat(0), headers={"X-Request-Id": "inferops-trial"})
    assert [(3, False)] == [(each.tokens, each.failed) for each in node.asked]


def test_bodies_in_chunks_are_read(node):
    """As olla sends them."""
    body = json.dumps(chat(0)).encode()
    assert post(node, None, data=iter([body[:9], body[9:]])).ok
    assert ["counting:latest"] == [each.model for each in node.asked]


def test_what_is_played_is_a_failure(node):
    """In the words that it was given."""
    node.play = lambda _: Played.error(500, "CUDA error")
    answer = post(node, chat(1))
    assert (500, {"error": "CUDA error"}) == (answer.status_code, answer.json())
    assert [True] == [each.failed for each in node.asked]


@pytest.mark.parametrize("how", ["crash", "shut"])
def test_streams_under_way_break(node, how):
    """A runner's death in Ollama's words, a server's by a reset."""
    node.slower = 1000.0
    lines = []

    def listen():
        with (
            contextlib.suppress(requests.RequestException),
            post(node, chat(0), stream=True) as answer,
        ):
            lines.extend(answer.iter_lines(chunk_size=None))

    client = threading.Thread(target=listen)
    client.start()
    until(lambda: node.asked and node.asked[0].tokens, "the stream is under way")
    if how == "shut":
        node.shut = True
    node.crashes += 1
    node.slower = 1.0
    client.join()
    assert node.asked[0].failed
    assert (how == "crash") is (b"unexpected EOF" in b"".join(lines))


def test_asleep_it_says_nothing(node):
    """Until it wakes; what was asked meanwhile counts as a failure."""
    node.asleep = True
    told = []
    client = threading.Thread(target=lambda: told.append(post(node, chat(0))))
    client.start()
    until(lambda: node.asked and node.asked[0].failed, "it has been asked")
    assert not told
    node.well()
    client.join()
    assert told[0].ok


def test_a_poison_is_its_own_body():
    """It differs from what others ask by what makes it one."""
    assert {"system"} == poison().keys() - chat(1).keys()


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH")
@pytest.mark.parametrize(
    "trouble", ["fails fast", "nonsense (a login page)", "wrong build"]
)
def test_no_request_fails(tmp_path, trouble):
    """On real Ollamas, through the router: the goal of the bench."""
    out = tmp_path / "out.json"
    main(["--proxies", "router", "--troubles", trouble, "--out", str(out)])
    (run,) = json.loads(out.read_text())["troubles"][trouble]["router"]
    assert run["requests"] > 20
    assert 0 == run["failed"]
    assert run["attempts"] <= 5 or run["contained_seconds"] <= 2
