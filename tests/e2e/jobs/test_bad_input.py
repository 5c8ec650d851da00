"""What is wrong is told, with its status and its field; nothing half-made stays."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.harness.jobs import batch, begin, dataset, ended, job, lines, requests_file
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.tallied_node import MODEL, TalliedNode, write_inventory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MIB = 1024 * 1024
CSV = b"id,text\n1,one\n2,two\n"
GOOD = {"model": MODEL, "template": "say {{ text }}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def router(folder):
    """One router for all; short limits."""
    with TalliedNode("one", seconds=0.01) as node:
        inventory = write_inventory(folder / "nodes.yml", [node])
        settings = {
            "JOBS__MAX_FILE_BYTES": str(400 * MIB),
            "JOBS__MAX_LINE_BYTES": str(MIB),
            "JOBS__MAX_ITEMS": "5000",
            "JOBS__UPLOAD_STALL_SECONDS": "1",
            "DISPATCH__BODY_TIMEOUT_SECONDS": "1",
        }
        with Router(
            folder, inventory, prometheus_port=free_port(), settings=settings
        ) as made:
            yield made


@pytest.fixture(autouse=True)
def nothing_left(router, folder):
    """Whatever a test did wrong, no draft is left, and files are as many as rows."""
    yield
    place = folder / "router-state" / "files"
    found = sorted(path.name for path in place.glob("*")) if place.exists() else []
    known = [each["id"] for each in router.get("/v1/files").json()["data"]]
    assert found == sorted(name for name in known if not is_output(name))


def is_output(name):
    return name.endswith(("-output", "-errors"))


def told(answer, status, param=None):
    """Assert the refusal's shape; return its message."""
    assert status == answer.status_code, answer.text
    error = answer.json()["error"]
    assert (str, param) == (type(error["message"]), error["param"]), error
    return error["message"]


def form(name, data, **fields):
    return {"files": {"file": (name, data)}, "data": fields}


@pytest.mark.parametrize(
    ("call", "status", "param", "message"),
    [
        ({"json": {}}, 400, None, "must be multipart/form-data, got"),
        ({"data": b"--x--", "headers": {"Content-Type": "multipart/form-data"}}, 400,
         None, "names no boundary"),
        ({"data": b"--b\r\nnonsense",
          "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, None,
         "no multipart form"),
        (form("a", b"x", purpose="vision"), 400, "purpose", "must be batch or dataset"),
        (form("a", b"", purpose="batch"), 400, "file", "must not be empty"),
        ({"files": {"other": ("a", b"x")}, "data": {"purpose": "batch"}}, 400, None,
         "a file must be in part 'file', got 'other'"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))]}, 400, None,
         "got a second"),
        ({"files": {"file": ("a", b"x")},
          "data": {"purpose": "batch", "expires_after[seconds]": "5"}}, 400,
         "expires_after[seconds]", "must be 3600 to"),
        ({"files": {"purpose": (None, "batch")}}, 400, "file", "is required"),
    ],
    ids=["json", "no boundary", "no form", "purpose", "empty", "part", "two", "expiry",
         "no file"],
)  # fmt: skip
def test_files_are_refused(router, call, status, param, message):
    """Each with what is wrong with it."""
    assert message in told(router.post("/v1/files", **call), status, param)


