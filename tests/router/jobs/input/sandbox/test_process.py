"""A sandbox dies of what it reads; the router says of what, and lives on."""

from __future__ import annotations

import io
import os
import signal

import gevent
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.jobs.input.readers import ReadLimits
from router.jobs.input.sandbox.process import Sandbox, SandboxError, SandboxLimits
from router.jobs.input.sources import (
    DatasetFiles,
    FileError,
    FileSettings,
    Look,
    LookError,
)
from router.jobs.model import DATASET_ENDPOINT, Format, Job, JobSpec, JobState
from router.jobs.planning.length_predictor import LengthPredictor
from tests.harness.examples import examples
from tests.harness.poll import until
from tests.router.jobs.input.sandbox.own import sandboxes

MIB = 2**20
LIMITS = ReadLimits(rows=10_000)


@pytest.fixture
def files():
    return DatasetFiles(LengthPredictor(), lambda: FileSettings(LIMITS, 256 * MIB))


def items(files, path, template, kind=Format.PARQUET, **terms):
    spec = JobSpec(DATASET_ENDPOINT, "f", kind, model="m", template=template, **terms)
    job = Job("batch_1", spec, JobState.VALIDATING, 0.0)
    pages = files.pages(job, path, lambda notes: None)
    return [item for page in pages for item in page]


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return bytearray(out.getvalue())


def test_a_file_that_kills_its_reader(files, tmp_path):
    """A level histogram of a wrong size aborts pyarrow 26; the router lives on."""
    table = pa.table({"a": ["x" * 50, "y"], "b": [[1], [2, 3]]})
    raw = written(table, compression="none")
    assert 964 == len(raw)
    raw[586] = 18
    path = tmp_path / "f.parquet"
    path.write_bytes(raw)
    with pytest.raises(FileError, match="it ended the process reading it: it is dam"):
        items(files, path, "{{ row }}")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(8),  # each is a process
)
@given(data=st.data())
def test_any_damage_is_an_error_of_ours(files, tmp_path, data):
    """Bytes changed anywhere: rows, or a sentence; nothing else comes out."""
    table = pa.table({"a": ["x" * 50, "y"], "b": [[1], [2, 3]]})
    raw = written(table, compression="none")
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "f.parquet"
    path.write_bytes(raw)
    message = ""
    try:
        items(files, path, "{{ row }}")
    except FileError as error:
        message = error.fault.message
    assert "Arrow" not in message
    assert "Traceback" not in message


def test_it_ends_where_nobody_asks_for_more(files, tmp_path):
    """The first rows are there at once, and nothing is left behind."""
    path = tmp_path / "f.csv"
    path.write_text("a\n" + "x\n" * 5000)
    spec = JobSpec(DATASET_ENDPOINT, "f", Format.CSV, model="m", template="{{ a }}")
    job = Job("batch_1", spec, JobState.VALIDATING, 0.0)
    asked = files.pages(job, path, lambda notes: None)
    assert 500 == len(next(asked))
    (child,) = sandboxes()
    asked.close()
    assert not child.is_running()


def test_the_event_loop_turns_meanwhile(files, tmp_path):
    """However long a look takes, nobody else waits for it."""
    path = tmp_path / "f.csv"
    path.write_text("a\n" + "\n" * 100_000 + "x\n")
    ticks = 0

    def tick():
        nonlocal ticks
        while True:
            gevent.sleep(0.005)
            ticks += 1

    ticking = gevent.spawn(tick)
    files.look(Look(path, Format.CSV, {}, "{{ a }}", show=True))
    ticking.kill()
    assert ticks > 10


def test_looks_wait_for_each_other(files, tmp_path):
    """A few processes at one time, however many ask."""
    path = tmp_path / "f.csv"
    path.write_text("a\nx\n")
    most = 0

    def count():
        nonlocal most
        while True:
            most = max(most, len(sandboxes()))
            gevent.sleep(0.01)

    counting = gevent.spawn(count)
    look = Look(path, Format.CSV, {}, "{{ a }}", show=True)
    done = [gevent.spawn(files.look, look) for _ in range(6)]
    gevent.joinall(done, raise_error=True)
    counting.kill()
    assert most <= 2


def test_it_takes_no_secret_along(monkeypatch):
    """Of the router's environment it gets what programs need, no more."""
    monkeypatch.setenv("INFEROPS_SECRET", "hush")
    with Sandbox(SandboxLimits(64 * MIB)) as sandbox:
        process = psutil.Process(sandbox.pid)
        environ = until(process.environ, "its program is loaded")
    assert "INFEROPS_SECRET" not in environ
    assert "PATH" in environ


def test_what_stops_the_router_does_not_stop_a_reader():
    """Its group is signalled as a whole: a job whose reader died would have failed."""
    with Sandbox(SandboxLimits(64 * MIB)) as sandbox:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(sandbox.pid, number)
        sandbox.send({"unknown": "question"})
        with pytest.raises(RuntimeError, match="the sandbox has a fault: KeyError"):
            sandbox.receive(10)  # it answers


def test_a_sandbox_that_is_killed(tmp_path):
    """As by the kernel, where a machine has no memory left."""
    with Sandbox(SandboxLimits(64 * MIB)) as sandbox:
        os.kill(sandbox.pid, 9)
        with pytest.raises(SandboxError, match=r"does not fit into 64 MiB of memory"):
            sandbox.receive(10)


def test_a_look_at_what_is_not_there(files, tmp_path):
    """The disk's own words, and which file."""
    with pytest.raises(LookError, match="it cannot be read: No such file") as error:
        files.look(Look(tmp_path / "none.csv", Format.CSV, {}))
    assert "file" == error.value.param


def test_a_fault_of_ours_is_told_without_values(files, tmp_path):
    """Where the program of the sandbox itself is wrong: a bug, not the file's."""
    with Sandbox(SandboxLimits(64 * MIB)) as sandbox:
        sandbox.send({"command": "scan", "hush": "secret"})
        with pytest.raises(RuntimeError, match="the sandbox has a fault: KeyError"):
            sandbox.receive(10)
