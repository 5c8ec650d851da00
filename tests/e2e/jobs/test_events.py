"""A job's events: the state at once, changes as they come, the end, and no end."""

from __future__ import annotations

import json
import signal
import time

import pytest
import requests

from tests.harness.jobs import begin, dataset, ended, requests_file
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def events(router, name):
    """Yield (kind, content) until the stream ends."""
    url = f"{router.url}/v1/jobs/{name}/events"
    with requests.get(url, stream=True, timeout=30) as answer:
        assert "text/event-stream" == answer.headers["Content-Type"]
        kind = ""
        for line in answer.iter_lines():
            if line.startswith(b"event: "):
                kind = line[7:].decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])


def test_progress_comes_at_most_twice_a_second_and_ends(start):
    """Counts only grow; the last event is the job itself."""
    router = start([TalliedNode("one", seconds=0.1)])
    name = begin(router, requests_file(100, MODEL))
    began = time.monotonic()
    seen = list(events(router, name))
    seconds = time.monotonic() - began
    kinds = [kind for kind, _ in seen]
    assert "end" == kinds[-1]
    assert {"progress", "end"} == set(kinds)
    done = [c["progress"]["items"]["done"] for kind, c in seen if kind == "progress"]
    assert done == sorted(done)
    assert 100 == done[-1]
    assert 3 <= len(done) <= 2 * seconds + 3
    assert "completed" == seen[-1][1]["state"]
    assert [("progress", 100), ("end", 100)] == [
        (kind, content["progress"]["items"]["done"])
        for kind, content in events(router, name)
    ]


def joined_rows(router, count):
    """Begin a job whose answers are put together to one text."""
    return dataset(
        router,
        "rows.csv",
        b"text\n" + b"".join(b"row %d\n" % n for n in range(count)),
        model=MODEL,
        template="{{ text }}",
        reducer={"kind": "concat", "separator": "|"},
    )["id"]


def test_partial_results_are_there_before_a_tenth_is_done(start):
    """A text that grows from its beginning, read while the job runs."""
    router = start([TalliedNode("one", slots=2, seconds=0.1)])
    name = joined_rows(router, 100)
    done = 0
    first = None
    for kind, content in events(router, name):
        if kind == "progress":
            done = content["progress"]["items"]["done"]
        if kind == "partial" and content["covers"] and first is None:
            first = (done, content)
    assert first is not None
    assert first[0] < 10
    assert first[1]["value"].startswith("said row 0")
    whole = router.get(f"/v1/jobs/{name}/output")
    assert "|".join(f"said row {n}" for n in range(100)) == whole.text


@pytest.mark.long
def test_a_router_that_stops_ends_the_stream_without_an_end(start):
    """The reader comes again, and the job goes on."""
    router = start([TalliedNode("one", slots=1, seconds=0.2)])
    name = begin(router, requests_file(60, MODEL))
    kinds: list[str] = []
    for kind, _ in events(router, name):
        if not kinds:
            router.process.signal(signal.SIGTERM)
        kinds.append(kind)
    assert "end" not in kinds
    router.process.wait()
    router.process.start()
    router.wait_ready()
    assert "end" == list(events(router, name))[-1][0]
    assert 60 == ended(router, name)["progress"]["items"]["done"]


def test_a_reader_that_leaves_costs_nothing(start):
    """Fifty come and go; the router serves on."""
    router = start([TalliedNode("one", slots=1, seconds=0.2)])
    name = begin(router, requests_file(20, MODEL))
    for _ in range(50):
        next(events(router, name))
    assert 20 == ended(router, name)["progress"]["items"]["done"]


def texts(router, name, last: str | None = None, most: int | None = None):
    """Follow a text; return its pieces, the last id, and whether it ended."""
    url = f"{router.url}/v1/jobs/{name}/events?text=true"
    headers = {"Last-Event-ID": last} if last else {}
    pieces, mark, kind = [], last, ""
    with requests.get(url, stream=True, timeout=30, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith(b"id: "):
                mark = line[4:].decode()
            elif line.startswith(b"event: "):
                kind = line[7:].decode()
                assert kind != "partial"
            elif line.startswith(b"data: ") and kind == "text":
                pieces.append(json.loads(line[6:])["text"])
                if most == len(pieces):
                    return pieces, mark, False
    return pieces, mark, kind == "end"


def test_a_text_is_followed_from_its_beginning_to_its_end(start):
    """Also by who breaks off after each piece, and comes again."""
    router = start([TalliedNode("one", slots=2, seconds=0.05)])
    name = joined_rows(router, 120)
    pieces, mark, ended_well, visits = [], None, False, 0
    while not ended_well:
        more, mark, ended_well = texts(router, name, mark, most=1)
        pieces += more
        visits += 1
    whole = router.get(f"/v1/jobs/{name}/output").text
    assert "|".join(f"said row {n}" for n in range(120)) == whole
    assert whole == "".join(pieces)
    assert visits > 3, "the job was still running"
    assert (whole, True) == ("".join(texts(router, name)[0]), texts(router, name)[2])


def test_only_a_text_that_grows_can_be_followed(start):
    """Other jobs have none; an id of another stream is refused."""
    router = start([TalliedNode("one", seconds=0.01)])
    name = begin(router, requests_file(3, MODEL))
    answer = router.get(f"/v1/jobs/{name}/events?text=true")
    assert 400 == answer.status_code
    assert "text" == answer.json()["error"]["param"]