def test_a_file_that_is_too_large_is_refused(router):
    """While it arrives, not when all of it is there."""
    limit = 400 * MIB
    with socket.create_connection(("127.0.0.1", router.port)) as sock:
        head = (
            "POST /v1/files HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {limit * 2}\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        sock.sendall(head.encode())
        sent = 0
        piece = b"x" * MIB
        try:
            while sent < limit + 8 * MIB:
                sent += sock.send(piece)
        except OSError:
            pass  # it has hung up
        sock.settimeout(20)
        assert b" 413 " in sock.recv(4096).partition(b"\r\n")[0]


class Slow:
    """A body in pieces, with a pause before each."""

    def __init__(self, pieces, pause):
        self.pieces, self.pause = pieces, pause

    def __iter__(self):
        for piece in self.pieces:
            time.sleep(self.pause)  # the slowness of a sender is what is tested
            yield piece


def slow_form(pieces, pause):
    start = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    body = Slow([start, *pieces, b"\r\n--b--\r\n"], pause)
    return {
        "data": iter(body),
        "headers": {"Content-Type": "multipart/form-data; boundary=b"},
    }


def test_a_slow_upload_is_taken_as_long_as_it_moves(router):
    """Also far beyond the time that other bodies have."""
    pieces = [b"x" * 70_000] * 8
    began = time.monotonic()
    answer = router.post("/v1/files", **slow_form(pieces, 0.4))
    assert time.monotonic() - began > 3
    assert (200, 560_000) == (answer.status_code, answer.json()["bytes"])


def test_an_upload_that_stands_still_is_refused(router):
    """The rest of the router does not wait for it."""
    answer = router.post("/v1/files", **slow_form([b"x" * 70_000], 1.5))
    assert "nothing for 1 s" in told(answer, 408)


def test_an_upload_that_breaks_off_leaves_nothing(router):
    """A client that goes away in the middle."""
    with socket.create_connection(("127.0.0.1", router.port)) as sock:
        head = (
            "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
        )
        sock.sendall(head.encode())
    assert router.get("/v1/files").ok


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/files", "limit=0", "limit"),
        ("/v1/files", "limit=x", "limit"),
        ("/v1/files", "order=up", "order"),
        ("/v1/batches", "limit=1000", "limit"),
        ("/v1/jobs", "state=nonsense", "state"),
        ("/v1/jobs", "limit=-1", "limit"),
    ],
)
def test_lists_are_asked_wrongly(router, path, query, param):
    """The field is named."""
    told(router.get(f"{path}?{query}"), 400, param)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/file-none"),
        ("GET", "/v1/files/file-none/content"),
        ("DELETE", "/v1/files/file-none"),
        ("GET", "/v1/files?after=file-none"),
        ("GET", "/v1/batches/batch_none"),
        ("POST", "/v1/batches/batch_none/cancel"),
        ("GET", "/v1/batches?after=batch_none"),
        ("GET", "/v1/jobs/batch_none"),
        ("DELETE", "/v1/jobs/batch_none"),
        ("POST", "/v1/jobs/batch_none/pause"),
        ("POST", "/v1/jobs/batch_none/resume"),
        ("POST", "/v1/jobs/batch_none/cancel"),
        ("POST", "/v1/jobs/batch_none/retry"),
        ("GET", "/v1/jobs/batch_none/results"),
        ("GET", "/v1/jobs/batch_none/partial"),
        ("GET", "/v1/jobs/batch_none/output"),
        ("GET", "/v1/jobs/batch_none/events"),
        ("GET", "/v1/files/..%2f..%2fjobs.db/content"),
    ],
)
def test_what_is_not_there(router, method, path):
    """404 with a sentence, on each route; also for names that climb."""
    call = {"GET": router.get, "POST": router.post, "DELETE": router.delete}[method]
    told(call(path), 404)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "9999d"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"bad_lines": "ignore"}, "bad_lines"),
        ({"preemption": "never"}, "preemption"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": "3"}, "attempts"),
        ({"nodes": 0}, "nodes"),
        ({"window": "25:00-26:00"}, "window"),
        ({"window": "20:00-20:00"}, "window"),
        ({"window": "20:00-06:00", "zone": "Mars/Base"}, "zone"),
        ({"colour": "red"}, "colour"),
        ({"input_file_id": 7}, "input_file_id"),
    ],
    ids=str,
)
def test_batches_are_asked_wrongly(router, fields, param):
    """Each field is checked before anything is made."""
    asked = {
        "input_file_id": "file-x",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        **fields,
    }
    told(router.post("/v1/batches", asked), 400, param)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
@pytest.mark.parametrize("path", ["/v1/batches", "/v1/jobs", "/v1/jobs/preview"])
def test_bodies_that_are_no_objects(router, path, body):
    """Broken JSON, other JSON, no UTF-8."""
    headers = {"Content-Type": "application/json"}
    told(router.post(path, data=body, headers=headers), 400)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": ""}, "model", "is required"),
        ({"template": ""}, "template", "is required"),
        ({"template": "{{ txt }}"}, "template", "unknown column 'txt'"),
        ({"template": "{{ text"}, "template", "line 1"),
        ({"template": "{% for x in y %}{% endfor %}"}, "template", "cannot be used"),
        ({"options": "{"}, "options", "no JSON"),
        ({"options": "[]"}, "options", "must be an object"),
        ({"reducer": '{"kind": "nonsense"}'}, None, "reducer.kind"),
        ({"reducer": "tree", "threshold": "1"}, "threshold", "must be 2 to"),
        ({"reducer": "stats", "threshold": "8"}, None, "has no 'threshold'"),
        ({"format": "xml"}, "format", "must be one of"),
        ({"surprise": "x"}, "surprise", "unknown field"),
    ],
    ids=str,
)
def test_datasets_are_asked_wrongly(router, fields, param, message):
    """The upload is dropped with the job that was not made."""
    call = form("rows.csv", CSV, **{**GOOD, **fields})
    assert message in told(router.post("/v1/jobs", **call), 400, param)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rows.csv", b"\xff\xfe\x00\x01", ""),
        ("rows.json", b'{"a": ', ""),
        ("rows.parquet", b"PAR1 no parquet", ""),
        ("rows.doc", CSV, "must end in"),
        ("rows.xls", CSV, "is a spreadsheet; save it as CSV"),
        ("rows.csv", b"a,a\n1,2\n", "unknown column 'text' (available: 'a', 'a_2')"),
        ("rows.csv", b"id\n1,hello\n2,you\n", "no row can be read: line 2, column"),
    ],
    ids=["encoding", "json", "parquet", "ending", "workbook", "columns", "no row"],
)
def test_files_that_are_no_datasets(router, name, data, message):
    """400 at once, before a job is made."""
    answer = router.post("/v1/jobs", **form(name, data, **GOOD))
    assert 400 == answer.status_code, answer.text
    assert message in answer.json()["error"]["message"]


