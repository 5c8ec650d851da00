"""The worst that strangers can send to the job routes, within 1 GiB of memory.

Twenty people's streams run beside it: none is cut, nothing is killed, and the event
loop is not held for long. Each test is one kind of attack.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.harness.crowd import Crowd
from tests.harness.jobs import ended, job
from tests.harness.loop_time import RouterLoopTime
from tests.harness.memory_cgroup import MemoryCgroup, NoCgroupError, memory_cgroup
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

GIB, MIB = 2**30, 2**20
LOOKS = 3  # at one time: two run, one waits
PEOPLES_MODEL = "llama3.2:3b"
STREAMS = 20
MOST_HELD = 0.05  # processor seconds between two switches of greenlets


@dataclass(frozen=True)
class Stage:
    """A router in 1 GiB with streams on it."""

    router: Router
    group: MemoryCgroup
    crowd: Crowd
    loop_time: RouterLoopTime
    worker: psutil.Process

    def unharmed(self):
        """Assert that nobody was cut, nothing was killed, and people go on."""
        enough = len(self.crowd.answers) + STREAMS
        until(lambda: len(self.crowd.answers) >= enough, "streams go on", seconds=120)
        assert {"ok"} == {answer.result for answer in self.crowd.answers}
        assert self.worker in psutil.Process(self.router.process.pid).children()
        assert 0 == self.group.kills
        held = self.loop_time.longest
        print(f"held {held * 1000:.0f} ms, peak {self.group.peak_bytes / MIB:.0f} MiB")
        assert held < MOST_HELD


@pytest.fixture(scope="module")
def group():
    try:
        with memory_cgroup(GIB) as made:
            yield made
    except NoCgroupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def stage(tmp_path_factory, group):
    folder = tmp_path_factory.mktemp("hostile")
    loop_time = RouterLoopTime(folder / "measure")
    people = Simulated("people", slots=STREAMS, tokens_per_second=400.0)
    with (
        TalliedNode("jobs", slots=8, seconds=0.02) as node,
        SimulatedFleet(folder / "fleet", [people]) as fleet,
    ):
        fleet.write([*fleet.entries, node.entry])
        router = Router(
            folder,
            fleet.inventory,
            prometheus_port=free_port(),
            settings={"CONTROL__PROBE_TIMEOUT_SECONDS": "20"},  # the machine is busy
            inside=group.inside,
            app="tests.harness.measured:app",
            env=loop_time.env,
        )
        crowd = Crowd(router.url, (PEOPLES_MODEL,), tokens=40, clients=STREAMS)
        with router, crowd:
            worker = psutil.Process(router.process.pid).children()[0]
            yield Stage(router, group, crowd, loop_time, worker)


@pytest.fixture(autouse=True)
def measured_anew(stage):
    """Each test answers for itself."""
    stage.loop_time.begin()


def together(calls):
    """Make calls at one time; returns their answers."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def uploaded(router, name, data, purpose="dataset"):
    """Upload a file; those of the test before may still have their turn."""
    call = {"files": {"file": (name, data)}, "data": {"purpose": purpose}}

    def taken():
        answer = router.post("/v1/files", timeout=120, **call)
        assert answer.status_code in {200, 429}, answer.text
        return answer.ok and answer.json()["id"]

    return until(taken, "an upload is taken", seconds=60)


def look(router, file, template):
    asked = {"file_id": file, "template": template}
    return lambda: router.post("/v1/jobs/preview", asked, timeout=300)


def parquet(folder, table, **options):
    path = folder / "f.parquet"
    pq.write_table(table, path, **options)
    return path.read_bytes()


def shared_value(folder):
    value = pa.array(["x" * MIB])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), value)
    return "f.parquet", parquet(folder, pa.table({"a": shared}))


def page_of_zeros(folder):
    table = pa.table({"a": pa.array([b"\0" * (450 * MIB)], pa.large_binary())})
    return "f.parquet", parquet(folder, table, compression="zstd", use_dictionary=False)


def long_list(folder):
    return "f.parquet", parquet(folder, pa.table({"a": [[0] * 20_000_000]}))


def blank_lines(_folder):
    return "f.csv", b"a\n" + b"\n" * (4 * MIB)


def many_values(_folder):
    return "f.jsonl", b'{"a": [' + b"{}," * (5 * MIB) + b"{}]}\n"


def unpacks(_folder):
    return "f.csv.gz", gzip.compress(b"a\n" + b"x" * (450 * MIB), compresslevel=1)


