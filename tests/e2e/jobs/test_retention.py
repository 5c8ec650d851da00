"""A real router deletes what is over its time, and says what it keeps."""

from __future__ import annotations

import pytest

from tests.harness.jobs import begin, ended, requests_file
from tests.harness.poll import until
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


def test_a_job_goes_when_its_time_is_over(start):
    """The next router finds it too old: job, results, outputs and upload are gone."""
    node = TalliedNode("one", slots=4, seconds=0.01)
    first = start([node])
    name = begin(first, requests_file(20, MODEL))
    ended(first, name)
    assert 2 == len(first.get("/v1/files").json()["data"]), "upload and output"
    first.stop()
    second = start([node], JOBS__RETENTION_SECONDS="0.001")
    until(
        lambda: second.get(f"/v1/jobs/{name}").status_code == 404,
        "it is deleted",
    )
    deleted = 'inferops_jobs_deleted_total{reason="retention"}'
    until(lambda: second.metric(deleted) == 1.0, "it was counted")
    assert [] == second.get("/v1/files").json()["data"]
    assert second.metric('inferops_job_kept_bytes{what="files"}') == 0.0
    assert second.metric('inferops_job_kept_bytes{what="store"}') > 0
