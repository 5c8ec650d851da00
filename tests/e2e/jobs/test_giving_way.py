"""People come first; windows, pauses, quotas: when items run, and where."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.harness.jobs import (
    batch,
    begin,
    dataset,
    each_once,
    ended,
    job,
    lines,
    requests_file,
    results,
)
from tests.harness.poll import until
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def running(router, name):
    return job(router, name)["progress"]["items"]["running"]


def of_jobs(node):
    return {key: count for key, count in node.seen.items() if "batch_" in key}


def test_a_person_gets_the_slot_at_once(start):
    """The item is taken back, runs again later, and no try is counted."""
    node = TalliedNode("one", slots=1, seconds=4.0)
    router = start([node])
    name = begin(router, requests_file(2, MODEL), give_way="at_once", attempts=1)
    until(lambda: of_jobs(node), "an item runs")
    node.seconds = 0.1
    assert 200 == router.post("/v1/chat/completions", QUESTION).status_code
    ended(router, name)
    each_once(router, name, 2)
    assert 1 == job(router, name)["progress"]["revoked"]
    shown = job(router, name)
    assert ("immediate", "at_once") == (shown["preemption"], shown["give_way"])
    assert 3 == sum(of_jobs(node).values())


def test_a_person_waits_for_one_item_where_that_is_wanted(start):
    """It ends first; none begins before the person is served."""
    node = TalliedNode("one", slots=1, seconds=1.5)
    router = start([node])
    name = begin(router, requests_file(4, MODEL), preemption="after_item")
    until(lambda: running(router, name) == 1, "an item runs")
    answer = router.post("/v1/chat/completions", QUESTION)
    assert 200 == answer.status_code
    order = [key for key in node.seen if key]
    assert answer.headers["X-Request-Id"] == order[1]  # behind the one that ran
    node.seconds = 0.05
    ended(router, name)
    each_once(router, name, 4)
    assert 0 == job(router, name)["progress"]["revoked"]


def test_a_job_leaves_the_node_to_people(start):
    """One who comes has the node for himself: streams that share it slow each other."""
    node = TalliedNode("one", slots=4, seconds=5.0)
    router = start([node])
    name = begin(router, requests_file(4, MODEL), preemption="immediate")
    until(lambda: running(router, name) == 4, "all slots run items")
    node.seconds = 0.8
    people = [
        threading.Thread(target=router.post, args=("/v1/chat/completions", QUESTION))
        for _ in range(3)
    ]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert 4 <= job(router, name)["progress"]["revoked"]
    node.seconds = 0.05
    ended(router, name)
    each_once(router, name, 4)


@pytest.mark.long
def test_a_pause_stands_and_a_resume_goes_on(start):
    """What is in flight ends; nothing begins; the database knows it."""
    node = TalliedNode("one", slots=2, seconds=0.1)
    router = start([node])
    name = begin(router, requests_file(60, MODEL))
    until(lambda: running(router, name), "items run")
    paused = router.post(f"/v1/jobs/{name}/pause").json()
    assert paused["paused"]
    until(lambda: running(router, name) == 0, "what ran has ended")
    assert "paused" == job(router, name)["why_idle"]
    seen = sum(of_jobs(node).values())
    router.process.kill()
    router.process.start()
    router.wait_ready()
    until(lambda: job(router, name)["why_idle"] == "paused", "it is paused still")
    assert seen == sum(of_jobs(node).values())
    assert not router.post(f"/v1/jobs/{name}/resume").json()["paused"]
    ended(router, name)
    each_once(router, name, 60)


def test_outside_its_window_a_job_stands(start):
    """And says so; within it runs."""
    router = start([TalliedNode("one")])
    now = datetime.now(UTC)
    later = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    around = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"
    shut = begin(router, requests_file(3, MODEL), window=later)
    held = begin(router, requests_file(3, MODEL), window=around)
    ended(router, held)
    each_once(router, held, 3)
    found = job(router, shut)
    assert (3, 0) == tuple(found["progress"]["items"][k] for k in ("waiting", "done"))
    assert f"outside its window {later} UTC" == found["why_idle"]


def test_a_quota_of_nodes_is_kept(start):
    """At most so many at one time, though others are idle."""
    nodes = [TalliedNode(name, seconds=0.1) for name in ("one", "two", "three")]
    router = start(nodes)
    name = begin(router, requests_file(60, MODEL), nodes=1)
    most = 0
    while job(router, name)["state"] != "completed":
        most = max(most, len(job(router, name)["progress"]["nodes"]))
    assert 1 == most
    each_once(router, name, 60)


def test_what_fails_each_time_is_a_dead_letter_and_may_be_tried_again(start):
    """With the node's words; the others are not held up by it."""
    node = TalliedNode("one", seconds=0.05)
    router = start([node])
    node.refuse = (503, "the model runner is on strike")
    name = begin(router, requests_file(3, MODEL), attempts=2)
    found = ended(router, name)
    assert ("completed", 3) == (found["state"], found["progress"]["items"]["failed"])
    assert 3 == found["progress"]["retries"]
    assert {2} == set(of_jobs(node).values())
    errors = lines(router, batch(router, name)["error_file_id"])
    assert {"node_failed"} == {line["error"]["code"] for line in errors}
    assert "on strike" in errors[0]["error"]["message"]
    node.refuse = None
    assert 200 == router.post(f"/v1/jobs/{name}/retry").status_code
    ended(router, name)
    each_once(router, name, 3)
    assert 409 == router.post(f"/v1/jobs/{name}/retry").status_code