def test_a_dataset_that_breaks_in_the_middle_fails_as_a_whole(router):
    """Its rows so far are dropped; the fault says where."""
    rows = [{"text": f"row {n}"} for n in range(2000)]
    data = json.dumps(rows).encode()[:-30] + b'{"text": ]'
    made = dataset(router, "rows.json", data, **GOOD)
    found = ended(router, made["id"])
    assert ("failed", 0) == (found["state"], found["progress"]["items"]["total"])
    assert "invalid_file" == found["faults"][0]["code"]


def test_too_many_rows_fail_the_job(router):
    """The limit is named."""
    name = begin(router, requests_file(5001, MODEL))
    found = ended(router, name)
    assert "failed" == found["state"]
    assert "more than 5000" in found["faults"][0]["message"]
    assert "too_many_rows" == batch(router, name)["errors"]["data"][0]["code"]


def test_an_empty_file_of_lines_fails_the_job(router):
    """Blank lines are no requests."""
    found = ended(router, begin(router, b"\n \n"))
    assert ("failed", "empty_file") == (found["state"], found["faults"][0]["code"])


def test_a_line_without_end_costs_no_memory(router):
    """Three hundred MiB on one line fail that line; the next one runs."""
    worker = psutil.Process(router.process.pid).children()[0]
    path = Path(router.process.log.parent) / "long.jsonl"
    with path.open("wb") as out:
        out.write(b'{"custom_id": "')
        for _ in range(300):
            out.write(b"x" * MIB)
        out.write(b'"}\n' + requests_file(1, MODEL))
    before = worker.memory_info().rss
    with path.open("rb") as source:
        upload = router.post(
            "/v1/files",
            data=iter(streamed(source)),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        ).json()
    path.unlink()
    asked = {"input_file_id": upload["id"], "endpoint": "/v1/chat/completions"}
    name = router.post("/v1/batches", asked).json()["id"]
    found = ended(router, name)
    items = found["progress"]["items"]
    assert (1, 1) == (items["done"], items["failed"])
    assert worker.memory_info().rss - before < 40 * MIB
    (error,) = lines(router, batch(router, name)["error_file_id"])
    message = f"line 1: longer than {MIB} bytes (jobs.max_line_bytes)"
    assert message == error["error"]["message"]
    router.delete(f"/v1/files/{upload['id']}")


def streamed(source):
    yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    while piece := source.read(MIB):
        yield piece
    yield b"\r\n--b--\r\n"


def test_a_file_in_use_is_not_deleted_under_a_job(router):
    """And a file that was deleted cannot be used."""
    file = router.post("/v1/files", **form("a", b"{}\n", purpose="batch")).json()["id"]
    assert router.delete(f"/v1/files/{file}").ok
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    told(router.post("/v1/batches", asked), 404)


def test_a_file_whose_bytes_are_gone_fails_the_job(router, folder):
    """Somebody cleaned up; the job does not wait for ever."""
    file = router.post("/v1/files", **form("a", b"{}\n", purpose="batch")).json()["id"]
    (folder / "router-state" / "files" / file).unlink()
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    found = ended(router, router.post("/v1/batches", asked).json()["id"])
    assert ("failed", "file_missing") == (found["state"], found["faults"][0]["code"])
    assert 404 == router.get(f"/v1/files/{file}/content").status_code
    router.delete(f"/v1/files/{file}")


def test_a_dataset_is_no_file_of_lines(router):
    """Its purpose says so."""
    call = form("a.csv", CSV, purpose="dataset")
    file = router.post("/v1/files", **call).json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    message = told(router.post("/v1/batches", asked), 400, "input_file_id")
    assert "must be a file of purpose 'batch'" in message
    shown = router.post("/v1/jobs/preview", {"file_id": file, "template": "{{ id }}!"})
    assert ["1!", "2!"] == shown.json()["prompts"]
    told(
        router.post("/v1/jobs/preview", {"file_id": file, "template": "{{ no }}"}),
        400,
        "template",
    )


def test_methods_that_are_not_there(router):
    """405 with those that are."""
    answer = router.delete("/v1/jobs")
    assert 405 == answer.status_code
    assert "GET" in answer.headers["Allow"]


def test_pausing_what_is_over(router):
    """409: the state is named."""
    name = begin(router, requests_file(1, MODEL))
    ended(router, name)
    assert "is completed" in told(router.post(f"/v1/jobs/{name}/pause"), 409)
    assert "is completed" in told(router.post(f"/v1/batches/{name}/cancel"), 409)
    assert "completed" == job(router, name)["state"]
