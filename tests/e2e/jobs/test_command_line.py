"""`inferops jobs` as people and scripts use it, over a real router."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from tests.harness import jobs
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e
INFEROPS = [str(ROOT / "launcher" / "inferops")]
MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """Two nodes that are slow enough to be watched."""
    folder = tmp_path_factory.mktemp("cli")
    nodes = [
        Simulated("rig-4090", slots=4, tokens_per_second=300),
        Simulated("rig-3060", slots=2, tokens_per_second=100),
    ]
    with (
        SimulatedFleet(folder / "fleet", nodes) as fleet,
        Router(
            folder,
            fleet.inventory,
            prometheus_port=free_port(),
            settings={"JOBS__MAX_FILE_BYTES": "50000000"},
        ) as router,
    ):
        yield router


@pytest.fixture
def inferops(router, tmp_path):
    """Run the command in a folder of its own; gives code, output and errors."""

    def run(*arguments: str, url: str = router.url) -> tuple[int, str, str]:
        done = subprocess.run(
            [*INFEROPS, "jobs", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"INFEROPS_URL": url},
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def reviews(tmp_path):
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "text"), *((n, f"review {n}") for n in range(20))])
    return "reviews.csv"


TERMS = ("--model", MODEL, "--template", "Summarise: {{ text }}")


def test_run_watches_to_the_end_and_saves(router, inferops, reviews, tmp_path):
    """Without a terminal: lines for logs, the end product in a file, exit code 0."""
    tree = ("--reducer", "tree", "--threshold", "4", "--option", "num_predict=9")
    code, output, errors = inferops(
        "run", reviews, *TERMS, *tree, "--output", "out.txt"
    )
    assert (0, "") == (code, output), errors
    [job] = re.findall(r"job (batch_\w+) over reviews.csv started", errors)
    assert f"{job} completed: 20 of 20 items done, 0 failed" in errors
    assert "\x1b" not in errors
    text = (tmp_path / "out.txt").read_text()
    assert router.get(f"/v1/jobs/{job}/output").text == text != ""
    shown = jobs.job(router, job)
    assert {"num_predict": 9} == shown["options"]
    assert ["out.txt", "reviews.csv"] == sorted(
        path.name for path in tmp_path.iterdir()
    )


def test_a_row_that_fails_is_an_exit_code(inferops, reviews, tmp_path):
    """The job is completed, but not every item has an answer: 1, and which ones."""
    with (tmp_path / reviews).open("a") as file:
        file.write("20\n")
    code, _, errors = inferops("run", reviews, *TERMS, "--reducer", "count")
    assert 1 == code
    assert re.search(r"end product: inferops jobs results batch_\w+ --product", errors)
    assert "20 of 21 items done, 1 failed" in errors
    assert "line 22: the row has no column 'text' (it has 'id')" in errors
    assert "note: line 22: the row has fewer fields than there are names" in errors
    job = re.findall(r"batch_\w+", errors)[0]
    code, output, _ = inferops("results", job, "--failed")
    [failed] = map(json.loads, output.splitlines())
    assert (0, 20, "failed") == (code, failed["index"], failed["status"])


def test_scripts_read_json(inferops, reviews):
    """Detached start, list, watch, results, partial, product and removal."""
    count = ("--reducer", "count", "--name", "mine")
    code, output, _ = inferops("run", reviews, *TERMS, *count, "--detach", "--json")
    job = json.loads(output)["id"]
    code, output, _ = inferops("watch", job, "--json")
    events = [json.loads(line) for line in output.splitlines()]
    assert (0, "end", "completed") == (
        code,
        events[-1]["event"],
        events[-1]["data"]["state"],
    )
    assert {"progress", "partial", "end"} >= {event["event"] for event in events}
    listed = json.loads(inferops("list", "--json", "--state", "completed")[1])
    assert ("mine", job) in [(each["name"], each["id"]) for each in listed["data"]]
    results = [json.loads(line) for line in inferops("results", job)[1].splitlines()]
    assert list(range(20)) == [result["index"] for result in results]
    assert 20 == json.loads(inferops("results", job, "--product")[1])["count"]
    assert 20 == json.loads(inferops("results", job, "--partial")[1])["covers"]
    assert 0 == inferops("rm", job)[0]
    code, _, errors = inferops("watch", job)
    assert 3 == code
    assert job in errors


def test_a_list_without_a_terminal_is_a_table_of_tabs(inferops, reviews):
    """Columns that `cut` can take apart."""
    job = inferops("run", reviews, *TERMS, "--detach")[1].strip()
    names, first, *_ = inferops("list")[1].splitlines()
    assert ["job", "state", "done", "failed", "ETA", "model", "name"] == (
        names.split("\t")
    )
    assert job == first.split("\t")[0]


def test_pause_resume_and_cancel(router, inferops, tmp_path):
    """Each says what the job is now; twice is once."""
    (tmp_path / "many.csv").write_text("text\n" + "line\n" * 200)
    job = inferops("run", "many.csv", *TERMS, "--detach")[1].strip()
    until(lambda: jobs.job(router, job)["state"] == "in_progress", "the job runs")
    for verb, said in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "in_progress"),
        ("cancel", "cancel"),
    ]:
        code, _, errors = inferops(verb, job)
        assert (0, True) == (code, f"{job} {said}" in errors), errors
    assert 1 == inferops("watch", job)[0]
    assert "cancelled" == jobs.ended(router, job)["state"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (("a.csv", b"id,text\n1,2,3\n"), "no row can be read: line 2, column 5: the r"),
        (("a.csv", b"id,txt\n1,2\n"), "line 1, column 15: unknown column 'text'"),
        (("a.json", b'[{"text": 1} {"text": 2}]'), "line 1, column 14: not JSON"),
        (("a.jsonl", b'{"text": 1}\0'), "there is a NUL byte: this is not a text file"),
        (("a.parquet", b"PAR1" + b"\0" * 40), "the Parquet file is cut off"),
        (("a.xlsx", b"PK\x03\x04"), "'a.xlsx' is a spreadsheet; save it as CSV"),
    ],
    ids=["fields", "missing column", "syntax", "encoding", "damage", "format"],
)
def test_bad_input_leaves_nothing(router, inferops, tmp_path, file, message):
    """Exit code 3, the place in words, and neither a file nor a job on the router."""

    def kept():
        files = router.get("/v1/files", params={"limit": 1000}).json()["data"]
        found = router.get("/v1/jobs", params={"limit": 100}).json()["data"]
        return [each["id"] for each in (*files, *found)]

    before = kept()
    (tmp_path / file[0]).write_bytes(file[1])
    code, output, errors = inferops("run", file[0], *TERMS)
    assert (3, "") == (code, output)
    assert message in errors
    assert before == kept()


def test_a_line_without_an_end_fails_alone(router, inferops, tmp_path):
    """It is told of by its place; the rows around it are answered."""
    huge = b'{"text": "' + b"x" * 40_000_000 + b'"}'
    path = tmp_path / "huge.jsonl"
    path.write_bytes(b'{"text": "one"}\n' + huge + b'\n{"text": "two"}\n')
    code, _, errors = inferops("run", path.name, *TERMS)
    assert 1 == code
    assert "2 of 3 items done, 1 failed" in errors
    assert "line 2, column 1: the line is longer than 16,777,216 bytes" in errors


def test_a_file_that_is_too_large_leaves_nothing(router, inferops, tmp_path):
    """The limit is told, also while the rest of the file is still being sent."""
    before = router.get("/v1/files").json()
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(300_000_000)
    code, _, errors = inferops("run", path.name, *TERMS)
    assert 3 == code
    assert "over 50000000 bytes" in errors
    assert before == router.get("/v1/files").json()


def test_a_preview_starts_nothing(router, inferops, reviews):
    """Columns and prompts, and the file is taken back."""
    before = router.get("/v1/files").json()
    code, _, errors = inferops("run", reviews, *TERMS, "--preview")
    assert 0 == code
    assert (
        "csv, utf-8, delimiter: comma, names in the first line; columns: id, text"
        in errors
    )
    assert "--- prompt 1\nSummarise: review 0\n" in errors
    assert before == router.get("/v1/files").json()


def test_a_file_is_read_as_it_is_told(router, inferops, tmp_path):
    """What the preview guessed may be overruled, there and in the job."""
    path = tmp_path / "odd.csv"
    path.write_bytes("1|Köln\n2|Łódź\n".encode("cp1250"))
    told = ("--encoding", "cp1250", "--delimiter", "|", "--no-header")
    terms = ("--model", MODEL, "--template", "Where is {{ column_2 }}?", *told)
    code, _, errors = inferops("run", str(path), *terms, "--preview")
    assert 0 == code, errors
    assert (
        "csv, cp1250, delimiter: vertical bar, no names; columns: column_1, column_2"
        in errors
    )
    assert "--- prompt 2\nWhere is Łódź?\n" in errors
    code, _, errors = inferops("run", str(path), *terms)
    assert 0 == code, errors
    assert "completed: 2 of 2 items done" in errors


def test_no_router_is_an_exit_code(inferops):
    """Scripts can tell it from a refusal."""
    url = f"http://127.0.0.1:{free_port()}"
    code, _, errors = inferops("list", url=url)
    assert 4 == code
    assert f"no router at {url} (Connection refused)" in errors


def test_the_old_name_still_works(router, inferops, reviews):
    """`inferops batch ls` is `inferops jobs list`, and says so."""
    job = inferops("run", reviews, *TERMS, "--detach")[1].strip()
    done = subprocess.run(
        [*INFEROPS, "batch", "ls", "--url", router.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert job in done.stdout
    assert "use `inferops jobs`" in done.stderr


def test_wrong_arguments_are_an_exit_code(inferops, reviews):
    """2, as for every program."""
    assert 2 == inferops("run", reviews, "--model", MODEL)[0]
    assert 2 == inferops("run", "nowhere.csv", *TERMS)[0]
    assert 2 == inferops("run", reviews, *TERMS, "--threshold", "3")[0]


class Terminal:
    """A program that believes it is looked at."""

    def __init__(self, argv, cwd, url):
        self._master, slave = pty.openpty()
        self.child = subprocess.Popen(
            # What a shell runs in the background is deaf to Ctrl-C, and its children.
            ["env", "--default-signal=INT", *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=os.environ | {"INFEROPS_URL": url, "TERM": "xterm", "COLUMNS": "100"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
            if not select.select([self._master], [], [], 0.5)[0]:
                continue
            try:
                piece = os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the program has ended
                piece = ""
            assert piece, f"ended without {text!r}: {self.seen[-2000:]!r}"
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", piece)

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self._master)


def test_ctrl_c_detaches_and_says_how_to_come_back(router, tmp_path):
    """A bar with figures on a terminal; the job goes on without it, to its end."""
    (tmp_path / "many.csv").write_text("text\n" + "line\n" * 120)
    terminal = Terminal(
        [*INFEROPS, "jobs", "run", "many.csv", *TERMS], tmp_path, router.url
    )
    try:
        terminal.until("items/s")
        terminal.until("on rig-")
        job = re.findall(r"job (batch_\w+) over", terminal.seen)[0]
        terminal.child.send_signal(signal.SIGINT)
        terminal.until(f"inferops jobs watch {job}")
        assert 130 == terminal.child.wait(20)
        assert "detached; the job goes on" in terminal.seen
        assert "Traceback" not in terminal.seen
    finally:
        terminal.close()
    assert jobs.job(router, job)["state"] in {"in_progress", "completed"}
    again = Terminal([*INFEROPS, "jobs", "watch", job], tmp_path, router.url)
    try:
        again.until(f"{job} completed: 120 of 120 items done")
        assert 0 == again.child.wait(20)
    finally:
        again.close()


def test_a_killed_router_is_waited_for(router, tmp_path, inferops):
    """Watching outlives the router: the job resumes, and the command sees its end."""
    (tmp_path / "many.csv").write_text("text\n" + "line\n" * 60)
    job = inferops("run", "many.csv", *TERMS, "--detach")[1].strip()
    terminal = Terminal([*INFEROPS, "jobs", "watch", job], tmp_path, router.url)
    try:
        terminal.until("items/s")
        router.process.kill()
        router.process.start()
        router.wait_ready()
        terminal.until(f"{job} completed: 60 of 60 items done", 120)
        assert 0 == terminal.child.wait(20)
    finally:
        terminal.close()
    assert list(range(60)) == [each["index"] for each in jobs.results(router, job)]