@pytest.mark.parametrize(
    "make",
    [shared_value, page_of_zeros, long_list, blank_lines, many_values, unpacks],
)
def test_files(stage, tmp_path, make):
    """Several looks at one time, and a job over it."""
    name, data = make(tmp_path)
    file = uploaded(stage.router, name, data)
    answers = together([look(stage.router, file, "{{ a }}")] * LOOKS)
    assert {200, 400, 429} >= {each.status_code for each in answers}
    asked = {"file_id": file, "template": "{{ a }}", "model": MODEL}
    made = stage.router.post("/v1/jobs", asked, timeout=120)
    if made.status_code == 201:
        name = made.json()["id"]
        until(
            lambda: job(stage.router, name)["state"] != "validating",
            "read",
            seconds=300,
        )
        stage.router.post(f"/v1/jobs/{name}/cancel")
    stage.unharmed()


@pytest.mark.parametrize(
    "template",
    [
        "{{ a" + "|tojson" * 14 + " }}",
        "{{ a|replace('\"', '" + '"' * 5000 + "') }}",
        "{{ a|title|lower|length }}" * 380,
        "{{ a }}" * 30_000,
        "{{ " + "(" * 100_000 + "a" + ")" * 100_000 + " }}",
    ],
    ids=["tojson", "replace", "much work", "large", "nested"],
)
def test_templates(stage, template):
    """Several looks at one time: nobody else waits for them."""
    value = "\u01c6\u0139 " * 300_000 if "title" in template else '"\\' * 100_000
    text = json.dumps({"a": value}, ensure_ascii=False)
    file = uploaded(stage.router, "f.jsonl", f"{text}\n".encode())
    answers = together([look(stage.router, file, template)] * LOOKS)
    assert {200, 400, 429} >= {each.status_code for each in answers}
    asked = {"file_id": file, "template": template, "model": MODEL}
    made = stage.router.post("/v1/jobs", asked, timeout=120)
    if made.status_code == 201:
        assert ended(stage.router, made.json()["id"], seconds=120)["state"] == "failed"
    stage.unharmed()


def raw(router, request):
    """Send a request and read nothing of the answer."""
    sock = socket.create_connection(("127.0.0.1", router.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(request)
    return sock


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_polls_that_are_not_read(stage):
    """Two hundred downloads and lists of large jobs, of which nothing is taken."""
    rows = "".join(json.dumps({"a": "x" * 500_000, "n": n}) + "\n" for n in range(40))
    form = {
        "files": {"file": ("f.jsonl", rows.encode())},
        "data": {"model": MODEL, "template": "{{ a }}{# " + "x" * 200_000 + " #}"},
    }
    made = [
        stage.router.post("/v1/jobs", timeout=120, **form).json()["id"]
        for _ in range(3)
    ]
    for name in made:
        assert "completed" == ended(stage.router, name, seconds=120)["state"]
    paths = [f"/v1/jobs/{made[0]}/results", "/v1/jobs?limit=100", "/v1/files"]
    paths += [f"/v1/jobs/{made[0]}/output", f"/v1/jobs/{made[1]}/events"]
    with contextlib.ExitStack() as stack:
        for number in range(200):
            sock = raw(stage.router, get(paths[number % len(paths)]))
            stack.callback(sock.close)
        time.sleep(3)  # they stand there, unread: that is what is tested
        stage.unharmed()


def test_uploads_that_stand_still(stage):
    """A hundred and fifty senders of a MiB each that do not go on."""
    head = (
        b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            with contextlib.suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", stage.router.port))
                stack.callback(sock.close)
                sock.settimeout(5)
                sock.sendall(head + b"x" * MIB)
        stage.unharmed()


@pytest.mark.parametrize(
    "body",
    [
        b'{"options": ' + b"[" * 300_000 + b"]" * 300_000 + b"}",
        b'{"file_id": [' + b"[]," * 340_000 + b"[]]}",
        b'{"file_id": "x", "template": "' + b"{{" * 500_000 + b'"}',
        b'{"reducer": {' + b",".join(b'"%d":{}' % n for n in range(90_000)) + b"}}",
    ],
    ids=["deep", "lists", "braces", "names"],
)
def test_bodies(stage, body):
    """A MiB of JSON that is as costly as it can be, from twenty at one time."""

    def ask():
        headers = {"Content-Type": "application/json"}
        url = f"{stage.router.url}/v1/jobs"
        return requests.post(url, data=body, headers=headers, timeout=120)

    answers = together([ask] * 20)
    assert {400, 404} >= {each.status_code for each in answers}
    stage.unharmed()


def test_lines_of_openai(stage):
    """Sixteen MiB of empty lists in a line: it fails, the next one runs."""
    good = json.dumps(
        {
            "custom_id": "good",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": [{"role": "user", "content": "x"}]},
        }
    ).encode()
    bad = b'{"custom_id": "bad", "body": [' + b"[]," * (5 * MIB) + b"[]]}"
    file = uploaded(stage.router, "f.jsonl", bad + b"\n" + good + b"\n", "batch")
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    name = stage.router.post("/v1/batches", asked).json()["id"]
    found = ended(stage.router, name, seconds=120)
    items = found["progress"]["items"]
    assert ("completed", 1, 1) == (found["state"], items["done"], items["failed"])
    stage.unharmed()
