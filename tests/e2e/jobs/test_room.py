"""Quotas, and a floor of free disk: nothing new is accepted, what was accepted ends."""

from __future__ import annotations

import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness.jobs import begin, dataset, each_once, ended, job, requests_file
from tests.harness.poll import until
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MIB = 2**20
ITEMS = 100


@pytest.fixture
def node():
    return TalliedNode("one", seconds=0.2)


@pytest.fixture
def small_disk(tmp_path):
    """A state directory on a file system of forty MiB: its floor is four."""
    place = tmp_path / "router-state"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: root is needed")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def refused(answer):
    assert 507 == answer.status_code, answer.text
    return answer.json()["error"]["message"]


def test_below_the_floor_what_was_accepted_goes_on(start, node, small_disk):
    """Uploads, jobs and repetitions are refused; the job that runs ends well."""
    router = start([node])
    over = begin(router, requests_file(1, "absent"), completion_window="1s")
    ended(router, over)
    name = begin(router, requests_file(ITEMS, MODEL))
    file = job(router, name)["file_id"]
    until(lambda: job(router, name)["progress"]["items"]["done"] > 3, "begun")
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(b"x" * (free - 3 * MIB))

    call = {"files": {"file": ("a", b"x")}, "data": {"purpose": "batch"}}
    assert "nothing new is accepted" in refused(router.post("/v1/files", **call))
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    assert "jobs.min_free_bytes" in refused(router.post("/v1/batches", asked))
    refused(router.post(f"/v1/jobs/{over}/retry"))
    parts = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "x"}
    refused(router.post("/v1/uploads", parts))
    form = {
        "files": {"file": ("a.csv", b"a\n1\n")},
        "data": {"model": MODEL, "template": "{{ a }}"},
    }
    refused(router.post("/v1/jobs", **form))

    ended(router, name)
    each_once(router, name, ITEMS)
    ballast.unlink()
    assert router.post("/v1/files", **call).ok


def test_a_quota_of_all_that_is_kept(start, node):
    """It is named; deleting a file makes room once that was measured."""
    router = start([node], JOBS__MAX_STORED_BYTES=str(3 * MIB))
    call = {"files": {"file": ("a", b"x" * 2 * MIB)}, "data": {"purpose": "batch"}}
    assert router.post("/v1/files", **call).ok
    assert "jobs.max_stored_bytes" in refused(router.post("/v1/files", **call))


def test_a_quota_of_one_job(start, node, tmp_path):
    """A job that would store too much fails while it is read, and leaves nothing."""
    router = start([node], JOBS__MAX_JOB_BYTES="100000")
    rows = "".join(f"{n}\n" for n in range(1000))
    form = {"model": MODEL, "template": "{{ a }}"}
    made = dataset(router, "a.csv", f"a\n{rows}".encode(), **form)
    found = ended(router, made["id"])
    assert ("failed", 0) == (found["state"], found["progress"]["items"]["total"])
    assert "job_too_large" == found["faults"][0]["code"]
    assert "jobs.max_job_bytes" in found["faults"][0]["message"]


def test_a_small_file_that_unfolds_takes_little_room(start, node, tmp_path):
    """2 GB of prompts from a file of some kilobytes: their rows stay in the file."""
    router = start([node])
    value = pa.array(["x" * MIB])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), value)
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": shared, "n": list(range(2000))}), path)
    terms = {"model": MODEL, "template": "{{ a }} {{ n }}"}
    made = dataset(router, "f.parquet", path.read_bytes(), **terms)
    until(
        lambda: job(router, made["id"])["state"] != "validating",
        "the file is read",
        seconds=200,
    )
    assert "in_progress" == job(router, made["id"])["state"]
    router.post(f"/v1/jobs/{made['id']}/cancel")
    assert 2000 == ended(router, made["id"])["progress"]["items"]["total"]
    kept = (tmp_path / "router-state").glob("jobs.db*")
    assert sum(path.stat().st_size for path in kept) < 30 * MIB