def test_what_the_node_calls_wrong_is_not_tried_again(start):
    """A 400 is the request's own fault: its status and body are the result."""
    node = TalliedNode("one", seconds=0.05)
    router = start([node])
    node.refuse = (400, "invalid role")
    name = begin(router, requests_file(2, MODEL))
    found = ended(router, name)
    assert 2 == found["progress"]["items"]["failed"]
    assert {1} == set(of_jobs(node).values())
    errors = lines(router, batch(router, name)["error_file_id"])
    assert [400, 400] == [line["response"]["status_code"] for line in errors]
    assert {"error": "invalid role"} == errors[0]["response"]["body"]


def test_a_job_expires(start):
    """What was not run by then has a result that says so."""
    node = TalliedNode("one", slots=1, seconds=0.5)
    router = start([node])
    name = begin(router, requests_file(50, MODEL), completion_window="3s")
    found = ended(router, name)
    items = found["progress"]["items"]
    assert "expired" == found["state"]
    assert 1 == router.metric("inferops_jobs_expired_total")
    assert 0 == router.metric('inferops_job_stalled_seconds{state="in_progress"}')
    assert 50 == items["done"] + items["cancelled"]
    assert items["done"]
    errors = lines(router, batch(router, name)["error_file_id"])
    assert {"batch_expired"} == {line["error"]["code"] for line in errors}


def test_a_deleted_job_leaves_nothing(start):
    """Only once it is over."""
    router = start([TalliedNode("one", seconds=0.3)])
    name = begin(router, requests_file(20, MODEL))
    assert 409 == router.get(f"/v1/jobs/{name}/output").status_code
    assert 409 == router.delete(f"/v1/jobs/{name}").status_code
    router.post(f"/v1/jobs/{name}/cancel")
    ended(router, name)
    output = batch(router, name)["output_file_id"]
    assert router.delete(f"/v1/jobs/{name}").json()["deleted"]
    assert 404 == router.get(f"/v1/jobs/{name}").status_code
    assert 404 == router.get(f"/v1/files/{output}").status_code


def test_votes_stop_early(start):
    """Samples of a decided row do not run; what waits for them is let go."""
    node = TalliedNode("one", seconds=0.05)
    router = start([node])
    rows = b"text\n" + b"".join(b"row %d\n" % n for n in range(20))
    made = dataset(
        router,
        "rows.csv",
        rows,
        model=MODEL,
        template="{{ text }}",
        reducer={"kind": "vote", "samples": 5},
    )
    found = ended(router, made["id"])
    items = found["progress"]["items"]
    assert (100, 0) == (items["total"], items["failed"])
    assert 60 <= items["done"] < 100
    output = router.get(f"/v1/jobs/{made['id']}/output").json()
    assert [f"said row {n}" for n in range(20)] == [r["answer"] for r in output["rows"]]
    assert 100 == len(results(router, made["id"]))
