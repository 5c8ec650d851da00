"""The request of an item, made of its row when its turn comes."""

from __future__ import annotations

import gzip
from dataclasses import replace

import gevent
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.jobs.input.bodies import Bodies, RowError
from router.jobs.input.readers import ReadLimits
from router.jobs.input.sources import DatasetFiles, FileSettings
from router.jobs.model import (
    CHAT,
    DATASET_ENDPOINT,
    Format,
    Item,
    Job,
    JobSpec,
    JobState,
)
from router.jobs.planning.length_predictor import LengthPredictor
from tests.router.jobs.input.sandbox.own import sandboxes

SETTINGS = FileSettings(ReadLimits(), 2**28)
ROWS = [{"id": n, "text": f"text {n} ü"} for n in range(40)]


class Stage:
    """A job over a file, its items as the database holds them, and their bodies."""

    def __init__(self, folder):
        self.folder = folder
        self.stored: dict[int, bytes] = {}
        self.items = []
        self.bodies = Bodies(
            self.stored.get, lambda file: folder / file, lambda: SETTINGS
        )

    def job(self, name, kind, content, *, copies=False, **terms):
        (self.folder / name).write_bytes(content)
        endpoint = CHAT if kind is Format.OPENAI else DATASET_ENDPOINT
        given = {"model": "m:latest", "template": "say {{ text }}", **terms}
        spec = JobSpec(endpoint, name, kind, **given)
        made = Job(f"batch_{name}", spec, JobState.IN_PROGRESS, 0.0)
        files = DatasetFiles(LengthPredictor(), lambda: SETTINGS, copies=copies)
        for page in files.pages(made, self.folder / name, lambda notes: None):
            for new in page:
                number = len(self.items)
                self.stored[number] = new.body
                self.items.append(
                    Item(number, made.id, new.key, new.kind, new.index, new.custom_id,
                         new.endpoint, new.model, new.size, new.weight,
                         place=new.place)
                )  # fmt: skip
        return made

    def said(self, job, item):
        return orjson.loads(self.bodies.of(job, item) or b"")["messages"][-1]["content"]


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.bodies.close()


def jsonl(rows=ROWS):
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def csv():
    return "".join(["id,text\n", *(f"{r['id']},{r['text']}\n" for r in ROWS)]).encode()


def parquet(tmp_path):
    path = tmp_path / "made.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=15)
    return path.read_bytes()


@pytest.mark.parametrize("copies", [False, True], ids=["by reference", "copied"])
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet", "csv.gz"])
def test_each_item_asks_of_its_own_row(stage, tmp_path, kind, copies):
    """In any order, whatever the format, and however the row is kept."""
    content = {
        "csv": csv,
        "json": lambda: orjson.dumps(ROWS),
        "jsonl": jsonl,
        "parquet": lambda: parquet(tmp_path),
        "csv.gz": lambda: gzip.compress(csv()),
    }[kind]()
    job = stage.job(f"f.{kind}", Format(kind.partition(".")[0]), content, copies=copies)
    for number in (0, 39, 1, 2, 20, 19, 3):
        assert f"say text {number} ü" == stage.said(job, stage.items[number])


def test_requests_of_openai_are_read_again(stage):
    """The body of the line, as it was."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 7}
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body}
    job = stage.job("f.jsonl", Format.OPENAI, jsonl([line]))
    assert body == orjson.loads(stage.bodies.of(job, stage.items[0]))


def test_samples_of_a_row_differ_by_their_seeds(stage):
    """Made of one place."""
    job = stage.job(
        "f.jsonl",
        Format.JSONL,
        jsonl(ROWS[:1]),
        reducer={"kind": "vote", "samples": 3},
        options={"seed": 5},
    )
    bodies = [orjson.loads(stage.bodies.of(job, item)) for item in stage.items]
    assert [5, 6, 7] == [body["options"]["seed"] for body in bodies]


def test_many_ask_at_one_time(stage):
    """Of several jobs; each gets its own, from one process."""
    jobs = [stage.job(f"{n}.jsonl", Format.JSONL, jsonl()) for n in range(6)]
    asked = [
        (number % 40, gevent.spawn(stage.said, jobs[number // 40], item))
        for number, item in enumerate(stage.items)
    ]
    gevent.joinall([each for _, each in asked], raise_error=True)
    assert all(f"say text {n} ü" == each.value for n, each in asked)
    assert 1 == len(sandboxes())


def test_a_file_that_has_changed_is_told(stage, tmp_path):
    """Somebody has edited it under the router."""
    job = stage.job("f.jsonl", Format.JSONL, jsonl(ROWS[:2]))
    (tmp_path / "f.jsonl").write_bytes(jsonl([{"text": "another"}] * 2))
    with pytest.raises(RowError, match="the job's file has changed since it was read"):
        stage.bodies.of(job, stage.items[0])


def test_a_file_that_is_gone_is_told(stage, tmp_path):
    """By the disk's own words."""
    job = stage.job("f.jsonl", Format.JSONL, jsonl(ROWS[:2]))
    (tmp_path / "f.jsonl").unlink()
    with pytest.raises(RowError, match="it cannot be read: No such file"):
        stage.bodies.of(job, stage.items[0])


def test_what_was_deleted_has_no_body(stage):
    """The job is being deleted meanwhile."""
    job = stage.job("f.csv.gz", Format.CSV, gzip.compress(csv()))
    stage.stored.clear()
    assert stage.bodies.of(job, stage.items[0]) is None


def test_a_process_that_dies_takes_one_item_along(stage):
    """The others ask again of a new one."""
    job = stage.job("f.jsonl", Format.JSONL, jsonl())
    assert "say text 0 ü" == stage.said(job, stage.items[0])
    (child,) = sandboxes()
    child.suspend()
    asked = [gevent.spawn(stage.bodies.of, job, item) for item in stage.items[:5]]
    gevent.sleep(0)  # all of them are on their way
    child.kill()
    gevent.joinall(asked)
    failed = [each.exception for each in asked if each.exception]
    assert [RowError] == [type(error) for error in failed]
    assert 4 == sum(each.value is not None for each in asked)


def test_an_item_of_an_older_release_has_its_request(stage):
    """Stored as it is sent."""
    job = stage.job("f.jsonl", Format.JSONL, jsonl(ROWS[:1]))
    stage.stored[0] = b'{"as": "it was"}'
    assert b'{"as": "it was"}' == stage.bodies.of(
        job, replace(stage.items[0], place=-1)
    )
